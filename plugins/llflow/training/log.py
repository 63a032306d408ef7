"""What a run tells: log.jsonl, TensorBoard, and pictures of the same scenes as it learns."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from llflow.atomic import errors_that_name, write_atomically
from llflow.data import PairFiles, read_pair
from llflow.enhancement import NotFinite, enhance
from llflow.network.model import LLFlow
from llflow.picture.files import Picture, write

SHOWN = 4  # scenes


class Log:
    """Records by step; those of steps that will be taken again are dropped first.

    Args:
        folder: of the run.
        step: how many steps are done; before the first, no record is kept.
        tensorboard: write events for TensorBoard too.

    Raises:
        ModuleNotFoundError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, step: int, *, tensorboard: bool = False) -> None:
        self.path = folder / "log.jsonl"
        self.folder = folder / "pictures"
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        last = step or -1
        kept = "".join(line for line in lines if _step_of(line) <= last)
        write_atomically(self.path, lambda file: file.write(kept.encode()))
        self.events = None
        if tensorboard:
            self.events = _summary_writer(folder / "tensorboard", last)

    def write(self, step: int, **values: float | str) -> None:
        """Append one record; a number that isn't finite is written as null."""
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        with errors_that_name(self.path), self.path.open("a") as file:
            file.write(json.dumps({"step": step, **finite}) + "\n")
        if self.events is not None:
            for name, value in values.items():
                if isinstance(value, str):
                    self.events.add_text(name, value, step)
                else:
                    self.events.add_scalar(name, value, step)

    def show(self, step: int, picture: Tensor) -> None:
        """Keep a picture (3, H, W) in [0, 1] as pictures/STEP.png."""
        write(self.folder / f"{step:06}.png", Picture(picture))
        if self.events is not None:
            self.events.add_image("validation", picture, step)

    def close(self) -> None:
        if self.events is not None:
            self.events.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):  # cut off when the run was killed
        return math.inf


def _summary_writer(folder: Path, last: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "TensorBoard isn't installed: pip install 'flowkit[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder), purge_step=last + 1)


def side_by_side(model: LLFlow, files: Sequence[PairFiles]) -> Tensor:
    """One row a scene, of up to four: dark picture, the model's, reference; at half their size.

    A picture that overflows is shown in grey. Rows are padded in black to the largest picture.
    """
    rows = []
    for pair_files in files[:: math.ceil(len(files) / SHOWN)]:
        pair = read_pair(pair_files)
        dark, bright = pair.dark.float() / 255, pair.bright.float() / 255
        try:
            result = enhance(model, dark)
        except NotFinite:
            result = torch.full_like(dark, 0.5)
        rows.append(F.avg_pool2d(torch.stack([dark, result, bright]), 2))
    height, width = (max(row.shape[side] for row in rows) for side in (2, 3))
    padded = [F.pad(row, (0, width - row.shape[3], 0, height - row.shape[2])) for row in rows]
    return rearrange(torch.stack(padded), "rows columns c h w -> c (rows h) (columns w)")
