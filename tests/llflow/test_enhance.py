"""Enhancement: any size, real sampling, and a result that picture and seed alone decide."""

import copy

import pytest
import torch

from flowkit import ConvNet
from llflow import LLFlow, draw, enhance
from llflow.enhancement import NotFinite
from llflow.picture import preprocess, retinex


@pytest.fixture
def model(nano):
    return nano


@pytest.fixture
def image():
    return 0.1 * torch.rand(3, 20, 27, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (8, 8), (17, 40)])
def test_any_size(model, size):
    result = enhance(model, torch.rand(3, *size))
    assert result.shape == (3, *size)
    assert result.isfinite().all()
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_are_finite(model, value):
    assert enhance(model, torch.full((3, 16, 16), value)).isfinite().all()


def test_fold_changes_nothing(model, image):
    for temperature in (0.0, 0.5):
        plain = enhance(model, image, temperature=temperature)
        folded = enhance(model.fold(), image, temperature=temperature)
        # float32, some 30 operations deep
        torch.testing.assert_close(plain, folded, rtol=0, atol=1e-4)


def test_temperature_zero_decodes_the_priors_mean(model, image):
    image = image[:, :16, :24]
    cond = model.condition(preprocess.network_input(image, retinex.equalize(image))[None])
    expected, _ = model.flow.bijection.inverse(model.flow.base(cond).mean, cond)
    torch.testing.assert_close(enhance(model, image), expected[0].clamp(0, 1).detach())
    assert torch.equal(enhance(model, image, seed=1), enhance(model, image, seed=2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_precision_of_picture_and_model(model, image, dtype):
    """The picture is taken in float32; noise is the same for the same picture."""
    image = image.bfloat16().float()  # representable in all of them
    expected = enhance(model, image, temperature=0.5)
    assert torch.equal(enhance(model, image.to(dtype), temperature=0.5), expected)
    double = copy.deepcopy(model).double()
    close = enhance(double, image, temperature=0.5)
    torch.testing.assert_close(close, expected, rtol=0, atol=1e-4)


def test_results_can_be_learned_from(model, image):
    weight = torch.ones(3, 1, 1, requires_grad=True)
    (enhance(model, image) * weight).sum().backward()
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("value", [255.0, -0.1, float("nan")])
def test_values_out_of_range(model, image, value):
    image[0, 0, 0] = value
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        enhance(model, image)


def test_samples_are_what_the_flow_decodes_from_mean_plus_noise(model, image):
    """Encoding a sample gives z back; z minus the mean, over τ, is standard normal noise."""
    image = image[:, :16, :24]
    temperature = 0.7
    low = preprocess.network_input(image, retinex.equalize(image))[None]
    cond = model.condition(low)
    samples = torch.stack(draw(model, image, temperature=temperature, samples=6))
    z = torch.cat([model.flow.bijection(sample[None], cond)[0] for sample in samples])
    noise = ((z - model.flow.base(cond).mean) / temperature).detach()
    # 6·3·16·24 = 6912 values: standard error of the mean 0.012, of the deviation 0.0085; 4 of each.
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.035
    correlations = torch.corrcoef(noise.flatten(1)) - torch.eye(6)
    assert correlations.abs().max() < 5 / 1152**0.5


def test_mean_of_samples(model, image):
    samples = draw(model, image, temperature=0.5, samples=4, seed=3)
    mean = enhance(model, image, temperature=0.5, samples=4, seed=3)
    torch.testing.assert_close(mean, torch.stack(samples).mean(0).clamp(0, 1))
    assert (samples[0] - samples[1]).abs().max() > 1e-3


def test_a_sample_is_the_same_however_many_are_drawn(model, image):
    few, many = draw(model, image, samples=2), draw(model, image, samples=4)
    assert all(torch.equal(a, b) for a, b in zip(few, many, strict=False))


def test_picture_and_seed_alone_decide(model, image):
    torch.manual_seed(0)
    first = enhance(model, image, temperature=1.0)
    enhance(model, image.flip(1), temperature=1.0)
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        second = enhance(model, image, temperature=1.0)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert (first - enhance(model, image, temperature=1.0, seed=1)).abs().max() > 1e-3


def test_samples_share_the_work_on_the_condition(model, image):
    counted = LLFlow(model.config)
    counted.load_state_dict(model.state_dict())
    encodings = []
    counted.encoder.register_forward_hook(lambda *_: encodings.append(1))
    calls = {"cond": 0, "last": 0}
    for module in counted.modules():
        if isinstance(module, ConvNet):
            for name, part in (("cond", module.first_cond), ("last", module.last)):
                if part is not None:
                    part.register_forward_hook(
                        lambda *_, name=name: calls.update({name: calls[name] + 1})
                    )
    draw(counted, image, samples=5)
    injectors, couplings = 3 * model.config.steps, 3 * model.config.steps
    assert len(encodings) == 1
    assert calls == {"cond": couplings, "last": injectors + 5 * couplings}


def test_histogram_is_of_the_picture_without_padding(model, monkeypatch):
    seen, condition = [], LLFlow.condition
    monkeypatch.setattr(
        LLFlow,
        "condition",
        lambda self, low, *rest: seen.append(low) or condition(self, low, *rest),
    )
    image = torch.rand(3, 9, 11)
    enhance(model, image)
    (low,) = seen
    assert torch.equal(low[0, 3:, :9, :11], retinex.equalize(image))


def test_overflow_is_an_error_not_a_picture(model, image):
    broken = LLFlow(model.config).eval()
    with torch.no_grad():
        broken.get_parameter("flow.bijection.layers.2.layers.1.layers.0.log_scale").fill_(-200)
    with pytest.raises(NotFinite, match="isn't finite"):
        enhance(broken, image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -0.1}, "temperature >= 0"),
        ({"temperature": float("nan")}, "temperature >= 0"),
        ({"samples": 0, "temperature": 1.0}, "samples >= 1"),
        ({"samples": 2}, "all samples are the same"),
    ],
)
def test_arguments_out_of_range(model, image, arguments, message):
    with pytest.raises(ValueError, match=message):
        enhance(model, image, **arguments)


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(1, 3, 8, 8),
        torch.zeros(4, 8, 8),
        torch.zeros(3, 0, 8),
        torch.zeros(3, 8, 8).int(),
    ],
)
def test_wrong_images(model, image):
    with pytest.raises(ValueError, match="floating-point image"):
        enhance(model, image)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_makes_the_same_picture(model, image):
    on_gpu = copy.deepcopy(model).cuda()
    for temperature in (0.0, 0.7):
        expected = enhance(model, image, temperature=temperature)
        result = enhance(on_gpu, image, temperature=temperature)
        # cuDNN's convolutions may round inputs to TF32, 10 bits
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-2)
