"""What is done of a film, beside its result until that is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llflow.atomic import write_atomically
from llflow.film.source import FilmError
from llflow.film.target import Coded

_NUMBERS = ("pts", "dts", "duration", "key")


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Nobody else makes this film, within: what is unfinished has one place.

    Raises:
        FilmError: somebody does.
    """
    path = target.with_name(f".{target.name}.lock")
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError):
            ours = False  # or it was another's, who has just finished and removed it
        if not ours:
            raise FilmError("another process is making this film")
        try:
            yield
        finally:
            path.unlink()


class Unfinished:
    """Parts of a film that are encoded, in a hidden folder beside its result.

    A part is there whole or not at all, and has with it what the frames after it depend on: a run
    that was killed goes on behind the last part, and its result is that of one that wasn't.

    Args:
        target: the result.
        digest: of the source and all settings; what another left there is deleted.
    """

    def __init__(self, target: Path, digest: str) -> None:
        self.folder = target.with_name(f".{target.name}.unfinished")
        self.digest = digest
        self.parts: list[Path] = []
        while (path := self._path(len(self.parts))).exists() and self._is_ours(path):
            self.parts.append(path)
        if self.folder.is_dir() and not (self.parts and self._state_of(self.parts[-1]).exists()):
            self.remove()
            self.parts = []

    def add(self, coded: Sequence[Coded], state: dict[str, Tensor]) -> None:
        """Keep the next part, and the state after its frames."""
        path = self._path(len(self.parts))
        arrays = {name: np.array([getattr(one, name) for one in coded]) for name in _NUMBERS}
        states = {name: value.cpu().numpy() for name, value in state.items()}
        data = np.frombuffer(b"".join(one.data for one in coded), np.uint8)
        sizes = np.array([len(one.data) for one in coded])
        digest = np.array(self.digest)
        # A part counts once it is there; until then the last one's state is needed.
        _write(self._state_of(path), states)
        _write(path, arrays | {"data": data, "sizes": sizes, "digest": digest})
        for before in self.parts[-1:]:
            self._state_of(before).unlink()
        self.parts.append(path)

    @property
    def frames(self) -> int:
        """How many are done."""
        return sum(len(_array(path, "pts")) for path in self.parts)

    @property
    def last(self) -> int | None:
        """The time of the last one."""
        return int(_array(self.parts[-1], "pts")[-1]) if self.parts else None

    @property
    def state(self) -> dict[str, Tensor]:
        """What the next frame depends on."""
        if not self.parts:
            return {}
        with np.load(self._state_of(self.parts[-1])) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays}

    def coded(self) -> Iterator[Coded]:
        """All encoded frames, in their order."""
        for path in self.parts:
            with np.load(path) as arrays:
                data = arrays["data"].tobytes()
                at = 0
                numbers = zip(*(arrays[name].tolist() for name in _NUMBERS), strict=True)
                for size, (pts, dts, duration, key) in zip(
                    arrays["sizes"].tolist(), numbers, strict=True
                ):
                    yield Coded(data[at : at + size], pts, dts, duration, key)
                    at += size

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.npz"

    def _state_of(self, part: Path) -> Path:
        return part.with_suffix(".state.npz")

    def _is_ours(self, path: Path) -> bool:
        return str(_array(path, "digest")) == self.digest


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def _array(path: Path, name: str) -> np.ndarray:
    with np.load(path) as arrays:
        return arrays[name]
