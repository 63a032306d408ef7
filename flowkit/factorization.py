"""log|det W| and W⁻¹ of a parameter, worked out once for every value that it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary


@dataclass
class Factors:
    """An LU factorisation in float64, and what follows from it."""

    weight: Tensor
    lu: Tensor
    pivots: Tensor
    info: Tensor
    _inverse: Tensor | None = field(default=None, repr=False)

    def logabsdet(self) -> Tensor:
        return self.lu.diagonal().abs().log().sum()

    @property
    def singular(self) -> bool:
        return self.info.item() > 0

    def inverse(self) -> Tensor:
        """NaN if W is singular."""
        if self._inverse is not None:
            return self._inverse
        identity = torch.eye(len(self.lu), dtype=self.lu.dtype)
        inverse = torch.linalg.lu_solve(self.lu, self.pivots, identity)
        if self.singular:
            inverse.fill_(torch.nan)
        self._inverse = inverse
        return inverse


_known = WeakTensorKeyDictionary()


def logabsdet(weight: Tensor) -> Tensor:
    """log|det W| of W (C, C), float64; -∞ if W is singular."""
    if not _remembers(weight):
        return torch.linalg.slogdet(weight.double()).logabsdet
    return _LogAbsDet.apply(weight, _factors(weight))


def inverse(weight: Tensor) -> Tensor:
    """W⁻¹ of W (C, C), float64. It never waits for a GPU.

    Raises:
        torch.linalg.LinAlgError: W is singular, on the CPU. On other devices, where looking would
            mean waiting, W⁻¹ is NaN then.
    """
    if _remembers(weight):
        factors = _factors(weight)
        if factors.singular:
            shape = (*weight.shape,)
            raise torch.linalg.LinAlgError(  # pyright: ignore[reportPrivateImportUsage]
                f"InvConv1x1: expected an invertible W, got a singular one {shape}"
            )
        return _Inverse.apply(weight, factors)
    on_cpu = weight.device.type == "cpu" and not torch.compiler.is_compiling()
    inverted, info = torch.linalg.inv_ex(weight.double(), check_errors=on_cpu)
    return inverted.where(info == 0, torch.nan)


def _remembers(weight: Tensor) -> bool:
    """Values are compared, which on a GPU would mean waiting for it. A parameter's version doesn't
    tell: PyTorch's fused optimisers change the values and leave the version as it is."""
    return (
        type(weight) is nn.Parameter
        and weight.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()  # fake tensors, and whoever is watching
    )


def _factors(weight: Tensor) -> Factors:
    known = _known.get(weight)
    if known is None or known.weight.dtype != weight.dtype or not known.weight.equal(weight):
        with torch.no_grad():
            value = weight.detach().clone()
            known = Factors(value, *torch.linalg.lu_factor_ex(value.double()))
        _known[weight] = known
    return known


def _inverse(weight: Tensor, factors: Factors) -> Tensor:
    """W⁻¹, with its own gradient where somebody asks for it."""
    if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
        return _Inverse.apply(weight, factors)
    return factors.inverse()


class _OfFactors(torch.autograd.Function):
    """What follows from the factors of W, as a function of W."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Factors], output: Tensor) -> None:
        weight, ctx.factors = inputs
        ctx.save_for_backward(weight)
        ctx.save_for_forward(weight)


class _LogAbsDet(_OfFactors):
    """∂ log|det W| / ∂W = W⁻ᵀ."""

    @staticmethod
    def forward(weight: Tensor, factors: Factors) -> Tensor:
        return factors.logabsdet()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return (grad * _inverse(weight, ctx.factors).mT).to(weight.dtype), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (weight,) = ctx.saved_tensors
        return (_inverse(weight, ctx.factors).mT * tangent).sum()


class _Inverse(_OfFactors):
    """A change dW of W changes W⁻¹ by -W⁻¹·dW·W⁻¹."""

    @staticmethod
    def forward(weight: Tensor, factors: Factors) -> Tensor:
        return factors.inverse().clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        inverse = _inverse(weight, ctx.factors)
        return -(inverse.mT @ grad @ inverse.mT).to(weight.dtype), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (weight,) = ctx.saved_tensors
        inverse = _inverse(weight, ctx.factors)
        return -inverse @ tangent.to(inverse.dtype) @ inverse
