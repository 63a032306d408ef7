"""Do two processes train to the weights of one?

`llflow train` of tiny on small crops: in one process, and in two under `torchrun` that share the
same batch over gloo. Sums are taken in another order, so weights differ by rounding.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import record
import torch
from torch import Tensor

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def trained(launcher: tuple[str, ...], pairs: Path, out: Path, **options: object) -> dict:
    settings = {"batch": 4, "crop": 32, "held-out": 0.25, "warmup": 0, "validate-every": 1000}
    settings |= {"thumbnails": 0}  # what dropout draws isn't shared
    settings |= options
    program = [sys.executable, *launcher, "-m", "llflow", "train", "--recipe=small", "--size=tiny"]
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    call = [*program, f"--data={pairs}", f"--out={out}", "--device=cpu", *arguments]
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return torch.load(out / "last.pt", weights_only=True)["model"]


def losses(out: Path) -> dict[int, float]:
    records = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return {record["step"]: record["nll"] for record in records if "nll" in record}


def flat(model: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in model.values()])


def main() -> None:
    parser = record.arguments(
        __doc__.partition("\n")[0],
        "python benchmarks/training/processes.py --data LOL/our485 --steps 60",
    )
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pairs = record.small_pairs(args.data, folder / "pairs", count=8)
        still = {"steps": 1, "learning-rate": 1e-30}
        starts = [
            flat(trained(launcher, pairs, folder / f"start {index}", **still))
            for index, launcher in enumerate(((), TORCHRUN))
        ]
        one = flat(trained((), pairs, folder / "one", steps=args.steps))
        two = flat(trained(TORCHRUN, pairs, folder / "two", steps=args.steps))
        logs = losses(folder / "one"), losses(folder / "two")
    change = one - starts[0]
    rows = {
        "initial weights, largest difference": (starts[0] - starts[1]).abs().max().item(),
        "weights, largest change in training": change.abs().max().item(),
        "weights, largest difference": (one - two).abs().max().item(),
        "weights, norm of the difference / norm of the change": (
            ((one - two).norm() / change.norm()).item()
        ),
    }
    print(f"| {args.steps} steps | 1 and 2 processes |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value:.3g} |")
    print("\n| step | nll, 1 process | nll, 2 processes |\n|---|---|---|")
    for step, nll in logs[0].items():
        print(f"| {step} | {nll:.6f} | {logs[1][step]:.6f} |")
    result = {"settings": {"steps": args.steps}, "differences": rows, "nll": logs}
    record.write("training_processes", result)


if __name__ == "__main__":
    main()
