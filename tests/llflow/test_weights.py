"""The default weights that come with the package."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from llflow import TINY, enhance, load
from llflow.network import checkpoint
from llflow.picture import codec, preprocess, retinex

DUSK = Path(__file__).parents[2] / "examples" / "rocket.jpg"


@pytest.fixture(scope="module")
def model():
    return load()


@pytest.fixture(scope="module")
def dusk():
    return codec.read(DUSK).image


def test_default_weights_are_tiny(model):
    assert model.config == TINY
    assert checkpoint.DEFAULT in checkpoint.shipped()


@pytest.mark.parametrize("name", checkpoint.shipped())
def test_weights_come_with_sum_card_and_split(name):
    content = (checkpoint.DEFAULTS / f"{name}.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert f"{digest}  {name}.safetensors" in (checkpoint.DEFAULTS / "SHA256SUMS").read_text()
    card = (checkpoint.DEFAULTS / f"{name}.md").read_text()
    for word in ("Data", "Split", "Steps", "Seed", "Results", "Licence", "llflow train"):
        assert word in card
    split = json.loads((checkpoint.DEFAULTS / f"{name}.split.json").read_text())
    assert not set(split["training"]) & set(split["validation"])


def test_a_real_dark_photo_becomes_bright(model, dusk):
    result = enhance(model.fold(), dusk)
    assert dusk.mean() < 0.3
    assert result.mean() > dusk.mean() + 0.1
    assert (result < 1 / 255).float().mean() < 0.05
    assert (result > 254 / 255).float().mean() < 0.05
    # It is still that picture: brightness rises and falls where it did.
    pair = torch.stack([dusk.mean(0).flatten(), result.mean(0).flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.6


@pytest.mark.parametrize("stops", [1, 3, 5])
def test_darker_exposures_come_out_alike(model, dusk, stops):
    """In the range that it was trained on, an exposure's darkness is mostly undone."""
    darker = ((dusk**2.2 * 2.0**-stops) ** (1 / 2.2) * 255).round() / 255
    brightness = enhance(model.fold(), darker).mean()
    assert darker.mean() + 0.1 < brightness < 0.9


@torch.no_grad()
def test_trained_flow_is_invertible(model, dusk):
    """float32, at what training made of the scales: encode and decode a bright picture."""
    crop = dusk[:, :160, :160]
    low = preprocess.network_input(crop / 4, retinex.equalize(crop / 4))[None]
    cond = model.condition(low)
    z, logdet = model.flow.bijection(crop[None], cond)
    back, logdet_back = model.flow.bijection.inverse(z, cond)
    assert (back - crop[None]).abs().max() < 1e-3
    assert (logdet + logdet_back).abs() < 1e-4 * logdet.abs()
