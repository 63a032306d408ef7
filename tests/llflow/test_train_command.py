"""`llflow train` as users type it: recipes and options, and one line for what goes wrong."""

import errno
import logging
import os
import sys

import pytest
from short_runs import PROGRAM, arguments, records, start, state

from llflow import LLFlow, data
from llflow.network import checkpoint
from llflow.training.guard import Diverged
from llflow.training.recipe import Recipe


def test_train(llflow, nano_size, pairs_folder, tmp_path):
    options = {"steps": 2, "synthetic_share": 0.5}
    (tmp_path / "scenes.json").write_text('{"clusters": [["0", "1", "2"]]}')
    call = arguments(pairs_folder, tmp_path / "run", **options)
    code, out, _ = llflow(*call, "--scenes", tmp_path / "scenes.json")
    assert code == 0
    weights = tmp_path / "run" / "best.safetensors"
    first, second = out.splitlines()
    assert first.startswith(f"{weights}: validation PSNR ")
    assert second == f"use them: llflow enhance dark.jpg --weights {weights}"
    split = data.read_split(tmp_path / "run" / "split.json")
    assert len({"0", "1", "2"} & set(split["training"])) in (0, 3)

    recorded = tmp_path / "run" / "split.json"
    code, _, err = llflow(*call, "--split", recorded, "--seed", 1)
    assert code == 1
    assert "that run has seed = 3, this one 1" in err

    again = arguments(pairs_folder, tmp_path / "again", **options)
    code, _, _ = llflow(*again, "--split", recorded, "--seed", 1)
    assert code == 0
    assert data.read_split(tmp_path / "again" / "split.json") == split


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of `train`, which does nothing."""
    calls = []
    monkeypatch.setattr(
        "llflow.training.train.train", lambda *args, **options: calls.append((args, options)) or 9.0
    )
    return calls


def test_by_itself_it_fine_tunes(llflow, asked, pairs_folder, monkeypatch):
    monkeypatch.chdir(pairs_folder.parent)
    assert llflow("train", "--data", "pairs")[0] == 0
    ((recipe, _, _, out), options) = asked.pop()
    assert recipe == Recipe.read("fine-tune")
    assert str(out) == "runs/pairs"
    assert options["validate_every"] == 20  # a tenth of its 200 steps


def test_options_override_the_recipe(llflow, asked, pairs_folder, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('size = "small"\nsteps = 700\ncompile = true\nclip = 50.0\n')
    options = ["--steps", 9000, "--no-compile", "--learning-rate", "2e-4", "--keep", "inputs"]
    assert llflow("train", "--data", pairs_folder, "--recipe", mine, *options)[0] == 0
    ((recipe, *_), given) = asked.pop()
    changed = {"steps": 9000, "clip": 50.0, "learning_rate": 2e-4, "keep": "inputs"}
    assert recipe == Recipe(size="small", **changed)
    assert given["validate_every"] == 500


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop", "20"], "recipe: expected crop to be a multiple of 8, got 20"),
        (["--size", "big"], "'--size': 'big' is not one of 'tiny', 'small', 'large'"),
        (["--loss", "l2"], "'l2' is not one of 'nll', 'l1', 'nll+l1'"),
        (["--steps", "many"], "'many' is not a valid integer"),
        (["--learning-rate", "nan"], "expected learning_rate to be a finite number, got nan"),
        (["--encoder-only"], "loss l1 and pretrain 0 with encoder_only"),
        (["--validate-every", "0"], "'--validate-every': 0 is not in the range x>=1"),
        (["--save-every", "-1"], "'--save-every': -1 is not in the range x>=1"),
        (["--recipe", "typo.toml"], "typo.toml: no setting is called 'stesp'; did you mean 'steps"),
        (["--recipe", "broken.toml"], "broken.toml: not TOML"),
        (["--recipe", "huge"], "huge: no such file, nor a shipped recipe"),
        (["--scenes", "a", "--split", "b"], "--scenes and --split exclude each other"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    llflow, asked, pairs_folder, monkeypatch, options, message
):
    monkeypatch.chdir(pairs_folder.parent)
    (pairs_folder.parent / "typo.toml").write_text("stesp = 3")
    (pairs_folder.parent / "broken.toml").write_text("steps = [")
    code, out, err = llflow("train", "--data", "pairs", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("llflow: ")
    assert not asked


def empty(folder):
    for path in folder.rglob("*.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: folder.rename(folder.parent / "elsewhere"), "pairs: "),
        (empty, "pairs: "),
        (lambda folder: (folder / "high" / "3.png").unlink(), "partner"),
        (lambda folder: (folder / "high" / "3.png").write_bytes(b"no picture"), "3.png: not a pic"),
    ],
)
def test_bad_data_is_one_line(llflow, nano_size, pairs_folder, tmp_path, harm, message):
    harm(pairs_folder)
    code, out, err = llflow(*arguments(pairs_folder, tmp_path / "run"))
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("llflow: ")
    assert message in err
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_weights_of_another_network_are_one_line(llflow, pairs_folder, tmp_path, weights):
    call = arguments(pairs_folder, tmp_path / "run", weights=weights, size="small")
    code, out, err = llflow(*call)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"llflow: {weights}: another network than the recipe's, which is s")
    assert "features = 8" in err
    assert not (tmp_path / "run").exists()
    code, _, err = llflow(*arguments(pairs_folder, tmp_path / "run", weights="huge"))
    assert code == 1
    assert err.startswith("llflow: huge: no such file, nor shipped weights")


@pytest.mark.parametrize("error", [Diverged("20 steps in a row weren't finite"), OSError("full")])
def test_a_failed_run_is_one_line(llflow, monkeypatch, pairs_folder, tmp_path, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr("llflow.training.train.train", fail)
    code, out, err = llflow("train", "--data", pairs_folder, "--out", tmp_path / "run")
    assert (code, out, err) == (1, "", f"llflow: {error}")


def test_no_finite_validation_is_an_error(llflow, nano_size, monkeypatch, pairs_folder, tmp_path):
    monkeypatch.setattr("llflow.training.run.validation_psnr", lambda *_: float("-inf"))
    code, out, err = llflow(*arguments(pairs_folder, tmp_path / "run", steps=2))
    assert (code, out) == (1, "")
    assert err.endswith("no validation gave a finite PSNR, so no weights were kept")
    assert all(r["psnr"] is None for r in records(tmp_path / "run") if "psnr" in r)


# --- a full disk -----------------------------------------------------------------------------


@pytest.mark.parametrize("full", ["last.pt", "best.safetensors", "pictures/000006.png"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    llflow, nano_size, pairs_folder, tmp_path, monkeypatch, full
):
    folder = tmp_path / "run"
    settings = {"validate_every": 3, "learning_rate": 5e-3}
    assert llflow(*arguments(pairs_folder, folder, steps=5, **settings))[0] == 0
    before = {name: (folder / name).read_bytes() for name in ("last.pt", "best.safetensors")}
    monkeypatch.setattr("llflow.training.run.validation_psnr", lambda *_: 99.0)
    put_in_place = os.replace

    def replace(source, target):
        if target == folder / full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put_in_place(source, target)

    monkeypatch.setattr(os, "replace", replace)
    code, out, err = llflow(*arguments(pairs_folder, folder, steps=6, **settings))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == f"llflow: {folder / full}: No space left on device"
    assert (folder / "last.pt").read_bytes() == before["last.pt"]
    if full == "last.pt":  # written after the best of the same step, which is whole
        assert isinstance(checkpoint.load(folder / "best.safetensors"), LLFlow)
    else:
        assert (folder / "best.safetensors").read_bytes() == before["best.safetensors"]
    assert not list(folder.rglob(".*"))


def limit(size):
    """What a disk quota does, for real: no file of this process gets longer."""
    resource = pytest.importorskip("resource", reason="no limits of this kind here")
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_file_that_the_system_cuts_off(llflow, nano_size, pairs_folder, tmp_path):
    folder = tmp_path / "run"
    assert llflow(*arguments(pairs_folder, folder, steps=3))[0] == 0
    before = {name: (folder / name).read_bytes() for name in ("last.pt", "best.safetensors")}
    size = len(before["last.pt"]) // 2
    assert len(before["best.safetensors"]) < size
    call = arguments(pairs_folder, folder, steps=6, validate_every=100)
    process = start(PROGRAM, *call, preexec_fn=limit(size))
    output, _ = process.communicate()
    assert process.returncode == 1, output
    assert output.splitlines()[-1] == f"llflow: {folder / 'last.pt'}: File too large"
    assert (folder / "last.pt").read_bytes() == before["last.pt"]
    assert not list(folder.rglob(".*"))


def test_without_tensorboard_it_says_how_to_get_it(
    llflow, nano_size, monkeypatch, pairs_folder, tmp_path
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    code, out, err = llflow(*arguments(pairs_folder, tmp_path / "run"), "--tensorboard")
    assert (code, out) == (1, "")
    assert err == ("llflow: TensorBoard isn't installed: pip install 'flowkit[tensorboard]'")


def test_what_happens_is_said(llflow, nano_size, pairs_folder, tmp_path, caplog):
    call = arguments(pairs_folder, tmp_path / "run", steps=2)
    assert llflow(*call)[0] == 0
    with caplog.at_level(logging.INFO):
        assert llflow(*call)[0] == 0
    assert "going on at step 2" in caplog.messages
    assert state(tmp_path / "run")["progress"]["step"] == 2
