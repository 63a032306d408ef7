"""`llflow data`: check pairs before training, and cut them by scene."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from llflow.commands.arguments import Parser, at_least, fail, path, read_split, shown

if TYPE_CHECKING:
    from llflow.data import Found, Report


def add(commands) -> None:
    parser = commands.add_parser(
        "data",
        help="check pairs for training, or split them by scene",
        description="Check a folder of pairs before training on it, or split it by scene. Pairs "
        "lie in low/ and high/, Low/ and Normal/, input/ and target/, dark/ and bright/, ... in "
        "or below the folder.",
        epilog="examples:\n  llflow data check MYPAIRS\n"
        "  llflow data check LOL/our485 --against LOL/eval15\n"
        "  llflow data split MYPAIRS --out split.json\n",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_check(actions)
    _add_split(actions)


def _add_check(actions) -> None:
    parser = actions.add_parser(
        "check",
        help="read every picture and list what is wrong",
        description="Read every picture and list what is wrong: files without a partner, "
        "unreadable or too small ones, pairs of two sizes, dark pictures that are brighter, and "
        "scenes on both sides of a split. Exit code 1 if there is anything.",
        epilog="examples:\n  llflow data check MYPAIRS\n"
        "  llflow data check MYPAIRS --split runs/mine/split.json\n"
        "  llflow data check LOL/our485 --against LOL/eval15\n",
    )
    _add_folder(parser)
    parser.add_argument(
        "--against", type=path, metavar="DIR2", help="other pairs, whose scenes mustn't be in DIR"
    )
    parser.add_argument(
        "--split",
        metavar="SPLIT",
        help="a split of DIR to look for leaks in: its file, or the name of shipped weights",
    )
    parser.add_argument(
        "--crop",
        type=at_least(1),
        default=160,
        metavar="N",
        help="side of a training crop in pixels, which pictures have to hold (default 160)",
    )
    parser.set_defaults(run=run_check, command="data check")


def _add_split(actions) -> None:
    parser = actions.add_parser(
        "split",
        help="choose the pairs to validate on, by whole scenes",
        description="Hold out some scenes for validation and write both parts' names for "
        "`llflow train --split`. Pictures that show the same scene are found, and stay together.",
        epilog="example:\n  llflow data split MYPAIRS --out split.json --held-out 0.2\n",
    )
    _add_folder(parser)
    parser.add_argument("--out", type=path, required=True, metavar="JSON")
    parser.add_argument(
        "--held-out",
        type=_share,
        default=0.1,
        metavar="SHARE",
        help="of the scenes, between 0 and 1 (default 0.1)",
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="which scenes (default 0)"
    )
    parser.add_argument(
        "--scenes",
        type=path,
        metavar="JSON",
        help='take the scenes from here: {"clusters": [["1", "2"], ...]}; a name in none is alone',
    )
    parser.add_argument(
        "--allow-leaks",
        action="store_true",
        help="with --scenes: don't refuse a split for pictures that look alike",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace JSON")
    parser.set_defaults(run=run_split, command="data split")


def _add_folder(parser: Parser) -> None:
    parser.add_argument("folder", type=path, metavar="DIR", help="the pairs' folder")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value


def run_check(args: argparse.Namespace) -> int:
    from llflow import data

    found = data.look(args.folder)
    against = data.look(args.against) if args.against else None
    split = read_split(args.split) if args.split else None
    report = data.check(found, args.crop)
    problems = report.problems
    _print_report(found, report)
    if split:
        problems += _problems_of_split(split, found, report)
    if against:
        print(f"against: {len(against.pairs)} pairs, {_folders(against)}")
        other = data.check(against, crop=1)
        problems += other.problems
        problems += [
            f"{args.against} {seen} shows the same scene as {args.folder} {trained}"
            for seen, trained in data.leaks(report.thumbnails, other.thumbnails)
        ]
    print(f"problems: {len(problems) or 'none'}")
    for problem in problems:
        fail(args, problem)
    return 1 if problems else 0


def _problems_of_split(split: dict[str, list[str]], found: Found, report: Report) -> list[str]:
    from llflow import data

    ours, theirs = {pair.name for pair in found.pairs}, {*split["training"], *split["validation"]}
    print(
        f"split: {len(split['training'])} training, {len(split['validation'])} validation, "
        f"{len(ours - theirs)} pairs in neither"
    )
    training, validation = (
        {name: report.thumbnails[name] for name in names if name in report.thumbnails}
        for names in (split["training"], split["validation"])
    )
    return [f"{name} of the split isn't in the data" for name in sorted(theirs - ours)] + [
        f"validation {seen} shows the same scene as training {trained}"
        for seen, trained in data.leaks(training, validation)
    ]


def _print_report(found: Found, report: Report) -> None:
    from llflow import data

    print(f"pairs: {len(found.pairs)}, {_folders(found)}, by {found.how}")
    sizes = [f"{w}×{h} ({count})" for (w, h), count in report.sizes.most_common()]
    print(f"sizes: {', '.join(sizes[:5])}{f' and {len(sizes) - 5} others' if sizes[5:] else ''}")
    scenes = data.groups(report.thumbnails)
    several = sorted((scene for scene in scenes if len(scene) > 1), key=len, reverse=True)
    shared = f", {len(several)} of them of several pairs" if several else ""
    largest = f", the largest {shown(', '.join(several[0][:8]))}" if several else ""
    print(f"scenes: {len(scenes)}{shared}{largest}")
    if report.brighter * 2 > len(found.pairs):
        print(f"{_folders(found)}: most dark pictures are brighter; are the folders swapped?")


def _folders(found: Found) -> str:
    return shown(f"{found.dark} and {found.bright.name}/")


def run_split(args: argparse.Namespace) -> int:
    from llflow import data

    if args.out.exists() and not args.overwrite:
        raise ValueError(f"{args.out} exists (--overwrite replaces it)")
    pairs = data.find_pairs(args.folder)
    clusters = data.read_clusters(args.scenes) if args.scenes else data.find_scenes(pairs)
    training, validation = data.hold_out(pairs, clusters, args.held_out, args.seed)
    scene_of = dict(zip(pairs, data.scenes_of(pairs, clusters), strict=True))
    scenes = [len({scene_of[pair] for pair in part}) for part in (training, validation)]
    if not all(scenes):
        raise data.DataError(
            f"too few scenes: of {sum(scenes)}, {scenes[1]} would be held out and {scenes[0]} left"
        )
    if args.scenes and not args.allow_leaks:
        data.refuse_leaks(training, validation)
    data.write_split(args.out, training, validation, clusters)
    print(
        f"{shown(args.out)}: {len(training)} training pairs of {scenes[0]} scenes, "
        f"{len(validation)} validation pairs of {scenes[1]}"
    )
    return 0
