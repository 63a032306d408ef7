"""Pictures against their references: models' own, or files that anything made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from llflow.data import DataError, PairFiles, named, read_pair
from llflow.data.pairs import by_stem, read_picture
from llflow.enhancement import NotFinite, enhance, unclipped
from llflow.evaluation.conventions import Convention
from llflow.evaluation.metrics import eight_bit, psnr
from llflow.network.model import LLFlow


@dataclass(frozen=True)
class Scene:
    """A reference in [0, 1], and by method what is scored against it, as it was put out."""

    name: str
    reference: Tensor
    pictures: dict[str, Tensor]


@dataclass(frozen=True)
class Scores:
    """Attributes:
    pictures: their names.
    conventions: how they were scored.
    values: by method, (pictures, conventions) float64.
    """

    pictures: list[str]
    conventions: list[Convention]
    values: dict[str, np.ndarray]


def pair_outputs(
    outputs: Path, reference: Path, names: Sequence[str] | None = None
) -> list[PairFiles]:
    """Pictures and their references by equal file names; suffixes may differ.

    The pictures to score take the dark ones' place.

    Args:
        outputs, reference: folders; hidden files and folders within are left out.
        names: score these only, whatever else is there.

    Raises:
        DataError: a folder isn't there or has no files, or files have no partner.
    """
    folders = []
    for folder in (outputs, reference):
        files = by_stem(folder)
        if not files:
            raise DataError(f"{folder}: expected a folder of pictures")
        folders.append({n: path for n, path in files.items() if names is None or n in names})
    pictures, references = folders
    for here, there, folder in ((pictures, references, reference), (references, pictures, outputs)):
        alone = [path.name for name, path in here.items() if name not in there]
        if alone:
            raise DataError(f"{folder}: no picture of the same name for {_listed(alone, ', ')}")
    pairs = [PairFiles(name, pictures[name], references[name]) for name in sorted(pictures)]
    return pairs if names is None else named(pairs, names)


def check(files: Sequence[PairFiles]) -> None:
    """Decode every picture, so that a bad one is known before hours of computing.

    Raises:
        DataError: names all pictures that can't be read and all pairs of two sizes.
    """
    problems = []
    for pair in tqdm(files, desc="checking", unit="pair", leave=False):
        try:
            sizes = [read_picture(path).shape[:0:-1] for path in (pair.dark, pair.bright)]
        except (DataError, OSError) as error:
            problems.append(str(error))
            continue
        if sizes[0] != sizes[1]:
            (width, height), (other_width, other_height) = sizes
            problems.append(
                f"{pair.dark} is {width}×{height}, its reference {other_width}×{other_height}"
            )
    if problems:
        raise DataError(_listed(problems, "; "))


def _listed(names: Sequence[str], separator: str, most: int = 10) -> str:
    more = f"{separator}and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def enhanced(
    models: Mapping[str, LLFlow],
    files: Sequence[PairFiles],
    *,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    precision: str = "float32",
) -> Iterator[Scene]:
    """The dark picture itself, its histogram equalisation, and every model's mean of samples.

    Clamped, a model's picture is `llflow.enhance`'s.

    Args:
        models: by name.
        files: pairs, read one at a time.
        temperature, samples, seed, precision: see `llflow.enhance`.

    Raises:
        NotFinite: a model overflows on a picture; both are named.
    """
    folded = {name: model.fold() for name, model in models.items()}
    for pair_files in files:
        pair = read_pair(pair_files)
        dark, equalized, bright = (
            x.float() / 255 for x in (pair.dark, pair.equalized, pair.bright)
        )
        pictures = {"input": dark, "histogram equalisation": equalized}
        for name, model in folded.items():
            try:
                pictures[name] = unclipped(
                    model,
                    dark,
                    temperature=temperature,
                    samples=samples,
                    seed=seed,
                    precision=precision,
                )
            except NotFinite as error:
                raise NotFinite(f"{pair.name} by {name}: {error}") from error
        yield Scene(pair.name, bright, pictures)


def made(files: Sequence[PairFiles], method: str) -> Iterator[Scene]:
    """Pictures from files, see `pair_outputs`, under one method's name."""
    for pair in files:
        reference = eight_bit(read_picture(pair.bright))
        yield Scene(pair.name, reference, {method: read_picture(pair.dark)})


def score(scenes: Iterable[Scene], conventions: Sequence[Convention]) -> Scores:
    """Score every picture in every convention; one scene is held in memory at a time."""
    names: list[str] = []
    values: dict[str, list[list[float]]] = {}
    for scene in scenes:
        names.append(scene.name)
        for method, picture in scene.pictures.items():
            row = [convention(picture, scene.reference) for convention in conventions]
            values.setdefault(method, []).append(row)
    return Scores(
        names, list(conventions), {method: np.array(rows) for method, rows in values.items()}
    )


def validation_psnr(model: LLFlow, files: Sequence[PairFiles]) -> float:
    """Mean raw PSNR of the model's pictures, which training selects by; -inf if one overflows."""
    folded = model.fold()
    scores = []
    for pair_files in tqdm(files, desc="evaluating", unit="picture", leave=False):
        pair = read_pair(pair_files)
        try:
            image = enhance(folded, pair.dark.float() / 255)
        except NotFinite:
            return -math.inf
        scores.append(psnr(eight_bit(image), pair.bright.float() / 255))
    return sum(scores) / len(scores)
