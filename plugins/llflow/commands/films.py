"""`llflow enhance` of films: what is refused, and a bar with the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llflow.commands.options import device_of

if TYPE_CHECKING:
    from llflow.jobs import Job, Outcome
    from llflow.settings import Settings

Do = Callable[[Path, Path, bool], list[str]]

# With one latent for all frames nothing is drawn, and the source decides how the result is stored.
ONLY_OF_PICTURES = ("samples", "temperature", "seed", "format", "depth", "quality")


def refuse(inputs: Sequence[Path], chosen: Settings, **flags: object) -> None:
    """Raises:
    click.UsageError: there are pictures among the films, or a setting or flag that films don't
        have.
    """
    from llflow.film.naming import is_film
    from llflow.settings import Settings

    others = [path for path in inputs if not is_film(path)]
    if others:
        raise click.UsageError(f"films and pictures in one call: {others[0]} is no film.")
    usual = Settings()
    wrong = [name for name, value in flags.items() if value]
    wrong += [n for n in ONLY_OF_PICTURES if (getattr(chosen, n) or 0) != (getattr(usual, n) or 0)]
    if wrong:
        raise click.UsageError(f"films have no {', '.join(f'--{name}' for name in wrong)}.")


def planned(films: Sequence[Path], out: Path | None, suffix: str | None) -> list[Job]:
    from llflow.film import naming

    naming.require_package()
    return naming.planned(films, out, suffix)


def run(jobs: list[Job], do: Do, **how: Any) -> Iterator[Outcome]:
    from llflow.film import work

    return work.run(jobs, do, **how)


def enhancing(
    chosen: Settings,
    weights: str | None,
    device: str,
    max_pixels: int | None,
    max_memory: int | None,
    hidden: bool,
) -> tuple[Do, str]:
    """What is done to each film, and the digest of the weights that do it."""
    from tqdm import tqdm

    from llflow.film import work
    from llflow.film.frames import Frames
    from llflow.network import checkpoint
    from llflow.picture import files

    weights = weights or checkpoint.DEFAULT
    model = checkpoint.load(weights).to(device_of(device)).fold()
    sha256 = checkpoint.digest(checkpoint.file_of(weights))
    how = {n: getattr(chosen, n) for n in ("brightness", "exposure", "strength", "precision")}
    frames = Frames(model, **how, max_memory=max_memory)

    def do(source: Path, target: Path, overwrite: bool) -> list[str]:
        with ExitStack() as shown:
            bars: list[tqdm] = []

            def progress(done: int, count: int | None) -> None:
                if not bars:  # how many frames there are is known now
                    bar = tqdm(
                        total=count, initial=done, desc=source.name, unit="frame", disable=hidden
                    )
                    bars.append(shown.enter_context(bar))
                bars[0].update(done - bars[0].n)

            return work.enhance(
                source,
                target,
                frames,
                how | {"weights": sha256, "device": device_of(device).type},
                max_pixels=max_pixels or files.MAX_PIXELS,
                progress=progress,
                overwrite=overwrite,
            )

    return do, sha256
