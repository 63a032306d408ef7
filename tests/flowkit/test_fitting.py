"""fit: it learns, stops, returns to the best weights, resumes exactly, and survives NaN."""

import math
import re
from functools import partial

import numpy as np
import pytest
import torch

from flowkit import (
    MLP,
    ActNorm,
    Affine,
    At,
    Augmented,
    Bijection,
    Chain,
    Coupling,
    Dequantized,
    Flip,
    Flow,
    Injector,
    SigmoidScale,
    StandardNormal,
    fit,
    fitting,
    flows,
    zero_logdet,
)
from flowkit.descent import Descent

SMALL = partial(MLP, hidden=8, depth=1)


def small_flow(seed=0, cond_channels=0):
    torch.manual_seed(seed)
    layers = [Coupling(2, SMALL, cond_channels=cond_channels) for _ in range(2)]
    return Flow(Chain(ActNorm(2), layers[0], Flip(), layers[1]), StandardNormal(2))


def bent(samples=400):
    """x₂ = x₁² + noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 2, generator=generator)
    return torch.stack([x[:, 0], x[:, 0] ** 2 + 0.2 * x[:, 1]], dim=1)


quick = partial(fit, progress=False, batch=64)


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(a[name].equal(b[name]) for name in a)


def test_it_learns_and_keeps_the_best_weights():
    flow, data = small_flow(), bent()
    record = quick(flow, data, epochs=30, learning_rate=1e-2)
    assert record.train[-1] < record.train[0] - 0.5
    assert record.best == min(record.validation)
    assert record.validation[record.best_epoch] == record.best
    assert record.steps == 30 * math.ceil(360 / 64)
    assert record.skipped == 0
    held, _ = fitting._split(400, 0.1, 0)
    loss = -flow.log_prob(data[held]).mean().item()
    # A mean in float32 of 40 numbers, and one in float64.
    assert loss == pytest.approx(record.best, rel=1e-5)
    assert flow.training


def test_the_samples_held_out_are_not_trained_on():
    data = bent()
    held, train = fitting._split(len(data), 0.25, 3)
    assert sorted([*held.tolist(), *train.tolist()]) == list(range(400))
    assert len(held) == 100
    other = data.clone()
    other[held] += 100
    a, b = small_flow(), small_flow()
    one = quick(a, data, validation=0.25, seed=3, epochs=1)
    two = quick(b, other, validation=0.25, seed=3, epochs=1)
    assert one.train == two.train
    assert equal(a, b)
    assert one.validation[0] < two.validation[0]


def test_it_stops_when_nothing_gets_better():
    torch.manual_seed(0)
    flow = Flow(ActNorm(2), StandardNormal(2))
    record = quick(flow, torch.randn(200, 2), epochs=500, patience=3, learning_rate=0.05)
    assert len(record.train) == record.best_epoch + 1 + 3 < 500


def test_without_validation_the_last_weights_stay():
    flow = small_flow()
    record = quick(flow, bent(), validation=0.0, epochs=3, patience=1)
    assert len(record.train) == 3
    assert record.best_epoch == 2
    assert math.isnan(record.validation[-1])
    assert record.best == record.train[2]


def test_steps_end_it_too():
    record = quick(small_flow(), bent(), steps=8, epochs=50)
    assert record.steps == 8
    assert len(record.train) == 2


def test_conditions_go_with_their_samples():
    """x is the condition, nearly: a shuffled condition couldn't tell."""
    torch.manual_seed(0)
    cond = {"a": torch.randn(400, 3)}
    data = cond["a"][:, :2] + 0.05 * torch.randn(400, 2)
    flow = Flow(At("a", Injector(2, SMALL, cond_channels=3)), StandardNormal(2))
    record = quick(flow, data, cond, epochs=60, learning_rate=2e-2)
    # The entropy of N(0, 1)² is 2.84 nats, what an independent condition would leave.
    assert record.best < 1.0


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state():
    a, b, c = (small_flow() for _ in range(3))
    quick(a, bent(), epochs=2, seed=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    quick(b, bent(), epochs=2, seed=1)
    assert torch.get_rng_state().equal(before)
    quick(c, bent(), epochs=2, seed=2)
    assert equal(a, b)
    assert not equal(a, c)


class Interrupted(Exception):
    pass


def interrupt_after(monkeypatch, steps):
    count = Descent.count

    def counted(self, finite):
        count(self, finite)
        if self.record.steps == steps:
            raise Interrupted

    monkeypatch.setattr(Descent, "count", counted)


def pixels():
    return Dequantized(small_flow(), levels=8)


@pytest.mark.parametrize("make", [small_flow, pixels])
def test_it_resumes_exactly(make, monkeypatch, tmp_path):
    """Interrupted in the fourth epoch, of a density that draws noise as well."""
    data = bent() if make is small_flow else bent().abs().mul(2).clamp(max=7).floor()
    options = {"epochs": 6, "checkpoint": tmp_path / "run.pt"}
    whole = make()
    expected = quick(whole, data, epochs=6)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 21)
        with pytest.raises(Interrupted):
            quick(make(), data, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    torch.manual_seed(99)
    resumed = make()
    record = quick(resumed, data, **options)
    assert record == expected
    assert equal(resumed, whole)
    again = make()
    assert quick(again, data, **options) == expected
    assert equal(again, whole)


def test_more_epochs_go_on_from_the_checkpoint(tmp_path):
    whole, parts = small_flow(), small_flow()
    expected = quick(whole, bent(), epochs=4)
    quick(parts, bent(), epochs=2, checkpoint=tmp_path / "a")
    assert quick(parts, bent(), epochs=4, checkpoint=tmp_path / "a") == expected
    assert equal(whole, parts)


def test_steps_alone_take_as_many_epochs_as_they_need():
    record = quick(small_flow(), bent(64), steps=103, patience=None)
    assert (record.steps, len(record.train)) == (103, 103)
    assert len(quick(small_flow(), bent(64), patience=None).train) == 100


def test_an_annealed_rate_falls_along_half_a_cosine_and_resumes_exactly(monkeypatch, tmp_path):
    rates, step = [], torch.optim.Adam.step

    def recorded(adam, *args, **kwargs):
        rates.append(adam.param_groups[0]["lr"])
        return step(adam, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    whole, parts = small_flow(), small_flow()
    options = {"epochs": 4, "anneal": True, "learning_rate": 0.01}
    expected = quick(whole, bent(), **options)
    share = torch.arange(24, dtype=torch.float64) / 24
    half = 0.005 * (1 + (math.pi * share).cos())
    torch.testing.assert_close(torch.tensor(rates, dtype=torch.float64), half)
    options["checkpoint"] = tmp_path / "a"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 15)
        with pytest.raises(Interrupted):
            quick(small_flow(), bent(), **options)
    assert quick(parts, bent(), **options) == expected
    assert equal(whole, parts)
    with pytest.raises(ValueError, match="anneal=30 after 24"):
        quick(small_flow(), bent(), **{**options, "epochs": 5})


def test_numbers_of_numpy_can_be_resumed(tmp_path):
    path = tmp_path / "a.pt"
    options = {"learning_rate": np.float64(1e-3), "validation": np.float64(0.2), "checkpoint": path}
    quick(small_flow(), bent(), epochs=1, **options)
    assert len(quick(small_flow(), bent(), epochs=2, **options).train) == 2


def other_map():
    """The weights of small_flow have the same names and shapes here."""
    flow = small_flow()
    for layer in flow.bijection:
        if isinstance(layer, Coupling):
            layer.how = Affine(SigmoidScale())
    return flow


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    quick(small_flow(), bent(), epochs=1, checkpoint=path)
    kept = path.read_bytes()
    refused = [
        (small_flow(), bent() + 1, {}, "data="),
        (small_flow(), bent(), {"learning_rate": 1e-2}, "learning_rate=0.01 after 0.001"),
        (flows.nsf(2, steps=1), bent(), {}, "expected the density that the checkpoint is of"),
        (other_map(), bent(), {}, "checkpoint is of, got another: line .*Affine.*Sigmoid"),
    ]
    for flow, data, options, words in refused:
        with pytest.raises(ValueError, match=words):
            quick(flow, data, epochs=2, checkpoint=path, **options)
    assert path.read_bytes() == kept
    for damaged in (b"no checkpoint", b"", kept[: len(kept) // 2], kept[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="expected a checkpoint of fit, got another kind"):
            quick(small_flow(), bent(), epochs=2, checkpoint=path)
    with pytest.raises(FileNotFoundError, match="expected a folder for the checkpoint"):
        quick(small_flow(), bent(), epochs=2, checkpoint=tmp_path / "none" / "a.pt")


class NaNAbove(Bijection):
    """The identity, and NaN for a sample with a number above the threshold."""

    conditional = False

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x, cond=None):
        return x.where(x < self.threshold, math.nan), zero_logdet(x)

    def inverse(self, y, cond=None):
        return y, zero_logdet(y)


def planted(share):
    """A flow, and data of which this share of samples gives NaN."""
    flow, data = small_flow(), bent(640)
    data[: int(share * 640)] = 60.0
    return Flow(Chain(NaNAbove(50.0), *flow.bijection), StandardNormal(2)), data


def test_a_batch_that_gives_nan_is_skipped_and_counted():
    """One sample of 640: one batch of each epoch."""
    flow, data = planted(1 / 640)
    _, train = fitting._split(640, 0.1, 0)
    assert 0 in train
    record = quick(flow, data, epochs=5, initialized=True)
    assert record.skipped == 5
    assert all(p.isfinite().all() for p in flow.parameters())
    assert record.train[-1] < record.train[0]


def test_too_many_are_an_error_that_says_what_to_do():
    flow, data = planted(0.2)
    with pytest.raises(FloatingPointError, match=r"got 11 of the last 11 .*lower learning_rate"):
        quick(flow, data, epochs=5, initialized=True)
    assert all(p.isfinite().all() for p in flow.parameters())


def test_augmented_is_trained_too():
    torch.manual_seed(0)
    density = Augmented(Flow(Chain(ActNorm(3), Coupling(3, SMALL))), 2)
    record = quick(density, torch.randn(200, 1), epochs=3)
    assert record.steps == 9
    assert math.isfinite(record.best)


class Elbo(torch.nn.Module):
    """Of a normal distribution about 3, whose sum over a batch is asked for with `summed`."""

    def __init__(self, summed=False):
        super().__init__()
        self.mean, self.summed = torch.nn.Parameter(torch.zeros(2)), summed

    def forward(self, x, cond=None):
        found = -(x - self.mean).square().sum(1)
        return found.sum() if self.summed else found


def test_a_module_of_ones_own_is_trained_if_it_needs_no_initialisation(tmp_path):
    model, x = Elbo(), 3 + torch.randn(200, 2)
    record = quick(model, x, epochs=30, learning_rate=0.1, initialized=True)
    assert record.best < record.train[0] / 2
    assert (model.mean - 3).abs().max() < 0.5
    with pytest.raises(TypeError, match=r"got Elbo \(initialized=True, if its forward"):
        quick(model, x)
    with pytest.raises(ValueError, match=r"each of 64 samples from Elbo, shape \(64,\), got \(\)"):
        quick(Elbo(summed=True), x, initialized=True)
    lost = Elbo()
    lost.forward = torch.no_grad()(lost.forward)
    with pytest.raises(ValueError, match="expected Elbo to give log-densities with a gradient"):
        quick(lost, x, initialized=True)


def test_a_bar_shows_the_losses(capsys):
    fit(small_flow(), bent(), epochs=2, batch=64)
    assert re.search(r"12/12.*train=.*validation=", capsys.readouterr().err)
    quick(small_flow(), bent(), epochs=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"validation": 1.0}, r"expected validation in \[0, 1\), got 1.0"),
        ({"validation": 0.999}, "expected samples left to train on"),
        ({"batch": 0}, "expected batch as an integer >= 1, got 0"),
        ({"epochs": 1.5}, "expected epochs as an integer >= 1, got 1.5"),
        ({"patience": 0}, "expected patience as an integer >= 1, got 0"),
        ({"learning_rate": 0.0}, "expected learning_rate > 0"),
        ({"clip": math.nan}, "expected clip > 0"),
        ({"clip": None}, "fit: expected clip as a real number, got NoneType"),
        ({"cond": torch.zeros(3, 1)}, "a condition for each of 400 samples, got one for 3"),
        ({"cond": {"a": torch.full((400, 1), math.inf)}}, "expected a finite condition"),
        ({"batch": np.int64(8)}, r"batch as an integer >= 1, got np.int64\(8\)"),
        ({"data": bent().numpy()}, "expected data as a tensor .* got ndarray"),
        ({"data": torch.zeros(0, 2)}, r"expected data \(N, C, \*S\), N >= 1, got \(0, 2\)"),
        ({"data": torch.tensor([[1.0, 2], [math.nan, 1]])}, "got 1 samples with NaN .*first at 1"),
        ({"density": ActNorm(2)}, r"got ActNorm \(Flow\(bijection\) is one\)"),
        ({"density": Flow(Flip())}, "expected a density with parameters to learn, got none"),
    ],
)
def test_it_refuses_in_words(options, words):
    arguments = {"density": small_flow(), "data": bent(), **options}
    with pytest.raises((TypeError, ValueError), match=words):
        fit(**arguments, progress=False)
