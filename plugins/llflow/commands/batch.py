"""`llflow batch`: millions of pictures, each of which ends exactly once."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from llflow.commands.options import (
    FROM_ONE,
    Bytes,
    PathText,
    device_of,
    device_option,
    light,
    max_pixels_option,
    output,
    precision_option,
    preset_option,
    report,
    sampling,
    settings_of,
    shown,
    weights_option,
)

if TYPE_CHECKING:
    from tqdm import tqdm

    from llflow.batch.engine import Engine
    from llflow.batch.lead import Lead
    from llflow.batch.place import Place
    from llflow.batch.recipe import Recipe
    from llflow.batch.source import Listing, Source
    from llflow.settings import Settings

MAX_MEMORY = 2_000_000_000  # bytes, whatever the machine has: tiles depend on it
PER_SHARD = 10_000
NAMED = 20  # failures that are printed; the record has all
TEXT = PathText(path_type=str)

EPILOG = """\b
examples:
  llflow batch photos/ bright/
  llflow batch photos/ bright/ --retry-failed
  llflow batch list.jsonl bright/ --format JPEG --quality 90
  llflow batch 'shards/*.tar' bright/ --processes 8
  llflow batch 's3://bucket/train-*.tar' s3://bucket/bright --engine ray
"""


@click.command("batch", epilog=EPILOG)
@click.argument("source", type=TEXT)
@click.argument("out", type=TEXT)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Processes of this machine, or a Ray cluster's.",
)
@click.option(
    "--processes",
    type=FROM_ONE,
    show_default="as processors and memory allow",
    metavar="N",
    help="Workers, each with a picture at a time.",
)
@click.option(
    "--threads",
    type=FROM_ONE,
    default=1,
    show_default=True,
    metavar="N",
    help="Of each worker; more workers are faster than more threads.",
)
@click.option(
    "--ray-address",
    default="auto",
    show_default=True,
    metavar="ADDRESS",
    help="Of the cluster; auto is the one of this machine, local starts one.",
)
@click.option(
    "--as",
    "kind",
    type=click.Choice(["files", "shards"]),
    show_default="shards from shards, else files",
    help="Of the results.",
)
@click.option(
    "--per-shard",
    type=FROM_ONE,
    show_default="10,000, or as in SOURCE",
    metavar="N",
    help="Pictures in each shard of --as shards.",
)
@click.option("--retry-failed", is_flag=True, help="Also do again what has failed before.")
@click.option("--max-failed", type=FROM_ONE, metavar="N", help="Stop when N have failed.")
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
    default=MAX_MEMORY,
    show_default="2G",
    metavar="SIZE",
    help="Of one picture, in each worker; less takes more time.",
)
@output
@click.option("--record", is_flag=True, help="Write the settings into the results' XMP history.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each picture.")
@click.option("--dry-run", is_flag=True, help="Say how much would be done, and stop.")
@click.option("--quiet", is_flag=True, help="Print nothing but what failed.")
def command(
    source: str,
    out: str,
    engine: str,
    processes: int | None,
    threads: int,
    ray_address: str,
    kind: str | None,
    per_shard: int | None,
    retry_failed: bool,
    max_failed: int | None,
    preset: str | None,
    weights: str | None,
    device: str,
    max_pixels: int | None,
    max_memory: int,
    record: bool,
    as_json: bool,
    dry_run: bool,
    quiet: bool,
    **settings: Any,
) -> int:
    """Brighten millions of pictures, each exactly once, however often it is interrupted.

    SOURCE is a folder with what is in it at any depth, a list (.jsonl or .parquet with a column
    source, and key for the result's name), or webdataset shards ('shards/*.tar', quoted); OUT is a
    new folder. Either may be an address that fsspec knows, such as s3://.

    What has become of each picture is in OUT/.batch/record. The same command goes on where the last
    one ended, whatever ended it, and skips what has ended, also what has failed. With other
    settings, weights or sources it refuses to. See docs/batch.md.
    """
    chosen = settings_of(preset, settings)

    from llflow.batch import source as sources
    from llflow.batch.lead import Lead
    from llflow.batch.lock import alone
    from llflow.batch.pins import pin, require_same
    from llflow.batch.place import Place, is_address

    recipe = _recipe(chosen, weights, device, engine, threads, max_pixels, max_memory, record)
    # Workers may be in another folder, on another machine.
    source, out = (path if is_address(path) else os.path.abspath(path) for path in (source, out))
    to_shards = kind == "shards" if kind else source.endswith(".tar")
    sources.require_apart(source, out)
    pictures = sources.source_of(source, chosen.format, to_shards=to_shards)
    if per_shard and (not to_shards or pictures.kind == "shards"):
        raise click.UsageError("--per-shard is for --as shards, from a folder or a list.")
    per_shard = (per_shard or PER_SHARD) if to_shards and pictures.kind != "shards" else None
    place = Place(out)
    listed = sources.listing(pictures)
    pins = {
        "source": source,
        **pictures.pins(),
        **({"list of pictures": listed.sha256} if per_shard else {}),
        "results": f"shards of {per_shard}" if per_shard else "shards" if to_shards else "files",
        **recipe.pins(),
    }
    began = require_same(place, pins)
    if not listed.count:
        other = f", only {listed.others} files of other kinds" if listed.others else ""
        hint = f"; of shards, say '{source}/*.tar'" if pictures.kind == "folder" else ""
        raise click.UsageError(f"{source}: no pictures{other}{hint}.")
    if dry_run:
        left = listed.count
        if began:
            parts = sources.parts(pictures, per_shard)
            left = Lead(parts, place, retry_failed=retry_failed).left()
        return _say(pictures, listed, place, began, left, as_json)
    workers = _engine(engine, recipe, out, processes, ray_address, quiet or as_json)
    with alone(place):
        if not require_same(place, pins):
            pin(place, pins)
        _clear(place)
        lead = Lead(sources.parts(pictures, per_shard), place, retry_failed=retry_failed)
        with workers:
            return _led(lead, workers, pictures, listed, place, max_failed, quiet, as_json)


def _recipe(
    chosen: Settings,
    weights: str | None,
    device: str,
    engine: str,
    threads: int,
    max_pixels: int | None,
    max_memory: int,
    record: bool,
) -> Recipe:
    import torch

    from llflow.batch.recipe import Recipe
    from llflow.network import checkpoint
    from llflow.network.precision import precision_on
    from llflow.picture import files

    if chosen.format:  # what no picture could be written with
        output = {"bits": chosen.bits, "quality": chosen.quality}
        pixel = files.Picture(torch.zeros(3, 1, 1))
        files.require_fits("", pixel, file_format=chosen.format, **output)
    if engine == "local":
        device = device_of(device).type
    elif device == "auto":  # a cluster's machines may have what this one hasn't
        device = "cpu"
    if device == "cuda" and chosen.precision == "auto" and not torch.cuda.is_available():
        raise click.UsageError("--precision auto asks this machine, which has no GPU; name one.")
    precision = precision_on(torch.device(device), chosen.precision)
    weights = weights or checkpoint.DEFAULT
    checkpoint.load(weights)  # refuses what no worker could load
    path = checkpoint.file_of(weights)
    return Recipe(
        chosen.model_copy(update={"precision": precision}),
        weights if weights in checkpoint.shipped() else os.path.abspath(path),
        checkpoint.digest(path),
        device,
        threads,
        max_pixels or files.MAX_PIXELS,
        max_memory,
        record,
    )


def _engine(
    engine: str, recipe: Recipe, out: str, processes: int | None, address: str, hidden: bool
) -> Engine:
    if engine == "ray":
        try:
            from llflow.batch.engines.ray import Ray
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"--engine ray needs pip install 'flowkit[ray]' ({error})"
            ) from error
        return Ray(recipe, out, processes, address)

    from llflow.batch.engines.local import Local
    from llflow.memory import available

    if processes is None:
        # Those that this process may use, where the system tells.
        allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        processors, there = len(allowed(0)) // recipe.threads, available()
        room = processors if there is None else there // recipe.max_memory
        processes = 1 if recipe.device == "cuda" else max(1, min(processors, room))
        if processes < processors and not hidden:
            report(f"{processes} of {processors} processors are used; more take --processes")
    return Local(recipe, out, processes)


def _clear(place: Place) -> None:
    """Take away what workers that are gone have left."""
    from llflow.batch.worker import SCRATCH

    if place.local is not None:
        shutil.rmtree(place.local / SCRATCH, ignore_errors=True)


def _say(
    pictures: Source, listed: Listing, place: Place, began: bool, left: int, as_json: bool
) -> int:
    """What would be done."""
    from llflow.batch.lead import Lead

    name = "shards" if pictures.kind == "shards" else "pictures"
    done, failed = 0, 0
    if began:
        lead = Lead(iter(()), place)
        done, failed = lead.shards() if name == "shards" else lead.counts()
    said = {"kind": pictures.kind, name: listed.count, "done": done, "failed": failed}
    said |= {"to do": left, "other files": listed.others}
    if as_json:
        click.echo(json.dumps(said))
        return 0
    others = f"; {listed.others} files of other kinds are left out" if listed.others else ""
    before = f", {done} done and {failed} failed before" if began else ""
    click.echo(f"{listed.count} {name} in all{before}, {said['to do']} to do{others}")
    return 0


@dataclass
class _Tally:
    """Of this start."""

    done: int = 0
    failed: int = 0


def _led(
    lead: Lead,
    workers: Engine,
    pictures: Source,
    listed: Listing,
    place: Place,
    max_failed: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    from tqdm import tqdm

    hidden, tally, start = quiet or as_json, _Tally(), time.monotonic()
    before = sum(lead.counts())
    total = listed.count - before if pictures.kind != "shards" else None
    with (
        _told_of_ctrl_c(),
        tqdm(total=total, desc="enhancing", unit="picture", disable=hidden, smoothing=0.05) as bar,
    ):
        first = None
        for line in lead.run(workers):
            if first is None:
                first = lead.progress()
                bar.reset(total)  # workers have started: time counts from here
            if line["status"] == "done":
                tally.done += 1
            else:
                tally.failed += 1
                _say_failed(line, tally.failed, bar)
            if as_json:
                click.echo(json.dumps(line))
            if total is None and lead.progress() > first:
                part = (lead.progress() - first) / (listed.count - first)
                bar.total = round((tally.done + tally.failed) / part)
            bar.set_postfix(failed=tally.failed, refresh=False)
            bar.update()
            if max_failed is not None and tally.failed >= max_failed:
                report(f"stopped: {tally.failed} have failed (--max-failed)")
                break
    seconds = time.monotonic() - start
    done, failed = lead.counts()
    if as_json:
        said = {"done": tally.done, "failed": tally.failed, "seconds": round(seconds, 3)}
        click.echo(json.dumps({"summary": said | {"all done": done, "all failed": failed}}))
    elif not quiet:
        rate = (tally.done + tally.failed) / seconds if seconds else 0.0
        others = f"; {listed.others} files of other kinds left out" if listed.others else ""
        click.echo(
            f"{tally.done} enhanced, {tally.failed} failed in {seconds:.0f} s "
            f"({rate:.2f} pictures/s); in all {done} done, {failed} failed{others}\n"
            f"record: {shown(place.address)}/.batch/record"
        )
    if failed and not tally.failed:
        report(f"{failed} failed before (--retry-failed)")
    return 1 if failed else 0


@contextmanager
def _told_of_ctrl_c() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        report("the same command goes on here")
        raise


def _say_failed(line: dict[str, Any], number: int, bar: tqdm) -> None:
    if number <= NAMED:
        with bar.external_write_mode():
            report(f"{line['key']}: {line['reason']}")
    elif number == NAMED + 1:
        with bar.external_write_mode():
            report("more have failed, which the record names")
