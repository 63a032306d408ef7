"""Well-known flows, one line each; every one is an ordinary `Flow` to print, slice and change.

All take the shape of a sample, C or (C, *S), and that of the condition: D or (D,) for a vector,
which holds at every place; (D, *S) for one with places; a mapping of such by name, each entry of
which is seen by layers of its own; or None. They refuse in words (ValueError, TypeError) what isn't
a shape, sizes that aren't at least 1, and conditions whose places no layer has.

`flow.bijection` is a `Chain`, the base a `StandardNormal` of the noise's shape, so that
`flow.sample(num_samples=…)` knows it; `Flow(flow.bijection)` is for samples of any size. Call
`flowkit.initialize` before training, or train by `flowkit.fit`, which does.

>>> import torch
>>> flow = nsf(2, cond={"age": 1, "genes": 20}, steps=3)
>>> cond = {"age": torch.zeros(4, 1), "genes": torch.zeros(4, 20)}
>>> flow.sample(cond, num_samples=5).shape
torch.Size([5, 4, 2])
>>> glow((3, 16, 16), steps=2).log_prob(torch.rand(2, 3, 16, 16)).shape
torch.Size([2])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from flowkit.combine import At, Chain, Inverse, OnChannels, split
from flowkit.contract import Bijection, Shape
from flowkit.density import Flow, StandardNormal
from flowkit.elementwise import Affine, Elementwise, LogisticMixture, RationalQuadraticSpline
from flowkit.layers import (
    PLU,
    ActNorm,
    Autoregressive,
    Checkerboard,
    Coupling,
    Flip,
    Injector,
    InvertibleLinear,
    MaskedCoupling,
    Orthogonal,
    Permute,
    Pointwise,
    Squeeze,
    TokenAutoregressive,
)
from flowkit.nets import (
    MADE,
    MLP,
    CausalTransformer,
    ConvAttentionNet,
    ConvNet,
    MaskedConv,
    ResNet,
    Transformer,
)
from flowkit.nets.conditioner import Net
from flowkit.ops import SoftplusScale

__all__ = [
    "flowplusplus",
    "gaussianization",
    "glow",
    "iaf",
    "jet",
    "maf",
    "nsf",
    "realnvp",
    "tarflow",
]

CondShape = int | Shape | Mapping[str, int | Shape] | None
Seen = Shape | None
"""The shape of what a layer sees of the condition, None for nothing."""
Part = Callable[[int, Shape], Chain]
"""Makes the layers for so many channels at these places."""


def nsf(
    shape: int | Shape,
    cond: CondShape = None,
    *,
    steps: int = 5,
    hidden: int = 64,
    bins: int = 8,
    bound: float = 5.0,
) -> Flow:
    """Neural spline flow: `steps` × (ActNorm, linear map, coupling by rational-quadratic splines),
    behind an ActNorm, a shift and a scale that the condition alone decides.

    Beyond ±`bound` the splines are the identity; the ActNorms bring the data within. The linear
    maps of a vector begin as a turn of the order of its channels, which leaves the edges of boxes
    along the axes; its nets are residual, their output divided by √hidden where there is a
    condition, which overfits later. Durkan et al., 2019, arXiv:1906.04032, RQ-NSF (C).
    """
    flow = _Composed("nsf", shape, cond, steps=steps, hidden=hidden)
    how = RationalQuadraticSpline(bins, bound)
    net, weight = _net(flow.places, hidden), PLU
    if not flow.places:
        gain = hidden**-0.5 if flow.entries else 1.0
        net = partial(ResNet, hidden=hidden, blocks=1, gain=gain)
        weight = partial(PLU, start=torch.eye(flow.channels).flip(0))

    def centred(seen: Seen) -> Bijection:
        assert seen is not None
        made = _net(seen[1:], hidden) if flow.places else net
        return Injector(flow.channels, made, Affine(SoftplusScale()), cond_channels=seen[0])

    def step(number: int) -> list[Bijection]:
        layer = partial(_coupling, flow.channels, flow.places, net, how, number)
        return [*_mixed(flow.channels, weight), *flow.on(flow.places, layer)]

    # Without it a net's shift and scale would move by steps that fit no unit of the data.
    first = [ActNorm(flow.channels), *flow.on(flow.places, centred)] if flow.entries else []
    return flow.of(Chain(*first, *_repeated(steps, step)))


def maf(
    shape: int | Shape,
    cond: CondShape = None,
    *,
    steps: int = 5,
    hidden: int = 64,
    how: Elementwise = Affine(),
) -> Flow:
    """Masked autoregressive flow: `steps` × (ActNorm, autoregressive map, channels in reverse).

    One pass for a density, C·|S| for a sample. `how=RationalQuadraticSpline()` is RQ-NSF (AR).
    Papamakarios et al., 2017, arXiv:1705.07057, with ActNorm in place of batch norm.
    """
    flow = _Composed("maf", shape, cond, steps=steps, hidden=hidden)
    layer = _autoregressive(flow, hidden, how)
    return flow.of(
        _repeated(steps, lambda _: [ActNorm(flow.channels), *flow.on(flow.places, layer), Flip()])
    )


def iaf(
    shape: int | Shape,
    cond: CondShape = None,
    *,
    steps: int = 5,
    hidden: int = 64,
    how: Elementwise = Affine(),
) -> Flow:
    """Inverse autoregressive flow: `steps` × (inverse of an autoregressive map, Flip).

    One pass for a sample and its density (`rsample_and_log_prob`), as an ELBO wants it; C·|S| for
    the density of other data. Kingma et al., 2016, arXiv:1606.04934.
    """
    flow = _Composed("iaf", shape, cond, steps=steps, hidden=hidden)
    layer = _autoregressive(flow, hidden, how)

    def inverse(seen: Seen) -> Bijection:
        return Inverse(layer(seen))

    return flow.of(_repeated(steps, lambda _: [*flow.on(flow.places, inverse), Flip()]))


def gaussianization(
    shape: int | Shape,
    cond: CondShape = None,
    *,
    steps: int = 6,
    hidden: int = 64,
    components: int = 8,
) -> Flow:
    """Gaussianization flow: `steps` × (ActNorm, rotation of the channels, each channel by itself
    through the distribution function of a mixture).

    The mixtures are learned numbers; of a condition, a net makes them. Sampling finds the inverse
    by bisection. Meng et al., 2020, arXiv:2003.01941, with logits for the normal quantile.
    """
    flow = _Composed("gaussianization", shape, cond, steps=steps, hidden=hidden)
    how = LogisticMixture(components)

    def each(seen: Seen) -> Bijection:
        if seen is None:
            return Pointwise(flow.channels, how)
        return Injector(flow.channels, _net(seen[1:], hidden), how, cond_channels=seen[0])

    def step(_: int) -> list[Bijection]:
        return [*_mixed(flow.channels, Orthogonal), *flow.on(flow.places, each)]

    return flow.of(_repeated(steps, step))


def realnvp(
    shape: int | Shape,
    cond: CondShape = None,
    *,
    steps: int = 4,
    hidden: int = 64,
    levels: int = 2,
) -> Flow:
    """Real NVP. Vectors: 2·`steps` × (ActNorm, affine coupling, Flip). With places, on each of
    `levels`: `steps` couplings by checkerboards, squeeze, as many by channels, and half of the
    channels are done with.

    Dinh et al., 2017, arXiv:1605.08803, §3.4-3.6, with ActNorm in place of batch norm.
    """
    flow = _Composed("realnvp", shape, cond, steps=steps, hidden=hidden, levels=levels)

    def by_channels(channels: int, places: Shape) -> Chain:
        layer = partial(_coupling, channels, places, _net(places, hidden), Affine(), 0)
        step = lambda _: [ActNorm(channels), *flow.on(places, layer), Flip()]  # noqa: E731
        return _repeated(steps if places else 2 * steps, step)

    def by_places(channels: int, places: Shape) -> Chain:
        return _checkered(flow, channels, places, steps, _net(places, hidden), Affine())

    def leave(kept: int, _: Shape, rest: Chain) -> Bijection:
        return OnChannels(kept, rest)

    return flow.multiscale(by_places, by_channels, leave, levels)


def glow(
    shape: int | Shape,
    cond: CondShape = None,
    *,
    steps: int = 8,
    hidden: int = 64,
    levels: int = 2,
) -> Flow:
    """Glow: on each of `levels` a squeeze, `steps` × (ActNorm, linear map, affine coupling), and
    half of the channels become noise given the other half, which go on. Vectors: the steps alone.

    Kingma & Dhariwal, 2018, arXiv:1807.03039, fig. 2.
    """
    flow = _Composed("glow", shape, cond, steps=steps, hidden=hidden, levels=levels)

    def by_channels(channels: int, places: Shape) -> Chain:
        layer = partial(_coupling, channels, places, _net(places, hidden), Affine(), 0)
        return _repeated(steps, lambda _: [*_mixed(channels, PLU), *flow.on(places, layer)])

    def leave(kept: int, places: Shape, rest: Chain) -> Bijection:
        prior = partial(_prior, kept, _net(places, hidden))
        *others, last = flow.on(places, prior)
        return Chain(*others, *split(kept, rest, last))

    return flow.multiscale(None, by_channels, leave, levels)


def flowplusplus(
    shape: int | Shape,
    cond: CondShape = None,
    *,
    steps: int = 4,
    hidden: int = 64,
    blocks: int = 2,
    heads: int = 4,
    components: int = 8,
) -> Flow:
    """Flow++: couplings by mixtures of logistics. With places, `steps` by checkerboards, squeeze,
    `steps` by channels, of nets with gated convolutions and self-attention; vectors: `steps` by
    channels, of residual networks.

    `Dequantized(flow, noise=…)` is its variational dequantisation. Sampling finds the inverse by
    bisection. Ho et al., 2019, arXiv:1902.00275, §3.2.
    """
    sizes = {"steps": steps, "hidden": hidden, "blocks": blocks, "heads": heads}
    flow = _Composed("flowplusplus", shape, cond, **sizes)
    how = LogisticMixture(components)
    net = partial(ResNet, hidden=hidden, blocks=blocks)
    if flow.places:
        axes = len(flow.places)
        net = partial(ConvAttentionNet, hidden=hidden, blocks=blocks, heads=heads, axes=axes)

    def by_channels(channels: int, places: Shape) -> Chain:
        layer = partial(_coupling, channels, places, net, how, 0)
        return _repeated(steps, lambda _: [*_mixed(channels, PLU), *flow.on(places, layer)])

    def by_places(channels: int, places: Shape) -> Chain:
        return _checkered(flow, channels, places, steps, net, how)

    return flow.multiscale(by_places, by_channels, None, levels=1)


def jet(
    shape: Shape,
    cond: CondShape = None,
    *,
    steps: int = 10,
    patch: int = 4,
    hidden: int = 64,
    depth: int = 2,
    heads: int = 4,
) -> Flow:
    """Jet: patches of `patch` × `patch` as tokens, and `steps` couplings by vision transformers, of
    which every fifth keeps half of the tokens and the others half of the channels, shuffled.

    One pass for a density and one for a sample. Entries of the condition may have places of their
    own, at any resolution. `Flow(Reversible(flow.bijection))` trains in constant memory.
    Kolesnikov et al., Jet, 2024, arXiv:2412.15129, with `ExpScale` for their scale.
    """
    flow = _Composed("jet", shape, cond, steps=steps, patch=patch, depth=depth, heads=heads)
    channels, places = flow.patched(patch)
    net = partial(Transformer, hidden=hidden, depth=depth, heads=heads, axes=len(places))

    def step(number: int) -> list[Bijection]:
        by_places = number % 5 == 4 or channels == 1

        def layer(seen: Seen) -> Bijection:
            depth = seen[0] if seen else 0
            if by_places:
                board = Checkerboard(odd=number % 2 == 1)
                return MaskedCoupling(channels, board, net, cond_channels=depth)
            return Coupling(channels, net, cond_channels=depth)

        layers = flow.on(places, layer, any_places=True)
        return layers if by_places else [Permute(torch.randperm(channels).tolist()), *layers]

    return flow.of(Chain(Squeeze(patch), *_repeated(steps, step)))


def tarflow(
    shape: Shape,
    cond: CondShape = None,
    *,
    steps: int = 4,
    patch: int = 4,
    hidden: int = 64,
    depth: int = 2,
    heads: int = 4,
    parallel: float | None = None,
) -> Flow:
    """TarFlow: patches of `patch` × `patch` as tokens, and `steps` autoregressive maps of them by
    causal transformers, every other one from the last token to the first.

    One pass for a density, one step a token for a sample, or rounds of all tokens with `parallel`,
    see `TokenAutoregressive`. Entries of the condition may have places of their own, at any
    resolution. Zhai et al., 2024, arXiv:2412.06329, with the scale and the positions of Gu et al.,
    STARFlow, 2025, arXiv:2506.06276.
    """
    flow = _Composed("tarflow", shape, cond, steps=steps, patch=patch, depth=depth, heads=heads)
    channels, places = flow.patched(patch)
    net = partial(CausalTransformer, hidden=hidden, depth=depth, heads=heads, axes=len(places))

    def step(number: int) -> list[Bijection]:
        def layer(seen: Seen) -> Bijection:
            return TokenAutoregressive(
                channels,
                net,
                reverse=number % 2 == 1,
                parallel=parallel,
                cond_channels=seen[0] if seen else 0,
            )

        return flow.on(places, layer, any_places=True)

    return flow.of(Chain(Squeeze(patch), *_repeated(steps, step)))


class _Composed:
    """The shapes that a flow was asked for, and what has been made of them so far."""

    def __init__(self, who: str, shape: int | Shape, cond: CondShape, **sizes: int) -> None:
        self.who = who
        self.channels, *places = self._shape("the shape of a sample", shape)
        self.places = tuple(places)
        entries = cond if isinstance(cond, Mapping) else {} if cond is None else {None: cond}
        if isinstance(cond, Mapping) and not cond:
            raise ValueError(f"{who}: expected entries in the condition, got none (cond=None?)")
        self.entries = {
            key: self._shape("the condition" if key is None else f"condition {key!r}", entry)
            for key, entry in entries.items()
        }
        for name, size in sizes.items():
            if type(size) is not int or size < 1:
                raise ValueError(f"{who}: expected {name} as an integer >= 1, got {size!r}")
        self.met: set[Shape] = set()

    def _shape(self, what: str, shape: int | Shape) -> Shape:
        sizes = (shape,) if isinstance(shape, int) else shape
        if not isinstance(sizes, tuple | list) or not sizes:
            raise TypeError(f"{self.who}: expected {what} as C or (C, *S), got {shape!r}")
        if any(type(size) is not int or size < 1 for size in sizes):
            raise ValueError(f"{self.who}: expected {what} of sizes >= 1, got {shape!r}")
        return tuple(sizes)

    def on(
        self, places: Shape, layer: Callable[[Seen], Bijection], *, any_places: bool = False
    ) -> list[Bijection]:
        """A layer for each entry of the condition that fits these places, or may have any; one
        without if there is none."""
        fitting = {k: e for k, e in self.entries.items() if any_places or e[1:] in ((), places)}
        self.met |= {places, *(e[1:] for e in fitting.values())}
        layers = {key: layer(entry) for key, entry in fitting.items()}
        return [b if key is None else At(key, b) for key, b in layers.items()] or [layer(None)]

    def of(self, chain: Chain) -> Flow:
        """The flow of all layers, once every entry of the condition has been seen by some."""
        for key, entry in self.entries.items():
            if entry[1:] and entry[1:] not in self.met:
                name = "the condition" if key is None else f"condition {key!r}"
                places = " or ".join(map(str, sorted(self.met - {()}, reverse=True)))
                wanted = f"({entry[0]},)" + (f", or one of places {places}" if places else "")
                raise ValueError(
                    f"{self.who}: expected {name} as a vector {wanted}, which its layers have, "
                    f"got {entry}"
                )
        return Flow(chain, StandardNormal(chain.shape((self.channels, *self.places))))

    def patched(self, patch: int) -> tuple[int, Shape]:
        """Channels and places of tokens, each a patch of this size on every axis."""
        if not self.places or any(size % patch for size in self.places):
            raise ValueError(
                f"{self.who}: expected samples (C, *S) with places that are multiples of "
                f"patch={patch}, got {(self.channels, *self.places)}; crop or pad them, or another "
                "patch"
            )
        return self.channels * patch ** len(self.places), tuple(s // patch for s in self.places)

    def multiscale(
        self,
        before: Part | None,
        after: Part,
        leave: Callable[[int, Shape, Chain], Bijection] | None,
        levels: int,
    ) -> Flow:
        """`before`, a squeeze, `after`; then one half of the channels leave, and the other goes
        through the same, `levels` times in all. Vectors: `after` alone."""
        if not self.places:
            return self.of(after(self.channels, ()))
        if any(size % 2**levels for size in self.places):
            fewer = ", or fewer levels" if levels > 1 else ""
            raise ValueError(
                f"{self.who}: expected places that are multiples of {2**levels}, for {levels} "
                f"squeezes, got {self.places}; crop or pad them{fewer}"
            )

        def level(channels: int, places: Shape, left: int) -> Chain:
            layers = [*(before(channels, places) if before else ()), Squeeze()]
            channels, places = channels * 2 ** len(places), tuple(size // 2 for size in places)
            layers += after(channels, places)
            if leave is not None and left > 1:
                kept = channels // 2
                rest = Chain(*level(kept, places, left - 1), Inverse(Squeeze()))
                layers.append(leave(kept, places, rest))
            return Chain(*layers)

        return self.of(level(self.channels, self.places, levels))


def _coupling(
    channels: int, places: Shape, net: Net, how: Elementwise, number: int, seen: Seen
) -> Bijection:
    """By channels; of one channel alone by places, and of one number given the condition alone."""
    depth = seen[0] if seen else 0
    if channels > 1:
        return Coupling(channels, net, how, cond_channels=depth)
    if places:
        board = Checkerboard(odd=number % 2 == 1)
        return MaskedCoupling(1, board, net, how, cond_channels=depth)
    return Injector(1, net, how, cond_channels=depth) if depth else Pointwise(1, how)


def _prior(kept: int, net: Net, seen: Seen) -> Coupling:
    """p(z₂ | z₁, cond)."""
    return Coupling(2 * kept, net, kept=kept, cond_channels=seen[0] if seen else 0)


def _checkered(
    flow: _Composed, channels: int, places: Shape, steps: int, net: Net, how: Elementwise
) -> Chain:
    """Couplings that keep the fields of one colour, then those of the other."""

    def step(number: int) -> list[Bijection]:
        def layer(seen: Seen) -> Bijection:
            board = Checkerboard(odd=number % 2 == 1)
            return MaskedCoupling(channels, board, net, how, cond_channels=seen[0] if seen else 0)

        return [ActNorm(channels), *flow.on(places, layer)]

    return _repeated(steps, step)


def _autoregressive(
    flow: _Composed, hidden: int, how: Elementwise
) -> Callable[[Seen], Autoregressive]:
    net, axes = partial(MaskedConv if flow.places else MADE, hidden=hidden), len(flow.places)
    return lambda seen: Autoregressive(
        flow.channels, net, how, axes=axes, cond_channels=seen[0] if seen else 0
    )


def _net(places: Shape, hidden: int) -> Net:
    return (
        partial(ConvNet, hidden=hidden, axes=len(places)) if places else partial(MLP, hidden=hidden)
    )


def _mixed(channels: int, weight: Callable) -> list[Bijection]:
    return [ActNorm(channels), InvertibleLinear(channels, weight)]


def _repeated(steps: int, step: Callable[[int], list[Bijection]]) -> Chain:
    return Chain(*(layer for number in range(steps) for layer in step(number)))
