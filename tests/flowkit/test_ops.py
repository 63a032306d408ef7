"""flowkit.ops: what the functions refuse, and the precision they keep."""

import pytest
import torch

from flowkit.ops import (
    ExpScale,
    SigmoidScale,
    affine_coupling,
    affine_coupling_inverse,
    conv1x1,
)


def image(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("op", [affine_coupling, affine_coupling_inverse])
@pytest.mark.parametrize(
    ("x", "params", "error", "message"),
    [
        (image(2, 4, 3), image(2, 4, 3, 3), ValueError, r"shape \(B, C, H, W\), got \(2, 4, 3\)"),
        (image(2, 4, 3, 3), image(2, 4, 9), ValueError, r"params.*got \(2, 4, 9\)"),
        (image(2, 4, 3, 3), image(1, 4, 3, 3), ValueError, r"\(2, 2n, 3, 3\).*got \(1, 4, 3, 3\)"),
        (image(2, 4, 3, 3), image(2, 4, 3, 1), ValueError, r"\(2, 2n, 3, 3\).*got \(2, 4, 3, 1\)"),
        (image(2, 4, 3, 3), image(2, 3, 3, 3), ValueError, r"1 <= n <= 4.*got \(2, 3, 3, 3\)"),
        (image(2, 4, 3, 3), image(2, 10, 3, 3), ValueError, r"1 <= n <= 4.*got \(2, 10, 3, 3\)"),
        (image(2, 4, 3, 3), image(2, 0, 3, 3), ValueError, r"1 <= n <= 4.*got \(2, 0, 3, 3\)"),
        (image(2, 4, 3, 3).int(), image(2, 4, 3, 3), TypeError, r"floating-point.*int32"),
        ([[1.0]], image(2, 4, 3, 3), TypeError, r"floating-point.*list"),
    ],
)
def test_affine_coupling_refuses(op, x, params, error, message):
    with pytest.raises(error, match=rf"affine_coupling.*{message}"):
        op(x, params)


@pytest.mark.parametrize(
    ("x", "weight", "bias", "error", "message"),
    [
        (image(4, 3, 3), image(3, 3), None, ValueError, r"shape \(B, 3, H, W\), got \(4, 3, 3\)"),
        (image(2, 4, 3, 3), image(3, 3), None, ValueError, r"\(B, 3, H, W\), got \(2, 4, 3, 3\)"),
        (image(2, 4, 3, 3), image(3, 4), None, ValueError, r"weight \(4, 4\).*got \(3, 4\)"),
        (image(2, 4, 3, 3), image(16), None, ValueError, r"weight \(4, 4\).*got \(16,\)"),
        (image(2, 4, 3, 3), image(4, 4), image(3), ValueError, r"bias \(4,\).*and \(3,\)"),
        (image(2, 4, 3, 3).long(), image(4, 4), None, TypeError, r"floating-point.*int64"),
    ],
)
def test_conv1x1_refuses(x, weight, bias, error, message):
    with pytest.raises(error, match=rf"conv1x1.*{message}"):
        conv1x1(x, weight, bias)


def test_affine_coupling_by_hand():
    x = torch.tensor([[[[5.0]], [[3.0]]]])
    params = torch.tensor([[[[1.0]], [[0.5]]]])
    y, logdet = affine_coupling(x, params, ExpScale(2.0))
    log_scale = 2 * torch.tanh(torch.tensor(0.25))
    torch.testing.assert_close(y.flatten(), torch.tensor([5.0, 4 * log_scale.exp()]))
    torch.testing.assert_close(logdet, log_scale[None])


def test_injector_keeps_no_channel():
    x, params = image(2, 3, 2, 2), image(2, 6, 2, 2, seed=1)
    y, _ = affine_coupling(x, params)
    assert (y != x).all()


def test_conv1x1_is_the_product_at_every_pixel():
    x = image(2, 3, 4, 5, dtype=torch.float64)
    weight, bias = image(3, 3, dtype=torch.float64), image(3, dtype=torch.float64, seed=1)
    y = conv1x1(x, weight, bias)
    for i, j in ((0, 0), (3, 4), (2, 1)):
        expected = torch.stack([weight @ pixel + bias for pixel in x[:, :, i, j]])
        torch.testing.assert_close(y[:, :, i, j], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("op", [affine_coupling, affine_coupling_inverse])
def test_low_precision_params_are_read_as_float32(op, dtype):
    x, params = image(2, 4, 3, 3), image(2, 4, 3, 3, seed=1).to(dtype)
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
    x = image(2, 4, 3, 3).to(x_dtype)
    y, logdet = affine_coupling(x, image(2, 4, 3, 3))
    assert (y.dtype, logdet.dtype) == (result_dtype, result_dtype)
    assert conv1x1(x, image(4, 4)).dtype == result_dtype


def test_autocast_does_not_degrade_conv1x1():
    x, weight, bias = image(2, 4, 3, 3), image(4, 4), image(4)
    plain = conv1x1(x, weight, bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.matmul(weight, weight).dtype == torch.bfloat16
        assert conv1x1(x, weight, bias).equal(plain)


@pytest.mark.parametrize("scale_map", [SigmoidScale(), ExpScale(2.0), SigmoidScale(0.0, 0.1)])
def test_scale_is_bounded_and_its_logarithm_true(scale_map):
    raw = torch.tensor([-1e4, -30.0, -1.0, 0.0, 1.0, 30.0, 1e4], dtype=torch.float64)
    scale, log_scale = scale_map(raw)
    if isinstance(scale_map, ExpScale):
        lowest, highest = torch.tensor([-scale_map.bound, scale_map.bound]).double().exp().tolist()
    else:
        lowest, highest = scale_map.floor, 1 + scale_map.floor
    # 1e-12: the bounds are reached to rounding, where tanh and sigmoid are 1 in float64.
    assert (scale >= lowest * (1 - 1e-12)).all()
    assert (scale <= highest * (1 + 1e-12)).all()
    torch.testing.assert_close(log_scale, scale.log())


def test_inverse_stays_finite_at_the_smallest_scale():
    x = image(1, 2, 1, 1)
    params = torch.full((1, 2, 1, 1), -1e4)
    value, logdet = affine_coupling_inverse(x, params)
    assert value.isfinite().all()
    assert logdet.isfinite().all()


@pytest.mark.parametrize("make", [lambda: SigmoidScale(floor=0.0), lambda: ExpScale(0.0)])
def test_unbounded_scales_are_refused(make):
    with pytest.raises(ValueError, match="> 0, got 0"):
        make()
