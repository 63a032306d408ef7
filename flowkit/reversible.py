"""Training in constant memory: activations are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from flowkit.combine import At, Chain, Inverse, OnChannels, split
from flowkit.combine.parts import require_bijection, run, say_where
from flowkit.contract import (
    Bijection,
    Cond,
    Example,
    HoldsCondition,
    Shape,
    exactly,
    require_channels,
    wide,
    zero_logdet,
)
from flowkit.elementwise import apply
from flowkit.layers import Coupling, Injector, InvertibleLinear, Parameterized, Pointwise, Squeeze
from flowkit.nets import ConvNet

KEEP = ("nothing", "inputs")
SAMPLED = 64  # positions of each channel at which the input is compared with its reconstruction


class Drifted(ArithmeticError):
    """The input that inversion gave back in the backward pass isn't the one that went in."""


class Reversible(Bijection):
    """`bijection`, but what training has to remember of its steps doesn't grow with their number.

    The steps (a chain's layers, also of chains in chains, in `At`, `Inverse` and `OnChannels`) run
    without autograd's records. In the backward pass each is run again, last to first, with records
    of that one step only. Gradients equal stored ones up to rounding. What else needs memory, such
    as a net's activations within one step, is as before.

    Nets have to give the same output twice: dropout and batch norm in training mode are refused,
    and so is what draws random numbers or writes to its buffers.
    `torch.compile` of the nets inside works; compiled as a whole, the module is plain `bijection`.

    Args:
        bijection: the map; one inside any other bijection than the four above is one step.
        keep: "nothing": a step's input is its output inverted, and a coupling's net runs once for
            both inversion and gradient. "inputs": every step's input is kept, which costs memory
            for one sample a step, and nothing is inverted; for nets in bf16, whose rounding makes
            inversion drift.
        tolerance: largest error of the inverted input, relative to the input's largest value (or to
            a thousandth of the output's, where the input is next to nothing), which is looked at in
            64 positions of each channel. None: don't look; on CUDA looking waits for the device.

    Raises:
        TypeError: something inside has a condition of its own (bind it outside:
            `Reversible(...).given(cond)`).
        ValueError (on use): a net inside wouldn't give the same output twice.
        Drifted (in the backward pass): the error is larger.

    Gomez et al., The reversible residual network, 2017, arXiv:1707.04585, for flows as in Kingma &
    Dhariwal, Glow, 2018, arXiv:1807.03039, §3.

    >>> chain = Reversible(Chain(InvertibleLinear(3), InvertibleLinear(3)))
    >>> y, logdet = chain(torch.rand(2, 3, 4, 4))
    >>> y.shape, logdet.shape
    (torch.Size([2, 3, 4, 4]), torch.Size([2]))
    """

    def __init__(
        self, bijection: Bijection, *, keep: str = "nothing", tolerance: float | None = 1e-2
    ) -> None:
        super().__init__()
        if keep not in KEEP:
            raise ValueError(f"Reversible: expected keep among {', '.join(KEEP)}, got {keep!r}")
        self.bijection = require_bijection(self, bijection)
        self.keep = keep
        self.tolerance = tolerance
        for name, module in bijection.named_modules():
            if isinstance(module, HoldsCondition):
                raise TypeError(
                    f"Reversible: expected conditions to come with the call, got one inside "
                    f"{name or 'the bijection'} ({type(module).__name__}); bind it outside: "
                    "Reversible(...).given(cond)"
                )

    @property
    def conditional(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.bijection.conditional

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return self.bijection(x, cond)
        return self._run(x, cond, inverse=False)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return self.bijection.inverse(y, cond)
        return self._run(y, cond, inverse=True)

    def _run(self, x: Tensor, cond: Cond, *, inverse: bool) -> tuple[Tensor, Tensor]:
        require_channels(self, x)
        _require_repeatable(self.bijection)
        before = _memory(self.bijection, x)
        learned = _learned(self.bijection)
        y, logdet = _Steps.apply(self, inverse, cond, learned, wide(x), *learned, *_tensors(cond))
        _require_unmoved(before, _memory(self.bijection, x))
        return y, logdet

    def shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        return self.bijection.shape(shape, inverse=inverse)

    def fold(self) -> Bijection:
        return self.bijection.fold() if exactly(self, Reversible) else super().fold()

    @classmethod
    def examples(cls) -> list[Example]:
        net = partial(ConvNet, hidden=4)

        def chain() -> Chain:
            injector = Injector(2, net, cond_channels=2)
            coupling = Coupling(2, net, cond_channels=2)
            return Chain(InvertibleLinear(2), At("half", Chain(injector, coupling)))

        def multiscale() -> Bijection:
            inner = Chain(Squeeze(), InvertibleLinear(4), Inverse(Squeeze()))
            return split(1, inner, Coupling(2, net, kept=1))

        shapes = (2, 2, 3), {"half": (2, 2, 3)}
        return [
            Example(lambda: cls(chain()), *shapes, name="nothing kept"),
            Example(lambda: cls(chain(), keep="inputs"), *shapes, name="inputs kept"),
            Example(lambda: cls(multiscale()), (2, 2, 4), name="multi-scale"),
        ]


def _require_repeatable(bijection: Bijection) -> None:
    for name, module in bijection.named_modules():
        drops = isinstance(module, _DropoutNd) and module.p > 0
        if module.training and (drops or isinstance(module, _BatchNorm)):
            raise ValueError(
                f"Reversible: expected nets that give the same output twice, got "
                f"{type(module).__name__} at {name} in training mode (eval() it, or leave it out)"
            )


def _learned(bijection: Bijection) -> list[Tensor]:
    """Everything inside that needs a gradient: parameters, and buffers that something made."""
    return [t for t in (*bijection.parameters(), *bijection.buffers()) if t.requires_grad]


def _memory(bijection: Bijection, x: Tensor) -> tuple[Tensor, dict[str, int]]:
    """What would tell that a pass isn't the same the second time: the random numbers' state, and
    how often each buffer was written to."""
    state = torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()
    return state, {name: buffer._version for name, buffer in bijection.named_buffers()}


def _require_unmoved(
    before: tuple[Tensor, dict[str, int]], after: tuple[Tensor, dict[str, int]]
) -> None:
    if not before[0].equal(after[0]):
        raise ValueError(
            "Reversible: expected nets that give the same output twice, got one that draws random "
            "numbers"
        )
    moved = [name for name, version in after[1].items() if before[1].get(name) != version]
    if moved:
        raise ValueError(
            f"Reversible: expected nets that give the same output twice, got ones that change "
            f"{moved} as they run"
        )


@dataclass(frozen=True)
class _Step:
    """One layer, run forward or backward, under its condition."""

    layer: Bijection
    cond: Cond
    inverse: bool
    places: tuple[int, ...] = ()
    """Its place in the chain, and in the chain within that."""

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return run(self.layer, x, self.cond, inverse=self.inverse)
        except Exception as error:
            for place in reversed(self.places):
                say_where(error, place, (), ())
            raise


@dataclass(frozen=True)
class _Part:
    """The first `channels` go on alone, the others wait, until `ends`, when they are joined."""

    channels: int
    ends: bool


def _plan(
    bijection: Bijection, cond: Cond, inverse: bool, places: tuple[int, ...] = ()
) -> list[_Step | _Part]:
    """The steps of a bijection in the order in which they run."""
    if exactly(bijection, Chain):
        assert isinstance(bijection, Chain)
        steps = [_plan(layer, cond, inverse, (*places, i)) for i, layer in enumerate(bijection)]
        return [step for part in steps[:: -1 if inverse else 1] for step in part]
    if exactly(bijection, At):
        assert isinstance(bijection, At)
        return _plan(bijection.bijection, bijection.entry(cond), inverse, places)
    if exactly(bijection, Inverse):
        assert isinstance(bijection, Inverse)
        return _plan(bijection.bijection, cond, not inverse, places)
    if exactly(bijection, OnChannels):
        assert isinstance(bijection, OnChannels)
        inner = _plan(bijection.bijection, cond, inverse, places)
        n = bijection.channels
        return [_Part(n, ends=False), *inner, _Part(n, ends=True)]
    return [_Step(bijection, cond, inverse, places)]


class _Waiting:
    """A tensor, of whose channels some may wait aside while the first ones change."""

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self.waiting: list[Tensor] = []

    def part(self, channels: int) -> None:
        self.waiting.append(self.value[:, channels:])
        self.value = self.value[:, :channels]

    def join(self) -> None:
        self.value = torch.cat([self.value, self.waiting.pop()], dim=1)


class _Steps(torch.autograd.Function):
    """All steps at once: runs them without records, and one by one with records on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        module: Reversible,
        inverse: bool,
        cond: Cond,
        learned: list[Tensor],
        x: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        # Which ones needed a gradient then: by the time of the backward pass some may be frozen.
        ctx.module, ctx.inverse, ctx.learned = module, inverse, learned
        ctx.autocast = _autocast(x.device.type)
        ctx.structure = _replaced(cond, iter([None] * len(_tensors(cond))))
        inputs, state, total = [], _Waiting(x), zero_logdet(x)
        for step in _plan(module.bijection, cond, inverse):
            if isinstance(step, _Part):
                state.join() if step.ends else state.part(step.channels)
                continue
            inputs.append(state.value)
            state.value, logdet = step.run(state.value)
            total = total + logdet
        y = state.value
        kept = inputs if module.keep == "inputs" else [y, _sampled(x)]
        ctx.save_for_backward(*kept, *tensors)
        ctx.kept = len(kept)
        # A chain of no steps would return its input itself.
        return y.view_as(y), total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        module, inverse, learned = ctx.module, ctx.inverse, ctx.learned
        saved = ctx.saved_tensors  # unpacked once: a checkpoint around this allows no second time
        kept, tensors = saved[: ctx.kept], saved[ctx.kept :]
        conds = [t.detach().requires_grad_(t.requires_grad) for t in tensors[len(learned) :]]
        cond = _replaced(ctx.structure, iter(conds))
        inputs = list(kept) if module.keep == "inputs" else None
        value = None if inputs is not None else _Waiting(kept[0])
        grad, grad_logdet = _Waiting(grads[0]), grads[1]
        sums: dict[Tensor, Tensor] = {}
        for step in reversed(_plan(module.bijection, cond, inverse)):
            if isinstance(step, _Part):
                for state in (grad, value):
                    if state is not None:
                        state.part(step.channels) if step.ends else state.join()
                continue
            with torch.enable_grad(), ctx.autocast():
                if value is None:
                    assert inputs is not None
                    parts = (inputs.pop().detach().requires_grad_(),)
                    output, logdet = step.run(parts[0])
                else:
                    parts, output, logdet = _retraced(step, value.value)
            wanted = [
                *(c for c in conds if c.requires_grad),
                *_learned(step.layer),
            ]
            found = _gradients(
                [output, logdet], [*parts, *wanted], [grad.value.to(output.dtype), grad_logdet]
            )
            grad.value = torch.cat(
                [
                    torch.zeros_like(part) if g is None else g
                    for part, g in zip(parts, found, strict=False)
                ],
                dim=1,
            )
            for tensor, gradient in zip(wanted, found[len(parts) :], strict=True):
                if gradient is not None:
                    sums[tensor] = sums[tensor] + gradient if tensor in sums else gradient
            if value is not None:
                value.value = torch.cat([part.detach() for part in parts], dim=1)
        if value is not None and module.tolerance is not None:
            _check(_sampled(value.value), kept[1], _sampled(kept[0]), module.tolerance)
        return (
            None,
            None,
            None,
            None,
            grad.value if ctx.needs_input_grad[4] else None,
            *(sums.get(tensor) for tensor in (*learned, *conds)),
        )


def _retraced(step: _Step, y: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """From a step's output y back to its input x, and on to y again with records.

    Returns x as leaves of the gradient, which joined along the channels are x; y and logdet.
    """
    layer = step.layer
    if any(exactly(layer, kind) for kind in (Coupling, Injector, Pointwise)):
        assert isinstance(layer, Parameterized)
        # What decides is the same on both sides, so the net runs once.
        kept = layer.kept if isinstance(layer, Coupling) else 0
        first, rest = y[:, :kept].detach(), y[:, kept:].detach()
        first.requires_grad_()
        params = layer.params(torch.cat([first, rest], dim=1), step.cond)
        with torch.no_grad():
            rest = apply(layer.how, y.detach(), params, inverse=not step.inverse)[0][:, kept:]
        rest = rest.detach().requires_grad_()
        parts = (first, rest) if kept else (rest,)
        return parts, *apply(layer.how, torch.cat(parts, dim=1), params, inverse=step.inverse)
    with torch.no_grad():
        x = _Step(layer, step.cond, not step.inverse).run(y)[0].detach()
    x.requires_grad_()
    return (x,), *step.run(x)


def _autocast(device: str) -> Callable[[], AbstractContextManager]:
    """Makes a context in which autocast is as it is now."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return partial(torch.autocast, device, dtype, enabled)


def _gradients(
    outputs: list[Tensor], inputs: list[Tensor], grads: list[Tensor]
) -> tuple[Tensor | None, ...]:
    pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
    return torch.autograd.grad(
        [o for o, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True
    )


def _sampled(x: Tensor) -> Tensor:
    """Some positions of each channel, drawn once for each size, so that no pattern of the data's
    can hide between them."""
    flat = x.detach().flatten(2) if x.dim() > 2 else x.detach()[:, :, None]
    generator = torch.Generator().manual_seed(flat.shape[2])
    places = torch.randint(max(1, flat.shape[2]), (SAMPLED,), generator=generator)
    return flat[:, :, places.to(flat.device)] if flat.numel() else flat


def _check(came: Tensor, expected: Tensor, output: Tensor, tolerance: float) -> None:
    if not expected.numel():
        return
    error = (came - expected).abs().max().item()
    largest = max(expected.abs().max().item(), output.abs().max().item() / 1000)
    allowed = tolerance * max(largest, torch.finfo(expected.dtype).tiny)
    if not error <= allowed:
        raise Drifted(
            f"Reversible: expected to get the input back within {allowed:.3g}, got {error:.3g}; "
            'nets in full precision, scales further from 0, or keep="inputs" would help'
        )


def _tensors(cond: Cond) -> list[Tensor]:
    """The tensors inside a condition, in a fixed order."""
    if isinstance(cond, Mapping):
        return [tensor for entry in cond.values() for tensor in _tensors(entry)]
    return [cond] if isinstance(cond, Tensor) else []


def _replaced(cond: Any, tensors: Iterator[Tensor | None]) -> Any:
    """`cond` with other tensors inside, in the order of `_tensors`."""
    if isinstance(cond, Mapping):
        return {key: _replaced(value, tensors) for key, value in cond.items()}
    if isinstance(cond, Tensor) or cond is _PLACE:
        tensor = next(tensors)
        return _PLACE if tensor is None else tensor
    return cond


_PLACE = object()
