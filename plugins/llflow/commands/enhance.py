"""`llflow enhance`: brighten pictures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llflow.commands import films
from llflow.commands.options import (
    PATH,
    STREAM_OR_PATH,
    Bytes,
    device_of,
    device_option,
    light,
    max_pixels_option,
    output,
    precision_option,
    preset_option,
    refuse_existing,
    report,
    sampling,
    settings_of,
    shown,
    weights_option,
)
from llflow.commands.streams import Streams
from llflow.memory import prefer_huge_pages

if TYPE_CHECKING:
    from llflow.jobs import Job, Outcome
    from llflow.picture.files import Picture
    from llflow.settings import Settings

EPILOG = """\b
examples:
  llflow enhance dark.jpg
  llflow enhance dark.jpg -o bright.png
  llflow enhance *.jpg
  llflow enhance *.jpg -o bright/
  llflow enhance photos/ -o bright/ --recursive --skip-existing
  llflow enhance photos/ -o bright/ --recursive --watch
  llflow enhance photos/ -o bright/ --report before_after.html
  llflow enhance dark.jpg --brightness 0.5
  llflow enhance dark.jpg --exposure 0.45 --strength 0.8
  llflow enhance *.tif -o bright/ --depth 16 --suffix _2
  llflow enhance dark.jpg -o mean.png --preset smooth
  cat dark.jpg | llflow enhance - -o - > bright.jpg
  llflow enhance clip.mp4 bright.mp4
"""


@click.command("enhance", epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, type=STREAM_OR_PATH, metavar="IN... [OUT]")
@click.option(
    "-o",
    "--out",
    type=STREAM_OR_PATH,
    show_default="beside the inputs",
    metavar="OUT",
    help="The picture to write, or a folder for the results; - is standard output.",
)
@click.option("--recursive", is_flag=True, help="Take folders within folders too.")
@click.option("--skip-existing", is_flag=True, help="Leave finished results alone.")
@click.option("--overwrite", is_flag=True, help="Replace existing results.")
@preset_option
@light
@sampling
@weights_option
@device_option
@precision_option("auto", "")
@max_pixels_option("120 million")
@click.option(
    "--max-memory",
    type=Bytes(),
    show_default="half of what is free",
    metavar="SIZE",
    help="Of one picture, such as 800M or 2G; less takes more time.",
)
@click.option(
    "--suffix",
    show_default="_bright beside the inputs",
    metavar="TEXT",
    help="Add this to the results' names.",
)
@output
@click.option("--record", is_flag=True, help="Write the settings into the results' XMP history.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each picture.")
@click.option("--dry-run", is_flag=True, help="Say what would be written where, and stop.")
@click.option("--quiet", is_flag=True, help="Print nothing but what failed.")
@click.option(
    "--report",
    "page",
    type=PATH,
    metavar="HTML",
    help="Write a page with a slider between before and after for each picture.",
)
@click.option(
    "--watch", is_flag=True, help="Go on with what comes into the folder IN, until Ctrl-C."
)
def command(
    paths: tuple[Path, ...],
    out: Path | None,
    recursive: bool,
    skip_existing: bool,
    overwrite: bool,
    preset: str | None,
    weights: str | None,
    device: str,
    max_pixels: int | None,
    max_memory: int | None,
    suffix: str | None,
    record: bool,
    as_json: bool,
    dry_run: bool,
    quiet: bool,
    page: Path | None,
    watch: bool,
    **settings: Any,
) -> int:
    """Brighten a picture, several, or a folder of them.

    PNG, JPEG, WebP, BMP, TIFF and AVIF are recognised by content, HEIC, JPEG XL and cameras' raw
    files where their packages are installed. Without OUT, results lie beside the inputs with
    "_bright" in their names. The last of several paths is OUT if it is a folder or doesn't exist; a
    file that exists is always an input. --overwrite replaces files in OUT only if --out names it,
    and with --suffix none beside the inputs. Depth, color profile and metadata stay the input's.
    With - a picture comes by standard input, or goes out by standard output. With --watch a picture
    is done when its result exists, and begun when nothing writes to it any more.

    A film (MP4, MOV, MKV, WebM and others) is read and written where PyAV is installed; its sound
    and metadata are kept, see docs/film.md.
    """
    if skip_existing and overwrite:
        raise click.UsageError("--skip-existing and --overwrite exclude each other.")
    if watch and (overwrite or dry_run or page):
        raise click.UsageError("--watch goes with none of --overwrite, --dry-run, --report.")
    if dry_run and page:
        raise click.UsageError("--dry-run and --report exclude each other.")
    chosen = settings_of(preset, settings)
    prefer_huge_pages()

    from tqdm import tqdm

    from llflow import jobs
    from llflow.film.naming import is_film
    from llflow.picture import files
    from llflow.watch import require_apart

    inputs = [*paths]
    if out is None:
        inputs, out = jobs.inputs_and_out(paths)
        if overwrite and out is not None and out.exists():
            raise click.UsageError(
                f"--overwrite replaces what is in {out} only if --out says so: --out {out}"
            )
    if overwrite and out is None and suffix not in (None, jobs.SUFFIX):
        raise click.UsageError(
            f"--overwrite with --suffix {suffix} replaces nothing beside the inputs, where other "
            "pictures may have such names; --out has to say where it may."
        )
    if chosen.format and out is not None and files.format_of(out) not in (None, chosen.format):
        raise click.UsageError(f"--format {chosen.format} and the name {out} exclude each other.")
    if any(is_film(path) for path in inputs):
        films.refuse(inputs, chosen, recursive=recursive, watch=watch, record=record, report=page)
        planned = films.planned(inputs, out, suffix)
        if dry_run:
            return _say(planned, overwrite, as_json)
        hidden, outcomes = quiet or as_json, []
        do, sha256 = films.enhancing(chosen, weights, device, max_pixels, max_memory, hidden)
        for outcome in films.run(planned, do, overwrite=overwrite, skip_existing=skip_existing):
            outcomes.append(outcome)
            if as_json:
                click.echo(json.dumps(_record(outcome, chosen, sha256)))
        return _sum_up(outcomes, hidden, writes=False)
    streams = Streams(inputs, out)
    if streams.used and (dry_run or (streams.writes and as_json)):
        raise click.UsageError("'-' goes with neither --dry-run nor, as OUT, --json.")
    if streams.used and (suffix or page):
        raise click.UsageError("'-' goes with neither --suffix nor --report.")
    plan = partial(
        jobs.plan, inputs, out, recursive=recursive, suffix=suffix, file_format=chosen.format
    )
    run = partial(
        jobs.run,
        max_pixels=max_pixels or files.MAX_PIXELS,
        max_memory=max_memory,
        bits=chosen.bits,
        quality=chosen.quality,
    )
    if watch:
        if streams.used or len(inputs) > 1:
            raise click.UsageError("--watch is for one folder.")
        require_apart(inputs[0], out)
        brighten, sha256 = _brightening(chosen, weights, device, record, max_memory)
        for outcome in _watched(partial(plan, more_to_come=True), run, brighten):
            _say_watched(outcome, quiet, _record(outcome, chosen, sha256) if as_json else None)
    with streams:
        if streams.used:
            planned = streams.plan(files.SUFFIXES[chosen.format][0] if chosen.format else "")
        else:
            planned = plan()
        if dry_run:
            return _say(planned, overwrite, as_json)
        if page is not None:
            _require_page(page, planned, overwrite)
        hidden = quiet or as_json
        outcomes = []
        with tqdm(total=len(planned), desc="enhancing", unit="picture", disable=hidden) as bar:

            def progress(share: float) -> None:
                bar.n = round(len(outcomes) + share, 2) if share < 1 else bar.n
                bar.refresh()

            brighten, sha256 = _brightening(chosen, weights, device, record, max_memory, progress)
            for outcome in run(planned, brighten, overwrite=overwrite, skip_existing=skip_existing):
                outcomes.append(streams.named(outcome))
                bar.n = len(outcomes)
                bar.refresh()
                if as_json:
                    click.echo(json.dumps(_record(outcomes[-1], chosen, sha256)))
    code = _sum_up(outcomes, hidden, streams.writes)
    if page is not None:
        from llflow.pages import report as pages

        there = [o.job for o in outcomes if o.status in ("done", "skipped")]
        pairs = ((job.source, job.target) for job in there)
        for problem in pages.write(
            page, pairs, max_pixels or files.MAX_PIXELS, overwrite=overwrite
        ):
            report(problem)
            code = 1
    return code


def _require_page(page: Path, planned: list[Job], overwrite: bool) -> None:
    """Find out before the work that its page can't be written, or would replace a picture."""
    from llflow.atomic import require_writable
    from llflow.jobs import identity

    taken = {identity(path) for job in planned for path in (job.source, job.target)}
    if identity(page) in taken:
        raise click.UsageError(f"--report {page}: is a picture or its result.")
    refuse_existing(page, overwrite)
    require_writable(page.parent)


def _watched(
    plan: Callable[[], list[Job]],
    run: Callable[..., Iterator[Outcome]],
    brighten: Callable[[Picture], Picture],
) -> Iterator[Outcome]:
    from llflow.watch import watch

    def do(job: Job, safely: Callable) -> Outcome:
        (outcome,) = run([job], safely(brighten))
        return outcome

    return watch(plan, do)


def _say_watched(outcome: Outcome, quiet: bool, as_json: dict[str, Any] | None) -> None:
    if as_json is not None:
        click.echo(json.dumps(as_json))
    elif outcome.status == "done" and not quiet:
        click.echo(shown(f"{outcome.job.source} -> {outcome.job.target}"))
        for what in outcome.lost:
            report(f"{outcome.job.source}: warning: {what}")
    sys.stdout.flush()  # else whoever reads along hears of it late
    if outcome.problem is not None:
        report(f"{outcome.job.source}: {outcome.problem}")


def _say(planned: list[Job], overwrite: bool, as_json: bool) -> int:
    """What would be done."""
    for job in planned:
        known = None if overwrite or not os.path.lexists(job.target) else "exists"
        said = {"source": str(job.source), "target": str(job.target)}
        said |= {"status": "planned", "reason": job.problem or known}
        why = f" ({said['reason']})" if said["reason"] else ""
        text = shown(f"{job.source} -> {job.target}{why}")
        click.echo(json.dumps(said) if as_json else text)
    return 0


def _brightening(
    chosen: Settings,
    weights: str | None,
    device: str,
    record: bool,
    max_memory: int | None,
    progress: Callable[[float], object] | None = None,
) -> tuple[Callable[[Picture], Picture], str]:
    """What is done to each picture, and the digest of the weights that do it."""
    from llflow import enhancement
    from llflow.network import checkpoint
    from llflow.picture import history

    weights = weights or checkpoint.DEFAULT
    model = checkpoint.load(weights).to(device_of(device)).fold()
    sha256 = checkpoint.digest(checkpoint.file_of(weights))
    agent = f"llflow {version('flowkit')}"
    parameters = json.dumps(chosen.record() | {"weights": sha256})

    def brighten(picture: Picture) -> Picture:
        bright = enhancement.brighten(
            model, picture, **chosen.arguments(), max_memory=max_memory, progress=progress
        )
        if not record:
            return bright
        about, lost = history.recorded(bright.about, agent, parameters)
        return replace(bright, about=about, lost=bright.lost + lost)

    return brighten, sha256


def _sum_up(outcomes: list[Outcome], hidden: bool, writes: bool) -> int:
    """Say how it went, on standard output unless that has a picture."""
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    skipped = sum(outcome.skipped for outcome in outcomes)
    done = [outcome for outcome in outcomes if outcome.status == "done"]
    where = f" -> {shown(done[0].job.target)}" if len(done) == 1 else ""
    left = f", {skipped} skipped" if skipped else ""
    others = sum(outcome.other for outcome in outcomes)
    left += f", {others} of other kinds left out" if others else ""
    if not hidden and not writes:
        click.echo(f"{len(done)} enhanced{left}, {len(failed)} failed{where}")
    for outcome in outcomes if not hidden else ():
        for what in outcome.lost:
            report(f"{outcome.job.source}: warning: {what}")
    for outcome in failed:
        report(f"{outcome.job.source}: {outcome.problem}")
    return 1 if failed else 0


def _record(outcome: Outcome, chosen: Settings, sha256: str) -> dict[str, Any]:
    """What became of one picture, as JSON can hold it."""
    return {
        "source": str(outcome.job.source),
        "target": str(outcome.job.target),
        "status": outcome.status,
        "reason": outcome.problem,
        "lost": list(outcome.lost),
        "seconds": round(outcome.seconds, 3),
        "settings": chosen.record(),
        "weights": sha256,
    }
