"""`llflow evaluate`: score weights, or anybody's pictures, against references."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llflow.commands.arguments import (
    Parser,
    UsageError,
    add_device,
    add_sampling,
    device_of,
    path,
    read_split,
    shown,
    temperature_of,
)
from llflow.evaluation.perceptual import NETS

EXAMPLES = """\
examples:
  llflow evaluate --data LOL/our485 --split tiny
  llflow evaluate --data LOL/eval15 --weights mine.safetensors --json eval.json
  llflow evaluate --outputs results/ --reference LOL/eval15/high --csv each.csv
"""


def add(commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        usage="llflow evaluate (--data DIR | --outputs DIR --reference DIR) [options]",
        help="score weights, or any pictures, against references",
        description="Score pictures against references in every convention that published tables "
        "use: PSNR, SSIM and LPIPS, raw and rescaled to the reference's brightness (GT-mean). "
        "Either of weights, on pairs in low/ and high/, beside the dark input itself and its "
        "histogram equalisation; or of pictures that anything made. docs/evaluation.md and the "
        "file of --json define every figure.",
        epilog=EXAMPLES,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=path, metavar="DIR", help="pairs to score weights on")
    what.add_argument("--outputs", type=path, metavar="DIR", help="finished pictures to score")
    parser.add_argument(
        "--reference",
        type=path,
        metavar="DIR",
        help="what --outputs should look like, by equal file names (suffixes may differ)",
    )
    parser.add_argument("--weights", nargs="+", metavar="W", help="(default tiny)")
    parser.add_argument(
        "--split",
        metavar="SPLIT",
        help="score the pairs that were held out only: a run's split.json, or the name of shipped "
        "weights for theirs",
    )
    parser.add_argument(
        "--scenes",
        type=path,
        metavar="JSON",
        help="pictures of one scene, for honest intervals: "
        '{"clusters": [["1", "2"], ...]} as for llflow train',
    )
    add_sampling(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")
    add_device(parser)
    _add_lpips(parser)
    parser.add_argument("--csv", type=path, metavar="FILE", help="write every picture's figures")
    parser.add_argument(
        "--json", type=path, metavar="FILE", help="write every figure and how it came about"
    )
    parser.add_argument(
        "--save", type=path, metavar="DIR", help="write the weights' pictures to DIR/WEIGHTS/"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace these files")
    parser.set_defaults(run=run)


def _add_lpips(parser: Parser) -> None:
    parser.add_argument(
        "--lpips",
        nargs="*",
        choices=NETS,
        default=["alex"],
        metavar="NET",
        help=f"LPIPS by these networks, {', '.join(NETS)}, or by none (default alex); needs "
        "pip install 'flowkit[metrics]'",
    )
    parser.add_argument(
        "--lpips-trunk",
        action="append",
        default=[],
        type=_trunk,
        metavar="NET=FILE",
        help="a network's weights in torchvision's layout, .pth or .safetensors, in place of a "
        "download",
    )


def _trunk(text: str) -> tuple[str, Path]:
    net, _, file = text.partition("=")
    if net not in NETS or not file:
        raise argparse.ArgumentTypeError(
            f"expected NET=FILE with NET among {', '.join(NETS)}, got {text!r}"
        )
    return net, Path(file)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from llflow import data
    from llflow.data.scenes import scenes_of
    from llflow.evaluation import evaluate, report
    from llflow.evaluation.conventions import conventions
    from llflow.network import checkpoint

    _refuse_what_does_not_go_together(args)
    temperature = temperature_of(args)
    device = device_of(args.device)
    files = _files(args)
    scenes = scenes_of(files, data.read_clusters(args.scenes))
    weights = [] if args.outputs else args.weights or [checkpoint.DEFAULT]
    folders = {shown(w): args.save / _folder(w) for w in weights} if args.save else {}
    _prepare_targets(args, [f / f"{pair.name}.png" for f in folders.values() for pair in files])
    models = {shown(w): checkpoint.load(w).to(device) for w in weights}
    perceptual, skipped = _perceptual(args, device)
    evaluate.check(files)

    if args.outputs:
        pictures = evaluate.made(files, shown(args.outputs))
    else:
        pictures = evaluate.enhanced(
            models, files, temperature=temperature, samples=args.samples, seed=args.seed
        )
    bar = tqdm(pictures, total=len(files), desc="evaluating", unit="picture", leave=False)
    scores = evaluate.score(_saved(bar, folders), conventions(perceptual))

    of = f" held out by {args.split}" if args.split else ""
    print(f"{len(files)} pictures of {shown(args.data or args.outputs)}{shown(of)}\n")
    print(report.table(scores, scenes))
    print(f"\n[{report.interval_in_words(scenes)}]")
    if args.csv:
        report.write_csv(args.csv, scores)
    if args.json:
        lpips = {net: {"trunk": p.trunk.name, "sha256": p.sha256} for net, p in perceptual.items()}
        settings = {
            **_settings(args, lpips),
            "weights": {shown(w): _weights(w) for w in weights},
            "temperature": temperature if weights else None,
            "samples": args.samples if weights else None,
            "seed": args.seed if weights else None,
            "device": str(device),
            "lpips": lpips | {net: {"skipped": reason} for net, reason in skipped.items()},
        }
        report.write_json(args.json, scores, scenes, settings)
    return 0


def _refuse_what_does_not_go_together(args: argparse.Namespace) -> None:
    if args.outputs:
        if args.reference is None:
            raise UsageError("--outputs needs --reference")
        if args.weights or args.save or args.samples > 1 or args.temperature is not None:
            raise UsageError("--weights, --save, --samples and --temperature go with --data")
    elif args.reference is not None:
        raise UsageError("--reference goes with --outputs; --data has the references in high/")
    for name in args.weights or []:
        if args.weights.count(name) > 1:
            raise UsageError(f"--weights names {name} twice")
    for net, _ in args.lpips_trunk:
        if net not in args.lpips:
            raise UsageError(f"--lpips-trunk {net}=...: --lpips doesn't name {net}")


def _files(args: argparse.Namespace) -> list:
    from llflow import data
    from llflow.evaluation.evaluate import pair_outputs

    names = read_split(args.split)["validation"] if args.split else None
    if names == []:
        raise data.DataError(f"{args.split}: holds out no pictures")
    if args.outputs:
        return pair_outputs(args.outputs, args.reference, names)
    pairs = data.find_pairs(args.data)
    return pairs if names is None else data.named(pairs, names)


def _folder(weights: str) -> str:
    """A folder's name for weights, `runs_mine_best` for runs/mine/best.safetensors."""
    file = Path(weights)
    if file.suffix == ".safetensors":
        file = file.with_suffix("")
    return "_".join(part for part in file.parts if part not in (file.anchor, ".."))


def _prepare_targets(args: argparse.Namespace, pictures: Sequence[Path]) -> None:
    """Make the folders, and find out before the work what can't be written after it."""
    targets = [*filter(None, (args.csv, args.json)), *pictures]
    if len(set(targets)) < len(targets):
        raise UsageError("two of --csv, --json and --save would write one file")
    for target in targets:
        if target.is_dir():
            raise ValueError(f"{target}: is a folder, expected a file to write")
        if target.exists() and not args.overwrite:
            raise ValueError(f"{target} exists (--overwrite replaces it)")
        target.parent.mkdir(parents=True, exist_ok=True)


def _perceptual(args: argparse.Namespace, device) -> tuple[dict[str, Any], dict[str, str]]:
    """LPIPS by network, and why there is none for the others."""
    from llflow.evaluation.perceptual import Perceptual, Unavailable

    trunks = dict(args.lpips_trunk)
    perceptual, skipped = {}, {}
    for net in dict.fromkeys(args.lpips):
        try:
            perceptual[net] = Perceptual(net, trunks.get(net), device)
        except Unavailable as error:
            skipped[net] = str(error)
            print(f"LPIPS ({net}) skipped: {shown(error)}", file=sys.stderr)
    return perceptual, skipped


def _saved(scenes: Iterable, folders: dict[str, Path]) -> Iterator:
    """The scenes, once their pictures are in the folders of their methods."""
    from llflow.picture import files as picture_files

    for scene in scenes:
        for method, folder in folders.items():
            picture = picture_files.Picture(scene.pictures[method])
            picture_files.write(folder / f"{scene.name}.png", picture)
        yield scene


def _weights(name: str) -> dict[str, str]:
    import hashlib

    from llflow.network import checkpoint

    shipped = name in checkpoint.shipped()
    file = checkpoint.DEFAULTS / f"{name}.safetensors" if shipped else Path(name)
    return {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _settings(args: argparse.Namespace, lpips: dict) -> dict[str, Any]:
    from datetime import UTC, datetime
    from importlib.metadata import version

    packages = ["flowkit", "torch", "numpy", "pillow"]
    packages += ["lpips", "torchvision"] if lpips else []
    named = ("data", "outputs", "reference", "split", "scenes")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {package: version(package) for package in packages},
        **{name: str(value) for name in named if (value := getattr(args, name)) is not None},
    }
