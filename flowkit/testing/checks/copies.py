"""Copies of every kind are the same map."""

from __future__ import annotations

import copy
import io
import pickle

import safetensors.torch
import torch

from flowkit.contract import Bijection, Example
from flowkit.testing.comparison import require_identical
from flowkit.testing.draws import Draw
from flowkit.testing.subject import built, said, subject_of


def check_copies(example: Example) -> None:
    """A deep copy, a pickled one, and a fresh layer that loads the state, from PyTorch's format or
    from safetensors', are the same map.

    A layer that an example builds of lambdas or local classes, which pickle refuses for what they
    are, isn't pickled.
    """
    subject = subject_of(example, Draw(dtype=torch.float32))
    layer, cond = subject.layer, subject.cond
    expected = [side(side.value, cond) for side in subject.sides]
    _require_contiguous(subject.who, layer)

    copies: dict[str, Bijection] = {}
    try:
        copies["deepcopy"] = copy.deepcopy(layer)
    except Exception as error:
        raise AssertionError(f"{subject.who}: expected copy.deepcopy, got {said(error)}") from error
    pickled = _pickled(subject.who, layer)
    if pickled is not None:
        copies["pickle"] = pickled
    for name, state in (
        ("state_dict", _by_torch(layer)),
        ("safetensors", _by_safetensors(subject.who, layer)),
    ):
        copies[name] = built(example, 1, torch.float32)
        try:
            copies[name].load_state_dict(state)
        except RuntimeError as error:
            raise AssertionError(
                f"{subject.who}, {name}: expected a fresh layer to load it, got {said(error)}"
            ) from error
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    for name, other in copies.items():
        for side, results in zip(subject.sides, expected, strict=True):
            one = side.of(other, f"after {name}")
            require_identical(one.who, one(side.value, cond), results)


def _require_contiguous(who: str, layer: Bijection) -> None:
    for name, tensor in layer.state_dict().items():
        if isinstance(tensor, torch.Tensor) and not tensor.is_contiguous():
            raise AssertionError(
                f"{who}: expected contiguous parameters and buffers, as safetensors, LBFGS and "
                f"sharding need them, got {name} with strides {tensor.stride()} (.contiguous())"
            )


def _pickled(who: str, layer: Bijection) -> Bijection | None:
    try:
        return pickle.loads(pickle.dumps(layer))
    except Exception as error:
        if "local object" in str(error) or "lambda" in str(error) or "<locals>" in str(error):
            return None
        raise AssertionError(f"{who}: expected to be pickled, got {said(error)}") from error


def _by_torch(layer: Bijection) -> dict[str, torch.Tensor]:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _by_safetensors(who: str, layer: Bijection) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(safetensors.torch.save(layer.state_dict()))
    except Exception as error:
        raise AssertionError(
            f"{who}: expected a state_dict that safetensors can save, got {said(error)}"
        ) from error
