"""What `llflow evaluate` and `llflow compare` share: which figures, and where they go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llflow.commands.options import (
    PATH,
    device_of,
    device_option,
    read_split,
    refuse_existing,
    report,
    shown,
    together,
)

if TYPE_CHECKING:
    from llflow.data import PairFiles
    from llflow.evaluation.evaluate import Scene
    from llflow.evaluation.perceptual import Perceptual


NETS = ("alex", "vgg", "squeeze")  # a test holds them to perceptual.NETS, which needs PyTorch


class Trunk(click.ParamType):
    """NET=FILE."""

    name = "trunk"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path]:
        net, _, file = value.partition("=")
        if net not in NETS or not file:
            nets = ", ".join(NETS)
            self.fail(f"expected NET=FILE with NET among {nets}, got {value!r}", param, ctx)
        return net, Path(file)


figures = together(
    click.option(
        "--split",
        metavar="SPLIT",
        help="Score the pictures that were held out only: a run's split.json, or the name of "
        "shipped weights for theirs.",
    ),
    click.option(
        "--scenes",
        type=PATH,
        metavar="JSON",
        help="Pictures of one scene, for honest intervals: "
        '{"clusters": [["1", "2"], ...]} as for llflow train.',
    ),
    device_option,
    click.option(
        "--lpips",
        multiple=True,
        type=click.Choice(NETS),
        show_default="alex",
        help="LPIPS by this network, once for each; needs pip install 'flowkit[metrics]'.",
    ),
    click.option("--no-lpips", is_flag=True, help="No LPIPS."),
    click.option(
        "--lpips-trunk",
        multiple=True,
        type=Trunk(),
        metavar="NET=FILE",
        help="A network's weights in torchvision's layout, .pth or .safetensors, in place of a "
        "download.",
    ),
    click.option("--csv", type=PATH, metavar="FILE", help="Write every picture's figures."),
    click.option(
        "--json", type=PATH, metavar="FILE", help="Write every figure and how it came about."
    ),
    click.option("--overwrite", is_flag=True, help="Replace these files."),
)


@dataclass(frozen=True)
class Figures:
    """What the options of `figures` ask for, checked as far as no file has to be read."""

    split: str | None
    scenes: Path | None
    device: str
    lpips: tuple[str, ...]
    no_lpips: bool
    lpips_trunk: tuple[tuple[str, Path], ...]
    csv: Path | None
    json: Path | None
    overwrite: bool

    def __post_init__(self) -> None:
        if self.no_lpips and self.lpips:
            raise click.UsageError("--lpips and --no-lpips exclude each other.")
        for net, _ in self.lpips_trunk:
            if net not in self.nets:
                raise click.UsageError(f"--lpips-trunk {net}=...: --lpips doesn't name {net}.")

    @property
    def nets(self) -> tuple[str, ...]:
        return () if self.no_lpips else tuple(dict.fromkeys(self.lpips)) or ("alex",)

    def names(self) -> list[str] | None:
        """The pictures that the split held out; None for all."""
        from llflow.data import DataError

        if self.split is None:
            return None
        names = read_split(self.split)["validation"]
        if not names:
            raise DataError(f"{self.split}: holds out no pictures")
        return names

    def score(
        self,
        what: str,
        files: Sequence[PairFiles],
        make: Callable[[], tuple[Iterable[Scene], Mapping[str, Any]]],
        saved: Sequence[Path] = (),
    ) -> None:
        """Score pictures, print the table, and write what was asked for.

        Args:
            what: is scored, in words.
            files: of it; nothing that is written may replace one.
            make: the pictures and, for --json, how they came about; called once all that can be
                checked without them is right.
            saved: files that making them writes.
        """
        from tqdm import tqdm

        from llflow import data
        from llflow.evaluation import evaluate
        from llflow.evaluation import report as tables
        from llflow.evaluation.conventions import conventions

        where = device_of(self.device)
        scenes = data.scenes_of(files, data.read_clusters(self.scenes))
        self._prepare(files, saved)
        pictures, settings = make()
        perceptual, skipped = self._perceptual()
        evaluate.check(files)

        bar = tqdm(pictures, total=len(files), desc="evaluating", unit="picture", leave=False)
        scores = evaluate.score(bar, conventions(perceptual))
        of = f" held out by {self.split}" if self.split else ""
        click.echo(f"{len(files)} pictures of {shown(what)}{shown(of)}\n")
        click.echo(tables.table(scores, scenes))
        click.echo(f"\n[{tables.interval_in_words(scenes)}]")
        if self.csv:
            tables.write_csv(self.csv, scores, overwrite=self.overwrite)
        if self.json:
            trunks = {n: {"trunk": p.trunk.name, "sha256": p.sha256} for n, p in perceptual.items()}
            given = {"split": self.split, "scenes": self.scenes}
            record = {
                **_made_by(*(("lpips", "torchvision") if perceptual else ())),
                **{name: str(value) for name, value in given.items() if value is not None},
                **settings,
                "device": str(where),
                "lpips": trunks | {net: {"skipped": reason} for net, reason in skipped.items()},
            }
            tables.write_json(self.json, scores, scenes, record, overwrite=self.overwrite)

    def _prepare(self, files: Sequence[PairFiles], saved: Sequence[Path]) -> None:
        """Make the folders, and find out before the work what can't be written after it."""
        from llflow.atomic import require_writable
        from llflow.jobs import identity

        targets = [*filter(None, (self.csv, self.json)), *saved]
        if len({os.path.realpath(target) for target in targets}) < len(targets):
            raise click.UsageError("Two of --csv, --json and --save would write one file.")
        sources = {identity(path) for pair in files for path in (pair.dark, pair.bright)}
        for target in targets:
            if identity(target) in sources:
                raise click.UsageError(f"{target}: would replace a picture that is scored.")
            refuse_existing(target, self.overwrite)
        scored = {os.path.realpath(p.parent) for pair in files for p in (pair.dark, pair.bright)}
        for target in saved:
            if not scored.isdisjoint(map(str, Path(os.path.realpath(target)).parents)):
                raise click.UsageError(f"{target}: would be among the pictures that are scored.")
        for folder in {target.parent for target in targets}:
            require_writable(folder)

    def _perceptual(self) -> tuple[dict[str, Perceptual], dict[str, str]]:
        """LPIPS by network, and why there is none for the others."""
        from llflow.evaluation.perceptual import Perceptual, Unavailable

        trunks = dict(self.lpips_trunk)
        perceptual, skipped = {}, {}
        for net in self.nets:
            try:
                perceptual[net] = Perceptual(net, trunks.get(net), device_of(self.device))
            except Unavailable as error:
                skipped[net] = str(error)
                report(f"LPIPS ({net}) skipped: {error}")
        return perceptual, skipped


def _made_by(*extra: str) -> dict[str, Any]:
    from datetime import UTC, datetime
    from importlib.metadata import version

    packages = ("flowkit", "torch", "numpy", "pillow", "kornia", "scipy", *extra)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {package: version(package) for package in packages},
    }
