"""The exported graph makes llflow.enhance's pictures, whatever their size."""

import json
import sys

import pytest
import torch
from nano import NANO, random_model
from test_lean import NANO as LEAN

from llflow import LLFlow, enhance
from llflow.enhancement import share_needed
from llflow.export import onnx as exporting
from llflow.export.whole import Whole
from llflow.network import checkpoint
from llflow.picture import retinex

TOLERANCE = 1e-4  # the export's promise; what it takes is rounding, some 1e-6 in float32
SIZES = [(61, 90), (64, 96), (33, 57), (100, 37), (1, 1), (1, 9), (9, 7), (16, 8)]


def lean_model(brighter):
    """A lean network whose flow does something, and whose pictures are so much brighter: by a
    factor's logarithm, which is certain within 0.22."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LLFlow(LEAN)
        low = torch.rand(2, 6, 16, 24) - torch.tensor([4.0, 4, 4, 0, 0, 0])[:, None, None]
        model.initialize(torch.rand(2, 3, 16, 24), low)
        for parameter in model.parameters():
            if parameter.dim() == 4 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
        torch.nn.init.constant_(model.illumination.whole[3].bias[:1], brighter)
    return model.eval().fold()


@pytest.fixture(scope="module")
def lean():
    return lean_model(brighter=1.5)


def picture(height, width, seed=0):
    """Dark, of 8 bits, with light and shade that differ and noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 3, 4, generator=generator) ** 3
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0] * 0.3
    noisy = image + 0.01 * torch.randn(image.shape, generator=generator)
    return (255 * noisy.clamp(0, 1)).round() / 255


def with_lamp(height, width):
    image = picture(height, width) * 0.02
    image[:, : height // 8 + 1, : width // 8 + 1] = 1.0
    return image


PICTURES = {
    **{f"{height}×{width}": picture(height, width) for height, width in SIZES},
    "night and a lamp": with_lamp(70, 101),
    "bright": 1 - picture(40, 60),
    "black": torch.zeros(3, 20, 30),
    "white": torch.ones(3, 20, 30),
    "one value": torch.full((3, 20, 30), 0.1),
}


def difference(came, dark, model):
    return (came - enhance(model, dark)).abs().max().item()


@pytest.mark.parametrize("dark", PICTURES.values(), ids=PICTURES)
def test_the_whole_is_enhance(lean, dark):
    with torch.no_grad():
        assert difference(Whole(lean)(dark[None])[0], dark, lean) < TOLERANCE


def test_the_pictures_are_made_brighter(lean):
    dark = picture(61, 90)
    assert enhance(lean, dark).mean() > 3 * dark.mean()


def test_a_picture_that_needs_half_of_it():
    model, dark = lean_model(brighter=0.33), picture(61, 90)
    light = model.light(dark[None], retinex.equalize(dark)[None])
    assert 0.1 < share_needed(dark.mean().item(), light) < 0.9
    with torch.no_grad():
        assert difference(Whole(model)(dark[None])[0], dark, model) < TOLERANCE


def test_without_an_illumination_branch(nano):
    dark = picture(33, 57)
    with torch.no_grad():
        assert difference(Whole(nano.fold())(dark[None])[0], dark, nano) < TOLERANCE


@pytest.fixture(scope="module")
def exported(lean, tmp_path_factory):
    pytest.importorskip("onnxscript", reason="needs flowkit[onnx]")
    pytest.importorskip("onnxruntime", reason="needs flowkit[onnx]")
    path = tmp_path_factory.mktemp("onnx") / "lean.onnx"
    path.write_bytes(exporting.graph_of(lean))
    return path


@pytest.fixture(scope="module")
def session(exported):
    import onnxruntime

    return onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("dark", PICTURES.values(), ids=PICTURES)
def test_onnxruntime_makes_the_same(session, lean, dark):
    (bright,) = session.run(["bright"], {"dark": dark[None].numpy()})
    assert difference(torch.from_numpy(bright[0]), dark, lean) < TOLERANCE


def test_the_file(exported, lean):
    import onnx

    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    operations = {node.op_type for node in model.graph.node}
    assert not operations & {"Det", "Inverse"}
    assert {node.domain for node in model.graph.node} == {""}  # ONNX' own
    about = json.loads({entry.key: entry.value for entry in model.metadata_props}["llflow"])
    assert about["network"] == json.loads(json.dumps(checkpoint.described(lean.config)))
    assert __file__.encode() not in exported.read_bytes()
    assert b"whole.py" not in exported.read_bytes()


def test_a_graph_that_computes_something_else_is_not_written(lean, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "graph_of", lambda model: exported.read_bytes())
    monkeypatch.setattr(exporting, "enhance", lambda model, dark: dark)
    with pytest.raises(exporting.NotTheSame, match="nothing is written"):
        exporting.save(lean, tmp_path / "other.onnx")
    assert not any(tmp_path.iterdir())


def test_the_command(llflow, weights, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "graph_of", lambda model: exported.read_bytes())
    monkeypatch.setattr(exporting, "_difference", lambda model, content: 1e-6)
    target = tmp_path / "new" / "nano.onnx"
    code, out, err = llflow("export", "--onnx", target, "--weights", weights)
    assert (code, err) == (0, "")
    assert "under onnxruntime within 1e-06 of PyTorch" in out
    assert target.read_bytes() == exported.read_bytes()
    code, _, err = llflow("export", "--onnx", target, "--weights", weights)
    assert code == 1
    assert "exists (--overwrite replaces it)" in err
    target.write_bytes(b"old")
    assert llflow("export", "--onnx", target, "--weights", weights, "--overwrite")[0] == 0
    assert [*target.parent.iterdir()] == [target]
    assert target.read_bytes() == exported.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--onnx'"),
        (["--onnx", "graph.pt"], "expected a name in .onnx"),
        (["--onnx", ""], "expected a path"),
        (["--onnx", "graph.onnx", "--weights", "absent"], "no such file, nor shipped weights"),
    ],
)
def test_mistakes_are_named(llflow, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporting, "PACKAGES", ())
    code, _, err = llflow("export", *arguments)
    assert code != 0
    assert message in err
    assert len(err.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_the_extra_is_named(llflow, tmp_path, monkeypatch):
    for package in exporting.PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
    code, _, err = llflow("export", "--onnx", tmp_path / "graph.onnx")
    assert code == 1
    assert err == "llflow: onnx isn't installed: pip install 'flowkit[onnx]'"
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_authors_network_is_exported_and_tried(tmp_path):
    pytest.importorskip("onnxscript", reason="needs flowkit[onnx]")
    pytest.importorskip("onnxruntime", reason="needs flowkit[onnx]")
    assert exporting.save(random_model(NANO), tmp_path / "nano.onnx") < TOLERANCE
