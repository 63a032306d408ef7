"""flowkit.ops: what the functions refuse, the precision they keep, scales of one's own."""

import math
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from flowkit import Affine, Coupling, SoftplusScale
from flowkit.ops import (
    ExpScale,
    Knots,
    SigmoidScale,
    affine_coupling,
    affine_coupling_choice,
    affine_coupling_inverse,
    implementation,
    linear_map,
    linear_map_choice,
)


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("op", [affine_coupling, affine_coupling_inverse])
@pytest.mark.parametrize(
    ("x", "params", "error", "message"),
    [
        (draw(4), draw(4, 4), ValueError, r"shape \(B, C, \*S\), got \(4,\)"),
        (draw(2, 4, 3, 3), draw(2, 4, 9), ValueError, r"params.*got \(2, 4, 9\)"),
        (draw(2, 4, 3), draw(2, 4), ValueError, r"params.*\(2, '2n', 3\).*got \(2, 4\)"),
        (draw(2, 4, 3, 3), draw(1, 4, 3, 3), ValueError, r"\(2, '2n', 3, 3\).*got \(1, 4, 3, 3\)"),
        (draw(2, 4, 3, 3), draw(2, 4, 3, 1), ValueError, r"\(2, '2n', 3, 3\).*got \(2, 4, 3, 1\)"),
        (draw(2, 4, 3, 3), draw(2, 3, 3, 3), ValueError, r"1 <= n <= 4.*got \(2, 3, 3, 3\)"),
        (draw(2, 4, 3, 3), draw(2, 10, 3, 3), ValueError, r"1 <= n <= 4.*got \(2, 10, 3, 3\)"),
        (draw(2, 4, 3, 3), draw(2, 0, 3, 3), ValueError, r"1 <= n <= 4.*got \(2, 0, 3, 3\)"),
        (draw(2, 4, 3, 3).int(), draw(2, 4, 3, 3), TypeError, r"floating-point.*int32"),
        ([[1.0]], draw(2, 4, 3, 3), TypeError, r"a tensor \(B, C, \*S\), got list"),
        (draw(2, 4), [[1.0]], TypeError, r"\(params\): expected a tensor \(B, C, \*S\), got list"),
    ],
)
def test_affine_coupling_refuses(op, x, params, error, message):
    with pytest.raises(error, match=rf"affine_coupling.*{message}"):
        op(x, params)


@pytest.mark.parametrize(
    ("x", "weight", "bias", "error", "message"),
    [
        (draw(4), draw(4, 4), None, ValueError, r"shape \(B, C, \*S\), got \(4,\)"),
        (draw(2, 4, 3, 3), draw(3, 3), None, ValueError, r"weight \(4, 4\).*got \(3, 3\)"),
        (draw(2, 4, 3, 3), draw(3, 4), None, ValueError, r"weight \(4, 4\).*got \(3, 4\)"),
        (draw(2, 4, 3, 3), draw(16), None, ValueError, r"weight \(4, 4\).*got \(16,\)"),
        (draw(2, 4, 3, 3), draw(4, 4), draw(3), ValueError, r"bias \(4,\).*and \(3,\)"),
        (draw(2, 4, 3, 3).long(), draw(4, 4), None, TypeError, r"floating-point.*int64"),
    ],
)
def test_linear_map_refuses(x, weight, bias, error, message):
    with pytest.raises(error, match=rf"linear_map.*{message}"):
        linear_map(x, weight, bias)


def test_affine_coupling_by_hand():
    x = torch.tensor([[[[5.0]], [[3.0]]]])
    params = torch.tensor([[[[1.0]], [[0.5]]]])
    y, logdet = affine_coupling(x, params, ExpScale(2.0))
    log_scale = 2 * torch.tanh(torch.tensor(0.25))
    torch.testing.assert_close(y.flatten(), torch.tensor([5.0, 4 * log_scale.exp()]))
    torch.testing.assert_close(logdet, log_scale[None])


def test_injector_keeps_no_channel():
    x, params = draw(2, 3, 2, 2), draw(2, 6, 2, 2, seed=1)
    y, _ = affine_coupling(x, params)
    assert (y != x).all()


@pytest.mark.parametrize("places", [(), (6,), (2, 3), (1, 2, 3)])
def test_how_places_are_arranged_is_nothing_to_an_op(places):
    count = math.prod(places)
    x, params, weight = draw(2, 4, count), draw(2, 4, count, seed=1), draw(4, 4)
    shaped, shaped_params = x.reshape(2, 4, *places), params.reshape(2, 4, *places)
    for op in (affine_coupling, affine_coupling_inverse):
        y, logdet = op(shaped, shaped_params)
        expected, expected_logdet = op(x, params)
        assert y.shape == shaped.shape
        assert y.reshape(2, 4, count).equal(expected)
        torch.testing.assert_close(logdet, expected_logdet)
    y = linear_map(shaped, weight)
    assert y.shape == shaped.shape
    torch.testing.assert_close(y.reshape(2, 4, count), linear_map(x, weight))


def test_linear_map_is_the_product_at_every_place():
    x = draw(2, 3, 4, 5, dtype=torch.float64)
    weight, bias = draw(3, 3, dtype=torch.float64), draw(3, dtype=torch.float64, seed=1)
    y = linear_map(x, weight, bias)
    for i, j in ((0, 0), (3, 4), (2, 1)):
        expected = torch.stack([weight @ place + bias for place in x[:, :, i, j]])
        torch.testing.assert_close(y[:, :, i, j], expected)
    vectors = x[:, :, 1, 2]
    expected = torch.stack([weight @ vector + bias for vector in vectors])
    torch.testing.assert_close(linear_map(vectors, weight, bias), expected)


@pytest.mark.parametrize("places", [(3, 3), ()])
def test_nothing_comes_of_nothing(places):
    x, params = torch.empty(0, 4, *places), torch.empty(0, 4, *places)
    y, logdet = affine_coupling(x, params)
    assert (y.shape, logdet.shape) == (x.shape, (0,))
    assert linear_map(x, draw(4, 4), draw(4)).shape == x.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("op", [affine_coupling, affine_coupling_inverse])
def test_low_precision_params_are_read_as_float32(op, dtype):
    x, params = draw(2, 4, 3, 3), draw(2, 4, 3, 3, seed=1).to(dtype)
    value, logdet = op(x, params)
    assert value.dtype == logdet.dtype == torch.float32
    exact, exact_logdet = op(x.double(), params.double())
    # float32 throughout: a few roundings of 6e-8 for the value, 18 terms for the log-det.
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logdet.double(), exact_logdet, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("x_dtype", "result_dtype"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_results_are_float32_or_as_wide_as_the_input(x_dtype, result_dtype):
    x = draw(2, 4, 3, 3).to(x_dtype)
    y, logdet = affine_coupling(x, draw(2, 4, 3, 3))
    assert (y.dtype, logdet.dtype) == (result_dtype, result_dtype)
    assert linear_map(x, draw(4, 4)).dtype == result_dtype


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 4)])
def test_autocast_does_not_degrade_linear_map(shape):
    x, weight, bias = draw(*shape), draw(4, 4), draw(4)
    plain = linear_map(x, weight, bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.matmul(weight, weight).dtype == torch.bfloat16
        assert linear_map(x, weight, bias).equal(plain)


@pytest.mark.parametrize(
    "scale_map", [SigmoidScale(), ExpScale(2.0), SigmoidScale(0.0, 0.1), SoftplusScale(0.1, 20.0)]
)
def test_scale_is_bounded_and_its_logarithm_true(scale_map):
    raw = torch.tensor([-1e4, -30.0, -1.0, 0.0, 1.0, 30.0, 1e4], dtype=torch.float64)
    scale, log_scale = scale_map(raw)
    if isinstance(scale_map, ExpScale):
        lowest, highest = math.exp(-scale_map.bound), math.exp(scale_map.bound)
    elif isinstance(scale_map, SigmoidScale):
        lowest, highest = scale_map.floor, 1 + scale_map.floor
    else:
        lowest, highest = scale_map.floor, scale_map.ceiling
    # 1e-12: the bounds are reached to rounding, where tanh and sigmoid are 1 in float64.
    assert (scale >= lowest * (1 - 1e-12)).all()
    assert (scale <= highest * (1 + 1e-12)).all()
    torch.testing.assert_close(log_scale, scale.log())


@pytest.mark.parametrize("scale_map", [ExpScale(), SoftplusScale()])
def test_scales_that_start_at_one(scale_map):
    scale, log_scale = scale_map(torch.zeros(1, dtype=torch.float64))
    assert scale.item() == pytest.approx(1, abs=1e-15)
    assert log_scale.item() == pytest.approx(0, abs=1e-15)


def test_inverse_stays_finite_at_the_smallest_scale():
    params = torch.full((1, 2, 1, 1), -1e4)
    for scale_map in (ExpScale(), SigmoidScale(), SoftplusScale()):
        value, logdet = affine_coupling_inverse(draw(1, 2, 1, 1), params, scale_map)
        assert value.isfinite().all()
        assert logdet.isfinite().all()


def test_many_small_scales_do_not_underflow():
    params = torch.full((1, 32, 2, 2), -100.0)
    for floor in (1e-4, 1e-10, 1e-30):
        _, logdet = affine_coupling(torch.zeros(1, 16, 2, 2), params, SigmoidScale(0.0, floor))
        expected = 64 * torch.tensor([floor]).log()
        torch.testing.assert_close(logdet, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SigmoidScale(floor=0.0), "floor > 0, got 0"),
        (lambda: ExpScale(0.0), "bound > 0, got 0"),
        (lambda: SoftplusScale(floor=0.0), "0 < floor < 1 < ceiling, got 0"),
        (lambda: SoftplusScale(ceiling=1.0), "0 < floor < 1 < ceiling, got 0.001 and 1.0"),
    ],
)
def test_unbounded_scales_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@dataclass(frozen=True)
class Arctan:
    bound: float = 2.0

    def __call__(self, raw):
        log_scale = self.bound * 0.636 * torch.atan(raw / self.bound)
        return log_scale.exp(), log_scale


class Softer(ExpScale):
    def __call__(self, raw):
        return super().__call__(raw / 2)


class SofterSigmoid(SigmoidScale):
    def __call__(self, raw):
        return super().__call__(raw / 2)


def squashed(raw):
    log_scale = raw.tanh()
    return log_scale.exp(), log_scale


SCALES = [
    ExpScale(),
    SigmoidScale(),
    SoftplusScale(),
    Arctan(),
    Softer(),
    SofterSigmoid(),
    squashed,
]


@pytest.mark.parametrize("op", [affine_coupling, affine_coupling_inverse])
@pytest.mark.parametrize("scale", SCALES, ids=lambda s: getattr(s, "__name__", type(s).__name__))
def test_every_scale_is_differentiated_as_what_it_is(op, scale):
    tensors = [
        draw(2, 5, 1, 2, dtype=torch.float64).requires_grad_(),
        draw(2, 6, 1, 2, dtype=torch.float64, seed=1).requires_grad_(),
    ]
    run = partial(op, scale_map=scale)
    assert torch.autograd.gradcheck(run, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, tensors)


@pytest.mark.parametrize("scale", SCALES, ids=lambda s: getattr(s, "__name__", type(s).__name__))
def test_a_layer_takes_any_scale_whatever_implementation_there_is(scale):
    layer = Coupling(4, lambda c_in, c_out: torch.nn.Conv2d(c_in, c_out, 3, padding=1))
    layer = Coupling(4, lambda *_: layer.net, Affine(scale)).double()
    x = draw(2, 4, 3, 3, dtype=torch.float64)
    found = []
    for name in ("reference", "auto"):
        with implementation(name):
            y, logdet = layer(x)
            loss = y.square().sum() + logdet.sum()
            found.append([y, logdet, *torch.autograd.grad(loss, list(layer.parameters()))])
    shift, raw = layer.net(x[:, :2]).chunk(2, dim=1)
    s, log_s = scale(raw)
    torch.testing.assert_close(found[0][0][:, 2:], (x[:, 2:] + shift) * s)
    torch.testing.assert_close(found[0][1], log_s.flatten(1).sum(1))
    for came, expected in zip(*found, strict=True):
        torch.testing.assert_close(came, expected)


@pytest.mark.parametrize("places", [(3, 3), ()])
@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        (lambda raw: raw.exp(), TypeError, r"scale <lambda>: expected \(s, log s\), got Tensor"),
        (lambda raw: (raw.exp(), raw.sum()), ValueError, r"expected s and log s of shape .* \(\)$"),
        ("exp", TypeError, r"expected a function raw -> \(s, log s\), got str"),
    ],
)
def test_what_is_no_scale_is_refused(scale, error, message, places):
    # Two samples, into which a tensor could be unpacked.
    with pytest.raises(error, match=message):
        affine_coupling(draw(2, 4, *places), draw(2, 4, *places), scale)


def test_second_derivatives_by_nested_forward_mode():
    params = draw(1, 4, dtype=torch.float64, seed=1)
    net = draw(2, 4, dtype=torch.float64, seed=2)

    def density(x):
        y, logdet = affine_coupling(x[None], params + torch.sin(x[None, :2]) @ net)
        return (logdet - y.square().sum(1) / 2)[0]

    x = draw(4, dtype=torch.float64)
    nested = torch.func.jacfwd(torch.func.jacfwd(density))(x)
    torch.testing.assert_close(nested, torch.autograd.functional.hessian(density, x))


def test_gradients_of_each_sample_by_function_transforms():
    x, params, weight = draw(3, 4), draw(3, 4, seed=1), draw(4, 4)

    def loss(x, params, weight):
        y, logdet = affine_coupling(linear_map(x[None], weight), params[None])
        return y.square().sum() + logdet.sum()

    each = torch.func.vmap(torch.func.grad(loss, (0, 1, 2)), (0, 0, None))(x, params, weight)
    for i in range(3):
        leaves = [t.clone().requires_grad_() for t in (x[i], params[i], weight)]
        expected = torch.autograd.grad(loss(*leaves), leaves)
        for came, wanted in zip(each, expected, strict=True):
            torch.testing.assert_close(came[i], wanted)


def test_auto_on_a_cpu_is_the_definition():
    x = torch.rand(1, 2, 3, 3)
    for choice in (affine_coupling_choice(x, x), linear_map_choice(x, torch.eye(2))):
        assert choice.name == "reference"
        assert "for CUDA, this is cpu" in choice.reason


def test_without_triton_asking_for_it_is_an_error():
    code = (
        "import sys; sys.modules['triton'] = None; import torch\n"
        "from flowkit.ops import affine_coupling, linear_map\n"
        "x = torch.rand(1, 2)\n"
        "affine_coupling(x, x); linear_map(x, torch.eye(2))\n"
        "affine_coupling(x, x, impl='triton')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == (
        "ValueError: affine_coupling: expected tensors for impl='triton', "
        "but triton isn't installed"
    )


def test_ops_are_registered_without_triton():
    code = (
        "import sys; sys.modules['triton'] = None; import torch, flowkit.ops\n"
        "print(torch.ops.flowkit.affine_coupling.default._schema)\n"
        "print(torch.ops.flowkit.linear_map.default._schema)\n"
        "print(torch.ops.flowkit.rational_quadratic.default._schema)\n"
        "meta = torch.rand(2, 3, 4, device='meta')\n"
        "print(*(tuple(t.shape) for t in torch.ops.flowkit.affine_coupling("
        "meta, meta[:, :2], False, True, 2.0, 0.0)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines() == [
        "flowkit::affine_coupling(Tensor x, Tensor params, bool inverse, bool exponential, "
        "float first, float floor) -> (Tensor, Tensor)",
        "flowkit::linear_map(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
        "flowkit::rational_quadratic(Tensor x, Tensor params, bool inverse, int bins, float low, "
        "float high, float least, str ends) -> (Tensor, Tensor)",
        "(2, 3, 4) (2,)",
    ], result.stderr


@pytest.mark.parametrize(
    ("weight", "bias"), [((2, 3), (2,)), ((3, 3), (3,)), ((2, 2), (3,)), ((2, 2), (2, 1))]
)
def test_a_linear_map_of_other_channels_is_refused(weight, bias):
    words = rf"expected weight \(2, 2\) and bias \(2,\) or None, got {re.escape(str(weight))} and "
    with pytest.raises(ValueError, match=f"linear_map: {words}{re.escape(str(bias))}"):
        linear_map(draw(4, 2), draw(*weight), draw(*bias))


@pytest.mark.parametrize(
    "knots",
    [
        (1, -1.0, 1.0, 0.001),
        (2, 1.0, 1.0, 0.001),
        (2, 0.0, math.inf, 0.001),
        (2, -math.inf, 0.0, 0.001),
        (2, 0.0, 1.0, 0.0),
        (2, 0.0, 1.0, 0.5),
    ],
)
def test_knots_that_cannot_be_are_refused(knots):
    words = "Knots: expected bins >= 2, low < high and 0 < least < 1/bins, got "
    with pytest.raises(ValueError, match=re.escape(words + "{}, {}, {} and {}".format(*knots))):
        Knots(*knots, "identity")


def test_ends_of_a_spline_have_names():
    with pytest.raises(ValueError, match=r"Knots: expected ends among \(.*\), got 'open'"):
        Knots(2, 0.0, 1.0, 0.1, "open")
