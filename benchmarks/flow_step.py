"""How fast are flow steps, against normflows, FrEIA and nflows?

python benchmarks/flow_step.py

Four steps of [actnorm, linear map, affine coupling] at 12×80×80, batch 4. With a net of one 1x1
convolution ("glue") the time is the library's own; with Glow's net of 64 channels most of it is
the net's convolutions. Every library is built of the layers of its own that come closest, its
inverse has to invert and its log-det to be that of the Jacobian, or it isn't timed:

    flowkit    ActNorm, InvertibleLinear, Coupling with a sigmoid scale; also folded
    normflows  ActNorm, Invertible1x1Conv by LU, AffineCouplingBlock with a sigmoid scale
    FrEIA      AllInOneBlock: a learned scale per channel, a fixed random rotation, exp(tanh) scale
    nflows     ActNorm, OneByOneConvolution by LU, cached where that is possible,
               AffineCouplingTransform with a sigmoid scale
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import FrEIA.framework
import FrEIA.modules
import measure
import normflows
import torch
from measure import Target, Times
from nflows.transforms import (
    ActNorm,
    AffineCouplingTransform,
    CompositeTransform,
    OneByOneConvolution,
)
from torch import Tensor, nn

import flowkit
from flowkit.ops import SigmoidScale, affine_coupling_choice, linear_map_choice

STEPS, CHANNELS = 4, 12
TARGETS = {
    what: Target(f"glue of a flow step, {what}, time of the fastest peer's", 0.9)
    for what in ("encode", "decode", "train")
}
JUDGED = {"encode": "flowkit, folded", "decode": "flowkit, folded", "train": "flowkit"}

Net = Callable[[int, int], nn.Module]


def glue(c_in: int, c_out: int) -> nn.Module:
    return nn.Conv2d(c_in, c_out, 1)


def usual(c_in: int, c_out: int, hidden: int = 64) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(c_in, hidden, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, c_out, 3, padding=1),
    )


class WithoutContext(nn.Module):
    """nflows hands its nets a context; ours take none."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, context: object = None) -> Tensor:
        return self.net(x)


class NormflowsSteps(nn.Module):
    """Its `forward` is noise -> data, so encoding is the inverse of the layers in reverse."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        half = CHANNELS // 2
        self.layers = nn.ModuleList(
            layer
            for _ in range(STEPS)
            for layer in (
                normflows.flows.AffineCouplingBlock(net(half, CHANNELS), scale_map="sigmoid"),
                normflows.flows.Invertible1x1Conv(CHANNELS, use_lu=True),
                normflows.flows.ActNorm((CHANNELS, 1, 1)),
            )
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(x.shape[0])
        for layer in reversed(self.layers):
            x, logdet = layer.inverse(x)
            total = total + logdet
        return x, total

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(z.shape[0])
        for layer in self.layers:
            z, logdet = layer(z)
            total = total + logdet
        return z, total


class FreiaSteps(nn.Module):
    def __init__(self, net: Net, height: int, width: int) -> None:
        super().__init__()
        self.flow = FrEIA.framework.SequenceINN(CHANNELS, height, width)
        for _ in range(STEPS):
            self.flow.append(FrEIA.modules.AllInOneBlock, subnet_constructor=net, permute_soft=True)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow(x)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow(z, rev=True)


class NflowsSteps(nn.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        mask = [0] * (CHANNELS // 2) + [1] * (CHANNELS - CHANNELS // 2)
        layers = (
            layer
            for _ in range(STEPS)
            for layer in (
                ActNorm(CHANNELS),
                OneByOneConvolution(CHANNELS, using_cache=True),
                AffineCouplingTransform(mask, lambda i, o: WithoutContext(net(i, o))),
            )
        )
        self.flow = CompositeTransform(layers)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow(x)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow.inverse(z)


class FlowkitSteps(nn.Module):
    def __init__(self, chain: flowkit.Bijection) -> None:
        super().__init__()
        self.chain = chain

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain(x)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain.inverse(z)


def built(net: Net, height: int, width: int) -> dict[str, nn.Module]:
    """Each library's steps, their actnorms initialised and all parameters moved off zero."""
    chain = flowkit.Chain(
        *(
            layer
            for _ in range(STEPS)
            for layer in (
                flowkit.ActNorm(CHANNELS),
                flowkit.InvertibleLinear(CHANNELS),
                flowkit.Coupling(CHANNELS, net, flowkit.Affine(SigmoidScale())),
            )
        )
    )
    flows = {
        "flowkit": FlowkitSteps(chain),
        "normflows": NormflowsSteps(net),
        "FrEIA": FreiaSteps(net, height, width),
        "nflows": NflowsSteps(net),
    }
    x = torch.randn(4, CHANNELS, height, width)
    flowkit.initialize(chain, x)
    for flow in flows.values():
        with torch.no_grad():
            flow.encode(x)  # the peers initialise in their first pass
            for parameter in flow.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.02 * torch.randn_like(parameter))
    flows["flowkit, folded"] = FlowkitSteps(chain.fold())
    return flows


def check(name: str, flow: nn.Module, height: int, width: int) -> None:
    """That the inverse inverts, and that the log-det is that of the Jacobian."""
    x = torch.randn(2, CHANNELS, height, width)
    with torch.no_grad():
        z, logdet = flow.encode(x)
        back, opposite = flow.decode(z)
    measure.agree(f"{name}, inverse", back, x, 1e-4)
    measure.agree(f"{name}, log-det of the inverse", opposite, -logdet, 1e-5)
    # The same layers in float64 on a patch whose Jacobian is small.
    exact = copy.deepcopy(flow).double().eval()
    patch = torch.randn(1, CHANNELS, 2, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: exact.encode(x)[0], patch)
    expected = torch.linalg.slogdet(jacobian.reshape(patch.numel(), -1)).logabsdet
    measure.agree(f"{name}, log-det", exact.encode(patch)[1].reshape(()), expected, 3e-5)


def train_step(flow: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    z, logdet = flow.encode(x)
    loss = (0.5 * z.square().sum((1, 2, 3)) - logdet).mean()
    return torch.autograd.grad(loss, [p for p in flow.parameters() if p.requires_grad])


def compare(flows: dict[str, nn.Module], x: Tensor, seconds: float) -> dict[str, Times]:
    """By direction."""
    for flow in flows.values():
        flow.eval()
    with torch.no_grad():
        encode = {name: flow.encode for name, flow in flows.items()}
        decode = {name: flow.decode for name, flow in flows.items()}
        times = {
            "encode": measure.take_turns(encode, [(x,)], seconds=seconds),
            "decode": measure.take_turns(decode, [(x,)], seconds=seconds),
        }
    trained = {name: flow.train() for name, flow in flows.items() if "folded" not in name}
    train = {name: partial(train_step, flow) for name, flow in trained.items()}
    return times | {"train": measure.take_turns(train, [(x,)], seconds=seconds)}


def main(argv: Sequence[str] | None = None) -> None:
    args = measure.begin(measure.arguments(__doc__), argv)
    # What the peers' constructors and inverses call is theirs to replace.
    warnings.filterwarnings("ignore", r"torch\.(lu|triangular_solve) is deprecated", UserWarning)
    side = 8 if args.quick else 80
    x = torch.randn(4, CHANNELS, side, side)
    tables, targets = {}, []
    for title, net in {"glue": glue, "usual net": usual}.items():
        flows = built(net, side, side)
        for name, flow in flows.items():
            check(name, flow, side, side)
        rows = []
        for what, times in compare(flows, x, args.seconds).items():
            peers = [name for name in times.seconds if not name.startswith("flowkit")]
            fastest = times.fastest(peers)
            for way in times.seconds:
                rows.append(
                    {
                        "what": what,
                        "way": way,
                        "least ms": 1e3 * times.least(way),
                        "time, of the fastest peer": times.ratio(way, fastest),
                    }
                )
            if title == "glue":
                ratio = times.ratio(JUDGED[what], fastest).median
                targets.append(TARGETS[what].judged(ratio, f"{JUDGED[what]}, against {fastest}"))
        tables[f"{STEPS} flow steps, {title}, {CHANNELS}×{side}×{side}, batch 4"] = rows
    measure.record(
        "flow_step",
        args,
        doc=__doc__,
        tables=tables,
        targets=targets,
        implementation={
            "affine_coupling": affine_coupling_choice(x, x),
            "linear_map": linear_map_choice(x, torch.eye(CHANNELS)),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
