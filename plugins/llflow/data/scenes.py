"""Training and validation, split by whole scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llflow.atomic import write_atomically
from llflow.data.lookalikes import find_scenes
from llflow.data.pairs import DataError, PairFiles


def hold_out(
    pairs: Sequence[PairFiles], clusters: Sequence[Sequence[str]] | None, share: float, seed: int
) -> tuple[list[PairFiles], list[PairFiles]]:
    """Split into training and validation by whole scenes.

    Args:
        pairs: all pairs.
        clusters: names of the pairs that show the same scene; a name in none is its own scene.
            None: `find_scenes` looks for them, which reads every bright picture.
        share: of the scenes, how many to hold out (rounded).
        seed: which.

    Raises:
        DataError: a name is in two clusters, or none of theirs is in the data; without clusters, a
            picture can't be read.
    """
    if clusters is None:
        clusters = find_scenes(pairs)
    scene_of = dict(zip(pairs, scenes_of(pairs, clusters), strict=True))
    scenes = sorted(set(scene_of.values()))
    order = np.random.default_rng(seed).permutation(len(scenes))
    held = {scenes[i] for i in order[: round(share * len(scenes))]}
    is_held = [scene_of[pair] in held for pair in pairs]
    training = [pair for pair, h in zip(pairs, is_held, strict=True) if not h]
    return training, [pair for pair, h in zip(pairs, is_held, strict=True) if h]


def scenes_of(
    pairs: Sequence[PairFiles], clusters: Sequence[Sequence[str]]
) -> list[tuple[str, str]]:
    """Each pair's scene: what is the same for two of one cluster, and for no others.

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
    return [
        (cluster_of[name], "") if name in cluster_of else ("", name)
        for name in (pair.name for pair in pairs)
    ]


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
    """Names of the "training" and "validation" pairs that a training run or `write_split` wrote.

    Raises:
        DataError: it isn't such a file, or a name is in both.
    """
    try:
        split = json.loads(path.read_text())
        parts = {part: [str(name) for name in split[part]] for part in ("training", "validation")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a split.json of a training run ({error})") from error
    both = set(parts["training"]) & set(parts["validation"])
    if both:
        raise DataError(f"{path}: {min(both)} is in training and in validation")
    return parts


def write_split(
    path: Path,
    training: Sequence[PairFiles],
    validation: Sequence[PairFiles],
    clusters: Sequence[Sequence[str]],
    *,
    overwrite: bool = True,
) -> None:
    """Write what `read_split` reads, with the scenes beside it, which `read_clusters` reads.

    Raises:
        FileExistsError: a file is there that may not be overwritten.
        OSError: the file can't be written; it is as it was.
    """
    split = {
        "training": [pair.name for pair in training],
        "validation": [pair.name for pair in validation],
        "clusters": [list(names) for names in clusters],
    }
    content = json.dumps(split, indent=1).encode()
    write_atomically(path, lambda file: file.write(content), overwrite=overwrite)
