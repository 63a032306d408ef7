"""`llflow convert`: the authors' checkpoints."""

from __future__ import annotations

import argparse

from llflow.commands.arguments import UsageError, path


def add(commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="turn the LLFlow authors' checkpoint into a file for --weights",
        description="Turn a checkpoint of the LLFlow authors (.pth or .safetensors) into a file "
        "for --weights. The network's size is read off the tensors; nothing in the file is "
        "executed. The authors' weights have their own licence (CC BY-NC-SA 4.0).",
        epilog="example:\n  llflow convert LOL_smallNet.pth small.safetensors\n",
    )
    parser.add_argument("checkpoint", type=path, metavar="CHECKPOINT")
    parser.add_argument("out", type=path, metavar="OUT")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from llflow.network import checkpoint, official
    from llflow.network.model import SIZES

    if args.out.suffix != ".safetensors":
        raise UsageError(f"expected OUT to end in .safetensors, got {args.out}")
    if args.out.exists() and not args.overwrite:
        raise ValueError(f"{args.out} exists (--overwrite replaces it)")
    model = official.convert(official.read(args.checkpoint))
    checkpoint.save(model, args.out)
    size = next((name for name, config in SIZES.items() if config == model.config), "custom")
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.out}: {size} network, {count:,} parameters")
    return 0
