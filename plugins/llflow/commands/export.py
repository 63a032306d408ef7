"""`llflow export`: the enhancement for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from llflow.commands.drawing import overwrite_option
from llflow.commands.options import PATH, refuse_existing, shown, weights_option

EPILOG = """\b
examples:
  llflow export --onnx llflow.onnx
  llflow export --onnx mine.onnx --weights runs/MYPAIRS/best.safetensors
"""


@click.command("export", epilog=EPILOG)
@click.option(
    "--onnx", "target", type=PATH, required=True, metavar="FILE", help="The file to write, .onnx."
)
@weights_option
@overwrite_option
def command(target: Path, weights: str | None, overwrite: bool) -> None:
    """Write what llflow enhance does to a picture as a graph that other programs run.

    The graph takes a decoded picture of any size and returns the bright one, as llflow enhance
    --precision float32 makes it. It is compared with that before it is written. Takes
    flowkit[onnx]; docs/onnx.md has the names and shapes.
    """
    if target.suffix.lower() != ".onnx":
        raise click.UsageError(f"--onnx {target}: expected a name in .onnx.")
    refuse_existing(target, overwrite)

    from llflow.atomic import require_writable
    from llflow.export import onnx
    from llflow.network import checkpoint

    onnx.require_packages()
    require_writable(target.parent)
    model = checkpoint.load(weights or checkpoint.DEFAULT)
    difference = onnx.save(model, target)
    click.echo(
        f"{shown(target)}: {target.stat().st_size / 1e6:.1f} MB, under onnxruntime within "
        f"{difference:.1g} of PyTorch"
    )
