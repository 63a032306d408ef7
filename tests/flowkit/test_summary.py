"""Flow.summary: shapes, parameters, log-dets, conditioning and errors, against what is known."""

import builtins
import math
from functools import partial

import pytest
import torch
from moved import moved

from flowkit import (
    MLP,
    ActNorm,
    At,
    Bijection,
    Chain,
    ConvNet,
    Coupling,
    Flow,
    FoldedLinear,
    Injector,
    Inverse,
    InvertibleLinear,
    OnChannels,
    Reversible,
    Squeeze,
    StandardNormal,
    zero_logdet,
)

NET = partial(ConvNet, hidden=4)


def scaled(*log_scales):
    layer = ActNorm(len(log_scales))
    with torch.no_grad():
        layer.log_scale.copy_(torch.tensor(log_scales))
    return layer


def multiscale():
    inner = Chain(ActNorm(2), At("half", Injector(2, NET, cond_channels=3)))
    return Flow(moved(Chain(Squeeze(), OnChannels(2, Reversible(inner)), ActNorm(4)), by=0.1))


def test_a_row_for_each_layer_where_it_is():
    flow = multiscale()
    x, cond = torch.randn(3, 1, 4, 4), {"half": torch.randn(3, 3, 2, 2)}
    summary = flow.summary(x, cond)
    assert [(row.place, row.name, row.shape) for row in summary.rows] == [
        ("0", "Squeeze", (4, 2, 2)),
        ("1.0", "ActNorm", (2, 2, 2)),
        ("1.1", "Injector['half']", (2, 2, 2)),
        ("2", "ActNorm", (4, 2, 2)),
    ]
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (flow.bijection[2], flow)]
    assert [summary.rows[3].parameters, summary.whole.parameters] == counts
    logdet = flow.encode(x, cond)[1].mean().item()
    assert summary.whole.logdet == pytest.approx(logdet, rel=1e-5)
    # Sums of a handful of float32 numbers in two orders.
    assert sum(row.logdet for row in summary.rows) == pytest.approx(logdet, rel=1e-4)
    assert sum(row.share for row in summary.rows) == pytest.approx(1)
    assert all(0 <= row.error < 1e-5 for row in [*summary.rows, summary.whole])
    z = flow.encode(x, cond)[0]
    assert z.requires_grad


def test_log_dets_and_their_shares_are_known():
    flow = Flow(Chain(scaled(1.0, 0.0), scaled(-2.0, -1.0)))
    rows = flow.summary(torch.randn(5, 2)).rows
    assert [row.logdet for row in rows] == [1.0, -3.0]
    assert [row.share for row in rows] == [0.25, 0.75]


def test_conditioning_is_the_ratio_of_singular_values():
    torch.manual_seed(0)
    matrix = torch.randn(3, 3)
    flow = Flow(Chain(FoldedLinear(matrix), scaled(2.0, 0.0, -1.0)))
    values = torch.linalg.svdvals(matrix.double())
    rows = flow.summary(torch.randn(4, 3)).rows
    assert [row.exact for row in rows] == [True, True]
    assert rows[0].conditioning == pytest.approx((values[0] / values[-1]).item(), rel=1e-5)
    assert rows[1].conditioning == pytest.approx(math.exp(3), rel=1e-5)


def test_it_is_estimated_from_below_where_samples_are_large():
    flow = Flow(Chain(scaled(2.0, 0.0, -1.0), InvertibleLinear(3)))
    rows = flow.summary(torch.randn(2, 3, 6, 6)).rows
    assert [row.exact for row in rows] == [False, False]
    # After 20 rounds what the second value leaves is (e⁻²)²⁰ of the first, i.e. nothing.
    assert rows[0].conditioning == pytest.approx(math.exp(3), rel=1e-3)
    assert rows[1].conditioning == pytest.approx(1, rel=1e-4)


def test_constant_memory_changes_nothing_in_it():
    chain = moved(Chain(Squeeze(), Coupling(4, NET), Inverse(Coupling(4, NET))), by=0.1)
    x = torch.randn(2, 1, 10, 10)
    plain, reversible = Flow(chain).summary(x), Flow(Reversible(chain)).summary(x)
    assert [row.exact for row in plain.rows] == [False] * 3
    assert plain == reversible
    assert plain.whole.conditioning > 1


class Lossy(Bijection):
    """The identity, whose inverse is 0.5 off."""

    conditional = False

    def forward(self, x, cond=None):
        return x, zero_logdet(x)

    def inverse(self, y, cond=None):
        return y + 0.5, zero_logdet(y)


def test_a_wrong_inverse_shows():
    rows = Flow(Chain(ActNorm(2), Lossy())).summary(torch.zeros(2, 2)).rows
    assert [row.error for row in rows] == [0, 0.5]


def test_the_table():
    flow = Flow(Chain(scaled(1.0, 0.0), Coupling(2, lambda i, o: torch.nn.Linear(i, o))))
    with torch.no_grad():
        for parameter in flow.bijection[1].parameters():
            parameter.zero_()
    table = str(flow.summary(torch.ones(2, 2))).splitlines()
    assert [line.split() for line in table] == [
        ["layer", "shape", "parameters", "log-det", "share", "conditioning", "inverse"],
        ["0", "ActNorm", "2", "4", "1.00", "100", "%", "2.72", "0e+00"],
        ["1", "Coupling", "2", "4", "0.00", "0", "%", "1", "0e+00"],
        ["whole", "flow", "2", "8", "1.00", "100", "%", "2.72", "0e+00"],
    ]


@pytest.mark.parametrize("end", ["png", "svg"])
def test_the_picture(tmp_path, end):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"flow.{end}"
    multiscale().summary(torch.randn(3, 1, 4, 4), {"half": torch.randn(3, 3, 2, 2)}).picture(path)
    start = path.read_bytes()[:9]
    assert start.startswith(b"\x89PNG" if end == "png" else b"<?xml")


def test_a_picture_of_no_known_format_leaves_nothing(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="not supported"):
        Flow(ActNorm(2)).summary(torch.rand(2, 2)).picture(tmp_path / "flow.doc")
    assert not list(tmp_path.iterdir())


def test_a_table_needs_no_matplotlib(monkeypatch):
    importing = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert "ActNorm" in str(Flow(ActNorm(2)).summary(torch.rand(2, 2)))


def test_it_refuses_in_words():
    flow = Flow(ActNorm(2), StandardNormal(2))
    with pytest.raises(ValueError, match="expected samples, got a batch of"):
        flow.summary(torch.rand(0, 2))
    with pytest.raises(ValueError, match="expected no condition"):
        flow.summary(torch.rand(1, 2), torch.rand(1, 2))
    with pytest.raises(ValueError, match="expected input of shape"):
        flow.summary(torch.rand(1, 3))


def doubled(kind):
    """A subclass whose values are twice those of `kind`."""

    class Doubled(kind):
        def forward(self, x, cond=None):
            y, logdet = super().forward(x, cond)
            return 2 * y, logdet + math.log(2) * y[0].numel()

        def inverse(self, y, cond=None):
            x, logdet = super().inverse(y / 2, cond)
            return x, logdet - math.log(2) * y[0].numel()

    return Doubled


@pytest.mark.parametrize(
    "make",
    [
        lambda: doubled(At)("c", ActNorm(2)),
        lambda: doubled(OnChannels)(1, ActNorm(1)),
        lambda: doubled(Chain)(ActNorm(2)),
        lambda: doubled(Inverse)(ActNorm(2)),
    ],
)
def test_a_subclass_is_summed_up_as_what_it_does(make):
    last = At("c", Injector(2, MLP, cond_channels=1))  # the identity as it is made
    summary = Flow(Chain(make(), last)).summary(torch.randn(3, 2), {"c": torch.zeros(3, 1)})
    assert [row.name for row in summary.rows] == ["Doubled", "Injector['c']"]
    assert summary.rows[0].logdet == pytest.approx(2 * math.log(2))
    assert summary.whole.logdet == pytest.approx(2 * math.log(2))
