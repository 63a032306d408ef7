"""Which implementation of an op runs, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, cast, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

VARIABLE = "FLOWKIT_IMPL"
Impl = Literal["auto", "reference", "triton"]
NAMES: tuple[Impl, ...] = get_args(Impl)
INSTALLED = find_spec("triton") is not None

_everywhere: Impl | None = None


@dataclass(frozen=True)
class Choice:
    """An implementation by name, "reference" or "triton", and the reason for it."""

    name: str
    reason: str


@contextmanager
def implementation(name: Impl) -> Iterator[None]:
    """Inside, every op that isn't told otherwise runs this implementation, in all threads.

    The environment variable FLOWKIT_IMPL does the same for a whole process.

    Args:
        name: "auto": Triton where it can take the tensors and is expected to win, else the
            reference. "reference": the definition, in plain PyTorch. "triton": the fused kernels,
            or an error.

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
    impl: Impl | None,
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
        ValueError: there is no such implementation, or one asked for by name can't be had.
    """
    wanted = _wanted(who, impl)
    if wanted == "reference":
        return Choice("reference", "asked for")
    if wanted == "auto":
        reason = _unavailable(x) if x.is_cuda else _elsewhere(x)
        reason = reason or obstacle() or better()
        if reason is None:
            return Choice("triton", "CUDA")
        return Choice("reference", reason)
    reason = _unavailable(x) or obstacle()
    if reason is not None:
        raise ValueError(f"{who}: expected tensors for impl={wanted!r}, but {reason}")
    return Choice(wanted, "asked for")


def _wanted(who: str, impl: Impl | None) -> Impl:
    if impl is not None:
        return _known(impl, who)
    if _everywhere is not None:
        return _everywhere
    return _known(os.environ.get(VARIABLE, "auto"), VARIABLE)


def _known(name: str, who: str) -> Impl:
    if name not in NAMES:
        raise ValueError(
            f"{who}: expected an implementation among {', '.join(NAMES)}, got {name!r}"
        )
    return cast(Impl, name)


def _unavailable(x: Tensor) -> str | None:
    if not INSTALLED:
        return "triton isn't installed"
    if not x.is_cuda and not interpreted():
        return _elsewhere(x)
    if torch.compiler.is_exporting():
        return "an exported graph has to run without flowkit"
    if not torch.compiler.is_compiling() and _transformed():
        return "the kernels know no torch.func and no forward-mode differentiation"
    return _obstructed(x.get_device()) if x.is_cuda else None


def _transformed() -> bool:
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _obstructed(device: int) -> str | None:
    """Why Triton can't run anything on this GPU, or None."""
    if device not in _OBSTRUCTED:
        _OBSTRUCTED[device] = _probe(device)
    return _OBSTRUCTED[device]


# What torch.compiler.assume_constant_result does, but that imports half of the compiler.
_obstructed._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
_OBSTRUCTED: dict[int, str | None] = {}


def _probe(device: int) -> str | None:
    if not torch.cuda.is_available():  # a fake tensor's device
        return "there is no GPU here"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 7:
        return f"the GPU's compute capability {major}.{minor} is below 7.0"
    import triton

    try:
        triton.runtime.driver.active.get_current_target()  # pyright: ignore
    except Exception as error:  # e.g. RuntimeError: there is no C compiler
        return f"triton can't start: {type(error).__name__}: {error}"
    return None


def _elsewhere(x: Tensor) -> str:
    return f"the kernels are for CUDA, this is {x.device.type}"


def interpreted() -> bool:
    """Whether Triton was told to interpret its kernels, on any device: slow, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"
