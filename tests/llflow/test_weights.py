"""The default weights that come with the package."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from llflow import TINY, enhance, load
from llflow.commands.options import require_unseen
from llflow.enhancement import bracket
from llflow.errors import UsageError
from llflow.evaluation import metrics
from llflow.network import checkpoint
from llflow.picture import files, preprocess, retinex

EXAMPLES = Path(__file__).parents[2] / "examples"
DUSK, DARK = EXAMPLES / "rocket.jpg", EXAMPLES / "coffee_dark.jpg"


@pytest.fixture(scope="module")
def model():
    return load()


@pytest.fixture(scope="module")
def dusk():
    return files.read(DUSK).image


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


def test_only_what_has_not_seen_held_out_pictures_is_judged_by_them(tmp_path):
    require_unseen(["tiny440", "mine.safetensors"], "tiny440")
    require_unseen(["tiny"], "runs/mine/split.json")
    with pytest.raises(UsageError, match="tiny was trained on what tiny440 held out"):
        require_unseen(["tiny440", "tiny"], "tiny440")
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(checkpoint.file_of("tiny").read_bytes())
    with pytest.raises(UsageError, match=r"mine\.safetensors was trained on what tiny440 held out"):
        require_unseen([str(copy)], "tiny440")


@pytest.mark.parametrize(("path", "brighter"), [(DUSK, 0.05), (DARK, 0.25)])
def test_a_real_dark_photo_becomes_bright(model, path, brighter):
    """Dusk is told from what is only underexposed: it becomes brighter by less."""
    picture = files.read(path).image
    result = enhance(model.fold(), picture)
    assert picture.mean() < 0.3
    assert result.mean() > picture.mean() + brighter
    assert (result < 1 / 255).float().mean() < 0.05
    assert (result > 254 / 255).float().mean() < 0.05
    # It is still that picture: brightness rises and falls where it did.
    pair = torch.stack([picture.mean(0).flatten(), result.mean(0).flatten()])
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


def test_the_network_is_small_enough_for_a_cpu(model):
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1.5e6


def test_tiles_agree(model, dusk):
    folded = model.fold()
    whole, tiled = (enhance(folded, dusk, tile=tile) for tile in (2048, 128))
    assert (whole - tiled).abs().max() <= 1 / 255


def test_stops_are_stops(model, dusk):
    """Monotone, and within 15 % of the light that they ask for, of pixels that don't clip."""
    stops = [-2.0, -1.0, 0.0, 1.0, 2.0]
    results = bracket(model.fold(), dusk, stops)
    means = [result.mean().item() for result in results]
    assert all(a < b for a, b in pairwise(means))
    inside = results[-1].amax(0) < 1
    light = [result[:, inside].pow(2.2).mean().item() for result in results]
    for asked, value in zip(stops, light, strict=True):
        assert value / light[2] == pytest.approx(2**asked, rel=0.15)


def test_what_is_bright_stays(model, dusk):
    """A picture that came out well is well exposed, and goes through nearly unchanged. One taken at
    dusk comes out darker than others, and gets there at the second step."""
    folded = model.fold()
    for picture, steps in ((files.read(DARK).image, 1), (dusk, 2)):
        for _ in range(steps):
            picture = enhance(folded, picture)
        assert metrics.psnr(enhance(folded, picture), picture) >= 30


def test_a_black_sky_stays_black(model, dusk):
    """Half of a dark picture is black but for the camera's noise, and no grain rises from it."""
    half = dusk.shape[1] // 2
    noise = torch.randn(3, half, dusk.shape[2], generator=torch.Generator().manual_seed(0))
    night = dusk / 4
    night[:, :half] = (0.5 / 255 * noise).clamp(min=0)
    night = (night * 255).round() / 255
    result = enhance(model.fold(), night)
    sky, town = result[:, : half - 24], result[:, half:]
    assert town.mean() > night[:, half:].mean() + 0.1
    assert sky.mean() < 8 / 255
    gain = (town.mean() / night[:, half:].mean()).item()
    assert sky.std() <= gain * night[:, : half - 24].std()


def test_bf16_is_within_a_level_but_for_single_pixels(model, dusk):
    """bf16 rounds to 8 bits; seen: 99.9 % within 0.8 of 255, one value at the edge 4.5 away."""
    folded = model.fold()
    exact, close = enhance(folded, dusk), enhance(folded, dusk, precision="bf16")
    differences = (255 * (exact - close).abs()).flatten().sort().values
    assert differences[int(0.999 * len(differences))] <= 1.5
    assert differences[-1] <= 12
