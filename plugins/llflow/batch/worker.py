"""One worker: the model, and what is done with a part."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from llflow import enhancement
from llflow.batch.naming import STATE
from llflow.batch.part import DONE, FAILED, Began, CannotWrite, Ended, Item, Part
from llflow.batch.place import Place
from llflow.batch.recipe import Recipe
from llflow.batch.results import Files, Results, Shard
from llflow.batch.shards import DamagedShard, Member, members
from llflow.errors import LLFlowError, OverLimit, first_line
from llflow.network import checkpoint
from llflow.picture import files, history

SCRATCH = f"{STATE}/scratch"
# Of a name, not of a disk: other pictures can be written.
OF_NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ)
OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # to which pictures are copied to be read


class OtherWeights(LLFlowError, ValueError):
    """A worker finds other weights than the batch is for."""


class Worker:
    """Makes pictures bright, part by part; what comes out depends on recipe and picture alone.

    Args:
        recipe: what is done to each picture.
        out: path or address of the folder for results.

    Raises:
        OtherWeights: the weights are others here.
        CheckpointError, OSError: they can't be read.
    """

    def __init__(self, recipe: Recipe, out: str) -> None:
        torch.set_num_threads(recipe.threads)
        came = checkpoint.digest(checkpoint.file_of(recipe.weights))
        if came != recipe.sha256:
            raise OtherWeights(
                f"{recipe.weights}: expected SHA-256 {recipe.sha256} on every machine, got {came}"
            )
        self._recipe, self._out = recipe, Place(out)
        self._model = checkpoint.load(recipe.weights).to(torch.device(recipe.device)).fold()
        self._parameters = json.dumps(recipe.settings.record() | {"weights": came})
        self._scratch = None
        if self._out.local is not None:  # what has to be renamed lies on the same disk
            self._scratch = self._out.local / SCRATCH

    def work(self, part: Part) -> Iterator[Began | Ended]:
        """Do a part, but for what has ended in it.

        Raises:
            CannotWrite: a result can't be put in place, which isn't the picture's fault.
        """
        try:
            if self._scratch is not None:
                self._scratch.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(
                prefix="llflow_batch_", dir=self._scratch, ignore_cleanup_errors=True
            ) as name:
                folder = Path(name)
                results = Files(self._out)
                if part.result is not None:
                    results = Shard(self._out, part, folder)
                yield from self._worked(part, results, folder)
                results.finish()
        except OSError as error:
            raise _cannot_write(self._out.address, error) from error

    def _worked(self, part: Part, results: Results, folder: Path) -> Iterator[Began | Ended]:
        try:
            for member in members(part, folder):
                if member.item is None:
                    if part.result is not None:
                        results.copy(member.name, member.fetch())
                elif member.item.key not in part.ended:
                    yield Began(member.item.key)
                    yield Ended(self._line(member, member.item, results, folder), member.share)
                elif part.ended[member.item.key] == DONE:
                    results.keep(member.item.target)
        except DamagedShard as error:
            if part.name not in part.ended:
                yield Ended({"key": part.name, "status": FAILED, "reason": str(error)})

    def _line(self, member: Member, item: Item, results: Results, folder: Path) -> dict[str, Any]:
        start = time.monotonic()
        line = {"key": item.key, "status": FAILED, "reason": item.problem}
        if item.problem is None:
            line |= self._done(member, item, results, folder)
        return line | {"seconds": round(time.monotonic() - start, 3)}

    def _done(self, member: Member, item: Item, results: Results, folder: Path) -> dict[str, Any]:
        """What became of a picture that isn't known to fail."""
        recipe, settings = self._recipe, self._recipe.settings
        output: dict[str, Any] = {"bits": settings.bits, "quality": settings.quality}
        file = folder / f"result{Path(item.target).suffix}"
        try:
            source = member.fetch()
            dark = files.read(source, recipe.max_pixels, recipe.max_memory)
            files.require_fits(file, dark, **output)
        except Exception as error:  # a picture's own fault, or that of where it is
            if isinstance(error, OSError) and error.errno in OF_DISKS:
                raise
            return {"reason": _reason(error)}
        try:
            bright = enhancement.brighten(
                self._model,
                dark,
                **settings.arguments(),
                max_memory=recipe.max_memory,
                folder=self._scratch,
            )
            lost = bright.lost
            if recipe.record:
                agent = f"llflow {version('flowkit')}"
                about, said = history.recorded(bright.about, agent, self._parameters)
                bright, lost = replace(bright, about=about), lost + said
            lost += files.write(file, bright, **output)
        except (OSError, torch.AcceleratorError):  # the disk's, or a device that is lost
            raise
        except Exception as error:
            return {"reason": _reason(error)}
        try:
            told = results.add(item.target, file)
        except OSError as error:
            if error.errno in OF_NAMES:
                return {"reason": f"{item.target} can't be written: {_reason(error)}"}
            raise
        return {"status": DONE, "reason": None, "target": item.target, **told, "lost": [*lost]}


def _reason(error: Exception) -> str:
    if isinstance(error, OverLimit):
        return error.by_option()
    if isinstance(error, LLFlowError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "out of memory"
    said = first_line(error)
    return (
        said if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: {said}"
    )


def _cannot_write(out: str, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"{error.filename or out}: {error.strerror or error}; results can't be written"
    )
