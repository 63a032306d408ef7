"""What is exported makes llflow.enhance's pictures, whatever their size."""

import io
import json
import sys
from zipfile import ZipFile

import pytest
import torch
from nano import NANO, random_model
from test_lean import NANO as LEAN

from llflow import LLFlow, enhance
from llflow.enhancement import share_needed
from llflow.export import darktable, program, tried
from llflow.export import onnx as exporting
from llflow.export.encoding import Encoding
from llflow.export.whole import Whole, conditions
from llflow.network import checkpoint
from llflow.picture import preprocess, retinex

pytestmark = pytest.mark.xdist_group("export")  # one process makes the graph for all

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


def test_sizes_have_names(exported):
    import onnx

    graph = onnx.load(exported).graph
    for entry in (*graph.input, *graph.output):
        axes = entry.type.tensor_type.shape.dim
        assert [axis.dim_param or axis.dim_value for axis in axes] == [1, 3, "height", "width"]


def test_a_graph_that_computes_something_else_is_not_written(lean, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "graph_of", lambda model: exported.read_bytes())
    monkeypatch.setattr(tried, "enhance", lambda model, dark: dark)
    with pytest.raises(tried.NotTheSame, match="nothing is written"):
        exporting.save(lean, tmp_path / "other.onnx")
    assert not any(tmp_path.iterdir())


# --- the other direction ---------------------------------------------------------------------


def pair(height, width):
    dark = picture(height, width)
    noise = 0.02 * torch.randn(3, height, width, generator=torch.Generator().manual_seed(1))
    return dark, (3 * dark + noise).clamp(0, 1)


def compare_encoding(run, model, dark, bright):
    z, logdet, bits = run(dark[None], bright[None])
    own, own_logdet, own_bits = tried.encoded(model, dark, bright)
    assert z.shape == own.shape
    assert logdet.shape == bits.shape == (1,)
    assert (z - own).abs().max() < TOLERANCE * own.abs().max().clamp(min=1)
    assert (logdet - own_logdet).abs() < TOLERANCE * own.numel()
    assert (bits - own_bits).abs() < TOLERANCE


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_encoding_is_the_flows(lean, height, width):
    with torch.no_grad():
        compare_encoding(Encoding(lean), lean, *pair(height, width))


def test_bits_are_those_of_training(lean, nano):
    for model in (lean, nano.fold()):
        dark, bright = pair(40, 56)
        equalized = retinex.equalize(dark)[None]
        low = preprocess.network_input(dark[None], equalized)
        with torch.no_grad():
            cond = model.condition(low, model.light(dark[None], equalized))
            expected = model.nll(bright[None], low, cond=cond) / 3
            assert (Encoding(model)(dark[None], bright[None])[2] - expected).abs() < TOLERANCE


def test_the_latent_decodes_to_the_picture(lean):
    dark, bright = pair(40, 56)
    with torch.no_grad():
        cond, _ = conditions(lean, dark[None])
        z, _, _ = Encoding(lean)(dark[None], bright[None])
        assert (lean.flow.decode(z, cond)[0][0] - bright).abs().max() < TOLERANCE


@pytest.fixture(scope="module")
def encoding(lean):
    pytest.importorskip("onnxscript", reason="needs flowkit[onnx]")
    pytest.importorskip("onnxruntime", reason="needs flowkit[onnx]")
    return exporting.encoding_graph_of(lean)


@pytest.mark.slow
def test_onnxruntime_encodes_the_same(encoding, lean):
    run = exporting.running(encoding)
    for size in SIZES:
        compare_encoding(run, lean, *pair(*size))
    assert tried.encodings(lean, run) < TOLERANCE


@pytest.mark.slow
def test_millions_of_numbers_are_added_up(encoding, lean):
    """One float32 sum over such a picture is off by more, as onnxruntime has it."""
    compare_encoding(exporting.running(encoding), lean, *pair(600, 800))


@pytest.mark.slow
def test_the_file_of_the_encoding(encoding):
    import onnx

    model = onnx.load_from_string(encoding)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.name for entry in model.graph.input] == ["dark", "bright"]
    assert [entry.name for entry in model.graph.output] == ["z", "logdet", "bits"]
    assert not {node.op_type for node in model.graph.node} & {"Det", "Inverse"}
    assert {node.domain for node in model.graph.node} == {""}


def test_sums_of_millions_of_numbers_are_right():
    pytest.importorskip("onnxscript", reason="needs flowkit[onnx]")
    pytest.importorskip("onnxruntime", reason="needs flowkit[onnx]")

    class Sums(torch.nn.Module):
        def forward(self, x):
            counts = (x > 0).to(torch.int64)
            return x.flatten(1).sum(1), x.sum((-1, -2), keepdim=True), counts.sum((1, 2, 3))

    run = exporting.running(exporting._graph(Sums(), ["x"], ["a", "b", "c"], {}))
    x = torch.full((1, 3, 1200, 1100), 0.1)
    # One after the other in float32, the first one's error is 1e-3 and more.
    for came, expected in zip(run(x), Sums()(x.double()), strict=True):
        torch.testing.assert_close(came.double(), expected.double(), rtol=1e-6, atol=0)


# --- darktable ---------------------------------------------------------------------------------


def test_a_package_has_darktables_form(lean, exported):
    """dev-doc/AI.md and AI_Tasks.md of darktable; its darktable-ai's wiki, Pipeline reference."""
    content = darktable.package_of("denoise-llflow", exported.read_bytes())
    with ZipFile(io.BytesIO(content)) as package:
        assert package.testzip() is None
        assert package.namelist() == ["denoise-llflow/config.json", "denoise-llflow/model.onnx"]
        assert package.read("denoise-llflow/model.onnx") == exported.read_bytes()
        config = json.loads(package.read("denoise-llflow/config.json"))
    required = {"id", "name", "description", "task", "version", "backend", "tiling"}
    assert required <= config.keys() <= required | {"arch", "num_inputs", "attributes"}
    texts = required - {"tiling"} | {"arch"}
    assert all(isinstance(config[key], str) and config[key] for key in texts)
    assert config["id"] == "denoise-llflow"
    assert (config["task"], config["backend"], config["num_inputs"]) == ("denoise", "onnx", 1)
    assert isinstance(config["tiling"], bool)
    sides = config["attributes"]["input_sizes"]
    assert sides == sorted(sides, reverse=True)
    assert all(isinstance(side, int) and side > 2 * 64 for side in sides)  # what squares overlap by
    assert content == darktable.package_of("denoise-llflow", exported.read_bytes())


def test_its_graph_has_darktables_names(lean, exported, tmp_path, monkeypatch):
    graphs = []

    def renamed(model, names):
        import onnx

        graph = onnx.load(exported)
        for (entry,), name in zip((graph.graph.input, graph.graph.output), names, strict=True):
            for node in graph.graph.node:
                for ends in (node.input, node.output):
                    ends[:] = [name if end == entry.name else end for end in ends]
            entry.name = name
        graphs.append(graph.SerializeToString())
        return graphs[0]

    monkeypatch.setattr(exporting, "graph_of", renamed)
    path = tmp_path / "denoise-llflow.dtmodel"
    assert darktable.save(lean, path) < TOLERANCE
    with ZipFile(path) as package:
        assert package.read("denoise-llflow/model.onnx") == graphs[0]
    import onnxruntime

    session = onnxruntime.InferenceSession(graphs[0], providers=["CPUExecutionProvider"])
    for entry, name in (
        (session.get_inputs()[0], "input"),
        (session.get_outputs()[0], "output"),
    ):
        assert (entry.name, entry.type) == (name, "tensor(float)")
        assert entry.shape == [1, 3, "height", "width"]


@pytest.mark.parametrize(
    "name",
    ["llflow", "denoise", "denoise-", "denoise-LLFlow", "denoise-a_b", "mask-a", "denoise-a."],
)
def test_names_that_are_no_id_are_refused(llflow, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, _, err = llflow("export", "--darktable", f"{name}.dtmodel")
    assert code == 2
    assert "expected a name like denoise-llflow.dtmodel" in err
    assert not any(tmp_path.iterdir())


# --- torch.export ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded_program(lean, tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "lean.pt2"
    assert program.save(lean, path) < TOLERANCE
    return torch.export.load(path).module()


@pytest.mark.slow
def test_the_program_makes_the_same(loaded_program, lean):
    sizes = [picture(*size) for size in SIZES if min(size) >= program.LEAST]
    for dark in (*sizes, PICTURES["night and a lamp"], PICTURES["bright"], PICTURES["black"]):
        assert difference(loaded_program(dark[None])[0], dark, lean) < TOLERANCE


@pytest.mark.slow
def test_the_program_refuses_what_is_too_small(loaded_program):
    with pytest.raises(AssertionError, match="9"):
        loaded_program(torch.rand(1, 3, 8, 20))


# --- the command -------------------------------------------------------------------------------


def test_the_command(llflow, weights, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "graph_of", lambda *arguments: exported.read_bytes())
    monkeypatch.setattr(exporting, "encoding_graph_of", lambda model: b"encoding")
    monkeypatch.setattr(exporting, "running", lambda content: None)
    monkeypatch.setattr(
        program, "save", lambda model, path, **_: path.write_bytes(b"program") * 0.0
    )
    for way in ("pictures", "encodings"):
        monkeypatch.setattr(tried, way, lambda model, run: 1e-6)
    folder = tmp_path / "new"
    target, package = folder / "nano.onnx", folder / "denoise-nano.dtmodel"
    code, out, err = llflow("export", "--onnx", target, "--weights", weights)
    assert (code, err) == (0, "")
    assert "within 1e-06 of the model's results" in out
    assert target.read_bytes() == exported.read_bytes()
    code, _, err = llflow("export", "--onnx", target, "--weights", weights)
    assert code == 1
    assert "exists (--overwrite replaces it)" in err
    target.write_bytes(b"old")
    code, out, _ = llflow(
        *("export", "--onnx", target, "--onnx-encode", folder / "encode.onnx"),
        *("--darktable", package, "--torch", folder / "nano.pt2"),
        *("--weights", weights, "--overwrite"),
    )
    assert code == 0
    assert len(out.splitlines()) == len([*folder.iterdir()]) == 4
    assert target.read_bytes() == exported.read_bytes()
    assert (folder / "encode.onnx").read_bytes() == b"encoding"
    assert (folder / "nano.pt2").read_bytes() == b"program"
    assert package.read_bytes() == darktable.package_of("denoise-nano", exported.read_bytes())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of --onnx, --onnx-encode, --darktable, --torch"),
        (["--onnx", "graph.pt"], "--onnx graph.pt: expected a name in .onnx"),
        (["--onnx-encode", "graph.pt"], "--onnx-encode graph.pt: expected a name in .onnx"),
        (["--darktable", "llflow.zip"], "expected a name in .dtmodel"),
        (["--torch", "llflow.pt"], "expected a name in .pt2"),
        (["--onnx", ""], "expected a path"),
        (["--onnx", "a.onnx", "--onnx-encode", "a.onnx"], "expected another name for each file"),
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


def test_nothing_is_replaced_unless_asked(tmp_path):
    """Also a file that came while the graph was made."""
    path = tmp_path / "a.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        tried.written(path, b"new", 0.0, overwrite=False)
    assert path.read_bytes() == b"mine"
    tried.written(path, b"new", 0.0, overwrite=True)
    assert path.read_bytes() == b"new"
