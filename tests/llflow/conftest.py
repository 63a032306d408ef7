"""A tiny random network, folders of pictures to try it on, the command line, and training."""

import re

import pytest
from nano import NANO, random_model
from short_runs import SHORT, write_pairs

from llflow import cli, data
from llflow.network import checkpoint
from llflow.network.model import SIZES
from llflow.training.recipe import Recipe
from llflow.training.train import train


@pytest.fixture(scope="session")
def nano():
    return random_model(NANO)


@pytest.fixture(scope="session")
def weights(nano, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    checkpoint.save(nano, path)
    return path


@pytest.fixture
def pairs_folder(tmp_path):
    return write_pairs(tmp_path / "pairs")


@pytest.fixture
def llflow(capsys):
    """Run the command line in this process; returns exit code, stdout, stderr without progress."""

    def call(*argv):
        try:
            code = cli.main([str(arg) for arg in argv])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        bars = re.compile(r"\r?[^\r\n]*\| *\d+/\d+ \[[^\]]*\]|\x1b\[A")
        lines = bars.sub("\n", captured.err).splitlines()
        return code, captured.out, "\n".join(line for line in lines if line.strip())

    return call


@pytest.fixture
def nano_size(monkeypatch):
    """The network of the tests is the recipes' tiny."""
    monkeypatch.setitem(SIZES, "tiny", NANO)


@pytest.fixture
def run(pairs_folder, tmp_path, nano_size):
    """Train into a folder below tmp_path with the short recipe, changed as asked."""

    def go(
        name="run",
        *,
        clusters=(),
        pairs=None,
        validate_every=4,
        save_every=3,
        tensorboard=False,
        **changes,
    ):
        pairs = pairs if pairs is not None else data.find_pairs(pairs_folder)
        recipe = Recipe(**SHORT | changes)
        return train(
            recipe,
            *data.hold_out(pairs, clusters, recipe.held_out, recipe.seed),
            tmp_path / name,
            validate_every=validate_every,
            save_every=save_every,
            tensorboard=tensorboard,
        )

    return go
