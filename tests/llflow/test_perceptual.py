"""LPIPS is the package's own, on the trunk that was given, or isn't computed at all."""

import hashlib
import math
import shutil
import sys

import pooch
import pytest
import requests
import torch
from safetensors.torch import save_file

from llflow.evaluation import perceptual
from llflow.evaluation.perceptual import NETS, Perceptual, TrunkError, Unavailable

# about how lpips calls torchvision
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision")


@pytest.fixture(scope="module")
def theirs():
    """The package's own, with random trunks."""
    lpips = perceptual._import_lpips()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {net: lpips.LPIPS(net=net, pnet_rand=True, verbose=False) for net in NETS}


def trunk_of(network):
    """Its tensors by torchvision's names."""
    tensors = network.net.state_dict()
    return {f"features.{name.partition('.')[2]}": tensor for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def trunks(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trunks")
    for net, network in theirs.items():
        torch.save(trunk_of(network), folder / f"{net}.pth")
    return {net: folder / f"{net}.pth" for net in NETS}


@pytest.fixture(scope="module")
def squeeze(trunks):
    return Perceptual("squeeze", trunks["squeeze"])


@pytest.fixture(scope="module")
def tensors(theirs):
    return trunk_of(theirs["squeeze"])


def pictures(seed=0, size=(64, 80)):
    generator = torch.Generator().manual_seed(seed)
    reference = torch.rand(3, *size, generator=generator)
    noise = torch.randn(3, *size, generator=generator)
    return (reference + 0.2 * noise).clamp(0, 1), reference


@pytest.mark.parametrize("net", NETS)
def test_it_is_the_packages_own(net, theirs, trunks):
    image, reference = pictures()
    with torch.no_grad():
        expected = theirs[net](image[None], reference[None], normalize=True).item()
    assert expected > 0.01
    # The same operations in the same order.
    assert Perceptual(net, trunks[net])(image, reference) == pytest.approx(expected, abs=1e-6)


def test_equal_pictures_have_none(squeeze):
    image, reference = pictures()
    assert squeeze(image, image) == 0
    assert squeeze(image, reference) == pytest.approx(squeeze(reference, image), abs=1e-6)


def test_every_reference_counts(squeeze, trunks):
    """The features that are kept belong to the reference at hand."""
    pairs = [pictures(seed) for seed in (0, 1, 0)]
    fresh = [Perceptual("squeeze", trunks["squeeze"])(*pair) for pair in pairs[:2]]
    assert [squeeze(*pair) for pair in pairs] == [fresh[0], fresh[1], fresh[0]]


def test_safetensors_and_whole_checkpoints(squeeze, tensors, tmp_path):
    save_file({k: v.clone() for k, v in tensors.items()}, tmp_path / "trunk.safetensors")
    torch.save(tensors | {"classifier.1.weight": torch.rand(2, 2)}, tmp_path / "whole.pth")
    for name in ("trunk.safetensors", "whole.pth"):
        other = Perceptual("squeeze", tmp_path / name)
        assert other(*pictures()) == squeeze(*pictures())
        assert other.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_smaller_pictures_have_none(net, trunks):
    metric = Perceptual(net, trunks[net])
    assert math.isnan(metric(*pictures(size=(31, 80))))
    assert math.isnan(metric(*pictures(size=(80, 31))))
    assert metric(*pictures(size=(32, 32))) > 0


def test_random_numbers_go_on_as_if_nothing_had_been(trunks):
    state = torch.get_rng_state()
    Perceptual("squeeze", trunks["squeeze"])
    assert torch.equal(torch.get_rng_state(), state)


def test_unknown_network():
    with pytest.raises(ValueError, match="expected a trunk among alex, vgg, squeeze, got 'resnet'"):
        Perceptual("resnet")


# --- what isn't a trunk ------------------------------------------------------------------------

FIRST = "features.0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {FIRST: None},
            rf"expected squeeze's {FIRST} to be \(64, 3, 3, 3\) torch.float32, got abs",
        ),
        ({FIRST: torch.rand(64, 3, 5, 5)}, r"got \(64, 3, 5, 5\) torch.float32"),
        ({FIRST: torch.rand(64, 3, 3, 3).half()}, "got .* torch.float16"),
        ({FIRST: [1.0]}, "got list"),
        ({FIRST: torch.full((64, 3, 3, 3), math.nan)}, f"{FIRST} to be finite"),
        ({"features.13.weight": torch.rand(3)}, "features.13.weight to be absent"),
    ],
)
def test_other_tensors_are_refused(tensors, tmp_path, change, message):
    file = tmp_path / "trunk.pth"
    torch.save({k: v for k, v in (tensors | change).items() if v is not None}, file)
    with pytest.raises(TrunkError, match=f"{file}: .*{message}"):
        Perceptual("squeeze", file)


def test_another_networks_trunk_is_refused(trunks):
    with pytest.raises(TrunkError, match="expected squeeze's"):
        Perceptual("squeeze", trunks["alex"])


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", "hostile", "list", "numbers"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_are_refused(tmp_path, capsys, content, suffix):
    file = tmp_path / f"trunk{suffix}"
    objects = {"hostile": {FIRST: Hostile()}, "list": [torch.rand(2)], "numbers": {0: 1}}
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(objects[content], file)
    with pytest.raises(TrunkError, match=f"{file}: expected tensors by name") as error:
        Perceptual("squeeze", file)
    assert len(str(error.value).splitlines()) == 1
    assert "executed" not in capsys.readouterr().out


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Perceptual("squeeze", tmp_path / "nothing.pth")


# --- without package, torchvision or network ---------------------------------------------------


def test_without_the_package(monkeypatch, trunks):
    monkeypatch.setitem(sys.modules, "lpips", None)
    message = r"^lpips isn't installed: pip install 'flowkit\[metrics\]'$"
    with pytest.raises(Unavailable, match=message):
        Perceptual("squeeze", trunks["squeeze"])


@pytest.mark.parametrize(
    ("message", "cuda"),
    [("operator torchvision::nms does not exist", "12.6"), ("something else", None)],
)
def test_a_torchvision_that_fails_otherwise_isnt_mended(
    monkeypatch, tmp_path, trunks, message, cuda
):
    (tmp_path / "torchvision.py").write_text(f"raise RuntimeError({message!r})")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(Unavailable, match=f"torchvision can't be imported \\({message}"):
        Perceptual("squeeze", trunks["squeeze"])


def test_without_pooch(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(Unavailable, match=r"^pooch isn't installed: pip install 'flowkit\[metrics"):
        Perceptual("squeeze")


# --- downloads ---------------------------------------------------------------------------------

FILE = "squeezenet1_1-b8a52dc0.pth"


@pytest.fixture
def hub(monkeypatch, tmp_path, trunks):
    """torch.hub's folder of downloads, which doesn't exist; the random trunk's digest is known."""
    digest = hashlib.sha256(trunks["squeeze"].read_bytes()).hexdigest()
    monkeypatch.setitem(perceptual.TRUNKS, "squeeze", (FILE, digest))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def server(monkeypatch):
    """What PyTorch's server does, for pooch."""

    class Downloader:
        asked = ()
        answer = None

        def __init__(self, timeout, progressbar):
            assert max(timeout) <= 30

        def __call__(self, url, file, pooch):
            Downloader.asked += (url,)
            if isinstance(Downloader.answer, Exception):
                raise Downloader.answer
            shutil.copy(Downloader.answer, file)

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    return Downloader


def test_digests_are_those_in_the_names():
    for name, digest in perceptual.TRUNKS.values():
        assert name.endswith(f"-{digest[:8]}.pth")
        assert len(bytes.fromhex(digest)) == 32


def test_names_are_torchvisions():
    perceptual._import_torchvision()
    from torchvision import models

    theirs = {
        "alex": models.AlexNet_Weights,
        "vgg": models.VGG16_Weights,
        "squeeze": models.SqueezeNet1_1_Weights,
    }
    for net, (name, _) in perceptual.TRUNKS.items():
        assert theirs[net].IMAGENET1K_V1.url == perceptual.SERVER + name


def test_without_network(hub, server):
    server.answer = requests.ConnectionError("no network\nat all")
    with pytest.raises(Unavailable) as error:
        Perceptual("squeeze")
    assert str(error.value) == (
        f"https://download.pytorch.org/models/{FILE} can't be downloaded (no network); "
        "--lpips-trunk squeeze=FILE takes a file"
    )
    assert not list(hub.iterdir())


def test_an_earlier_download(hub, server, trunks, squeeze):
    hub.mkdir(parents=True)
    shutil.copy(trunks["squeeze"], hub / FILE)
    assert Perceptual("squeeze")(*pictures()) == squeeze(*pictures())
    assert not server.asked


def test_download(hub, server, trunks, squeeze):
    server.answer = trunks["squeeze"]
    metric = Perceptual("squeeze")
    assert metric(*pictures()) == squeeze(*pictures())
    assert metric.trunk == hub / FILE
    assert server.asked == (f"https://download.pytorch.org/models/{FILE}",)


def test_a_download_that_is_another_file(hub, server, trunks):
    server.answer = trunks["alex"]
    with pytest.raises(Unavailable, match="hash"):
        Perceptual("squeeze")
    assert not list(hub.iterdir())
