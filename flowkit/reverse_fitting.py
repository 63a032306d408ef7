"""fit_reverse: a flow for a density that is known but for its constant, without any data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from flowkit import checkpoint as checkpoints
from flowkit.contract import Bijection, Shape, require_bool, require_range, require_real
from flowkit.density import Flow
from flowkit.descent import Descent, seeded

SAVED_EVERY = 100  # steps


@dataclass
class FittedReverse:
    """What `fit_reverse` did.

    Args:
        losses: mean of log q - log p over the draws of each step; NaN where it wasn't finite.
        steps: steps of the optimiser, skipped ones among them.
        skipped: steps whose loss or gradient wasn't finite, which changed nothing.
    """

    losses: list[float] = field(default_factory=list)
    steps: int = 0
    skipped: int = 0

    @property
    def elbo(self) -> float:
        """The mean of log p - log q in the last 100 steps, a lower bound of log ∫ p."""
        return -torch.tensor(self.losses[-100:], dtype=torch.float64).nanmean().item()


def fit_reverse(
    flow: Flow,
    log_density: Callable[[Tensor], Tensor],
    *,
    steps: int,
    samples: int = 256,
    shape: Shape | None = None,
    learning_rate: float = 1e-3,
    anneal: bool = False,
    warm_up: float = 0.0,
    clip: float = 10.0,
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
) -> FittedReverse:
    """Minimise the reverse KL, E_q[log q(x) - log p(x)], of a flow q to a density p that is known
    up to a constant factor, by Adam: variational inference, where p is a joint density and the
    negative loss its ELBO; Boltzmann generators, where log p is minus an energy.

    The flow learns from its own draws, and may miss modes of p that it never saw. A step whose loss
    or gradient isn't finite is skipped and counted. The same seed gives the same weights, on the
    same machine, also after an interruption; the global random state is as before.

    Args:
        flow: without a condition, on its device; changed in place. One that draws in one pass is
            fast, such as a coupling flow or `flows.iaf`.
        log_density: x (N, C, *S) -> log p(x) + any constant (N,), with gradients.
        steps: of the optimiser.
        samples: draws in a step.
        shape: (C, *S) of a sample, where the flow's base doesn't tell it.
        learning_rate: of Adam.
        anneal: the learning rate falls to 0 along half a cosine.
        warm_up: a share of the steps, in [0, 1], over which p counts more and more: p^β with β from
            0.1 to 1, so that draws find all modes before they sharpen.
        clip: largest norm of a gradient; longer ones are shortened to it.
        seed: of the draws.
        progress: show a bar.
        checkpoint: a file that is written every 100 steps, whole or not at all, and from which an
            interrupted training goes on if `fit_reverse` is called again in the same way, with the
            same results.

    Raises:
        TypeError: flow or log_density are something else, or what says yes or no isn't True or
            False.
        ValueError: an argument is out of range, the flow wants a condition, log_density gives
            another shape or has no gradient, or the checkpoint is none, or of another training.
        NotImplementedError: the base's draws carry no gradients.
        OSError: the checkpoint can't be read or written.
        FloatingPointError: too many steps weren't finite; the weights are the last finite ones.

    Rezende & Mohamed, Variational inference with normalizing flows, 2015, arXiv:1505.05770, eq. 15,
    20; Noé et al., Boltzmann generators, 2019, arXiv:1812.01729.
    """
    who = "fit_reverse"
    require_bool(who, anneal=anneal, progress=progress)
    if not isinstance(flow, Flow):
        hint = " (Flow(bijection) is one)" if isinstance(flow, Bijection) else ""
        raise TypeError(f"{who}: expected a Flow, got {type(flow).__name__}{hint}")
    if not callable(log_density):
        raise TypeError(
            f"{who}: expected log_density as a function, got {type(log_density).__name__}"
        )
    for name, value, least in (("steps", steps, 1), ("samples", samples, 1), ("seed", seed, 0)):
        fits = type(value) is int and value >= least
        require_range(who, name, value, fits, f"as an integer >= {least}")
    require_real(who, warm_up=warm_up, learning_rate=learning_rate, clip=clip)
    require_range(who, "warm_up", warm_up, 0 <= warm_up <= 1, "in [0, 1]")
    require_range(who, "learning_rate", learning_rate, 0 < learning_rate < math.inf, "> 0")
    require_range(who, "clip", clip, clip > 0, "> 0")
    if flow.conditional:
        raise ValueError(f"{who}: expected a flow without a condition, got one that reads one")
    settings = {
        "reverse": True,
        "steps": steps,
        "samples": samples,
        "learning_rate": float(learning_rate),
        "anneal": anneal,
        "warm_up": float(warm_up),
        "clip": float(clip),
        "seed": seed,
    }
    record = FittedReverse()
    descent = Descent(who, flow, record, learning_rate, clip, steps if anneal else None)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        checkpoints.require_folder(who, path)
        if path.exists():
            state = checkpoints.read(who, path, settings, flow, descent.device)
            descent.load(state)
            vars(record).update(state["record"])
    mode = flow.training
    flow.train()
    with tqdm(total=steps, initial=record.steps, disable=not progress, unit="step") as bar:
        while record.steps < steps:
            with seeded(descent.device, seed, record.steps):
                x, log_q = flow.rsample_and_log_prob(num_samples=samples, shape=shape)
                log_p = _told(log_density, x)
            loss = (log_q - _beta(record.steps, warm_up * steps) * log_p).mean()
            finite = descent.step(loss)
            record.losses.append((log_q - log_p).mean().item() if finite else math.nan)
            bar.update()
            if record.steps % SAVED_EVERY == 0 or record.steps == steps:
                bar.set_postfix(elbo=record.elbo)
                if path is not None:
                    state = {"record": asdict(record), **descent.state()}
                    checkpoints.write(path, settings, flow, state)
    flow.train(mode)
    return record


def _beta(step: int, warm: float) -> float:
    """How much log p counts in a step, of so many that warm up."""
    return 1.0 if step >= warm else 0.1 + 0.9 * step / warm


def _told(log_density: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What a log-density that anybody may have written says of x (N, C, *S)."""
    found = log_density(x)
    if not isinstance(found, Tensor) or found.shape != x.shape[:1]:
        came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"fit_reverse: expected log_density to give a number for each of {len(x)} samples, "
            f"shape ({len(x)},), got {came}"
        )
    if not found.requires_grad:
        raise ValueError(
            "fit_reverse: expected log_density to have a gradient, got numbers without (detach, "
            "item, numpy and torch.no_grad lose it)"
        )
    return found
