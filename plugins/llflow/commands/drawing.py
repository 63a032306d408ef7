"""What the commands share that draw a picture about one of the user's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from llflow.commands.options import device_of, refuse_existing

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from llflow.network.model import LLFlow
    from llflow.picture.files import Picture

RAW = (".npy", ".tif", ".tiff")

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what exists.")


def loaded(weights: str | None, device: str) -> LLFlow:
    """The weights on the device, made cheap."""
    from llflow.network import checkpoint

    return checkpoint.load(weights or checkpoint.DEFAULT).to(device_of(device)).fold()


def opened(path: Path) -> Picture:
    """The picture; an error names its file."""
    from llflow.picture import files

    try:
        return files.read(path)
    except files.PictureError as error:
        raise files.PictureError(f"{path}: {error}") from error


def prepare(targets: Iterable[Path], sources: Iterable[Path], overwrite: bool) -> None:
    """Find out before the work what can't be written after it."""
    from llflow.atomic import require_writable
    from llflow.jobs import identity

    targets = list(targets)
    read = {identity(path) for path in sources}
    for target in targets:
        if identity(target) in read:
            raise click.UsageError(f"{target}: would replace a picture that is read.")
        refuse_existing(target, overwrite)
    if len({identity(target) for target in targets}) < len(targets):
        raise click.UsageError("Two results would be written to one file.")
    for folder in {target.parent for target in targets}:
        require_writable(folder)


def require_picture(path: Path) -> None:
    """Refuse a name that says no format of pictures."""
    from llflow.picture import files

    if files.format_of(path) is None:
        endings = ", ".join(files.SUFFIXES[name][0] for name in files.FORMATS)
        raise click.UsageError(f"{path}: expected a name in {endings}.")


def require_raw(path: Path | None) -> list[Path]:
    """The file of --raw, if there is one."""
    if path is None:
        return []
    if path.suffix.lower() not in RAW:
        raise click.UsageError(f"--raw {path}: expected a name in {', '.join(RAW)}.")
    return [path]


def write_drawn(path: Path, image: Image.Image, overwrite: bool) -> None:
    from llflow.picture import files
    from llflow.picture.inputs import tensor_of

    files.write(path, files.Picture(tensor_of(image)), overwrite=overwrite)


def write_raw(path: Path, values: Tensor, overwrite: bool) -> None:
    """(H, W) in float32, as .npy or as a grey TIFF."""
    import numpy as np
    from PIL import Image

    from llflow.atomic import write_atomically

    array = values.float().cpu().numpy()

    def write(file: IO[bytes]) -> None:
        if path.suffix.lower() == ".npy":
            np.save(file, array)
        else:
            Image.fromarray(array).save(file, "TIFF")

    write_atomically(path, write, overwrite=overwrite)
