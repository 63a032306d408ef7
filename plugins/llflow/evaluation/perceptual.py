"""LPIPS, the learned perceptual distance, by the package of that name (`flowkit[metrics]`).

Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018,
eq. 1, version 0.1. The package brings the learned weights of the channels; the trunk, a network
trained on ImageNet, is torchvision's, from a file or, by pooch, from PyTorch's server.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from llflow.errors import LLFlowError, first_line
from llflow.evaluation.extra import imported

NETS = ("alex", "vgg", "squeeze")
SMALLEST = 32  # pixels a side, from which on all trunks have an output
SERVER = "https://download.pytorch.org/models/"
TRUNKS = {  # torchvision's first weights of each, and their SHA-256
    "alex": (
        "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "vgg": (
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    "squeeze": (
        "squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    ),
}
WAIT = 5, 30  # seconds for a connection, and for each further part
_UNREGISTERED = "operator torchvision::nms does not exist"
_declared: list[torch.library.Library] = []  # a declaration ends with its Library


class Unavailable(LLFlowError, RuntimeError):
    """LPIPS can't be computed here: no package, or no trunk."""


class TrunkError(LLFlowError, ValueError):
    """A file doesn't hold the trunk that it should."""


class Perceptual:
    """LPIPS of pictures (3, H, W) in [0, 1]; 0 for equal ones, less is better.

    Args:
        net: the trunk's name, among `NETS`.
        trunk: its file, a state dict with torchvision's names (`features.0.weight`, …), .pth or
            .safetensors; else PyTorch's own, downloaded once into torch.hub's folder. There it has
            to have the digest that is known.
        device: where to compute.

    Attributes:
        trunk, sha256: the file, and its digest.

    Raises:
        Unavailable: the package isn't there, or the download isn't possible.
        TrunkError: the file isn't the trunk of that name.
        OSError: it can't be read.
    """

    def __init__(
        self, net: str, trunk: Path | None = None, device: torch.device | str = "cpu"
    ) -> None:
        if net not in NETS:
            raise ValueError(f"LPIPS: expected a trunk among {', '.join(NETS)}, got {net!r}")
        lpips = _import_lpips()
        self.trunk = _downloaded(net) if trunk is None else trunk
        self.sha256 = hashlib.sha256(self.trunk.read_bytes()).hexdigest()
        tensors = _read(self.trunk)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # about how lpips calls torchvision
            network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        _fill(network.net, tensors, f"{self.trunk}: expected {net}'s")
        self._network = network.to(device)
        self._normalized = lpips.normalize_tensor
        self._device = device
        self._latest: tuple[Tensor, list[Tensor]] | None = None

    @torch.no_grad()
    def __call__(self, image: Tensor, reference: Tensor) -> float:
        """Σₗ mean over pixels of wₗ·(x̂ₗ - ŷₗ)², with x̂ₗ, ŷₗ the pictures' features in layer l,
        of unit length in every pixel. NaN for pictures smaller than 32 pixels.

        The features of the latest reference are kept for the next picture.
        """
        if min(image.shape[1:]) < SMALLEST:
            return math.nan
        if self._latest is None or self._latest[0] is not reference:
            self._latest = reference, self._features(reference)
        layers = zip(self._network.lins, self._features(image), self._latest[1], strict=True)
        return sum(lin((x - y) ** 2).mean().item() for lin, x, y in layers)

    def _features(self, image: Tensor) -> list[Tensor]:
        scaled = self._network.scaling_layer(2 * image[None].float().to(self._device) - 1)
        return [self._normalized(x) for x in self._network.net(scaled)]


def _import_lpips() -> Any:
    try:
        _import_torchvision()
        return imported("lpips")
    except ImportError as error:
        raise Unavailable(str(error)) from error


def _import_torchvision() -> None:
    """Import torchvision, also beside a PyTorch that isn't the one it was built for.

    PyPI's torchvision is built for CUDA. Beside a PyTorch without, its library can't be loaded, and
    the import fails at two operations that it doesn't find; LPIPS uses neither.
    """
    try:
        imported("torchvision")
    except RuntimeError as error:
        if _UNREGISTERED not in str(error) or torch.version.cuda is not None:
            raise Unavailable(f"torchvision can't be imported ({error})") from error
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        imported("torchvision")


def _downloaded(net: str) -> Path:
    """PyTorch's trunk in torch.hub's folder, downloaded unless it is there already."""
    name, digest = TRUNKS[net]
    try:
        pooch = imported("pooch")
        file = pooch.retrieve(
            SERVER + name,
            f"sha256:{digest}",
            name,
            Path(torch.hub.get_dir()) / "checkpoints",
            downloader=pooch.HTTPDownloader(progressbar=True, timeout=WAIT),
        )
    except ModuleNotFoundError as error:
        raise Unavailable(str(error)) from error
    except (OSError, ValueError) as error:  # the latter's for another digest
        raise Unavailable(
            f"{SERVER}{name} can't be downloaded ({first_line(error)}); --lpips-trunk {net}=FILE "
            "takes a file"
        ) from error
    return Path(file)


def _fill(network: torch.nn.Module, tensors: dict[str, Any], expected: str) -> None:
    """Copy tensors into lpips' trunk, whose modules keep torchvision's numbers."""
    wanted = {
        f"features.{name.partition('.')[2]}": tensor
        for name, tensor in network.state_dict().items()
    }
    theirs = {name for name in tensors if name.startswith("features.")}
    for name in sorted(wanted.keys() | theirs):
        kind, came = _describe(wanted.get(name)), _describe(tensors.get(name))
        if kind != came:
            raise TrunkError(f"{expected} {name} to be {kind}, got {came}")
        if not tensors[name].isfinite().all():
            raise TrunkError(f"{expected} {name} to be finite")
        wanted[name].copy_(tensors[name])


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of many kinds, for a damaged or hostile file
        raise TrunkError(
            f"{path}: expected tensors by name, .pth or .safetensors ({first_line(error)})"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(name, str) for name in tensors):
        raise TrunkError(f"{path}: expected tensors by name, got {type(tensors).__name__}")
    return tensors


def _describe(value: Any) -> str:
    if value is None:
        return "absent"
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{tuple(value.shape)} {value.dtype}"
