"""Training in constant memory: activations are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowkit.bijection import Bijection, Cond, Example, Prepared, Shape, zero_logdet
from flowkit.combine import At, Chain
from flowkit.layers import AffineCoupling, AffineInjector, InvConv1x1
from flowkit.nets import ConvNet

KEEP = ("nothing", "inputs")
SAMPLED = 64  # about as many positions of the input are compared with their reconstruction


class Drifted(ArithmeticError):
    """The input that inversion gave back in the backward pass isn't the one that went in."""


class Reversible(Bijection):
    """`bijection`, but what training has to remember of its steps doesn't grow with their number.

    The steps (`Bijection.steps`: a chain's layers, also of chains in chains) run without autograd's
    records. In the backward pass each is run again, last to first, with records of that one step
    only. Gradients equal stored ones up to rounding. What else needs memory, such as a net's
    activations within one step, is as before.

    Nets have to give the same output twice: no dropout, no batch statistics. `torch.compile` of the
    nets inside works; compiled as a whole, the module is plain `bijection`.

    Args:
        bijection: the map; a chain that is inside another bijection than `Chain` and `At` counts as
            one step.
        keep: "nothing": a step's input is its output inverted, and a coupling's net runs once for
            both inversion and gradient. "inputs": every step's input is kept, which costs memory
            for one image a step, and nothing is inverted; for nets in bf16, whose rounding makes
            inversion drift.
        tolerance: largest error of the inverted input, relative to the input's largest value, which
            is looked at in some 64 positions of each channel. None: don't look; on CUDA looking
            waits for the device.

    Raises (in the backward pass):
        Drifted: the error is larger.

    Gomez et al., The reversible residual network, 2017, arXiv:1707.04585, for flows as in Kingma &
    Dhariwal, Glow, 2018, arXiv:1807.03039, §3.

    >>> chain = Reversible(Chain(InvConv1x1(3), InvConv1x1(3)))
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
        self.bijection = bijection
        self.keep = keep
        self.tolerance = tolerance

    def forward(self, x: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return self.bijection(x, cond)
        return self._run(x, cond, inverse=False)

    def inverse(self, y: Tensor, cond: Cond = None) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return self.bijection.inverse(y, cond)
        return self._run(y, cond, inverse=True)

    def _run(self, x: Tensor, cond: Cond, *, inverse: bool) -> tuple[Tensor, Tensor]:
        parameters = [p for p in self.bijection.parameters() if p.requires_grad]
        y, logdet = _Steps.apply(self, inverse, cond, x, *parameters, *_tensors(cond))
        return y, logdet

    def forward_shape(self, shape: Shape) -> Shape:
        return self.bijection.forward_shape(shape)

    def inverse_shape(self, shape: Shape) -> Shape:
        return self.bijection.inverse_shape(shape)

    def prepare(self, cond: Cond) -> Cond:
        return self.bijection.prepare(cond)

    def steps(self, cond: Cond) -> list[tuple[Bijection, Cond]]:
        return self.bijection.steps(cond)

    def fold(self) -> Bijection:
        return self.bijection.fold()

    @classmethod
    def examples(cls) -> list[Example]:
        net = partial(ConvNet, hidden=4)

        def chain() -> Chain:
            injector = AffineInjector(2, net, cond_channels=2)
            coupling = AffineCoupling(2, net, cond_channels=2)
            return Chain(InvConv1x1(2), At("half", Chain(injector, coupling)))

        shapes = (2, 2, 2), {"half": (2, 2, 2)}
        return [
            Example(lambda: cls(chain()), *shapes, name="nothing kept"),
            Example(lambda: cls(chain(), keep="inputs"), *shapes, name="inputs kept"),
        ]


class _Steps(torch.autograd.Function):
    """All steps at once: runs them without records, and one by one with records on the way back."""

    @staticmethod
    def forward(
        ctx: Any, module: Reversible, inverse: bool, cond: Cond, x: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.module, ctx.inverse = module, inverse
        ctx.autocast = _autocast(x.device.type)
        ctx.structure = _replaced(cond, iter([None] * len(_tensors(cond))))
        inputs, value, total = [], x, zero_logdet(x)
        for layer, layer_cond in _in_order(module.bijection, cond, inverse):
            inputs.append(value)
            value, logdet = (layer.inverse if inverse else layer)(value, layer_cond)
            total = total + logdet
        kept = inputs if module.keep == "inputs" else [value, _sampled(x)]
        ctx.save_for_backward(*kept, *tensors)
        ctx.kept = len(kept)
        # A chain of no steps would return its input itself.
        return value.view_as(value), total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, grad_logdet = grads
        module, inverse = ctx.module, ctx.inverse
        kept, tensors = ctx.saved_tensors[: ctx.kept], ctx.saved_tensors[ctx.kept :]
        parameters = [p for p in module.bijection.parameters() if p.requires_grad]
        conds = [t.detach().requires_grad_(t.requires_grad) for t in tensors[len(parameters) :]]
        cond = _replaced(ctx.structure, iter(conds))
        sums: dict[Tensor, Tensor] = {}
        inputs = list(kept) if module.keep == "inputs" else None
        value = None if inputs is not None else kept[0]
        for layer, layer_cond in reversed(_in_order(module.bijection, cond, inverse)):
            with torch.enable_grad(), ctx.autocast():
                if inputs is not None:
                    parts = (inputs.pop().detach().requires_grad_(),)
                    output, logdet = (layer.inverse if inverse else layer)(parts[0], layer_cond)
                else:
                    assert value is not None
                    parts, output, logdet = layer.retrace(value, layer_cond, inverse=inverse)
            wanted = [
                *(c for c in conds if c.requires_grad),
                *(p for p in layer.parameters() if p.requires_grad),
            ]
            found = _gradients(
                [output, logdet], [*parts, *wanted], [grad.to(output.dtype), grad_logdet]
            )
            grad = torch.cat(
                [
                    torch.zeros_like(part) if g is None else g
                    for part, g in zip(parts, found, strict=False)
                ],
                dim=1,
            )
            for tensor, gradient in zip(wanted, found[len(parts) :], strict=True):
                if gradient is not None:
                    sums[tensor] = sums[tensor] + gradient if tensor in sums else gradient
            if inputs is None:
                value = torch.cat([part.detach() for part in parts], dim=1)
        if inputs is None and module.tolerance is not None:
            assert value is not None
            _check(_sampled(value), kept[1], module.tolerance)
        return (
            None,
            None,
            None,
            grad if ctx.needs_input_grad[3] else None,
            *(sums.get(tensor) for tensor in (*parameters, *conds)),
        )


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


def _in_order(bijection: Bijection, cond: Cond, inverse: bool) -> list[tuple[Bijection, Cond]]:
    steps = bijection.steps(cond)
    return steps[::-1] if inverse else steps


def _sampled(x: Tensor) -> Tensor:
    """Some positions of each channel, about 64."""
    flat = x.detach().reshape(*x.shape[:2], -1)
    return flat[:, :, :: max(1, flat.shape[2] // SAMPLED)].clone()


def _check(came: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (came - expected).abs().max().item()
    allowed = tolerance * max(expected.abs().max().item(), torch.finfo(expected.dtype).tiny)
    if not error <= allowed:
        raise Drifted(
            f"Reversible: expected to get the input back within {allowed:.3g}, got {error:.3g}; "
            'nets in full precision, scales further from 0, or keep="inputs" would help'
        )


def _tensors(cond: Cond) -> list[Tensor]:
    """The tensors inside a condition, in a fixed order."""
    if isinstance(cond, Tensor):
        return [cond]
    return [tensor for part in _parts(cond) for tensor in _tensors(part)]


def _parts(cond: Cond) -> Iterator[Any]:
    if isinstance(cond, Prepared):
        yield cond.value
    elif isinstance(cond, Mapping):
        yield from cond.values()
    elif isinstance(cond, list | tuple):
        yield from cond


def _replaced(cond: Cond, tensors: Iterator[Tensor | None]) -> Cond:
    """`cond` with other tensors inside, in the order of `_tensors`."""
    if isinstance(cond, Tensor) or cond is _PLACE:
        tensor = next(tensors)
        return _PLACE if tensor is None else tensor
    if isinstance(cond, Prepared):
        return Prepared(cond.owner, _replaced(cond.value, tensors))
    if isinstance(cond, Mapping):
        return {key: _replaced(value, tensors) for key, value in cond.items()}
    if isinstance(cond, list | tuple):
        return [_replaced(value, tensors) for value in cond]
    return cond


_PLACE = object()
