"""The authors' checkpoints: their layout, and how it maps to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from llflow.errors import LLFlowError
from llflow.network.model import LEVELS, Config, LLFlow

Shapes = dict[str, tuple[int, ...]]

MIXING = 2  # steps without coupling at the start of each level


class NotOfficial(LLFlowError, ValueError):
    """The file or its tensors aren't a checkpoint of the authors' network."""


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file, without a `module.` or `_orig_mod.` prefix.

    Nothing in the file is executed: `torch.load(weights_only=True)`, or safetensors.

    Raises:
        NotOfficial: the file is truncated, isn't a checkpoint, or holds more than tensors.
        OSError: it can't be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = path.read_bytes()
    try:
        if path.suffix == ".safetensors":
            state = load(content)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise NotOfficial(f"{path}: not a readable checkpoint ({_first_line(error)})") from error
    except Exception as error:  # weights_only raises pickle.UnpicklingError, among others
        raise NotOfficial(f"{path}: refused, it holds more than tensors or is damaged") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise NotOfficial(f"{path}: expected a dictionary of tensors, got {_described(state)}")
    if not all(_is_plain(tensor) for tensor in state.values()):
        raise NotOfficial(f"{path}: expected dense floating-point tensors, got another kind")
    if any(tensor.nbytes > len(content) for tensor in state.values()):
        raise NotOfficial(f"{path}: a tensor claims to be larger than the file")
    return {
        str(key).removeprefix("module.").removeprefix("_orig_mod."): value
        for key, value in state.items()
    }


def _described(state: object) -> str:
    """What a file holds instead, with its keys, among which the dictionary may be."""
    if not isinstance(state, Mapping):
        return type(state).__name__
    keys = ", ".join(repr(key) for key in [*state][:8])
    within = [repr(key) for key, value in state.items() if isinstance(value, Mapping)]
    hint = f"; save what is under {' or '.join(within[:3])} alone" if within else ""
    return f"one of other things ({keys}){hint}"


def _is_plain(tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return dense and tensor.is_floating_point() and not tensor.is_quantized


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line}" if isinstance(error, KeyError) else line


def infer_config(state: Mapping[str, Tensor]) -> Config:
    """The size of the network that `state` belongs to, read off its tensors' names and shapes.

    Raises:
        NotOfficial: tensors that every such checkpoint has are missing.
    """
    features = _shape(state, "RRDB.conv_first.weight", 4)[0]
    growth = _shape(state, "RRDB.RRDB_trunk.0.RDB1.conv1.weight", 4)[0]
    blocks = _count(state, r"RRDB\.RRDB_trunk\.(\d+)\.RDB1\.conv1\.weight")
    first = f"flowUpsamplerNet.layers.{1 + MIXING}.affine.fFeatures.0.weight"
    hidden, cond_channels = _shape(state, first, 4)[:2]
    layers = _count(state, r"flowUpsamplerNet\.layers\.(\d+)\.invconv\.weight")
    steps = layers // len(LEVELS) - MIXING
    taps = tuple(range(1, 2 * (cond_channels // features - 1), 2))
    try:
        return Config(
            features=features, blocks=blocks, taps=taps, growth=growth, steps=steps, hidden=hidden
        )
    except ValueError as error:
        raise NotOfficial(f"not the authors' network: {error}") from error


def _shape(state: Mapping[str, Tensor], key: str, dims: int) -> torch.Size:
    if key not in state:
        raise NotOfficial(f"not a checkpoint of LLFlow: the tensor {key} is missing")
    if state[key].dim() != dims or 0 in state[key].shape:
        raise NotOfficial(f"not a checkpoint of LLFlow: {key} has shape {tuple(state[key].shape)}")
    return state[key].shape


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in state)


Names = tuple[str, ...]


def names(config: Config) -> dict[str, Names]:
    """Name in the authors' layout -> names in `LLFlow.state_dict()`, for every tensor in use.

    A coupling's first convolution is two here, of the kept channels and of the condition; joined
    along the inputs they are theirs. Everything else is one tensor.
    """
    pairs = {
        f"RRDB.{theirs}": f"encoder.{ours}"
        for theirs, ours in {
            "conv_first": "conv_first",
            "conv_second": "conv_second",
            "trunk_conv": "trunk_conv",
            "downconv1": "down_quarter",
            "downconv2": "down_eighth",
            "fine_tune_color_map.0": "color_head",
            **{
                f"RRDB_trunk.{block}.RDB{dense + 1}.conv{conv + 1}": (
                    f"trunk.{block}.{dense}.convs.{conv}"
                )
                for block in range(config.blocks)
                for dense in range(3)
                for conv in range(5)
            },
        }.items()
    }
    mapping = {f"{a}.{p}": (f"{b}.{p}",) for a, b in pairs.items() for p in ("weight", "bias")}
    for level in range(len(LEVELS)):
        for step in range(MIXING + config.steps):
            theirs = f"flowUpsamplerNet.layers.{level * (1 + MIXING + config.steps) + 1 + step}"
            mapping |= _step_names(theirs, f"flow.bijection.layers.{level}.layers", step)
    return mapping


def _step_names(theirs: str, level: str, step: int) -> dict[str, Names]:
    coupled = step >= MIXING
    layers, first = (
        (f"{level}.2.bijection.layers", 4 * (step - MIXING))
        if coupled
        else (
            f"{level}.1.layers",
            2 * step,
        )
    )
    mapping: dict[str, Names] = {
        f"{theirs}.actnorm.bias": (f"{layers}.{first}.bias",),
        f"{theirs}.actnorm.logs": (f"{layers}.{first}.log_scale",),
        f"{theirs}.invconv.weight": (f"{layers}.{first + 1}.weight.entries",),
    }
    nets = {"fFeatures": first + 2, "fAffine": first + 3} if coupled else {}
    for net, index in nets.items():
        a, b = f"{theirs}.affine.{net}", f"{layers}.{index}.net"
        for conv, ours in (("0", "first"), ("2", "second")):
            mapping |= {
                f"{a}.{conv}.weight": (f"{b}.{ours}.weight",),
                f"{a}.{conv}.actnorm.bias": (f"{b}.{ours}_norm.bias",),
                f"{a}.{conv}.actnorm.logs": (f"{b}.{ours}_norm.log_scale",),
            }
        mapping |= {
            f"{a}.4.weight": (f"{b}.last.weight",),
            f"{a}.4.bias": (f"{b}.last.bias",),
            f"{a}.4.logs": (f"{b}.last.log_scale",),
        }
        if net == "fAffine":
            mapping[f"{a}.0.weight"] = (f"{b}.first.weight", f"{b}.first_cond.weight")
    return mapping


def is_interleaved(theirs: str) -> bool:
    """Whether the rows of this tensor alternate between shift and scale; ours has shifts first."""
    return re.search(r"\.f(Affine|Features)\.4\.", theirs) is not None


def unused(config: Config) -> Shapes:
    """Names and shapes of the tensors that the authors store but never use."""
    f = config.features
    convs = {
        "RRDB.downconv3": (f, f, 3, 3),
        "RRDB.HRconv": (f, f, 3, 3),
        "RRDB.conv_last": (3, f, 3, 3),
        "RRDB.awb_para": (3, f),
        # 64 whatever the trunk's width is.
        "flowUpsamplerNet.f.0": (2 * LEVELS["eighth"], 64 * (1 + len(config.taps)), 3, 3),
    }
    weights = {f"{name}.weight": shape for name, shape in convs.items()}
    return weights | {f"{name}.bias": shape[:1] for name, shape in convs.items()}


def layout(config: Config) -> Shapes:
    """Names and shapes of every tensor that the authors' checkpoint of this size stores."""
    with torch.device("meta"):
        ours = LLFlow(config).state_dict()
    pairs = names(config).items()
    stored = {a: _joined([ours[name] for name in b]).shape for a, b in pairs}
    return {a: _their_shape(a, shape) for a, shape in stored.items()} | unused(config)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _their_shape(theirs: str, shape: torch.Size) -> tuple[int, ...]:
    if ".actnorm." in theirs:
        return (1, *shape, 1, 1)
    return (*shape, 1, 1) if theirs.endswith(".logs") else tuple(shape)


def convert(state: Mapping[str, Tensor]) -> LLFlow:
    """Build our model from the tensors of the authors' checkpoint.

    The last convolution of a conditioner interleaves shift and scale there; here shifts come first,
    so its rows are reordered. Tensors that the network never uses may be absent.

    Raises:
        NotOfficial: a tensor in use is missing, has another shape, isn't finite, or isn't known.
    """
    config = infer_config(state)
    expected = layout(config)
    unknown = sorted(set(state) - set(expected))
    missing = sorted(set(expected) - set(state) - set(unused(config)))
    if unknown or missing:
        which = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not part of it"
        count = len(missing) + len(unknown)
        raise NotOfficial(f"not a complete checkpoint of LLFlow: {which} ({count} such tensors)")
    for key, tensor in state.items():
        if tuple(tensor.shape) != expected[key]:
            raise NotOfficial(
                f"not a checkpoint of LLFlow: expected {key} of shape {expected[key]}, "
                f"got {tuple(tensor.shape)}"
            )
    model = LLFlow(config)
    ours = {}
    for theirs, group in names(config).items():
        tensor = state[theirs].float()
        if not tensor.isfinite().all():
            raise NotOfficial(f"not a usable checkpoint: {theirs} holds values that aren't finite")
        if is_interleaved(theirs):
            tensor = torch.cat([tensor[0::2], tensor[1::2]])
        shapes = [model.get_parameter(name).shape for name in group]
        parts = tensor.split([shape[1] for shape in shapes], dim=1) if len(group) > 1 else [tensor]
        for name, shape, part in zip(group, shapes, parts, strict=True):
            ours[name] = part.reshape(shape).contiguous()
    model.load_state_dict(ours)
    return model.eval()
