"""A tiny random network, and folders of pictures to try it on."""

import numpy as np
import pytest
import torch
from PIL import Image

from llflow import Config, LLFlow, checkpoint

NANO = Config(features=8, growth=4, blocks=2, taps=(1,), steps=1, hidden=8, scale_floor=0.1)


@pytest.fixture(scope="session")
def nano():
    """Random, but so that results depend on the dark picture and aren't all clipped."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LLFlow(NANO)
        model.initialize(torch.rand(2, 3, 32, 32), torch.rand(2, 6, 32, 32))
        for parameter in model.flow.parameters():
            if parameter.dim() == 4 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


@pytest.fixture(scope="session")
def weights(nano, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    checkpoint.save(nano, path)
    return path


@pytest.fixture
def pairs_folder(tmp_path):
    """Six smooth scenes of 40×48, bright in high/ and at a fifth in low/."""
    folder = tmp_path / "pairs"
    rng = np.random.default_rng(0)
    for part in ("low", "high"):
        (folder / part).mkdir(parents=True)
    for index in range(6):
        coarse = Image.fromarray(rng.integers(60, 250, (5, 6, 3), dtype=np.uint8))
        bright = np.asarray(coarse.resize((48, 40), Image.Resampling.BICUBIC))
        Image.fromarray(bright).save(folder / "high" / f"{index}.png")
        Image.fromarray((bright * 0.2).astype(np.uint8)).save(folder / "low" / f"{index}.png")
    return folder
