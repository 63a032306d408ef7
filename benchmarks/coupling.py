"""How fast is the affine coupling, against plain PyTorch and torch.compile of that?

python benchmarks/coupling.py --device cuda

At the three levels of LLFlow, batch 16 of 160×160; on a GPU also at twice the size of a 4K
picture, against the bandwidth of a copy in the same run. On a CPU flowkit is plain PyTorch as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

import measure
import torch
import torch._functorch.config
from measure import Target, Times
from torch import Tensor

from flowkit.ops import (
    SigmoidScale,
    affine_coupling,
    affine_coupling_choice,
    affine_coupling_inverse,
)

SHAPES = ((16, 12, 80, 80), (16, 48, 40, 40), (16, 192, 20, 20))
BIG = ((2, 12, 1080, 1920), (2, 48, 540, 960), (2, 192, 270, 480))
QUICK = ((2, 12, 8, 8),)

GPU_TARGETS = {
    (what, kind): Target(f"coupling {what}, ≥ 100 MB, {meaning}", value, unit, True)
    for what, share, speed in (("forward", 85, 4), ("inverse", 85, 3.4), ("backward", 80, 4))
    for kind, meaning, value, unit in (
        ("bandwidth", "of copy bandwidth", share, "%"),
        ("speed", "against plain", speed, "× faster"),
    )
}
TENSORS = {"forward": 3, "inverse": 3, "backward": 5}  # read and written if each is touched once

Operation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def plain(x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    kept, changed = x.chunk(2, dim=1)
    shift, raw = params.chunk(2, dim=1)
    scale = torch.sigmoid(raw + 2) + 1e-4
    return torch.cat([kept, (changed + shift) * scale], dim=1), scale.log().sum(dim=(1, 2, 3))


def plain_inverse(y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    kept, changed = y.chunk(2, dim=1)
    shift, raw = params.chunk(2, dim=1)
    scale = torch.sigmoid(raw + 2) + 1e-4
    return torch.cat([kept, changed / scale - shift], dim=1), -scale.log().sum(dim=(1, 2, 3))


def ours(x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    return affine_coupling(x, params, SigmoidScale())


def ours_inverse(y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    return affine_coupling_inverse(y, params, SigmoidScale())


def gradients(operation: Operation, x: Tensor, params: Tensor) -> tuple[Tensor, ...]:
    y, logdet = operation(x, params)
    return torch.autograd.grad([y, logdet], [x, params], [y.detach(), logdet.detach()])


def ways_of(what: str, args) -> dict[str, Operation]:
    own, definition = (ours_inverse, plain_inverse) if what == "inverse" else (ours, plain)
    ways = {"flowkit": own, "plain": definition}
    if not args.quick:  # compiling takes longer than all else
        ways["torch.compile"] = torch.compile(definition, fullgraph=True, dynamic=False)
    return ways


def compare(what: str, shape: Sequence[int], args) -> Times:
    """One direction at one size."""
    learns = what == "forward + backward"
    x, params = (torch.randn(shape, device=args.device, requires_grad=learns) for _ in range(2))
    timed = {}
    definition = plain_inverse if what == "inverse" else plain
    for way, operation in ways_of(what, args).items():
        who = f"{way}, {what} at {tuple(shape)}"
        expected = definition(x.double(), params.double())
        measure.agree(who, operation(x, params), expected, 1e-4)
        timed[way] = operation
        if learns:
            expected = gradients(plain, x, params)
            measure.agree(who, gradients(operation, x, params), expected, 1e-4)
            timed[way] = partial(gradients, operation)
    inputs = measure.copies(x, params)
    return measure.take_turns(timed, inputs, seconds=args.seconds, device=args.device)


def backward_alone(shape: Sequence[int], args) -> Times:
    """The backward pass without the forward that it needs, which is kept."""
    # Else what torch.compile makes overwrites what it saved, and can't run twice.
    torch._functorch.config.donated_buffer = False
    inputs = measure.copies(*(torch.randn(shape, device=args.device) for _ in range(3)))
    timed = {}
    for way, operation in ways_of("forward", args).items():
        graphs = {}
        for x, params, _ in inputs:
            leaves = x.clone().requires_grad_(), params.clone().requires_grad_()
            graphs[id(x)] = operation(*leaves)[0], leaves

        def backward(x: Tensor, _, gradient: Tensor, graphs=graphs) -> tuple[Tensor, ...]:
            return torch.autograd.grad(*graphs[id(x)], gradient, retain_graph=True)

        timed[way] = backward
    expected = timed["plain"](*inputs[0])
    for way, backward in timed.items():
        measure.agree(f"{way}, backward at {tuple(shape)}", backward(*inputs[0]), expected, 1e-4)
    return measure.take_turns(timed, inputs, seconds=args.seconds, device=args.device)


def rows_of(times: Times, what: str, shape: Sequence[int]) -> list[dict]:
    return [
        {
            "level": "×".join(str(size) for size in shape),
            "what": what,
            "way": way,
            "least ms": 1e3 * times.least(way),
            "time, of plain": times.ratio(way, "plain"),
        }
        for way in times.seconds
    ]


def big(args) -> tuple[list[dict], list[dict]]:
    """Tensors that no cache holds: rows, and the targets judged by their worst level."""
    rows: list[dict] = []
    results: dict[tuple[str, str], list[float]] = {key: [] for key in GPU_TARGETS}
    for shape in QUICK if args.quick else BIG:
        source = torch.randn(shape, device=args.device)
        copy = measure.take_turns(
            {"copy": lambda x: x.clone()},
            measure.copies(source),
            seconds=args.seconds / 5,
            device=args.device,
        )
        for what, count in TENSORS.items():
            times = (
                backward_alone(shape, args) if what == "backward" else compare(what, shape, args)
            )
            found = rows_of(times, what, shape)
            for row in found:
                row["of copy bandwidth, %"] = (
                    100 * count / 2 * copy.least("copy") / times.least(row["way"])
                )
            rows += found
            results[what, "bandwidth"].append(found[0]["of copy bandwidth, %"])
            results[what, "speed"].append(times.ratio("plain", "flowkit").median)
    judged = [
        GPU_TARGETS[key].judged(min(values), "worst level") for key, values in results.items()
    ]
    return rows, judged


def main(argv: Sequence[str] | None = None) -> None:
    args = measure.begin(measure.arguments(__doc__), argv)
    rows = []
    for shape in QUICK if args.quick else SHAPES:
        for what in ("forward", "inverse", "forward + backward"):
            rows += rows_of(compare(what, shape, args), what, shape)
    tables = {"Affine coupling, float32, batch 16": rows}
    targets = [target.judged(None, "needs a GPU") for target in GPU_TARGETS.values()]
    if args.device == "cuda":
        tables["Affine coupling, tensors of ≥ 100 MB"], targets = big(args)
    probe = torch.randn(QUICK[0], device=args.device)
    measure.record(
        "coupling",
        args,
        doc=__doc__,
        tables=tables,
        targets=targets,
        implementation={"affine_coupling": affine_coupling_choice(probe, probe)},
    )


if __name__ == "__main__":
    sys.exit(main())
