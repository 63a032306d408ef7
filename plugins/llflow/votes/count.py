"""What the votes say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from llflow.errors import LLFlowError, UsageError
from llflow.evaluation.extra import imported
from llflow.evaluation.intervals import LEVEL, bootstrap
from llflow.votes.study import Study


class VotesError(LLFlowError, ValueError):
    """A file isn't one of votes."""


class Votes(BaseModel):
    """What one voter chose, as the page saves it: by pair "left", "right" or "same"."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    study: Study
    voter: str
    votes: dict[str, Literal["left", "right", "same"]]

    @model_validator(mode="after")
    def _of_its_pairs(self) -> Votes:
        others = set(self.votes) - set(self.study.pairs)
        if others:
            raise ValueError(f"there is no pair {min(others)!r} in this study")
        return self

    def preferred(self) -> dict[str, str]:
        """By pair "a", "b" or "same"."""
        left = self.study.on_the_left()
        other = {"a": "b", "b": "a"}
        return {
            pair: {"left": left[pair], "right": other[left[pair]], "same": "same"}[vote]
            for pair, vote in self.votes.items()
        }


@dataclass(frozen=True)
class Count:
    """How often each was preferred.

    Attributes:
        study: what was compared.
        voters: how many.
        a, b, same: votes for either, and for neither.
        interval: 95 % ends of `share`; NaN where nothing says them.
        method: by which they were found.
    """

    study: Study
    voters: int
    a: int
    b: int
    same: int
    interval: tuple[float, float]
    method: str

    @property
    def share(self) -> float:
        """Of a among the votes for either; NaN without any."""
        return self.a / (self.a + self.b) if self.a + self.b else float("nan")


def read_votes(path: str | os.PathLike) -> Votes:
    """Votes as the page saved them.

    Raises:
        VotesError: it isn't such a file.
        OSError: it can't be read.
    """
    try:
        return Votes.model_validate_json(Path(path).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        said = f"{where}: {first['msg']}" if where else first["msg"]
        raise VotesError(f"{path}: not votes as the page saves them ({said})") from error


def count(votes: Sequence[Votes]) -> Count:
    """All votes together, with an interval for the share of a among those for either.

    Of one voter it is Wilson's. Votes of several voters on one pair aren't independent, so of
    several it is a bootstrap that draws whole pairs.

    Raises:
        UsageError: there are none, they are of different studies, or a voter is in them twice.
        ModuleNotFoundError: scipy isn't there.

    Wilson, Probable inference, JASA 22 (1927), p. 209; see also `intervals.bootstrap`.
    """
    if not votes:
        raise UsageError("expected at least one file of votes")
    if any(other.study != votes[0].study for other in votes):
        raise UsageError("these votes are of different studies, which can't be counted together")
    voters = [each.voter for each in votes]
    if len(set(voters)) < len(voters):
        raise UsageError("a voter's votes are there twice; each has to be counted once")
    preferred = [(pair, vote) for each in votes for pair, vote in each.preferred().items()]
    numbers = {what: sum(vote == what for _, vote in preferred) for what in ("a", "b", "same")}
    decided = [(pair, vote == "a") for pair, vote in preferred if vote != "same"]
    method = "Wilson's" if len(votes) == 1 else "bootstrap over pairs"
    interval = float("nan"), float("nan")
    if decided and len(votes) == 1:
        test = imported("scipy.stats").binomtest(numbers["a"], len(decided))
        low, high = test.proportion_ci(LEVEL, "wilson")
        interval = float(low), float(high)
    elif decided:
        values = np.array([[float(is_a)] for _, is_a in decided])
        low, high = bootstrap(values, [pair for pair, _ in decided])[:, 0]
        interval = float(low), float(high)
    return Count(votes[0].study, len(votes), **numbers, interval=interval, method=method)
