"""How fast is a training step of LLFlow, and how much memory does it take, against a plain network?

python benchmarks/training_step.py [--device cuda]

Forward and backward of the negative log-likelihood, without the optimiser. On a GPU `large`, batch
16 of 160×160, in float32 and with bf16 nets, also captured as a CUDA graph; on a CPU `narrow`,
batch 2, where processor time is all that is measured. "plain" is `benchmarks/plain_llflow.py`,
eager, with the same weights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import measure
import torch
from enhance import random_model
from measure import Target
from plain_llflow import PlainLLFlow
from torch import Tensor, nn

from flowkit.ops import affine_coupling_choice, linear_map_choice
from llflow import LLFlow
from llflow.network.model import KEEP

PRECISIONS = ("float32", "bf16")
LITTLE = 0.25  # of the plain network's memory

Step = Callable[[], tuple[Tensor, ...]]


def step_of(network: nn.Module, nll: Callable[[], Tensor], precision: str, device: str) -> Step:
    """The loss, then the gradient of every parameter."""
    parameters = [p for p in network.parameters() if p.requires_grad]

    def step() -> tuple[Tensor, ...]:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = nll().mean()
        return loss.detach(), *torch.autograd.grad(loss, parameters)

    return step


def captured(step: Step) -> Step:
    """The step as one CUDA graph, on the tensors that it read when it was captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return results

    return replay


def steps_of(model: LLFlow, pair: tuple[Tensor, Tensor], precision: str, device: str) -> dict:
    """The plain network's and, for each `keep`, llflow's."""
    plain = PlainLLFlow.like(model)
    steps = {"plain": step_of(plain, lambda: plain.nll(*pair), precision, device)}
    for keep in KEEP:

        def nll(keep: str = keep) -> Tensor:
            model.keep = keep
            return model.nll(*pair)

        steps[f"llflow, keep {keep}"] = step_of(model, nll, precision, device)
    return steps


def check(steps: dict[str, Step], precision: str) -> None:
    """That the losses agree, and in float32 the gradients' norms."""
    expected = steps["plain"]()
    for way, step in steps.items():
        came = step()
        tolerance = 1e-4 if precision == "float32" else 3e-2
        measure.agree(f"{way}, {precision}, loss", came[0], expected[0], tolerance)
        if precision == "float32":
            norms = [
                torch.stack([g.norm() for g in grads[1:]]).norm() for grads in (came, expected)
            ]
            measure.agree(f"{way}, norm of the gradient", norms[0], norms[1], 1e-3)


def peak_of(step: Step) -> float:
    """GB that a step takes above what is there before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def compare(size: str, batch: int, side: int, precision: str, args) -> tuple[list[dict], dict]:
    """Rows, and the figures of the targets."""
    model = random_model(size).to(args.device).requires_grad_().train()
    dark, bright = torch.rand(2, batch, 3, side, side, device=args.device)
    low = torch.cat([(0.2 * dark + 1e-3).log(), dark], dim=1)
    steps = steps_of(model, (bright, low), precision, args.device)
    check(steps, precision)
    peaks, failures = {}, {}
    if args.device == "cuda":
        for way, step in list(steps.items()):
            peaks[way] = peak_of(step)
            if way == "plain":
                continue
            try:
                steps[f"{way}, CUDA graph"] = captured(step)
                peaks[f"{way}, CUDA graph"] = peaks[way]  # its pool holds the step's peak
            except RuntimeError as error:
                failures[way] = str(error).partition("\n")[0]
        check(steps, precision)
    times = measure.take_turns(steps, seconds=args.seconds, device=args.device)
    rows = [
        {
            "precision": precision,
            "way": way,
            "least ms": 1e3 * times.least(way),
            "time, of the plain network's": times.ratio(way, "plain"),
            "peak memory, GB": peaks.get(way, "–"),
        }
        for way in times.seconds
    ]
    found = {
        "faster": {way: times.ratio("plain", way).median for way in steps if way != "plain"},
        "smaller": {way: peak / peaks["plain"] for way, peak in peaks.items() if way != "plain"},
        "failures": failures,
    }
    return rows, found


def targets_of(precision: str) -> tuple[Target, Target, Target]:
    where = f"training step of large, batch 16, {precision}"
    return (
        Target(f"{where}, against plain", 3, "× faster", True),
        Target(f"{where}, peak memory, of plain", LITTLE),
        Target(f"{where}, ways captured as a CUDA graph", 1, "", True),
    )


def judged(precision: str, found: dict) -> list[dict]:
    """Speed and memory of one way: the fastest of those with little memory, else of all."""
    faster, smaller = found["faster"], found["smaller"]
    small = [way for way in faster if smaller[way] <= LITTLE] or list(faster)
    way = max(small, key=faster.__getitem__)
    graphs = [name for name in faster if "graph" in name]
    failed = "; ".join(f"{name}: {reason}" for name, reason in found["failures"].items())
    results = (faster[way], way), (smaller[way], way), (float(len(graphs)), failed)
    return [
        target.judged(*result)
        for target, result in zip(targets_of(precision), results, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    parser.set_defaults(seconds=15.0)
    args = measure.begin(parser, argv)
    on_gpu = args.device == "cuda"
    size, batch, side = ("large", 16, 160) if on_gpu else ("narrow", 2, 160)
    if args.quick:
        size, side = "narrow", 16
    rows, targets = [], []
    for precision in PRECISIONS if on_gpu else ("float32",):
        found_rows, found = compare(size, batch, side, precision, args)
        rows += found_rows
        if on_gpu:
            targets += judged(precision, found)
    if not on_gpu:
        unmeasured = [target for precision in PRECISIONS for target in targets_of(precision)]
        targets = [target.judged(None, "needs a GPU") for target in unmeasured]
    probe = torch.randn(1, 12, 8, 8, device=args.device)
    measure.record(
        "training_step",
        args,
        doc=__doc__,
        tables={f"Training step of {size}, batch {batch} of {side}×{side}": rows},
        targets=targets,
        implementation={
            "affine_coupling": affine_coupling_choice(probe, probe),
            "linear_map, C = 12": linear_map_choice(probe, torch.eye(12, device=args.device)),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
