"""How long does enhancing a picture take, against a plain network and its convolutions alone?

python benchmarks/enhance.py [--sizes large --rounds 3] [--threads 2]

The core of `llflow enhance` on a picture of 400×600: condition and inverse of the folded model,
without files and equalisation. "plain" is `benchmarks/plain_llflow.py` with the same weights;
"convolutions" are that network's, each in the faster of the two memory formats, and nothing else.
Memory is what tensors take above weights and input; one result a size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import measure
import torch
from measure import Target
from plain_llflow import PlainLLFlow
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from whole_step import CONFIGS

from flowkit.ops import affine_coupling_choice, linear_map_choice
from llflow import LLFlow
from llflow.network.live_bytes import LiveBytes
from llflow.picture.preprocess import network_input

FORMATS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}


def targets_of(size: str) -> tuple[Target, Target, Target]:
    where = f"enhancing 400×600, {size}"
    return (
        Target(f"{where}, time of the plain network's", 0.6),
        Target(f"{where}, time of its convolutions' alone", 1.2),
        Target(f"{where}, peak memory, of the plain network's", 1.0),
    )


def random_model(size: str) -> LLFlow:
    """Random weights that move every layer off the identity and keep the picture finite."""
    model = LLFlow(CONFIGS[size]()).eval().requires_grad_(False)
    std = 0.02 / model.config.steps**2  # more of it, and the inverse of many steps overflows
    for name, parameter in model.named_parameters():
        if "flow" in name and not parameter.any():
            nn.init.normal_(parameter, std=std)
    return model


class Convolutions(TorchFunctionMode):
    """Inside, remembers the shapes of every convolution: of input, weight and bias, and padding."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.conv2d:
            self.shapes.append(self._shapes(*args, **kwargs))
        return func(*args, **kwargs)

    @staticmethod
    def _shapes(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> tuple:
        assert {*_pair(stride), *_pair(dilation), groups} == {1}
        return tuple(x.shape), tuple(weight.shape), bias is not None, _pair(padding)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) * 2 if isinstance(value, int) else tuple(value)


def convolution(shapes: tuple, memory: Tensor, memory_format: torch.memory_format) -> Callable:
    """A call of one convolution, its input laid over `memory`."""
    (batch, channels, height, width), weight_shape, has_bias, padding = shapes
    flat = memory[: batch * channels * height * width]
    if memory_format is torch.channels_last:
        x = flat.view(batch, height, width, channels).permute(0, 3, 1, 2)
    else:
        x = flat.view(batch, channels, height, width)
    weight = torch.randn(weight_shape).contiguous(memory_format=memory_format)
    bias = torch.randn(weight_shape[0]) if has_bias else None
    return lambda: F.conv2d(x, weight, bias, padding=padding)


def convolutions_alone(recorded: list[tuple]) -> tuple[Callable[[], None], int]:
    """All of them in turn, each in its faster format; and how many are faster channels last."""
    memory = torch.randn(max(torch.Size(x).numel() for x, *_ in recorded))
    faster = {}
    for shapes in set(recorded):
        ways = {name: convolution(shapes, memory, FORMATS[name]) for name in FORMATS}
        faster[shapes] = measure.take_turns(ways, seconds=0).fastest(list(ways))
    calls = [convolution(shapes, memory, FORMATS[faster[shapes]]) for shapes in recorded]

    def run() -> None:
        for call in calls:
            call()

    return run, sum(faster[shapes] == "channels last" for shapes in recorded)


@torch.no_grad()
def compare(size: str, args) -> None:
    model = random_model(size)
    plain = PlainLLFlow.like(model)
    folded = model.fold()
    height, width = (32, 48) if args.quick else (400, 600)
    low = network_input(*(torch.rand(3, height, width) * share for share in (0.2, 1.0)))[None]

    def ours() -> Tensor:
        cond = folded.condition(low)
        return folded.typical(cond)

    def theirs() -> Tensor:
        return plain.enhance(low)

    measure.agree(f"llflow, {size}", ours(), theirs(), 1e-4)
    peaks = {}
    for way, run in {"llflow": ours, "plain": theirs}.items():
        with LiveBytes() as live:
            run()
        peaks[way] = live.peak
    with Convolutions() as convolutions:
        theirs()
    alone, in_channels_last = convolutions_alone(convolutions.shapes)
    ways = {"llflow": ours, "plain": theirs, "convolutions": alone}
    times = measure.take_turns(ways, seconds=args.seconds, rounds=args.rounds)
    rows = [
        {
            "size": size,
            "way": way,
            "least s": times.least(way),
            "time, of the plain network's": times.ratio(way, "plain"),
            "time, of the convolutions'": times.ratio(way, "convolutions"),
            "peak memory, MB": f"{peaks[way] / 1e6:.1f}" if way in peaks else "–",
        }
        for way in ways
    ]
    results = (
        times.ratio("llflow", "plain").median,
        times.ratio("llflow", "convolutions").median,
        peaks["llflow"] / peaks["plain"],
    )
    remark = f"{in_channels_last} of {len(convolutions.shapes)} faster channels last"
    judged = zip(targets_of(size), results, ("", remark, ""), strict=True)
    measure.record(
        f"enhance_{size}",
        args,
        doc=__doc__,
        tables={f"Enhancing {height}×{width}, {size}, threads: {args.threads}": rows},
        targets=[target.judged(*result) for target, *result in judged if size != "narrow"],
        implementation={
            "affine_coupling": affine_coupling_choice(low, low),
            "linear_map": linear_map_choice(low, torch.eye(6)),
        },
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=CONFIGS, default=["narrow", "small"])
    parser.add_argument("--rounds", type=int, help="(default: as many as the seconds allow)")
    parser.set_defaults(threads=torch.get_num_threads(), seconds=40.0)
    args = measure.begin(parser, argv)
    for size in args.sizes:
        compare(size, args)


if __name__ == "__main__":
    sys.exit(main())
