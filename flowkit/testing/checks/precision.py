"""Low precision."""

from __future__ import annotations

from dataclasses import replace

import torch

from flowkit.combine import Chain
from flowkit.contract import Example
from flowkit.testing.comparison import require_close, require_equal, require_logdet
from flowkit.testing.draws import Draw, over_draws
from flowkit.testing.subject import Side, built, each, subject_of
from flowkit.testing.tolerances import BFLOAT16_NET, FLOAT32_LOGDET, FLOAT32_TYPICAL


@over_draws(6, dtypes=(torch.bfloat16, torch.float16))
def check_low_precision(example: Example, draw: Draw) -> None:
    """In a chain, which widens its input, bf16 and fp16 input gets a float32 log-det that is that
    of float64; under autocast the latent path stays float32 and the inverse still undoes."""
    subject = subject_of(example, draw, layer_dtype=torch.float32)
    exact = built(example, draw.seed, torch.float64)
    cond = each(subject.cond, lambda entry: entry.double())
    for side in subject.sides:
        in_chain = side.of(Chain(subject.layer), f"{draw.dtype} in a chain")
        _, logdet = in_chain(side.value, each(subject.cond, lambda entry: entry.float()))
        require_equal(in_chain.who, "a log-det in", logdet.dtype, torch.float32)
        _, expected = side.of(exact, "float64")(side.value.double(), cond)
        require_logdet(
            in_chain.who,
            "the log-det of float64",
            logdet.double(),
            expected,
            max(FLOAT32_LOGDET, example.tolerance),
            side.value.shape[1:],
        )
    _check_autocast(example, replace(draw, dtype=torch.float32))


def _check_autocast(example: Example, draw: Draw) -> None:
    subject = subject_of(example, draw)
    there, back = subject.sides
    for first, second in ((there, back), (back, there)):
        first, second = (Side(f"{side.who}, under autocast", *side[1:]) for side in (first, second))
        with torch.autocast("cpu", torch.bfloat16):
            value, logdet = first(first.value, subject.cond)
            returned, _ = second(value, subject.cond)
        require_equal(first.who, "a value in", value.dtype, torch.float32, "flowkit.wide")
        require_equal(first.who, "a log-det in", logdet.dtype, torch.float32, "flowkit.sum_logdet")
        if not logdet.isfinite().all():
            raise AssertionError(f"{first.who}: expected a finite log-det, got {logdet.tolist()}")
        require_close(
            second.who,
            f"to undo {first.name}",
            returned,
            first.value,
            max(BFLOAT16_NET, example.tolerance),
        )
        # Few of a net's inputs cross a rounding edge of bf16 on their way back, so most elements
        # come back to float32; a latent path that was itself in bf16 moves most by 1e-3. A coupling
        # keeps one half as it is, and what is typical for the other one tells.
        error = (returned - first.value).abs().quantile(0.75) / first.value.abs().median()
        allowed = max(FLOAT32_TYPICAL, example.tolerance)
        if not error < allowed:
            raise AssertionError(
                f"{second.who}: expected to undo {first.name} but for {allowed:g} of the typical "
                f"element, got {error.item():.2g} (is the latent path in bfloat16? flowkit.wide "
                "what a net gives before using it)"
            )
