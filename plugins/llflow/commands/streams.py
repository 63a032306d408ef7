"""Standard input and output, `-`, as files in a folder that is gone afterwards."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO, Self

import click

if TYPE_CHECKING:
    from llflow.jobs import Job, Outcome

STREAM = Path("-")
LONGEST = 2**31  # bytes of a picture that comes in


class Streams:
    """The streams of one call, which reads one picture if it reads or writes one.

    Args:
        inputs: of the call, `-` alone or not among them.
        out: of the call; without one, what comes in by `-` goes out by it.

    Raises:
        click.UsageError: there are other inputs beside `-`, or a stream is a terminal.
    """

    def __init__(self, inputs: Sequence[Path], out: Path | None) -> None:
        self.reads = STREAM in inputs
        self.writes = out == STREAM or (self.reads and out is None)
        self.used = self.reads or self.writes
        self._source, self._out = inputs[0], out
        if self.used and (len(inputs) > 1 or inputs[0].is_dir()):
            raise click.UsageError("'-' is for one picture in and one out.")
        if self.reads and sys.stdin.isatty():
            raise click.UsageError("'-' reads a picture from standard input, which is a terminal.")
        if self.writes and sys.stdout.isatty():
            raise click.UsageError("'-' writes a picture, and standard output is a terminal.")

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="llflow_", ignore_cleanup_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def plan(self, ending: str) -> list[Job]:
        """The one job, what comes in being read.

        Args:
            ending: of the result's name where it goes out by `-`; "" for the input's format.
        """
        from llflow.jobs import Job
        from llflow.picture import files

        here = Path(self._folder.name)
        source, target = self._source, self._out
        if self.reads:
            source = here / "input"
            with source.open("wb") as file:
                _copy(sys.stdin.buffer, file)
        if self.writes:
            target = here / f"output{ending}"
        if target is None or (not self.writes and files.format_of(target) is None):
            raise click.UsageError(f"'-' needs a picture's name, or '-', as OUT, got {target}.")
        return [Job(source, target)]

    def named(self, outcome: Outcome) -> Outcome:
        """The outcome in the words of the call; a result that goes out by `-` has gone out."""
        from llflow.atomic import errors_that_name

        job, problem = outcome.job, outcome.problem
        if self.writes and outcome.status == "done":
            with errors_that_name(STREAM), job.target.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
        source = STREAM if self.reads else job.source
        target = STREAM if self.writes else job.target
        if problem is not None:
            for path, name in ((job.source, source), (job.target, target)):
                problem = problem.replace(str(path), str(name))
        return replace(outcome, job=replace(job, source=source, target=target), problem=problem)


def _copy(stream: BinaryIO, file: BinaryIO) -> None:
    left = LONGEST
    while block := stream.read(min(left + 1, 1 << 20)):
        left -= len(block)
        if left < 0:
            raise click.UsageError(f"'-' reads up to {LONGEST:,} bytes, and more came.")
        file.write(block)
