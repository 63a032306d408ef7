"""`llflow export`: the enhancement for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from llflow.commands.drawing import overwrite_option
from llflow.commands.options import PATH, refuse_existing, shown, weights_option

EPILOG = """\b
examples:
  llflow export --onnx llflow.onnx
  llflow export --onnx mine.onnx --onnx-encode encode.onnx --weights runs/MYPAIRS/best.safetensors
  llflow export --darktable denoise-llflow.dtmodel
"""
ENDINGS = {"onnx": ".onnx", "onnx_encode": ".onnx", "darktable": ".dtmodel", "torch": ".pt2"}


@click.command("export", epilog=EPILOG)
@click.option("--onnx", type=PATH, metavar="FILE", help="The enhancement, .onnx.")
@click.option(
    "--onnx-encode",
    type=PATH,
    metavar="FILE",
    help="Dark and bright picture to latent and likelihood, .onnx.",
)
@click.option(
    "--darktable",
    type=PATH,
    metavar="FILE",
    help="The enhancement as a model for darktable, denoise-NAME.dtmodel.",
)
@click.option(
    "--torch",
    type=PATH,
    metavar="FILE",
    help="The enhancement as a program of torch.export, .pt2.",
)
@weights_option
@overwrite_option
def command(weights: str | None, overwrite: bool, **files: Path | None) -> None:
    """Write what llflow enhance does to a picture as a graph that other programs run.

    The graph takes a decoded picture of any size and returns the bright one, as llflow enhance
    --precision float32 makes it. It is compared with that before it is written. All but --torch
    take flowkit[onnx]; docs/onnx.md and docs/elsewhere.md have the names and shapes.
    """
    targets = {form: path for form, path in files.items() if path is not None}
    if not targets:
        raise click.UsageError(f"Missing option: expected one of {', '.join(map(_option, files))}.")
    for form, path in targets.items():
        if path.suffix.lower() != ENDINGS[form]:
            raise click.UsageError(f"{_option(form)} {path}: expected a name in {ENDINGS[form]}.")
        if [*targets.values()].count(path) > 1:
            raise click.UsageError(f"{path}: expected another name for each file.")
        refuse_existing(path, overwrite)

    from llflow.atomic import require_writable
    from llflow.export import darktable, onnx, program
    from llflow.network import checkpoint

    if "darktable" in targets:
        darktable.id_of(targets["darktable"])
    if targets.keys() - {"torch"}:
        onnx.require_packages()
    for path in targets.values():
        require_writable(path.parent)
    ways = {
        "onnx": onnx.save,
        "onnx_encode": onnx.save_encoding,
        "darktable": darktable.save,
        "torch": program.save,
    }
    model = checkpoint.load(weights or checkpoint.DEFAULT)
    for form, path in targets.items():
        difference = ways[form](model, path, overwrite=overwrite)
        click.echo(
            f"{shown(path)}: {path.stat().st_size / 1e6:.1f} MB, within {difference:.1g} of the "
            "model's results"
        )


def _option(form: str) -> str:
    return f"--{form.replace('_', '-')}"
