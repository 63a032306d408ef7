"""The lean network as a whole: its cost, its likelihood, its files, and what it refuses."""

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llflow import TINY, LLFlow
from llflow.network import checkpoint
from llflow.network.model import LeanConfig
from llflow.network.prior import squeeze_map

NANO = LeanConfig(
    half=4, quarter=8, eighth=8, blocks=(1, 1, 1), thumbnail=4, steps=(1, 2, 1), hidden=(4, 8, 8)
)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    shape = (2, 6, 16, 24)
    low = torch.rand(shape, generator=generator) - torch.tensor([4.0, 0])[:, None].expand(
        2, 3
    ).reshape(1, 6, 1, 1)
    return torch.rand(2, 3, 16, 24, generator=generator), low


@pytest.fixture
def model(pair):
    torch.manual_seed(0)
    model = LLFlow(NANO)
    model.initialize(*pair)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 4 and not parameter.any() and "illumination" not in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def test_tiny_is_made_for_a_cpu():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = LLFlow(TINY)
        cond = model.condition(torch.zeros(1, 6, 400, 600))
        model.flow.bijection.inverse(model.flow.base(cond).mean, cond)
    assert counter.get_total_flops() / 2 <= 12e9
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1.5e6


def test_likelihood_is_bits_per_pixel_of_the_change_of_variables(model, pair):
    model = model.double()
    bright, low = (x.double() for x in pair)
    cond = model.condition(low)
    z, logdet = model.flow.bijection(bright, cond)
    squares = (z - squeeze_map(cond["color_map"])).square() + math.log(2 * math.pi)
    nats = -0.5 * squares.sum(dim=(1, 2, 3)) + logdet
    torch.testing.assert_close(model.nll(bright, low), -nats / (16 * 24 * math.log(2)))


def test_the_exposure_is_a_factor_of_the_picture(model, pair):
    cond = model.condition(pair[1])
    brighter = cond | {"exposure": cond["exposure"] + math.log(3)}
    torch.testing.assert_close(model.typical(brighter), 3 * model.typical(cond))


@pytest.mark.parametrize("keep", ["inputs", "nothing"])
def test_what_is_kept_changes_no_gradient(model, pair, keep):
    def gradients():
        model.zero_grad()
        cond = model.condition(pair[1])
        (model.nll(*pair, cond=cond).mean() + model.typical(cond).square().mean()).backward()
        return {
            name: parameter.grad.clone()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }

    model.eval()  # without dropout
    expected = gradients()
    model.keep = keep
    for name, gradient in gradients().items():
        # Steps that are inverted come back with float32 rounding.
        scale = expected[name].abs().max().clamp(min=1e-3).item()
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=2e-3 * scale, msg=name)


def test_every_part_learns(model, pair):
    cond = model.condition(pair[1])
    (model.nll(*pair, cond=cond).mean() + model.typical(cond).mean()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    # The spread is told to nobody but the one who draws, and learns from a loss of its own.
    assert without == []


def test_fold_changes_nothing(model, pair):
    model.eval()
    cond, folded = model.condition(pair[1]), model.fold()
    expected = model.typical(cond)
    # float32, some 30 operations deep
    result = folded.typical(folded.condition(pair[1]))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_files_keep_it(model, pair, tmp_path):
    checkpoint.save(model.eval(), tmp_path / "lean.safetensors")
    loaded = checkpoint.load(tmp_path / "lean.safetensors")
    assert loaded.config == NANO
    assert torch.equal(loaded.condition(pair[1])["half"], model.condition(pair[1])["half"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "fat"}, "kind among authors, lean"),
        ({"kind": "lean", "taps": [1]}, "unknown setting taps"),
        ({"kind": "lean", "half": "4"}, "half"),
    ],
)
def test_damaged_configurations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        checkpoint.configuration(values)


def test_without_a_flow_the_color_map_at_its_exposure_is_the_picture(pair):
    torch.manual_seed(0)
    model = LLFlow(NANO.without_flow())
    model.initialize(*pair)  # nothing to set
    assert not list(model.flow.parameters())
    cond = model.condition(pair[1])
    expected = cond["color_map"] * cond["exposure"].exp()[..., None, None]
    torch.testing.assert_close(model.typical(cond), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"half": 0}, "half"),
        ({"steps": (1, 2)}, "three steps"),
        ({"steps": (1, 2, -1)}, "steps"),
        ({"hidden": (0, 1, 1)}, "hidden"),
        ({"prior": "normal"}, "prior"),
        ({"color_map": "median"}, "color_map"),
        ({"scale_floor": 1.0}, "floor"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(NANO, **change)


def test_a_light_of_other_pictures_is_refused(model, pair):
    light = model.illumination(torch.zeros(3, 6, 64, 96))
    with pytest.raises(ValueError, match="light of 3 pictures"):
        model.condition(pair[1], light, torch.ones(2, 1, 16, 24))
    with pytest.raises(ValueError, match=r"illumination as \(2, 1, 16, 24\)"):
        model.condition(pair[1], light)


def test_color_map_stays_in_float32_under_autocast(model, pair):
    with torch.autocast("cpu", torch.bfloat16):
        cond = model.condition(pair[1])
    assert cond["color_map"].dtype == torch.float32
