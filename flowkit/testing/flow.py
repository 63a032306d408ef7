"""Densities: what is drawn from one has the density that it says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import biject_to, constraints

from flowkit.contract import Cond, Example
from flowkit.testing.comparison import require_close, require_equal
from flowkit.testing.draws import Draw
from flowkit.testing.randomize import moved, random_inputs
from flowkit.testing.subject import each, rows, said

POINTS = 2**14
ERRORS = 5.0
"""Standard errors that two estimates may be apart: once in two million by chance."""
SMALL = 4
"""Numbers of a sample up to which a whole space can be covered by random points."""


def check_flow(example: Example) -> None:
    """A density keeps its word: log-probabilities (B,) that sum or integrate to 1, samples of
    shape (B, C, *S) or (n, B, C, *S) that are distributed so, in the density's precision; every
    sample for itself; a condition that matters, and is refused when missing; and, where it has
    them, `given` and `rsample_and_log_prob` that say the same.

    Args:
        example: `build` makes the density, a `Flow`, a `Dequantized` or another module with
            `log_prob(x, cond)` and `sample(cond, num_samples=, shape=)`; `shape`, `cond_shape` and
            `domain` are those of its samples, for whole numbers
            `torch.distributions.constraints.integer_interval(0, levels - 1)`.

    Raises:
        TypeError: what is built is no density.
        AssertionError: it doesn't. Samples of more than four numbers aren't held against the
            density.
    """
    for seed in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            density = moved(example.build()).double()
        if missing := [part for part in ("log_prob", "sample") if not hasattr(density, part)]:
            raise TypeError(
                f"check_flow: expected a density, got {type(density).__name__}, which has no "
                f"{missing[0]} (Flow(bijection)?)"
            )
        who = f"{type(density).__name__}{f' ({example.name})' if example.name else ''}"
        _, cond = random_inputs(replace(example, domain=None), Draw(batch=2, seed=seed))
        with torch.no_grad():
            x = _drawn(who, density, example, cond, 3)
            _check_rows(who, density, x[0], cond)
            if math.prod(example.shape) <= SMALL:
                _check_distribution(who, density, example, cond)
            _check_given(who, density, example, x, cond)
    _check_condition(who, density, example, x[0], cond)
    _check_precision(who, example)


def _drawn(who: str, density: Any, example: Example, cond: Cond, number: int) -> Tensor:
    """(number, B, C, *S) of one seed, after a look at the shapes."""
    lead = (2,) if cond is not None else (1,)
    many = _sample(density, example, cond, number)
    expected = (number, *(lead if cond is not None else ()), *example.shape)
    require_equal(f"{who}.sample", f"{number} samples, shape", tuple(many.shape), expected)
    if many.is_floating_point():
        require_equal(f"{who}.sample, in torch.float64", "samples in", many.dtype, torch.float64)
    one = _sample(density, example, cond, None)
    require_equal(f"{who}.sample", "one, shape", tuple(one.shape), (*lead, *example.shape))
    return many if cond is not None else many[:, None]


def _sample(density: Any, example: Example, cond: Cond, number: int | None) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return density.sample(cond, num_samples=number, shape=example.shape)


def _log_prob(who: str, density: Any, x: Tensor, cond: Cond) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = density.log_prob(x, cond)
    require_equal(
        f"{who}.log_prob", "a number for each sample", tuple(found.shape), tuple(x.shape[:1])
    )
    return found


def _check_rows(who: str, density: Any, x: Tensor, cond: Cond) -> None:
    """One that draws numbers for its bound draws the same for the first sample alone."""
    alone = _log_prob(who, density, x[:1], rows(cond, slice(1)))
    require_close(
        f"{who}.log_prob",
        "that of the first sample as if it were alone",
        _log_prob(who, density, x, cond)[:1],
        alone,
        1e-9,
    )


def _check_distribution(who: str, density: Any, example: Example, cond: Cond) -> None:
    """Points u from a known density q cover the space: E_q[p/q] = 1, and E_q[f·p/q] = E_p[f] for
    the samples of p. For a bound by one draw, exp of it is p on average as well."""
    for row in range(1 if cond is None else 2):
        one = rows(cond, slice(row, row + 1))
        drawn = _sample(density, example, one, POINTS).reshape(POINTS, *example.shape).double()
        points, log_q, drawn = _covering(example, drawn)
        cond_of_all = each(one, lambda entry: entry.expand(POINTS, *entry.shape[1:]))
        ratio = (_log_prob(who, density, points, cond_of_all) - log_q).exp()
        _require_mean(f"{who}.log_prob", "probabilities that sum to", ratio, torch.ones(1), ratio)
        centre, spread = drawn.mean(0), drawn.std(0) + 1e-9
        for name, feature in (("sine", torch.sin), ("cosine", torch.cos)):
            there, here = (feature((v - centre) / spread).flatten(1) for v in (points, drawn))
            for index in range(here.shape[1]):
                _require_mean(
                    f"{who}.sample",
                    f"samples of the density that it says, a mean {name} of number {index} of",
                    here[:, index],
                    ratio * there[:, index],
                    ratio,
                )


def _require_mean(who: str, what: str, got: Tensor, expected: Tensor, ratio: Tensor) -> None:
    """Raise unless two means agree up to their errors, where these can be told."""
    parts = [part.double() for part in (got, expected)]
    means = [part.mean().item() for part in parts]
    error = math.sqrt(sum(p.var().item() / len(p) for p in parts if len(p) > 1))
    # A few points on which everything depends tell nothing of their own error.
    error += (ratio.max() / ratio.sum()).item()
    if not abs(means[0] - means[1]) < ERRORS * error + 1e-9:
        raise AssertionError(
            f"{who}: expected {what} {means[1]:.4g}, got {means[0]:.4g} ± {error:.2g}"
        )


def _covering(example: Example, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points of a known density that covers what was drawn, its logarithm, and what was drawn."""
    generator = torch.Generator().manual_seed(1)
    if isinstance(example.domain, type(constraints.integer_interval(0, 1))):
        low, high = example.domain.lower_bound, example.domain.upper_bound
        points = torch.randint(low, high + 1, drawn.shape, generator=generator)
        log_q = -math.prod(example.shape) * math.log(high + 1 - low)
        return points, torch.full((POINTS,), log_q, dtype=torch.float64), drawn
    onto = biject_to(constraints.real if example.domain is None else example.domain)
    raw = onto.inv(drawn)
    centre, spread = raw.mean(0), 1.5 * raw.std(0)
    # Student's t of 4 degrees, normal over the root of χ²/4: heavier tails than a flow's.
    normal = torch.randn(5, *raw.shape, generator=generator, dtype=torch.float64)
    t = normal[0] / (normal[1:].square().sum(0) / 4).sqrt()
    log_q = torch.distributions.StudentT(torch.tensor(4.0).double()).log_prob(t) - spread.log()
    u = centre + spread * t
    slope = onto.log_abs_det_jacobian(u, onto(u))
    return onto(u), (log_q - slope.reshape(log_q.shape)).flatten(1).sum(1), drawn


def _check_given(who: str, density: Any, example: Example, x: Tensor, cond: Cond) -> None:
    if not hasattr(density, "given"):
        return
    given = density.given(cond, shape=example.shape)
    expected = torch.stack([_log_prob(who, density, some, cond) for some in x])
    got = given.log_prob(x if cond is not None else x[:, 0])
    require_close(
        f"{who}.given(cond).log_prob",
        "that of log_prob",
        got.reshape(expected.shape),
        expected,
        1e-9,
    )
    require_close(
        f"{who}.given(cond).sample",
        "the samples of the same seed",
        _seeded(lambda: given.sample((3,))).reshape(x.shape),
        x,
        1e-9,
    )
    if given.has_rsample:
        drawn, log_prob = _seeded(
            lambda: density.rsample_and_log_prob(cond, num_samples=3, shape=example.shape)
        )
        who = f"{who}.rsample_and_log_prob"
        require_close(who, "the samples of the same seed", drawn.reshape(x.shape), x, 1e-9)
        require_close(who, "their density", log_prob.reshape(expected.shape), expected, 1e-7)


def _seeded(call) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return call()


def _check_condition(who: str, density: Any, example: Example, x: Tensor, cond: Cond) -> None:
    if cond is None:
        return
    before = _log_prob(who, density, x, cond)
    after = _log_prob(who, density, x, each(cond, lambda entry: entry + 1))
    if before.equal(after):
        raise AssertionError(f"{who}.log_prob: expected the condition to matter, got it ignored")
    for name, call in _without_condition(density, example, x):
        try:
            call()
        except (ValueError, TypeError):
            continue
        except Exception as error:
            raise AssertionError(
                f"{who}.{name}: expected a missing condition to be refused, got {said(error)}"
            ) from error
        raise AssertionError(f"{who}.{name}: expected a missing condition to be refused")


def _without_condition(density: Any, example: Example, x: Tensor) -> Iterator[tuple[str, Any]]:
    yield "log_prob", lambda: density.log_prob(x)
    yield "sample", lambda: density.sample(shape=example.shape)


def _check_precision(who: str, example: Example) -> None:
    density: nn.Module = example.build()
    _, cond = random_inputs(replace(example, domain=None), Draw(2, dtype=torch.float32))
    for dtype in (torch.float32, torch.float64):
        density = density.to(dtype)
        cond = each(cond, lambda entry, dtype=dtype: entry.to(dtype))
        with torch.no_grad():
            x = _sample(density, example, cond, None)
            if x.is_floating_point():
                require_equal(f"{who}.sample, in {dtype}", "samples in", x.dtype, dtype)
            found = _log_prob(who, density, x, cond)
        if x.is_floating_point():
            require_equal(f"{who}.log_prob, in {dtype}", "densities in", found.dtype, dtype)
        if not found.isfinite().all():
            raise AssertionError(
                f"{who}.log_prob: expected finite densities of its own samples in {dtype}, got "
                f"{found.tolist()}"
            )
