"""The recipes for one's own maps, layers, nets, ops and plug-ins, followed to the letter."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import torch
from pages import ROOT, blocks, run

from flowkit.testing import check_bijection

PAGE = "docs/extend.md"


def recipe(section):
    return run(blocks(PAGE, section), f"recipe_{section.split()[-1]}")


def test_map():
    check_bijection(recipe("Add an elementwise map")["example"])


def test_layer():
    check_bijection(recipe("Add a layer")["Turn"])


def test_net():
    check_bijection(recipe("Add a net")["example"])


@pytest.fixture(scope="module")
def op():
    pytest.importorskip("triton")
    return recipe("Add an op")


def test_op_is_what_its_jacobian_says(op):
    x = torch.randn(2, 3, dtype=torch.float64)
    y, logdet = op["softsign"](x)
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: op["softsign"](flat[None])[0][0], x[0]
    )
    torch.testing.assert_close(logdet[0], torch.linalg.slogdet(jacobian).logabsdet)
    assert y.shape == x.shape
    assert op["softsign_choice"](x).name == "reference"


def test_op_refuses(op):
    x = torch.randn(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="softsign: expected tensors for impl='triton', but "):
        op["softsign"](x, impl="triton")
    with pytest.raises(TypeError, match="softsign: expected a floating-point tensor"):
        op["softsign"](torch.ones(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(2, 3), (3, 5, 7, 9), (1, 1, 300)])
def test_op_s_kernel_is_the_reference(op, shape):
    """Values, log-dets and gradients, to a few roundings of float32 in sums of 315 numbers."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(shape, device=device, requires_grad=True)
    by_y, by_logdet = torch.randn_like(x), torch.randn(shape[0], device=device)
    found = {}
    for impl in ("reference", "triton"):
        y, logdet = op["softsign"](x, impl=impl)
        (grad,) = torch.autograd.grad((y, logdet), x, (by_y, by_logdet))
        found[impl] = y, logdet, grad
    torch.testing.assert_close(found["triton"], found["reference"], rtol=1e-5, atol=1e-5)
    torch.library.opcheck(op["softsign_op"], (x,))


@pytest.fixture
def plugin(tmp_path):
    """The plug-in as an installed distribution, with the recipe's layer inside; runs `flowkit`."""
    (toml,) = re.findall(r"```toml\n(.*?)```", (ROOT / PAGE).read_text(), re.DOTALL)
    project = tomllib.loads(toml)["project"]
    (module,) = blocks(PAGE, "Add a plug-in")
    (layer,) = blocks(PAGE, "Add a layer")
    package = tmp_path / "flowkit_extras"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(module)
    (package / "layers.py").write_text(layer)
    info = tmp_path / f"flowkit_extras-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))

    def flowkit(*argv):
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        result = subprocess.run(
            [sys.executable, "-m", "flowkit", *argv],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        return result.stdout

    return flowkit


def test_plugin_is_listed_and_run(plugin):
    assert re.search(r"^extras +Layers for time series$", plugin(), re.MULTILINE)
    assert plugin("extras", "a", "--b") == "called with ['a', '--b']\n"


def test_plugin_s_layers_are_checked(plugin):
    lines = plugin("check", "extras").splitlines()  # a failure would be another exit code
    assert len([line for line in lines if "Turn" in line]) == 2


def test_the_checks_find_faults():
    """Else the recipes above would prove nothing."""
    names = recipe("Add a layer")

    class Wrong(names["Turn"]):
        def forward(self, x, cond=None):
            y, logdet = super().forward(x, cond)
            return y, logdet + self.angle.sum()

    example = names["Turn"].examples()[0]
    wrong = type(example)(lambda: Wrong(4), example.shape)
    with pytest.raises(AssertionError, match="log-det"):
        check_bijection(wrong)
