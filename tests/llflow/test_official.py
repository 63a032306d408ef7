"""The authors' network, reproduced: against outputs of theirs on a small random network.

data/official_tiny.safetensors holds weights in the authors' layout, inputs, and what their network
made of them in float32 and float64, forward, backward and decoded.
"""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llflow import LARGE, SMALL, LLFlow, enhance
from llflow.network import checkpoint, official
from llflow.network.prior import ColorMapPrior

FIXTURE = Path(__file__).parent / "data" / "official_tiny.safetensors"
# The authors' own float32 differs from their float64 by up to 3e-5 on such networks; 1e-4 leaves
# room for another order of summation. In float64 the same gap is far below 1e-9.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["float32", "float64"])


@pytest.fixture(scope="module")
def fixture():
    return load_file(FIXTURE)


@pytest.fixture(scope="module")
def weights(fixture):
    prefix = "weights/"
    return {k.removeprefix(prefix): v for k, v in fixture.items() if k.startswith(prefix)}


@pytest.fixture
def model(weights):
    return official.convert(weights)


def close(value, expected):
    torch.testing.assert_close(
        value.detach(), expected, rtol=0, atol=TOLERANCE[value.dtype], check_dtype=True
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("fea_up2", "half"),
        ("fea_up1", "quarter"),
        ("fea_up0", "eighth"),
        ("color_map", "color_map"),
    ],
)
def test_conditions(model, fixture, theirs, ours):
    close(model.condition(fixture["input/lr"])[ours], fixture[f"cond/{theirs}"])


@DTYPES
def test_encode(model, fixture, dtype):
    low, bright = fixture["input/lr"].to(dtype), fixture["input/gt"].to(dtype)
    name = str(dtype).removeprefix("torch.")
    model.to(dtype)
    z, logdet = model.flow.bijection(bright, model.condition(low))
    close(z, fixture[f"{name}/z"])
    close(model.nll(bright, low), fixture[f"{name}/nll_enc_prior"])
    if dtype == torch.float64:
        close(logdet, fixture["float64/logdet"])
        close(model.nll(bright, low, from_reference=True), fixture["float64/nll_gt_prior"])


def test_float32_likelihood_under_the_reference_prior(model, fixture):
    nll = model.nll(fixture["input/gt"], fixture["input/lr"], from_reference=True)
    close(nll, fixture["float64/nll_gt_prior"].float())


def test_selector_picks_the_prior_per_sample(model, fixture):
    model.double()
    low, bright = fixture["input/lr"].double(), fixture["input/gt"].double()
    mixed = model.nll(bright, low, torch.tensor([True, False]))
    expected = fixture["float64/nll_gt_prior"][0], fixture["float64/nll_enc_prior"][1]
    close(mixed, torch.stack(expected))


@DTYPES
@pytest.mark.parametrize("folded", [False, True], ids=["plain", "folded"])
def test_decode(model, fixture, dtype, folded):
    model.to(dtype)
    flow = model.fold().flow if folded else model.flow
    cond = model.condition(fixture["input/lr"].to(dtype))
    close(ColorMapPrior()(cond).mean, fixture["float64/z_mean"].to(dtype))
    z = ColorMapPrior()(cond).mean
    enhanced, logdet = flow.bijection.given(cond).inverse(z)
    close(enhanced, fixture[f"{str(dtype).removeprefix('torch.')}/enhanced"])
    sample, _ = flow.bijection.inverse(z + 0.3 * fixture["float64/sample_eps"].to(dtype), cond)
    close(sample, fixture["float64/sample_heat0.3"].to(dtype))
    if dtype == torch.float64:
        close(logdet, fixture["float64/enhanced_logdet"])


@torch.no_grad()
def test_enhanced_pictures(model, fixture):
    """From 8-bit pixels through the whole pipeline."""
    for index, pixels in enumerate(fixture["input/low_u8"]):
        picture = enhance(model.fold(), pixels.permute(2, 0, 1).float() / 255)
        close(picture, fixture["float32/enhanced"][index].clamp(0, 1))


def test_gradients(model, fixture):
    model.nll(fixture["input/gt"], fixture["input/lr"]).mean().backward()
    compared = 0
    for theirs, ours in official.names(model.config).items():
        expected = fixture.get(f"grad/{theirs}")
        if expected is None:
            continue
        grad = torch.cat([model.get_parameter(name).grad for name in ours], dim=len(ours) - 1)
        if official.is_interleaved(theirs):
            expected = torch.cat([expected[0::2], expected[1::2]])
        error = (grad - expected.reshape(grad.shape)).norm() / expected.norm().clamp(min=1e-6)
        assert error < 1e-4, (theirs, float(error))
        compared += len(ours)
    assert compared == len(list(model.parameters()))


def test_network_input_matches_theirs(fixture):
    from llflow.picture import preprocess, retinex

    for index, pixels in enumerate(fixture["input/low_u8"]):
        image = pixels.permute(2, 0, 1).float() / 255
        made = preprocess.network_input(image, retinex.equalize(image))
        close(made, fixture["input/lr"][index])
    features = preprocess.encoder_features(fixture["input/lr"])
    close(features[:, 6:9], fixture["input/input_color_map"])
    close(features[:, 9:], fixture["input/input_noise_map"])


@pytest.mark.parametrize(
    ("config", "stored", "used", "tensors"),
    [(LARGE, 38_859_481, 37_677_395, 1516), (SMALL, 5_429_849, 4_967_635, 412)],
    ids=["large", "small"],
)
def test_sizes_of_the_released_networks(config, stored, used, tensors):
    layout = official.layout(config)
    assert len(layout) == tensors
    assert sum(math.prod(shape) for shape in layout.values()) == stored
    with torch.device("meta"):
        model = LLFlow(config)
    assert sum(p.numel() for p in model.parameters()) == used


@pytest.mark.parametrize("config", [LARGE, SMALL], ids=["large", "small"])
def test_size_is_inferred_from_the_tensors(config):
    state = {
        name: torch.empty(shape, device="meta") for name, shape in official.layout(config).items()
    }
    assert official.infer_config(state) == config


@torch.no_grad()
def test_large_survives_the_round_trip():
    """float32, 160x160, random weights with the last layers as wide as the fixture's."""
    torch.manual_seed(0)
    model = LLFlow(LARGE)
    low = torch.rand(1, 6, 160, 160)
    bright = torch.rand(1, 3, 160, 160)
    model.initialize(bright, low)
    for name, parameter in model.named_parameters():
        if name.endswith("last.weight"):
            torch.nn.init.normal_(parameter, std=0.008)
    cond = model.condition(low)
    given = model.flow.bijection.given(cond)
    z, logdet = given(bright)
    back, logdet_back = given.inverse(z)
    assert (back - bright).abs().max() < 1e-4
    assert (logdet + logdet_back).abs() < 1e-5 * logdet.abs()


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_are_read_with_and_without_prefix(weights, tmp_path, prefix, suffix):
    state = {prefix + key: value.clone() for key, value in weights.items()}
    path = tmp_path / f"official{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    model = official.convert(official.read(path))
    checkpoint.save(model, tmp_path / "ours.safetensors")
    loaded = checkpoint.load(tmp_path / "ours.safetensors")
    assert loaded.config == model.config
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, loaded.get_parameter(name))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_are_refused(weights, tmp_path, suffix, share):
    path = tmp_path / f"official{suffix}"
    torch.save(weights, path) if suffix == ".pth" else save_file(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(official.NotOfficial, match=f"official{suffix}"):
        official.read(path)


class Malicious:
    executed = False

    def __reduce__(self):
        return setattr, (Malicious, "executed", True)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    torch.save({"RRDB.conv_first.weight": Malicious()}, tmp_path / "evil.pth")
    with pytest.raises(official.NotOfficial, match="more than tensors"):
        official.read(tmp_path / "evil.pth")
    assert not Malicious.executed


@pytest.mark.parametrize("key", ["params", "params_ema", "state_dict", "model"])
def test_weights_within_a_dictionary_are_named(weights, tmp_path, key):
    torch.save({key: weights, "step": 3}, tmp_path / "other.pth")
    message = rf"one of other things \('{key}', 'step'\); save what is under '{key}' alone"
    with pytest.raises(official.NotOfficial, match=message):
        official.read(tmp_path / "other.pth")


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"a": [torch.zeros(1)]}, torch.zeros(3)])
def test_other_contents_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(official.NotOfficial, match="dictionary of tensors"):
        official.read(tmp_path / "other.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, device="meta"),
    ],
    ids=["sparse", "complex", "integer", "meta"],
)
def test_other_kinds_of_tensors_are_refused(weights, tmp_path, tensor):
    torch.save(weights | {"RRDB.conv_last.bias": tensor}, tmp_path / "odd.pth")
    with pytest.raises(official.NotOfficial, match=r"odd\.pth"):
        official.read(tmp_path / "odd.pth")


def test_wrong_tensors_are_named(weights):
    some = "flowUpsamplerNet.layers.3.affine.fAffine.4.logs"
    with pytest.raises(official.NotOfficial, match=some):
        official.convert({key: value for key, value in weights.items() if key != some})
    with pytest.raises(official.NotOfficial, match="surplus"):
        official.convert(weights | {"surplus": torch.zeros(1)})
    with pytest.raises(official.NotOfficial, match=f"{some} of shape"):
        official.convert(weights | {some: torch.zeros(5, 1, 1)})
    with pytest.raises(official.NotOfficial, match="aren't finite"):
        official.convert(weights | {some: weights[some] * float("nan")})
    with pytest.raises(official.NotOfficial, match="missing"):
        official.convert({"state": torch.zeros(1)})
