"""`llflow enhance`: brighten pictures."""

from __future__ import annotations

import argparse

from llflow.commands.arguments import (
    add_device,
    add_sampling,
    at_least,
    device_of,
    fail,
    path,
    shown,
    temperature_of,
)


def add(commands) -> None:
    parser = commands.add_parser(
        "enhance",
        usage="llflow enhance [options] IN [IN ...] [OUT]",
        help="brighten a picture, several, or a folder",
        description="Brighten a picture, several, or a folder of them. PNG, JPEG, WebP, BMP, TIFF "
        "and AVIF are recognised by content. Without OUT, results lie beside the inputs with "
        "'_bright' in their names.",
        epilog="examples:\n  llflow enhance dark.jpg\n  llflow enhance dark.jpg bright.png\n"
        "  llflow enhance a.jpg b.png out/\n  llflow enhance photos/ out/ --recursive\n"
        "  llflow enhance dark.jpg mean.png --samples 8 --temperature 0.7\n",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=path,
        metavar="PATH",
        help="pictures or folders to read; of two or more paths the last is OUT, the picture to "
        "write, or a folder for several results",
    )
    parser.add_argument("--recursive", action="store_true", help="take folders within folders too")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--skip-existing", action="store_true", help="leave finished results alone"
    )
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    add_sampling(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")
    parser.add_argument(
        "--weights",
        metavar="W",
        help="shipped weights by name, or a .safetensors file (default tiny)",
    )
    add_device(parser)
    parser.add_argument(
        "--max-pixels",
        type=at_least(1),
        metavar="N",
        help="refuse larger pictures (default 50 million)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from llflow import jobs
    from llflow.enhancement import enhance
    from llflow.network import checkpoint
    from llflow.picture import files as picture_files

    inputs, out = args.paths, None
    if len(inputs) > 1:
        *inputs, out = inputs
    temperature = temperature_of(args)
    jobs = jobs.plan(inputs, out, recursive=args.recursive)
    model = checkpoint.load(args.weights or checkpoint.DEFAULT).to(device_of(args.device)).fold()

    def brighten(picture: picture_files.Picture) -> picture_files.Picture:
        bright = enhance(
            model,
            picture.image,
            temperature=temperature,
            samples=args.samples,
            seed=args.seed,
        )
        return picture.with_image(bright)

    outcomes = jobs.run(
        jobs,
        brighten,
        overwrite=args.overwrite,
        skip_existing=args.skip_existing,
        max_pixels=args.max_pixels or picture_files.MAX_PIXELS,
    )
    done, skipped, failed = [], 0, []
    for outcome in tqdm(outcomes, total=len(jobs), desc="enhancing", unit="picture"):
        if outcome.problem is not None:
            failed.append(outcome)
        elif outcome.skipped:
            skipped += 1
        else:
            done.append(outcome)
    where = f" -> {shown(done[0].job.target)}" if len(done) == 1 else ""
    left = f", {skipped} skipped" if skipped else ""
    print(f"{len(done)} enhanced{left}, {len(failed)} failed{where}")
    for outcome in failed:
        fail(args, f"{outcome.job.source}: {outcome.problem}")
    return 1 if failed else 0
