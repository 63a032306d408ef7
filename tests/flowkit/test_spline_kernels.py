"""The spline's Triton kernels against the float64 reference, interpreted, or compiled if there is a
GPU."""

import importlib
from dataclasses import replace
from functools import partial

import pytest
import torch

from flowkit import (
    MLP,
    BoundedSpline,
    Chain,
    CircularSpline,
    ConvNet,
    Coupling,
    MaskedCoupling,
    RationalQuadraticSpline,
    Stripes,
)
from flowkit.ops import (
    Knots,
    implementation,
    rational_quadratic,
    rational_quadratic_choice,
    rational_quadratic_inverse,
)
from flowkit.testing.randomize import randomized

pytest.importorskip("triton", reason="triton isn't installed")

kernels = importlib.import_module("flowkit.ops.spline.triton")

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
needs_gpu = pytest.mark.skipif(not CUDA, reason="needs a CUDA GPU")

KNOTS = [
    Knots(8, -5.0, 5.0, 1e-3, "identity"),
    Knots(5, -1.0, 3.0, 1e-2, "straight"),
    Knots(3, 0.0, 1.0, 1e-3, "circular"),
]
OPS = [rational_quadratic, rational_quadratic_inverse]
of_each_kind = pytest.mark.parametrize("knots", KNOTS, ids=lambda knots: knots.ends)


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that no kernel writes is NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def draw(*shape, dtype=torch.float32, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    values = spread * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return values.to(DEVICE, dtype)


def inputs(knots, *shape, dtype=torch.float32):
    """x in and around the interval, raw numbers, weights of the two outputs."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = draw(*shape, dtype=wide, spread=(knots.high - knots.low) / 2) + (knots.high + knots.low) / 2
    params = draw(shape[0], knots.count, *shape[1:], dtype=dtype, seed=1, spread=2.0)
    return x, params, [draw(*shape, seed=seed, dtype=wide) for seed in (2, 3)]


def results(op, x, params, weights, knots, impl):
    """y, log dy/dx, and the gradients of their weighted sum, by x and params."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, params)]
    outputs = op(*leaves, knots, impl=impl)
    total = sum((o * w.to(o)).sum() for o, w in zip(outputs, weights, strict=True))
    return [*(o.detach() for o in outputs), *torch.autograd.grad(total, leaves)]


def errors(found, exact):
    """Of three elements in four: the largest are of those in bins of a width near to nothing, where
    what rounding does is luck for kernel and reference alike."""
    return [(f.double() - e).abs().quantile(0.75).item() for f, e in zip(found, exact, strict=True)]


@of_each_kind
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", [(3, 2, 4, 4), (40, 5)])
def test_it_is_the_reference_in_float64(op, knots, shape):
    tensors = inputs(knots, *shape, dtype=torch.float64)
    exact = results(op, *tensors, knots, impl="reference")
    found = results(op, *tensors, knots, impl="triton")
    for came, expected in zip(found, exact, strict=True):
        assert not came.isnan().any()
        # Some hundred roundings of 2e-16 behind bins as narrow as 1e-3, of which bends are squares.
        torch.testing.assert_close(came, expected, rtol=1e-9, atol=1e-9)


@of_each_kind
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_as_exact_as_the_reference(op, knots, dtype):
    x, params, weights = inputs(knots, 8, 3, 8, 8, dtype=dtype)
    exact = results(op, x.double(), params.double(), weights, knots, impl="reference")
    found, plain = (
        results(op, x, params, weights, knots, impl=impl) for impl in ("triton", "reference")
    )
    assert [t.dtype for t in found] == [torch.float32] * 3 + [dtype]
    assert not any(t.isnan().any() for t in found)
    # The interpreter truncates what it stores in bf16 and fp16, which costs twice as much.
    for own, theirs in zip(errors(found, exact), errors(plain, exact), strict=True):
        assert own <= 2.5 * theirs


@of_each_kind
@pytest.mark.parametrize("op", OPS)
def test_far_away_and_at_the_edges(op, knots):
    middle = (knots.low + knots.high) / 2
    values = [knots.low, knots.high, middle, -1e4, 1e4, knots.high + 0.5, knots.low - 0.5]
    x = torch.tensor([values], dtype=torch.float64, device=DEVICE)
    params = draw(1, knots.count, len(values), dtype=torch.float64, spread=3.0)
    weights = [draw(1, len(values), dtype=torch.float64, seed=seed) for seed in (1, 2)]
    exact = results(op, x, params, weights, knots, impl="reference")
    found = results(op, x, params, weights, knots, impl="triton")
    # At an end the reference differentiates the spline, the kernel what is beyond, or both the
    # spline; they meet in value and slope, not in bend.
    torch.testing.assert_close(found[:2], exact[:2], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[2][:, 2:], exact[2][:, 2:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[3][..., 2:], exact[3][..., 2:], rtol=1e-9, atol=1e-9)


@of_each_kind
@pytest.mark.parametrize("op", OPS)
def test_nan_stays_nan(op, knots):
    x = torch.full((1, 3), torch.nan, device=DEVICE)
    y, _ = op(x, draw(1, knots.count, 3), knots, impl="triton")
    assert y.isnan().all()


def test_the_slopes_of_steep_and_flat_raw_numbers_are_right_to_the_last_digit():
    knots = KNOTS[0]
    x = draw(1, 400)
    params = draw(1, knots.count, 400, spread=8.0, seed=1)
    exact = rational_quadratic(x.double(), params.double(), knots, impl="reference")
    found = rational_quadratic(x, params, knots, impl="triton")
    plain = rational_quadratic(x, params, knots, impl="reference")
    for own, theirs in zip(errors(found, exact), errors(plain, exact), strict=True):
        assert own <= 2 * theirs


def test_blocks_that_hold_many_samples_or_a_part_of_one(monkeypatch):
    monkeypatch.setattr(kernels, "block", lambda size, bins: 16)
    knots = KNOTS[0]
    for shape, flat in (((23, 3), True), ((2, 3, 5, 5), False), ((3, 16), False)):
        x, params, weights = inputs(knots, *shape, dtype=torch.float64)
        assert kernels._shapes(x, params, False, knots)[2]["FLAT"] is flat
        for op in OPS:
            exact = results(op, x, params, weights, knots, impl="reference")
            found = results(op, x, params, weights, knots, impl="triton")
            torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-9)


def test_samples_that_are_part_of_a_larger_tensor():
    knots = KNOTS[0]
    whole, params = draw(3, 5, 4), draw(3, knots.count, 2, 4, seed=1)
    last = whole[:, 3:]
    assert kernels._samples(last) is last
    assert not last.is_contiguous()
    turned = last.transpose(0, 2).contiguous().transpose(0, 2)
    for op in OPS:
        expected = op(last.contiguous(), params, knots, impl="triton")
        assert all(map(torch.equal, op(last, params, knots, impl="triton"), expected))
        assert all(map(torch.equal, op(turned, params, knots, impl="triton"), expected))


@of_each_kind
@pytest.mark.parametrize("op", OPS)
def test_registered_gradients(op, knots):
    knots = replace(knots, bins=2)
    x, params, _ = inputs(knots, 1, 4, dtype=torch.float64)
    leaves = x.requires_grad_(), params.requires_grad_()
    run = partial(op, knots=knots, impl="triton")
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize(("knots", "inverse"), [(KNOTS[0], False), (KNOTS[1], True)])
def test_opcheck(knots, inverse):
    x, params, grads = inputs(knots, 2, 3, 4)
    constants = inverse, knots.bins, knots.low, knots.high, knots.least, knots.ends
    leaves = x.requires_grad_(), params.requires_grad_()
    torch.library.opcheck(torch.ops.flowkit.rational_quadratic.default, (*leaves, *constants))
    torch.library.opcheck(
        torch.ops.flowkit.rational_quadratic_backward.default,
        (*grads, x.detach(), params.detach(), *constants),
    )


def test_second_gradient_is_refused():
    knots = KNOTS[0]
    x, params = draw(1, 2).requires_grad_(), draw(1, knots.count, 2, seed=1)
    y, _ = rational_quadratic(x, params, knots, impl="triton")
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="impl='reference' can be differentiated twice"):
        grad.sum().backward()


def flow():
    """Splines of every kind and family, on pictures."""
    conv = partial(ConvNet, hidden=4)
    return Chain(
        Coupling(4, conv, RationalQuadraticSpline(4), cond_channels=2),
        MaskedCoupling(4, Stripes(), conv, BoundedSpline(3, -2.0, 2.0), cond_channels=2),
        Coupling(4, conv, CircularSpline(3, -5.0, 5.0), cond_channels=2),
    )


def test_a_whole_flow():
    from flowkit import Example

    chain = randomized(Example(flow, (4, 4, 6), (2,)), seed=0).to(DEVICE)
    x, cond = draw(2, 4, 4, 6), draw(2, 2, seed=1)
    found = {}
    for name in ("reference", "triton"):
        chain.zero_grad()
        with implementation(name):
            y, logdet = chain(x, cond)
            (y.square().sum() + logdet.sum()).backward()
            back, _ = chain.inverse(y.detach(), cond)
        torch.testing.assert_close(back, x, rtol=0, atol=1e-4)
        found[name] = [y.detach(), logdet.detach(), *(p.grad.clone() for p in chain.parameters())]
    for came, expected in zip(*found.values(), strict=True):
        # float32 through three layers; gradients sum over some hundred elements.
        largest = max(expected.abs().max().item(), 1)
        torch.testing.assert_close(came, expected, rtol=0, atol=5e-5 * largest)


def test_compiles_as_one_graph():
    chain = Coupling(3, partial(MLP, hidden=4), RationalQuadraticSpline(4)).to(DEVICE)
    x = draw(5, 3)
    torch.compiler.reset()
    with implementation("triton"):
        compiled = torch.compile(chain, fullgraph=True, backend="aot_eager", dynamic=True)
        for batch in (5, 7):
            x = draw(batch, 3)
            for came, wanted in zip(compiled(x), chain(x), strict=True):
                torch.testing.assert_close(came, wanted, rtol=1e-5, atol=1e-5)
        compiled(x)[0].sum().backward()
    torch.compiler.reset()


def test_what_the_kernels_refuse():
    knots = KNOTS[0]
    x, params, _ = inputs(knots, 2, 3, 4)
    many = Knots(17, -5.0, 5.0, 1e-3, "identity")
    for tensors, reason in (
        ((x, draw(2, many.count, 3, 4), many), "17 bins are more than 16"),
        ((x[:0], params[:0], knots), r"\(0, 3, 4\) is empty"),
        ((x, params.to("meta"), knots), "params on meta"),
        ((x, params.to(torch.float8_e5m2), knots), "params are .*float8"),
    ):
        with pytest.raises(ValueError, match=rf"for impl='triton', but .*{reason}"):
            rational_quadratic_choice(*tensors, impl="triton")
        assert rational_quadratic_choice(*tensors, impl="auto").name == "reference"


def test_a_grid_holds_65535_large_samples_and_any_number_of_small_ones(monkeypatch):
    knots = KNOTS[0]
    monkeypatch.setattr(kernels, "block", lambda size, bins: 512)
    for size, refused in ((511, False), (512, True)):
        x = torch.empty(1, device=DEVICE).expand(65536, size)
        params = torch.empty(1, device=DEVICE).expand(65536, knots.count, size)
        assert ("65536 samples" in (kernels.unsupported(x, params, knots) or "")) is refused
    wide = torch.empty(1, device=DEVICE).expand(1, 1, 2**14, 2**14)
    params = wide[:, None].expand(-1, knots.count, -1, -1, -1)
    assert "2³¹ elements" in kernels.unsupported(wide, params, knots)


def test_results_repeat_bit_for_bit():
    knots = KNOTS[0]
    x, params, weights = inputs(knots, 2, 4, 9)
    first, second = (
        results(rational_quadratic, x, params, weights, knots, impl="triton") for _ in range(2)
    )
    assert all(map(torch.equal, first, second))


@needs_gpu
def test_auto_on_a_gpu():
    knots = KNOTS[0]
    x, params, _ = inputs(knots, 70000, 4)
    assert rational_quadratic_choice(x, params, knots).name == "triton"
    exact = rational_quadratic(x.double(), params.double(), knots, impl="reference")
    found, plain = (rational_quadratic(x, params, knots, impl=i) for i in ("triton", "reference"))
    for own, theirs in zip(errors(found, exact), errors(plain, exact), strict=True):
        assert own <= 2 * theirs


@needs_gpu
def test_a_step_waits_for_nothing():
    knots = KNOTS[0]
    x, params, weights = inputs(knots, 8, 4, 16, 16)
    results(rational_quadratic, x, params, weights, knots, impl="triton")
    torch.cuda.set_sync_debug_mode("error")
    try:
        results(rational_quadratic, x, params, weights, knots, impl="triton")
    finally:
        torch.cuda.set_sync_debug_mode("default")
