"""Which implementation of an op runs, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from torch import Tensor

VARIABLE = "FLOWKIT_IMPL"
NAMES = ("auto", "reference", "triton")
INSTALLED = find_spec("triton") is not None

_everywhere: str | None = None


@dataclass(frozen=True)
class Choice:
    """An implementation by name, "reference" or "triton", and the reason for it."""

    name: str
    reason: str


@contextmanager
def implementation(name: str) -> Iterator[None]:
    """Inside, every op that isn't told otherwise runs this implementation, in all threads.

    The environment variable FLOWKIT_IMPL does the same for a whole process.

    Args:
        name: "auto": Triton where it can take the tensors and is expected to win, else the
            reference. "reference": plain PyTorch. "triton": the fused kernels, or an error.

    Raises:
        ValueError: there is no such implementation.

    >>> import torch
    >>> from flowkit.ops import affine_coupling
    >>> with implementation("reference"):
    ...     y, logdet = affine_coupling(torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4))
    """
    global _everywhere
    before, _everywhere = _everywhere, _known(name, "implementation")
    try:
        yield
    finally:
        _everywhere = before


def choose(
    who: str,
    impl: str | None,
    x: Tensor,
    obstacle: Callable[[], str | None],
    better: Callable[[], str | None] = lambda: None,
) -> Choice:
    """The implementation of one call.

    Args:
        who: the op, for messages.
        impl: what the caller asked for; None leaves it to `implementation`, FLOWKIT_IMPL or "auto".
        x: decides the device.
        obstacle: why the kernels can't take these tensors, or None; imports triton.
        better: why the reference is expected to win although they can, or None.

    Raises:
        ValueError: there is no such implementation, or Triton is asked for by name and can't.
    """
    wanted = _wanted(who, impl)
    if wanted == "reference":
        return Choice("reference", "asked for")
    if wanted == "auto":
        if not x.is_cuda:
            return Choice("reference", f"the kernels are for CUDA, this is {x.device.type}")
        reason = _unavailable(x) or obstacle() or better()
        return Choice("triton", "CUDA") if reason is None else Choice("reference", reason)
    reason = _unavailable(x) or obstacle()
    if reason is not None:
        raise ValueError(f"{who}: expected tensors for impl='triton', but {reason}")
    return Choice("triton", "asked for")


def _wanted(who: str, impl: str | None) -> str:
    if impl is not None:
        return _known(impl, who)
    if _everywhere is not None:
        return _everywhere
    return _known(os.environ.get(VARIABLE, "auto"), VARIABLE)


def _known(name: str, who: str) -> str:
    if name not in NAMES:
        raise ValueError(
            f"{who}: expected an implementation among {', '.join(NAMES)}, got {name!r}"
        )
    return name


def _unavailable(x: Tensor) -> str | None:
    if not INSTALLED:
        return "triton isn't installed"
    if not x.is_cuda and not interpreted():
        return f"the kernels are for CUDA, this is {x.device.type}"
    return None


def interpreted() -> bool:
    """Whether Triton was told to interpret its kernels, on any device: slow, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"
