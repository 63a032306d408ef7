"""`llflow convert`: the authors' checkpoints."""

from __future__ import annotations

from pathlib import Path

import click

from llflow.commands.options import PATH, refuse_existing, shown

EPILOG = """\b
examples:
  llflow convert LOL_smallNet.pth small.safetensors
  llflow convert LOL_smallNet.pth -o small.safetensors --overwrite
"""


@click.command("convert", epilog=EPILOG)
@click.argument("source", type=PATH, metavar="CHECKPOINT")
@click.argument("new", required=False, type=PATH, metavar="[OUT]")
@click.option("-o", "--out", type=PATH, metavar="OUT", help="The file to write.")
@click.option("--overwrite", is_flag=True, help="Replace the file that --out names.")
def command(source: Path, new: Path | None, out: Path | None, overwrite: bool) -> None:
    """Turn the LLFlow authors' checkpoint into a file for --weights.

    CHECKPOINT is a .pth or .safetensors file. The network's size is read off the tensors; nothing
    in the file is executed. The authors' weights have their own licence (CC BY-NC-SA 4.0).
    """
    if (new is None) == (out is None):
        raise click.UsageError("Expected one OUT, behind CHECKPOINT or with --out.")
    if new is not None and new.exists() and overwrite:
        raise click.UsageError(f"--overwrite replaces {new} only if --out says so: --out {new}")
    target = new or out
    assert target is not None
    if target.suffix != ".safetensors":
        raise click.UsageError(f"Expected OUT to end in .safetensors, got {target}.")
    refuse_existing(target, overwrite)
    if target.exists() and target.samefile(source):
        raise click.UsageError(f"{target}: the result would replace CHECKPOINT.")

    from llflow.network import checkpoint, official
    from llflow.network.model import SIZES

    model = official.convert(official.read(source))
    checkpoint.save(model, target, overwrite=overwrite)
    size = next((name for name, config in SIZES.items() if config == model.config), "custom")
    count = sum(parameter.numel() for parameter in model.parameters())
    click.echo(f"{shown(target)}: {size} network, {count:,} parameters")
