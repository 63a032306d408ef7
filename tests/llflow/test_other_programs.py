"""The examples for ComfyUI and GIMP, without these programs: what they define is called as the
programs' documentation says they call it."""

import runpy
import shutil
import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from pages import ROOT
from PIL import Image

import llflow
from llflow.picture.inputs import tensor_of

EXAMPLES = ROOT / "examples"
PLUG_IN = EXAMPLES / "gimp" / "llflow_brighten" / "llflow_brighten.py"

# --- ComfyUI -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node():
    path = EXAMPLES / "comfyui" / "llflow_brighten" / "__init__.py"
    module = runpy.run_path(str(path))
    assert module["NODE_CLASS_MAPPINGS"].keys() == module["NODE_DISPLAY_NAME_MAPPINGS"].keys()
    (kind,) = module["NODE_CLASS_MAPPINGS"].values()
    return kind


def called(node, image, **changes):
    """As ComfyUI calls a node: the named function, with every input by name."""
    inputs = node.INPUT_TYPES()["required"]
    settings = {name: kind[1]["default"] for name, kind in inputs.items() if len(kind) > 1}
    (result,) = getattr(node(), node.FUNCTION)(image=image, **settings | changes)
    return result


def test_the_node_makes_pictures_bright(node):
    assert node.RETURN_TYPES == ("IMAGE",)
    dark = 0.2 * torch.rand(2, 24, 40, 3, generator=torch.Generator().manual_seed(0))
    bright = called(node, dark)
    assert bright.shape == dark.shape
    model = llflow.load().fold()
    for one, other in zip(bright, dark, strict=True):
        assert torch.equal(one.movedim(-1, 0), llflow.enhance(model, other.movedim(-1, 0)))


def test_the_node_keeps_alpha(node):
    dark = 0.2 * torch.rand(1, 16, 24, 4, generator=torch.Generator().manual_seed(0))
    bright = called(node, dark)
    assert torch.equal(bright[..., 3], dark[..., 3])
    assert torch.equal(bright[..., :3], called(node, dark[..., :3]))


def test_the_nodes_settings_are_llflows(node):
    dark = 0.2 * torch.rand(1, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(called(node, dark, strength=0.0), dark)
    assert called(node, dark, brightness=1.0).mean() > called(node, dark).mean()
    beyond = dark * 20 - 1  # as other nodes may leave it
    assert called(node, beyond, strength=0.0).equal(beyond.clamp(0, 1))
    with pytest.raises(ValueError, match="absent"):
        called(node, dark, weights="absent")


# --- GIMP --------------------------------------------------------------------------------------


class Picture:
    """GIMP's image: its pixels, and the layers that were put on top."""

    def __init__(self, pixels):
        self.pixels, self.layers, self.deleted = pixels, [], False

    def duplicate(self):
        self.copied = Picture(self.pixels)
        return self.copied

    def flatten(self):
        pass

    def delete(self):
        self.deleted = True

    def insert_layer(self, layer, parent, position):
        assert (parent, position) == (None, 0)
        self.layers.append(layer)


@pytest.fixture
def gimp(monkeypatch):
    """The plug-in, loaded beside a stand-in for GIMP's library, and that library."""
    library = MagicMock()
    library.PlugIn = type("PlugIn", (), {"__gtype__": "type"})
    library.file_save = lambda mode, image, file, options: image.pixels.save(file)

    def file_load_layer(mode, image, file):
        layer = MagicMock()
        layer.pixels = Image.open(file).convert("RGB")
        return layer

    library.file_load_layer = file_load_layer
    repository = ModuleType("gi.repository")
    repository.Gimp = library
    repository.Gio = SimpleNamespace(File=SimpleNamespace(new_for_path=lambda path: path))
    repository.GLib = SimpleNamespace(Error=RuntimeError)
    gi = ModuleType("gi")
    gi.require_version = lambda name, version: None
    monkeypatch.setitem(sys.modules, "gi", gi)
    monkeypatch.setitem(sys.modules, "gi.repository", repository)
    return runpy.run_path(str(PLUG_IN)), library


def run(plug_in, picture):
    procedure = SimpleNamespace(new_return_values=lambda status, error: (status, error))
    return plug_in["brighten"](procedure, None, picture, [], None, None)


def test_the_plug_in_registers_what_it_runs(gimp):
    plug_in, library = gimp
    library.main.assert_called_once_with("type", sys.argv)
    kind = plug_in["Brighten"]
    (name,) = kind().do_query_procedures()
    kind().do_create_procedure(name)
    assert library.ImageProcedure.new.call_args.args[1:4:2] == (name, plug_in["brighten"])


def test_the_plug_in_is_found_and_started_by_gimp():
    assert PLUG_IN.parent.name == PLUG_IN.stem  # GIMP 3 asks for this
    assert PLUG_IN.stat().st_mode & 0o111
    assert PLUG_IN.read_text().startswith("#!/usr/bin/env python3\n")


def test_the_plug_in_adds_a_bright_layer(gimp, monkeypatch):
    plug_in, library = gimp
    plug_in["COMMAND"][:1] = [sys.executable, "-m", "llflow"]
    monkeypatch.setenv("PYTHONHOME", "/absent")
    dark = Image.open(EXAMPLES / "coffee_dark.jpg").resize((60, 40))
    picture = Picture(dark)
    status, error = run(plug_in, picture)
    assert (status, error) == (library.PDBStatusType.SUCCESS, None)
    assert picture.copied.deleted
    (layer,) = picture.layers
    expected = llflow.enhance(llflow.load().fold(), dark)
    assert (tensor_of(layer.pixels) - expected).abs().max() < 2 / 255


@pytest.mark.parametrize(
    ("command", "message"),
    [(["absent"], "absent: No such file"), ([shutil.which("false")], "ended with exit code 1")],
)
def test_what_went_wrong_is_told(gimp, command, message):
    plug_in, library = gimp
    plug_in["COMMAND"][:] = command
    picture = Picture(Image.new("RGB", (8, 8)))
    status, error = run(plug_in, picture)
    assert status == library.PDBStatusType.EXECUTION_ERROR
    assert message in str(error)
    assert picture.layers == []
