"""Which pictures show the same scene, and whether training has seen what validation asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize
from tqdm import tqdm

from llflow.data.pairs import DataError, PairFiles, read_picture

ROWS, COLUMNS = 40, 56
# Of the bright pictures of LOL's 485 training pairs, one view taken twice reaches 0.92 at least,
# with a thing added 0.69 to 0.85; the same things arranged anew 0.67 at most, others 0.34.
SAME = 0.7


def thumbnail(picture: Tensor) -> Tensor:
    """The mean of (3, H, W) over RGB, scaled to (40, 56) by a triangle filter, which keeps slopes
    straight; in the picture's range."""
    grey = picture.mean(0)[None, None]
    return interpolate(grey, (ROWS, COLUMNS), mode="bilinear", antialias=True)[0, 0]


def thumbnails(pairs: Sequence[PairFiles], what: str) -> dict[str, Tensor]:
    """Those of the bright pictures, by the pairs' names, with a progress bar.

    Raises:
        DataError, OSError: a picture can't be read.
    """
    with tqdm(pairs, desc=f"looking at {what}", unit="picture") as bar:
        return {pair.name: thumbnail(read_picture(pair.bright)) for pair in bar}


def likeness(a: Tensor, b: Tensor) -> Tensor:
    """How alike the thumbnails (N, 40, 56) and (M, 40, 56) in [0, 1] are: (N, M), in [-1, 1].

    The correlation of d / (√‹d²› + 0.01), d = x - ‹x›, where ‹·› is the mean over 9×9 neighbours.
    So exposure, contrast and a lamp switched on count little, and that skies are bright and above
    counts nothing. A picture without detail is like none, not even itself.
    """
    return _details(a) @ _details(b).T


def _details(thumbnails: Tensor) -> Tensor:
    # Only where all neighbours are inside, or the edges of any smooth slope would look alike.
    detail = thumbnails[:, 4:-4, 4:-4] - avg_pool2d(thumbnails, 9, stride=1)
    contrast = avg_pool2d(detail**2, 9, stride=1, padding=4, count_include_pad=False).sqrt()
    # Detail of a third of a step of 8 bits has a norm of 4; less isn't raised to 1.
    return normalize((detail / (contrast + 0.01)).flatten(1), eps=4.0)


def groups(thumbnails: Mapping[str, Tensor]) -> list[list[str]]:
    """Names in groups that show one scene: pictures whose likeness exceeds 0.7, and what is like
    those. N names take N² bytes: 100 MB for 10,000."""
    if not thumbnails:
        return []
    names = list(thumbnails)
    details = _details(torch.stack(list(thumbnails.values())))
    same = torch.cat([some @ details.T > SAME for some in details.split(1024)])
    scenes, left = [], torch.ones(len(names), dtype=torch.bool)
    for first in range(len(names)):
        if not left[first]:
            continue
        scene, new = [], torch.tensor([first])
        left[first] = False
        while len(new):
            scene += new.tolist()
            new = (same[new].any(0) & left).nonzero()[:, 0]
            left[new] = False
        scenes.append([names[index] for index in sorted(scene)])
    return scenes


def find_scenes(pairs: Sequence[PairFiles]) -> list[list[str]]:
    """Names of pairs in groups that show one scene by their bright pictures, see `likeness`.

    Raises:
        DataError, OSError: a picture can't be read.
    """
    in_order = sorted(pairs, key=lambda pair: pair.name)
    return groups(thumbnails(in_order, "scenes"))


def leaks(
    training: Mapping[str, Tensor], validation: Mapping[str, Tensor]
) -> list[tuple[str, str]]:
    """(validation, training): names whose thumbnails show the same scene, the most alike one of
    training for each of validation."""
    if not training or not validation:
        return []
    trained, seen = (_details(torch.stack([*part.values()])) for part in (training, validation))
    best = [(some @ trained.T).max(1) for some in seen.split(1024)]
    alike, index = (torch.cat(parts).tolist() for parts in zip(*best, strict=True))
    names = list(training)
    return [
        (name, names[index])
        for name, alike, index in zip(validation, alike, index, strict=True)
        if alike > SAME
    ]


def refuse_leaks(training: Sequence[PairFiles], validation: Sequence[PairFiles]) -> None:
    """Read the bright pictures, and refuse a validation that training has seen.

    Raises:
        DataError: a validation picture shows the same scene as one of training, see `likeness`.
        DataError, OSError: a picture can't be read.
    """
    found = leaks(
        thumbnails(training, "training scenes"), thumbnails(validation, "validation scenes")
    )
    if found:
        some = ", ".join(f"{seen} as {trained}" for seen, trained in found[:5])
        raise DataError(
            f"{len(found)} pictures of validation show the same scene as one of training: {some}"
            f"{', …' if len(found) > 5 else ''}; split by scene (llflow data split)"
        )
