"""Flows in files: what is saved is loaded, what doesn't fit is refused, and no code runs."""

import inspect
import pickle
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
import safetensors.torch
import torch
from moved import moved
from safetensors import safe_open

import flowkit.nets
from flowkit import (
    MLP,
    ActNorm,
    Affine,
    Chain,
    Coupling,
    Flow,
    Inverse,
    InvertibleLinear,
    Permute,
    RationalQuadraticSpline,
    SigmoidScale,
    StandardNormal,
    flows,
    guided,
    load,
    save,
)
from flowkit.files import composition
from flowkit.nets.conditioner import Conditioner
from flowkit.testing import Draw, all_layers, random_inputs, randomized


def flow(hidden=6, how=RationalQuadraticSpline(4), last=(1, 0)):
    coupling = Coupling(2, partial(MLP, hidden=hidden), how)
    chain = Chain(ActNorm(2), coupling, InvertibleLinear(2), Permute(last))
    return Flow(chain, StandardNormal(2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "flow.safetensors"


@pytest.fixture
def saved(path):
    original = moved(flow())
    save(original, path)
    return original


@pytest.mark.parametrize("as_function", [True, False])
def test_what_is_saved_is_loaded(saved, path, as_function):
    x = torch.randn(5, 2)
    other = flow()
    assert not other.log_prob(x).equal(saved.log_prob(x))
    loaded = load(path, flow if as_function else other)
    assert loaded is other or as_function
    assert loaded.log_prob(x).equal(saved.log_prob(x))


def test_an_order_that_was_drawn_is_loaded(saved, path):
    x = torch.randn(5, 2)
    assert load(path, flow(last=(0, 1))).log_prob(x).equal(saved.log_prob(x))


def test_the_composition_is_beside_as_text(saved, path):
    with safe_open(path, "pt") as file:
        text = file.metadata()["flowkit"]
    assert text == repr(saved)
    assert "Coupling" in text


def test_a_layer_used_twice_is_saved(path):
    def build():
        layer = ActNorm(2)
        return Chain(layer, Permute([1, 0]), Inverse(layer), layer)

    original = build()
    torch.nn.init.normal_(original[0].bias)
    save(original, path)
    assert load(path, build)[3].bias.equal(original[0].bias)


def test_a_function_is_the_same_in_another_process(path):
    def doubled(raw):
        return raw.exp(), raw

    def build(scale):
        return Coupling(2, MLP, Affine(scale))

    save(build(doubled), path)
    first = doubled

    def doubled(raw):  # at another address
        return raw.exp(), raw

    assert first is not doubled
    load(path, lambda: build(doubled))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            partial(flow, how=RationalQuadraticSpline(4, bound=3.0)),
            r"RationalQuadraticSpline\(bins=4, bound=5.0, .* in the file, .*bound=3.0, .* module",
        ),
        (partial(flow, how=Affine(SigmoidScale())), r"SigmoidScale.*and \d+ more differences"),
        (partial(flow, hidden=7), r"'.*Linear\(in_features=1, out_features=6, .*out_features=7"),
        (lambda: Flow(flow().bijection), r"StandardNormal\(\(2,\)\).*StandardNormal\(any shape\)"),
        (lambda: Flow(flow().bijection[:3], StandardNormal(2)), r"Permute.*, missing in the modu"),
    ],
)
def test_another_composition_is_refused_and_said(saved, path, build, words):
    other = build()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"expected the composition that was saved, got .*" + words
    ):
        load(path, other)
    assert all(tensor.equal(before[name]) for name, tensor in other.state_dict().items())


def test_another_precision_is_refused(saved, path):
    words = r"expected bijection\.layers\.0\.bias as the file has it, \(2,\) float32, got \(2,\) fl"
    with pytest.raises(ValueError, match=words):
        load(path, flow().double())


def rewritten(path, change):
    """The file with its tensors and composition changed."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    change(tensors, metadata)
    path.write_bytes(safetensors.torch.save(tensors, metadata))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, m: t.pop("bijection.layers.0.bias"), r"0\.bias as the file has it, absent"),
        (lambda t, m: t.update(more=torch.ones(1)), r"more as .* \(1,\) float32, got absent"),
        (lambda t, m: m.pop("flowkit"), r"got one without a composition"),
        (lambda t, m: m.update(flowkit=""), r"line 1 is missing in the file"),
        (lambda t, m: m.update(flowkit="\x1b[2J" + 10**6 * "x"), r"is '\\x1b\[2Jx{190}x*' in"),
        (lambda t, m: m.update(flowkit=m["flowkit"].replace("\n", "\r\n")), r"other line ends"),
    ],
)
def test_files_that_were_tampered_with_are_refused(saved, path, change, words):
    rewritten(path, change)
    with pytest.raises(ValueError, match=words) as caught:
        load(path, flow)
    assert len(str(caught.value)) < 1000


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\xff" * 100,
        (2**62).to_bytes(8, "little") + b"{}",
        (10).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        pickle.dumps(Bomb()),
        "half",
        "header",
    ],
)
def test_what_is_no_such_file_is_refused_and_runs_nothing(
    saved, path, content, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    whole = path.read_bytes()
    cut = {"half": whole[: len(whole) // 2], "header": whole[:100]}
    path.write_bytes(cut[content] if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=r"expected a file of flowkit\.save, got another kind, or"):
        load(path, flow)
    assert not Path("exploded").exists()


def test_paths_that_cannot_be_read_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        load(tmp_path / "nothing", flow)
    with pytest.raises(IsADirectoryError, match="expected a file, got a folder"):
        load(tmp_path, flow)


def test_what_is_no_module_is_refused(path, saved):
    with pytest.raises(TypeError, match=r"save: expected a module, got OrderedDict"):
        save(saved.state_dict(), path)
    with pytest.raises(TypeError, match=r"load: expected a module, got OrderedDict"):
        load(path, saved.state_dict())


class Extra(ActNorm):
    def get_extra_state(self):
        return {"code": 1}


def test_a_state_that_is_no_tensor_is_refused(path):
    with pytest.raises(TypeError, match=r"Extra: expected a state of tensors alone, got dict as _"):
        save(Extra(2), path)
    assert not path.exists()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file(saved, path, step, monkeypatch):
    before = path.read_bytes()

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(f"os.{step}", fails)
    with pytest.raises(OSError, match="disk full"):
        save(flow(), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_layers_that_print_alike_and_have_the_same_tensors_are_the_same_map():
    """Or a file could be loaded into another map than it was saved from."""
    compared = 0
    for layer in all_layers(["flowkit"]):
        for one, other in combinations(layer.examples(), 2):
            a, b = (randomized(example, 0, torch.float64) for example in (one, other))
            if composition(a) != composition(b) or shapes(a) != shapes(b):
                continue
            compared += 1
            b.load_state_dict(a.state_dict())
            x, cond = random_inputs(one, Draw())
            try:
                came = b(x, cond)
            except ValueError:
                pytest.fail(f"{layer.__name__}: {one.name} and {other.name} print alike")
            torch.testing.assert_close(a(x, cond), came, msg=f"{layer.__name__}: {one.name}")
    assert compared


LOOKS = {"hidden": 24, "depth": 5, "blocks": 3, "width": 3, "axes": 1, "lipschitz": 0.5}
LOOKS |= {"heads": 2, "reverse": True, "cond_channels": 2}


@pytest.mark.parametrize("name", [n for n in flowkit.nets.__all__ if n != "Conditioner"])
def test_nets_of_other_options_print_otherwise_or_have_other_tensors(name):
    """Likewise."""
    kind, options = getattr(flowkit.nets, name), {}
    for base in kind.__mro__:
        options |= inspect.signature(base.__init__).parameters
    options = {option: LOOKS[option] for option in options if option in LOOKS}
    if not issubclass(kind, Conditioner):
        pytest.skip("a part of a net")
    assert options
    a = kind(2, 2)
    for option, value in options.items():
        b = kind(2, 2, **{option: value})
        assert composition(a) != composition(b) or shapes(a) != shapes(b), option


def test_a_guided_flow_is_not_loaded_as_one_that_is_not(path):
    flow = flows.tarflow((1, 4, 4), cond=2, hidden=8, depth=1, heads=1, steps=1)
    save(guided(flow, 1.5), path)
    with pytest.raises(ValueError, match=r"guidance=1\.5"):
        load(path, flow)
    load(path, guided(flow, 1.5))


def shapes(module):
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
