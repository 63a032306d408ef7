"""`llflow data`: check pairs before training, and cut them by scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llflow.commands.options import (
    FROM_ONE,
    FROM_ZERO,
    PATH,
    FiniteRange,
    read_split,
    refuse_existing,
    report,
    shown,
)

if TYPE_CHECKING:
    from llflow.data import Found, Report

EPILOG = """\b
examples:
  llflow data check MYPAIRS
  llflow data check LOL/our485 --against LOL/eval15
  llflow data split MYPAIRS --out split.json
"""
CHECK_EPILOG = """\b
examples:
  llflow data check MYPAIRS
  llflow data check MYPAIRS --split runs/mine/split.json
  llflow data check LOL/our485 --against LOL/eval15
"""
SPLIT_EPILOG = """\b
example:
  llflow data split MYPAIRS --out split.json --held-out 0.2
"""


@click.group("data", epilog=EPILOG, no_args_is_help=False)
def command() -> None:
    """Check pairs for training, or split them by scene.

    Pairs lie in low/ and high/, Low/ and Normal/, input/ and target/, dark/ and bright/, ... in or
    below the folder.
    """


@command.command(epilog=CHECK_EPILOG)
@click.argument("folder", type=PATH, metavar="DIR")
@click.option(
    "--against", type=PATH, metavar="DIR2", help="Other pairs, whose scenes mustn't be in DIR."
)
@click.option(
    "--split",
    metavar="SPLIT",
    help="A split of DIR to look for leaks in: its file, or the name of shipped weights.",
)
@click.option(
    "--crop",
    type=FROM_ONE,
    default=96,
    show_default=True,
    metavar="N",
    help="Side of a training crop in pixels, which pictures have to hold.",
)
def check(folder: Path, against: Path | None, split: str | None, crop: int) -> int:
    """Read every picture and list what is wrong.

    That is files without a partner, unreadable or too small ones, pairs of two sizes, dark pictures
    that are brighter, and scenes on both sides of a split. Exit code 1 if there is anything.
    """
    from llflow import data

    found = data.look(folder)
    other_found = data.look(against) if against else None
    parts = read_split(split) if split else None
    seen = data.check(found, crop)
    problems = seen.problems
    _print_report(found, seen)
    if parts:
        problems += _problems_of_split(parts, found, seen)
    if other_found:
        click.echo(f"against: {len(other_found.pairs)} pairs, {_folders(other_found)}")
        other = data.check(other_found, crop=1)
        problems += other.problems
        problems += [
            f"{against} {theirs} shows the same scene as {folder} {ours}"
            for theirs, ours in data.leaks(seen.thumbnails, other.thumbnails)
        ]
    click.echo(f"problems: {len(problems) or 'none'}")
    for problem in problems:
        report(problem)
    return 1 if problems else 0


def _problems_of_split(split: dict[str, list[str]], found: Found, seen: Report) -> list[str]:
    from llflow import data

    ours, theirs = {pair.name for pair in found.pairs}, {*split["training"], *split["validation"]}
    click.echo(
        f"split: {len(split['training'])} training, {len(split['validation'])} validation, "
        f"{len(ours - theirs)} pairs in neither"
    )
    training, validation = (
        {name: seen.thumbnails[name] for name in names if name in seen.thumbnails}
        for names in (split["training"], split["validation"])
    )
    return [f"{name} of the split isn't in the data" for name in sorted(theirs - ours)] + [
        f"validation {validated} shows the same scene as training {trained}"
        for validated, trained in data.leaks(training, validation)
    ]


def _print_report(found: Found, seen: Report) -> None:
    from llflow import data

    click.echo(f"pairs: {len(found.pairs)}, {_folders(found)}, by {found.how}")
    sizes = [f"{w}×{h} ({count})" for (w, h), count in seen.sizes.most_common()]
    others = f" and {len(sizes) - 5} others" if sizes[5:] else ""
    click.echo(f"sizes: {', '.join(sizes[:5])}{others}")
    scenes = data.groups(seen.thumbnails)
    several = sorted((scene for scene in scenes if len(scene) > 1), key=len, reverse=True)
    shared = f", {len(several)} of them of several pairs" if several else ""
    largest = f", the largest {shown(', '.join(several[0][:8]))}" if several else ""
    click.echo(f"scenes: {len(scenes)}{shared}{largest}")
    if seen.brighter * 2 > len(found.pairs):
        click.echo(f"{_folders(found)}: most dark pictures are brighter; are the folders swapped?")


def _folders(found: Found) -> str:
    return shown(f"{found.dark} and {found.bright.name}/")


@command.command(epilog=SPLIT_EPILOG)
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("-o", "--out", type=PATH, required=True, metavar="JSON", help="The file to write.")
@click.option(
    "--held-out",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Of the scenes.",
)
@click.option(
    "--seed", type=FROM_ZERO, default=0, show_default=True, metavar="N", help="Which scenes."
)
@click.option(
    "--scenes",
    type=PATH,
    metavar="JSON",
    help='Take the scenes from here: {"clusters": [["1", "2"], ...]}; a name in none is alone.',
)
@click.option(
    "--allow-leaks",
    is_flag=True,
    help="With --scenes: don't refuse a split for pictures that look alike.",
)
@click.option("--overwrite", is_flag=True, help="Replace JSON.")
def split(
    folder: Path,
    out: Path,
    held_out: float,
    seed: int,
    scenes: Path | None,
    allow_leaks: bool,
    overwrite: bool,
) -> None:
    """Choose the pairs to validate on, by whole scenes.

    Writes the names of both parts for `llflow train --split`. Pictures that show the same scene are
    found, and stay together.
    """
    refuse_existing(out, overwrite)

    from llflow import data

    pairs = data.find_pairs(folder)
    clusters = data.read_clusters(scenes) if scenes else data.find_scenes(pairs)
    training, validation = data.hold_out(pairs, clusters, held_out, seed)
    scene_of = dict(zip(pairs, data.scenes_of(pairs, clusters), strict=True))
    counts = [len({scene_of[pair] for pair in part}) for part in (training, validation)]
    if not all(counts):
        raise data.DataError(
            f"too few scenes: of {sum(counts)}, {counts[1]} would be held out and {counts[0]} left"
        )
    if scenes and not allow_leaks:
        data.refuse_leaks(training, validation)
    data.write_split(out, training, validation, clusters, overwrite=overwrite)
    click.echo(
        f"{shown(out)}: {len(training)} training pairs of {counts[0]} scenes, "
        f"{len(validation)} validation pairs of {counts[1]}"
    )
