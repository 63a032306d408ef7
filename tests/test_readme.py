"""What the README and the examples show runs, and is what the repository holds."""

import os
import re
import subprocess
import sys

import pytest
import torch
from pages import ROOT, blocks, run

from flowkit import Coupling, Example
from flowkit.testing import check_bijection

COMPOSE = blocks("README.md", "Compose a flow")


@pytest.fixture(scope="module")
def composed():
    torch.manual_seed(0)
    layer = blocks("README.md", "Hold your own layer to its word")
    return run([*COMPOSE, *layer], "readme")


def test_two_levels_in_twenty_lines(composed):
    lines = [line for line in COMPOSE[0].splitlines() if line.strip()]
    assert len(lines) <= 20
    assert composed["several"].shape == (4, 16, 3, 16, 16)
    assert composed["picture"].shape == (2, 3, 32, 48)


def test_the_flow_is_the_example_s():
    example = (ROOT / "examples" / "conditional_flow.py").read_text()
    assert COMPOSE[0][COMPOSE[0].index("def level") :] in example


def test_one_line_and_its_training():
    names = run(blocks("README.md", "A flow in one line"), "readme_one_line")
    assert len(names["record"].validation) == 3
    assert names["several"].shape == (10, 4, 6)


def test_vectors_sequences_and_levels(composed):
    age = composed["age"]
    assert composed["rows"].log_prob(torch.randn(16, 6), age).shape == (16,)
    assert composed["curves"].sample(age, shape=(1, 96)).shape == (16, 1, 96)


def test_split_is_a_prior_given_what_goes_on(composed):
    """log p(z) at the split is log p(z₁) + log p(z₂ | z₁): whatever happens to z₁ behind the prior
    adds a term in which z₂ doesn't occur."""
    prior, steps = composed["prior"], composed["multiscale"].bijection[2]
    with torch.no_grad():
        for parameter in steps.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x, age = torch.randn(2, 12, 4, 4, dtype=torch.float64), torch.rand(2, 1, dtype=torch.float64)
    steps.double()
    other = torch.cat([x[:, :6], torch.randn_like(x[:, 6:])], dim=1)
    terms = []
    for value in (x, other):
        logdet = steps(value, age)[1]
        terms.append(logdet - prior(value, age)[1])
    torch.testing.assert_close(terms[0], terms[1], rtol=1e-12, atol=1e-12)  # float64's rounding


def test_the_map_and_the_layer_hold(composed):
    check_bijection(composed["Negate"])
    net, how = composed["MLP"], composed["SinhArcsinh"]()
    check_bijection(Example(lambda: Coupling(3, net, how), (3,)))


EXAMPLES = {"conditional_flow": 20, "two_moons": 50, "waves": 20}


def test_every_example_is_run():
    scripts = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert scripts == {*EXAMPLES, "before_after", "contact_sheet", "only_a_flow"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_learns_and_makes_its_picture(name, tmp_path):
    """A short run, in which the loss on new data falls by more than it varies, and the picture."""
    pytest.importorskip("matplotlib")
    picture = tmp_path / "picture.png"
    script, steps = ROOT / "examples" / f"{name}.py", EXAMPLES[name]
    result = subprocess.run(
        [sys.executable, script, "--steps", str(steps), "--out", picture],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
    )
    losses = [float(value) for value in re.findall(r"step \d+: (\S+) nats", result.stdout)]
    assert losses[-1] < losses[0] - 0.3
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_enhancing_from_python():
    names = run(blocks("README.md", "Brighten pictures"), "readme_pictures")
    assert names["bright"].shape == (3, 120, 160)
    assert len(names["several"]) == 4


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#\s]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
