"""Weights in files: what was saved comes back, and nothing else is taken for weights."""

import hashlib
import json
import os
import pickle
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from llflow.network import checkpoint
from llflow.network.checkpoint import CheckpointError, load, save


def config_of(model, **changes):
    return {"llflow": json.dumps(asdict(model.config) | changes)}


def write(path, model, metadata, **changes):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()} | changes
    save_file({k: v.contiguous() for k, v in tensors.items() if v is not None}, path, metadata)
    return path


def test_what_was_saved_comes_back(nano, weights):
    loaded = load(weights)
    assert loaded.config == nano.config
    assert not loaded.training
    expected, state = nano.state_dict(), loaded.state_dict()
    assert expected.keys() == state.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
        assert state[name].dtype == tensor.dtype


def test_a_path_may_be_text(nano, weights):
    assert load(str(weights)).config == nano.config


def test_saving_replaces_whole(nano, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            save(nano, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    save(nano, path)
    assert load(path).config == nano.config


# --- what is no file of weights --------------------------------------------------------------


def test_no_such_file_and_no_such_name():
    with pytest.raises(CheckpointError, match="huge: no such file, nor shipped weights"):
        load("huge")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_executed(tmp_path, monkeypatch, how, name):
    monkeypatch.chdir(tmp_path)
    if how == "torch":
        torch.save({"weight": Bomb()}, name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match=r"not a safetensors file.*llflow convert"):
        load(name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated(weights, tmp_path, share):
    content = weights.read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="not a safetensors file, or damaged"):
        load(tmp_path / "w.safetensors")


def test_a_folder_is_the_systems_error(tmp_path):
    with pytest.raises((CheckpointError, OSError)):
        load(tmp_path)


def test_no_configuration(nano, tmp_path):
    for metadata in (None, {"format": "pt"}):
        path = write(tmp_path / "w.safetensors", nano, metadata)
        with pytest.raises(CheckpointError, match="no LLFlow configuration; `llflow convert`"):
            load(path)


# --- a configuration that lies ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "3",
        "[]",
        '"abc"',
        "{}",
        '{"features": 8}',
        "[" * 100_000,
        '{"features": ' + "9" * 5_000 + "}",
    ],
    ids=lambda text: text[:20],
)
def test_damaged_configuration(nano, tmp_path, text):
    path = write(tmp_path / "w.safetensors", nano, {"llflow": text})
    with pytest.raises(CheckpointError, match="damaged LLFlow configuration"):
        load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": 1},
        {"__class__": "x"},
        {"features": "8"},
        {"features": 8.5},
        {"features": None},
        {"features": 0},
        {"blocks": -1},
        {"taps": []},
        {"taps": [2]},
        {"taps": [-1]},
        {"taps": [0.5]},
        {"taps": [1, 1]},
        {"taps": "1"},
        {"taps": 1},
        {"taps": [[1]]},
        {"scale_floor": 0},
        {"scale_floor": -0.1},
        {"scale_floor": float("nan")},
        {"scale_floor": float("inf")},
        {"scale_floor": "0.1"},
        {"scale_floor": None},
        {"color_map": "median"},
        {"color_map": ["sum"]},
        {"color_map": None},
    ],
    ids=str,
)
def test_a_setting_of_the_wrong_name_type_or_range(nano, tmp_path, changes):
    path = write(tmp_path / "w.safetensors", nano, config_of(nano, **changes))
    with pytest.raises(CheckpointError, match="damaged LLFlow configuration"):
        load(path)


@pytest.mark.parametrize("size", [10**5, 10**9, 10**18, 10**30])
@pytest.mark.parametrize("name", ["features", "growth", "hidden", "blocks", "steps"])
def test_a_huge_size_is_refused_before_memory_is_taken(nano, tmp_path, monkeypatch, name, size):
    devices = []
    build = checkpoint.LLFlow

    def watched(config):
        devices.append(torch.get_default_device().type)
        return build(config)

    monkeypatch.setattr(checkpoint, "LLFlow", watched)
    path = write(tmp_path / "w.safetensors", nano, config_of(nano, **{name: size}))
    with pytest.raises(CheckpointError, match=r"asks for|to be \("):
        load(path)
    assert set(devices) <= {"meta"}


# --- tensors that don't fit ------------------------------------------------------------------

NAME = "encoder.conv_first.bias"


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (None, rf"expected {NAME} to be \(8,\) torch.float32, got absent"),
        (torch.zeros(9), rf"expected {NAME} to be \(8,\) torch.float32, got \(9,\)"),
        (torch.zeros(8, 1), rf"expected {NAME} to be \(8,\)"),
        (torch.zeros(8, dtype=torch.int64), "got .8,. torch.int64"),
        (torch.zeros(8, dtype=torch.bool), "got .8,. torch.bool"),
        (torch.full((8,), float("nan")), f"{NAME} holds values that aren't finite"),
        (torch.full((8,), float("inf")), f"{NAME} holds values that aren't finite"),
    ],
)
def test_a_tensor_that_does_not_fit(nano, tmp_path, tensor, message):
    path = write(tmp_path / "w.safetensors", nano, config_of(nano), **{NAME: tensor})
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_a_tensor_too_many(nano, tmp_path):
    path = write(tmp_path / "w.safetensors", nano, config_of(nano), extra=torch.zeros(2))
    with pytest.raises(CheckpointError, match="expected extra to be absent"):
        load(path)


# --- shipped weights -------------------------------------------------------------------------


@pytest.fixture
def shipped(weights, tmp_path, monkeypatch):
    folder = tmp_path / "shipped"
    folder.mkdir()
    content = weights.read_bytes()
    (folder / "nano.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  nano.safetensors\n")
    monkeypatch.setattr(checkpoint, "DEFAULTS", folder)
    return folder


def test_shipped_weights_load_by_name(shipped, nano):
    assert checkpoint.shipped() == ["nano"]
    assert load("nano").config == nano.config
    with pytest.raises(CheckpointError, match=r"nor shipped weights of this name \(nano\)"):
        load("micro")


@pytest.mark.parametrize("where", [9, -1])
def test_one_flipped_bit_is_found(shipped, where):
    content = bytearray((shipped / "nano.safetensors").read_bytes())
    content[where] ^= 1
    (shipped / "nano.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="expected SHA-256"):
        load("nano")


def test_weights_without_a_recorded_digest_are_refused(shipped):
    (shipped / "SHA256SUMS").write_text("")
    with pytest.raises(CheckpointError, match="none recorded"):
        load("nano")
