"""fit_reverse: it finds a density from its logarithm alone, resumes exactly, and survives NaN."""

import math
import re
from functools import partial

import pytest
import torch

from flowkit import (
    MLP,
    ActNorm,
    Chain,
    Coupling,
    Flip,
    Flow,
    StandardNormal,
    fit_reverse,
    flows,
)
from flowkit.descent import Descent

SMALL = partial(MLP, hidden=8, depth=1)
quick = partial(fit_reverse, progress=False, samples=64, learning_rate=1e-2)


def small_flow(seed=0):
    torch.manual_seed(seed)
    return Flow(
        Chain(ActNorm(2), Coupling(2, SMALL), Flip(), Coupling(2, SMALL)), StandardNormal(2)
    )


def bent(x):
    """Of a density whose integral is 2π·0.5·e³."""
    return 3 - x[:, 0].square() / 2 - 2 * (x[:, 1] - x[:, 0].square()).square()


LOG_Z = math.log(2 * math.pi * 0.5) + 3


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(a[name].equal(b[name]) for name in a)


class Interrupted(Exception):
    pass


def test_it_finds_the_density_and_its_constant():
    flow = small_flow()
    record = quick(flow, bent, steps=300, anneal=True)
    assert (record.steps, len(record.losses), record.skipped) == (300, 300, 0)
    # What the ELBO lacks is KL(q ‖ p), 12 nats at first; its mean of 6,400 draws scatters by 0.01.
    assert LOG_Z - 0.3 < record.elbo < LOG_Z + 0.05
    assert -record.losses[0] < LOG_Z - 10
    with torch.no_grad():
        x, log_q = flow.rsample_and_log_prob(num_samples=4000)
    assert abs((bent(x) - log_q).logsumexp(0).item() - math.log(4000) - LOG_Z) < 0.05


def test_the_random_state_is_as_before_and_the_seed_tells_the_weights():
    a, b, c = small_flow(), small_flow(), small_flow()
    quick(a, bent, steps=5)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    quick(b, bent, steps=5)
    assert torch.get_rng_state().equal(state)
    quick(c, bent, steps=5, seed=1)
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.parametrize("options", [{}, {"anneal": True, "warm_up": 0.5}])
def test_it_resumes_exactly(options, monkeypatch, tmp_path):
    options = {"steps": 230, "samples": 8, **options}
    whole, path, count = small_flow(), tmp_path / "run.pt", Descent.count
    expected = quick(whole, bent, **options)

    def counted(self, finite):
        count(self, finite)
        if self.record.steps == 150:
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "count", counted)
        with pytest.raises(Interrupted):
            quick(small_flow(), bent, **options, checkpoint=path)
    resumed = small_flow(3)
    assert quick(resumed, bent, **options, checkpoint=path) == expected
    assert same(resumed, whole)
    with pytest.raises(ValueError, match="samples=9 after 8"):
        quick(small_flow(), bent, **{**options, "samples": 9}, checkpoint=path)
    with pytest.raises(ValueError, match="expected the density that the checkpoint is of"):
        quick(flows.nsf(2, steps=1), bent, **options, checkpoint=path)
    path.write_bytes(b"none")
    with pytest.raises(ValueError, match="expected a checkpoint of fit_reverse, got another kind"):
        quick(small_flow(), bent, **options, checkpoint=path)


def test_warming_up_counts_the_density_from_a_tenth():
    flow, loss = small_flow(), []
    step = Descent.step

    def recorded(self, value):
        loss.append(value.item())
        return step(self, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Descent, "step", recorded)
        record = quick(flow, lambda x: bent(x) * 0 + 7 + 0 * x.sum(1), steps=4, warm_up=0.5)
    log_q = torch.tensor(record.losses) + 7
    expected = log_q - 7 * torch.tensor([0.1, 0.55, 1.0, 1.0])
    torch.testing.assert_close(torch.tensor(loss), expected)


def test_what_is_not_finite_is_skipped_and_too_much_of_it_an_error():
    calls = []

    def now_and_then(x):
        calls.append(1)
        return bent(x) * (math.nan if len(calls) in (2, 4) else 1)

    flow = small_flow()
    record = quick(flow, now_and_then, steps=6)
    assert record.skipped == 2
    assert [math.isnan(loss) for loss in record.losses] == [False, True, False, True, False, False]
    with pytest.raises(FloatingPointError, match=r"fit_reverse: .* got 11 of the last 11 steps"):
        quick(flow, lambda x: bent(x) * math.nan, steps=50)
    assert all(p.isfinite().all() for p in flow.parameters())


def test_a_bar_shows_the_elbo(capsys):
    fit_reverse(small_flow(), bent, steps=3)
    assert re.search(r"3/3.*elbo=", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flow": ActNorm(2)}, r"fit_reverse: expected a Flow, got ActNorm \(Flow\(bijection\)"),
        ({"flow": flows.nsf(2, cond=3)}, "a flow without a condition, got one that reads one"),
        ({"flow": Flow(Flip(), StandardNormal(2))}, "with parameters to learn, got none"),
        ({"log_density": 3.0}, "expected log_density as a function, got float"),
        ({"log_density": lambda x: x}, r"for each of 64 samples, shape \(64,\), got \(64, 2\)"),
        ({"log_density": lambda x: x.sum().item()}, r"shape \(64,\), got float"),
        ({"log_density": lambda x: x.detach().sum(1)}, "to have a gradient, got numbers without"),
        ({"steps": 0}, "fit_reverse: expected steps as an integer >= 1, got 0"),
        ({"samples": True}, "expected samples as an integer >= 1, got True"),
        ({"warm_up": 1.5}, r"expected warm_up in \[0, 1\], got 1.5"),
        ({"learning_rate": 0.0}, "expected learning_rate > 0"),
        ({"clip": math.nan}, "expected clip > 0"),
        ({"warm_up": "0.3"}, "fit_reverse: expected warm_up as a real number, got str"),
        ({"seed": -1}, "expected seed as an integer >= 0"),
    ],
)
def test_it_refuses_in_words(options, words):
    arguments = {"flow": small_flow(), "log_density": bent, "steps": 3, **options}
    with pytest.raises((TypeError, ValueError), match=words):
        quick(**arguments)
    with pytest.raises(FileNotFoundError, match="expected a folder for the checkpoint, got nowh"):
        quick(small_flow(), bent, steps=1, checkpoint="nowhere/a.pt")
