"""A model in a folder, here or on the hub: what was saved comes back, and nothing else does."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import llflow
from llflow import LLFlow
from llflow.network import checkpoint
from llflow.network.checkpoint import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def saved(nano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "nano"
    nano.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def same(one, other):
    """Whether both have one configuration and the same tensors."""
    a, b = one.state_dict(), other.state_dict()
    return (
        one.config == other.config
        and a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
    )


def test_what_was_saved_comes_back(nano, saved):
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    for source in (saved, str(saved)):
        loaded = LLFlow.from_pretrained(source)
        assert same(loaded, nano)
        assert not loaded.training


def test_its_tensors_are_weights_by_themselves(nano, saved):
    assert same(llflow.load(saved / "model.safetensors"), nano)
    with pytest.raises(CheckpointError, match=r"is a folder; expected .*model.safetensors"):
        llflow.load(saved)


def test_a_lean_network(tmp_path):
    model = llflow.load()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["kind"] == "lean"
    assert same(LLFlow.from_pretrained(tmp_path), model)


def test_weights_of_others_need_no_metadata(nano, folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors")
    assert same(LLFlow.from_pretrained(folder), nano)


def test_saving_replaces(nano, folder):
    other = LLFlow(nano.config)
    other.save_pretrained(folder)
    assert same(LLFlow.from_pretrained(folder), other)
    assert len([*folder.iterdir()]) == 2


@pytest.mark.parametrize("change", [LLFlow.fold, lambda model: LLFlow(model.config).half()])
def test_a_model_that_would_not_load_is_not_saved(nano, tmp_path, change):
    with pytest.raises(ValueError, match="saved as it is trained, and folded later"):
        change(nano).save_pretrained(tmp_path / "new")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        LLFlow.from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"features": 8}', "\xff", "[" * 100_000])
def test_a_damaged_configuration(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config.json: damaged LLFlow configuration"):
        LLFlow.from_pretrained(folder)


def test_a_configuration_of_other_weights(nano, folder):
    values = checkpoint.described(nano.config)
    (folder / "config.json").write_text(json.dumps(values | {"scale_floor": 0.2}))
    with pytest.raises(CheckpointError, match="holds another configuration"):
        LLFlow.from_pretrained(folder)
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values | {"features": 10**9}))
    with pytest.raises(CheckpointError, match=r"expected .* to be \(|asks for too much"):
        LLFlow.from_pretrained(folder)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.999])
def test_truncated_tensors(folder, share):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="not a safetensors file, or damaged"):
        LLFlow.from_pretrained(folder)


def test_a_pickle_in_their_place_is_not_read(folder):
    torch.save({"weight": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        LLFlow.from_pretrained(folder)


@pytest.mark.parametrize("source", ["absent", "./absent/model", "a/b/c", "/absent/model", ""])
def test_neither_folder_nor_name(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError):
        LLFlow.from_pretrained(source)


def test_a_path_is_never_a_name(hub, tmp_path):
    asked = hub().asked
    with pytest.raises(CheckpointError, match=r"no such folder$"):
        LLFlow.from_pretrained(tmp_path.relative_to(tmp_path.parent) / "nano")
    assert asked == []


def test_a_file_is_never_a_name(hub, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for source in (f"{folder.name}/model.safetensors", folder / "model.safetensors"):
        with pytest.raises(CheckpointError, match="expected a folder, got a file"):
            LLFlow.from_pretrained(source)


def test_a_revision_of_a_folder(folder):
    with pytest.raises(ValueError, match="has no revisions"):
        LLFlow.from_pretrained(folder, revision="main")


# --- the hub, which a stand-in of its download function is for ------------------------------------


class Hub:
    """What `huggingface_hub.snapshot_download` is documented to do, for one model."""

    def __init__(self, cached, online):
        self.cached, self.online, self.asked = cached, online, []

    def snapshot_download(
        self, repo_id, *, revision=None, local_files_only=False, allow_patterns=None
    ):
        assert allow_patterns == ["config.json", "model.safetensors"]
        self.asked.append((repo_id, revision, local_files_only))
        found = self.cached if local_files_only else self.online
        if found is None:
            raise FileNotFoundError("not in the cache") if local_files_only else OSError("no way")
        return str(found)


@pytest.fixture
def hub(monkeypatch):
    def stand_in(cached=None, online=None):
        hub = Hub(cached, online)
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        return hub

    return stand_in


def test_the_cache_goes_before_the_network(hub, nano, saved):
    asked = hub(cached=saved, online=saved).asked
    assert same(LLFlow.from_pretrained("owner/nano"), nano)
    assert asked == [("owner/nano", None, True)]


@pytest.mark.parametrize("what", ["nothing", "one file"])
def test_what_the_cache_lacks_is_fetched(hub, nano, saved, folder, what):
    (folder / "config.json").unlink()
    asked = hub(cached=None if what == "nothing" else folder, online=saved).asked
    assert same(LLFlow.from_pretrained("owner/nano", revision="v1"), nano)
    assert asked == [("owner/nano", "v1", True), ("owner/nano", "v1", False)]


def test_a_folder_goes_before_the_hub(hub, nano, saved, tmp_path, monkeypatch):
    asked = hub().asked
    shutil.copytree(saved, tmp_path / "owner" / "nano")
    monkeypatch.chdir(tmp_path)
    assert same(LLFlow.from_pretrained("owner/nano"), nano)
    assert asked == []


def test_a_hub_that_gives_nothing(hub):
    hub()
    with pytest.raises(CheckpointError, match=r"owner/nano: no such folder, and the hub .*no way"):
        LLFlow.from_pretrained("owner/nano")


def test_a_model_of_another_kind_on_the_hub(hub, folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub(online=folder)
    with pytest.raises(CheckpointError, match=r"model.safetensors is missing"):
        LLFlow.from_pretrained("owner/nano")


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'flowkit\[hub\]'"):
        LLFlow.from_pretrained("owner/nano")


# --- its own package, on a cache as it lays one out, without a network -------------------------


@pytest.fixture
def cache(saved, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="needs flowkit[hub]")
    from huggingface_hub import constants

    model = tmp_path / "models--owner--nano"
    shutil.copytree(saved, model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return model


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_from_its_cache(cache, nano, revision):
    assert same(LLFlow.from_pretrained("owner/nano", revision=revision), nano)


@pytest.mark.parametrize(
    ("name", "revision"),
    [("owner/nano", "v2"), ("owner/other", None), ("ow..ner/na--no", None)],
)
def test_what_its_cache_lacks_is_an_error_of_one_line(cache, name, revision):
    with pytest.raises(CheckpointError, match="the hub gives none") as caught:
        LLFlow.from_pretrained(name, revision=revision)
    assert len(str(caught.value).splitlines()) == 1
