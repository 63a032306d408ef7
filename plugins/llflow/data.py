"""Pairs of a dark and a bright picture of one scene: found, read, cut into training batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from llflow import images, preprocess, retinex

LAYOUTS = (("low", "high"), ("Low", "Normal"), ("input", "target"))


class DataError(ValueError):
    """A folder isn't laid out as pairs, or a split doesn't fit it."""


@dataclass(frozen=True)
class PairFiles:
    """One scene's files; `name` is what they share."""

    name: str
    dark: Path
    bright: Path


@dataclass(frozen=True)
class Pair:
    """One decoded pair, pictures (3, H, W) uint8; `equalized` is the dark one's equalisation."""

    name: str
    dark: Tensor
    equalized: Tensor
    bright: Tensor


def find_pairs(folder: Path) -> list[PairFiles]:
    """Pairs by equal file names (suffixes may differ) in low/ and high/, Low/ and Normal/, or
    input/ and target/.

    Raises:
        DataError: no such folders, nothing in one, files without a partner, or two of one name.
    """
    for dark_name, bright_name in LAYOUTS:
        dark, bright = _by_stem(folder / dark_name), _by_stem(folder / bright_name)
        if dark and bright:
            break
    else:
        layouts = ", or ".join(f"{a}/ and {b}/" for a, b in LAYOUTS)
        raise DataError(f"{folder}: expected pictures in both {layouts}")
    alone = sorted(dark.keys() ^ bright.keys())
    if alone:
        raise DataError(
            f"{folder}: {len(alone)} pictures have no partner of the same name: "
            f"{', '.join(alone[:5])}{' …' if len(alone) > 5 else ''}"
        )
    return [PairFiles(name, dark[name], bright[name]) for name in sorted(dark)]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name[0] != "." and files.setdefault(path.stem, path) != path:
            raise DataError(f"{folder}: {files[path.stem].name} and {path.name} have one name")
    return files


def hold_out(
    pairs: Sequence[PairFiles], clusters: Sequence[Sequence[str]], share: float, seed: int
) -> tuple[list[PairFiles], list[PairFiles]]:
    """Split into training and validation by whole scenes.

    Args:
        pairs: all pairs.
        clusters: names of the pairs that show the same scene; a name in none is its own scene.
        share: of the scenes, how many to hold out (rounded).
        seed: which.

    Raises:
        DataError: a name is in two clusters, or none of theirs is in the data.
    """
    cluster_of: dict[str, str] = {}
    for index, names in enumerate(clusters):
        for name in names:
            if cluster_of.setdefault(name, str(index)) != str(index):
                raise DataError(f"{name} is in two clusters; one scene has to be one cluster")
    if cluster_of and not any(pair.name in cluster_of for pair in pairs):
        name = next(iter(cluster_of))
        raise DataError(f"no pair has a name that is in the clusters, such as {name!r}")
    scene_of = {
        name: (cluster_of[name], "") if name in cluster_of else ("", name)
        for name in (pair.name for pair in pairs)
    }
    scenes = sorted(set(scene_of.values()))
    order = np.random.default_rng(seed).permutation(len(scenes))
    held = {scenes[i] for i in order[: round(share * len(scenes))]}
    is_held = [scene_of[pair.name] in held for pair in pairs]
    training = [pair for pair, h in zip(pairs, is_held, strict=True) if not h]
    return training, [pair for pair, h in zip(pairs, is_held, strict=True) if h]


def read_clusters(path: Path | None) -> list[list[str]]:
    """The scenes of a JSON file {"clusters": [[name, ...], ...]}; none without a file."""
    if path is None:
        return []
    try:
        clusters = json.loads(path.read_text())["clusters"]
        if not all(isinstance(names, list) for names in (clusters, *clusters)):
            raise TypeError
        return [[str(name) for name in names] for names in clusters]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path}: expected JSON like {{"clusters": [["1", "2"], ["3"]]}}'
        ) from error


def read_split(path: Path) -> dict[str, list[str]]:
    """Names of the "training" and "validation" pairs that `llflow.train` wrote.

    Raises:
        DataError: it isn't such a file.
    """
    try:
        split = json.loads(path.read_text())
        return {part: [str(name) for name in split[part]] for part in ("training", "validation")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a split.json of a training run ({error})") from error


def named(pairs: Sequence[PairFiles], names: Sequence[str]) -> list[PairFiles]:
    """The pairs of these names.

    Raises:
        DataError: one isn't there.
    """
    by_name = {pair.name: pair for pair in pairs}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DataError(f"{len(missing)} pairs of the split aren't in the data: {missing[:5]}")
    return [by_name[name] for name in names]


def read_pair(files: PairFiles) -> Pair:
    """Decode one pair.

    Raises:
        DataError: a file isn't a picture that can be read, or the sizes differ.
        OSError: a file can't be read.
    """
    dark, bright = _read(files.dark), _read(files.bright)
    if dark.shape != bright.shape:
        raise DataError(
            f"{files.name}: the dark picture is {dark.shape[2]}×{dark.shape[1]}, "
            f"the bright one {bright.shape[2]}×{bright.shape[1]}"
        )
    return _pair(files.name, dark, bright)


def _read(path: Path) -> Tensor:
    try:
        return images.read(path).image
    except images.PictureError as error:
        raise DataError(f"{path}: {error}") from error


def _pair(name: str, dark: Tensor, bright: Tensor) -> Pair:
    pictures = (dark, retinex.equalize(dark), bright)
    return Pair(name, *((picture * 255).round().to(torch.uint8) for picture in pictures))


def darken(bright: Tensor, rng: np.random.Generator) -> Tensor:
    """A dark picture of the same scene, as a short exposure would have taken it.

    In linear light (gamma 2.2) the picture is dimmed by u stops, u uniform in [0, 5], gets Gaussian
    noise of variance a·signal + b² (photon and read noise; a log-uniform in [1e-5, 0.002], b in
    [1e-5, 0.003]), and is rounded to 8 bits.

    Args:
        bright: (3, H, W) in [0, 1].
        rng: decides stops and noise.

    Foi et al., Practical Poissonian-Gaussian noise modeling, IEEE TIP 2008, eq. 1-3.
    """
    signal = bright.numpy().astype(np.float32) ** 2.2 * 2.0 ** -rng.uniform(0, 5)
    photon, read = np.exp(rng.uniform(np.log(1e-5), np.log((2e-3, 3e-3))))
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noisy = signal + np.sqrt(photon * signal + read**2) * noise
    dark = torch.from_numpy(noisy.clip(0, 1).astype(np.float32) ** (1 / 2.2))
    return (dark * 255).round() / 255


def synthetic_pair(files: PairFiles, seed: int) -> Pair:
    """The pair's bright picture, with a dark one made of it by `darken`."""
    bright = _read(files.bright)
    name = [*files.name.encode()]
    dark = darken(bright, np.random.default_rng([seed, *name]))
    return _pair(files.name, dark, bright)


class Crops:
    """Training batches: random crops, mirrored and turned, of pairs held in memory.

    Batch number `step` depends on the seed and on `step` alone, so a run that is stopped goes on as
    if it hadn't been.

    Args:
        pairs: the real pairs.
        synthetic: pairs made by `synthetic_pair`; may be empty.
        synthetic_share: probability that a sample is drawn from them.
        size: side of a crop in pixels, a multiple of 8.
        batch: samples per batch.
        seed: decides everything.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        synthetic: Sequence[Pair] = (),
        *,
        synthetic_share: float = 0.0,
        size: int,
        batch: int,
        seed: int,
    ) -> None:
        too_small = [p.name for p in pairs if min(p.bright.shape[1:]) < size]
        if too_small:
            raise DataError(f"pictures smaller than the crop of {size}: {', '.join(too_small[:5])}")
        self.pairs, self.synthetic = pairs, synthetic
        self.synthetic_share = synthetic_share if synthetic else 0.0
        self.size, self.batch, self.seed = size, batch, seed

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """(bright (B, 3, size, size), low (B, 6, size, size)) of batch number `step`, float32."""
        rng = np.random.default_rng([self.seed, step])
        crops = torch.stack([self._crop(rng) for _ in range(self.batch)]).float() / 255
        dark, equalized, bright = crops.split(3, dim=1)
        return bright, preprocess.network_input(dark, equalized)

    def _crop(self, rng: np.random.Generator) -> Tensor:
        pairs = self.synthetic if rng.random() < self.synthetic_share else self.pairs
        pair = pairs[int(rng.integers(len(pairs)))]
        _, height, width = pair.bright.shape
        top = rng.integers(height - self.size + 1)
        left = rng.integers(width - self.size + 1)
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        crop = torch.cat([p[window] for p in (pair.dark, pair.equalized, pair.bright)])
        crop = torch.rot90(crop, int(rng.integers(4)), (1, 2))
        return crop.flip(2) if rng.random() < 0.5 else crop


def read_pairs(files: Sequence[PairFiles], what: str) -> list[Pair]:
    """Decode pairs with a progress bar."""
    return [read_pair(pair) for pair in tqdm(files, desc=f"reading {what}", unit="pair")]
