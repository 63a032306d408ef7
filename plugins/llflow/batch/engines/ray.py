"""Ray's actors, on as many machines as the cluster has; each is a worker.

Ray is asked for processes, and to say when one or its machine has gone. Its retries and checkpoints
aren't used: the record knows what has ended.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

from llflow.batch.engines.local import THREADS
from llflow.batch.part import Began, Died, Ended, Event, Finished, Part, Stopped
from llflow.batch.recipe import Recipe
from llflow.errors import LLFlowError, first_line

HERE = "local"  # instead of a cluster's address: one of this machine alone, which ends with it


class NoCluster(LLFlowError, ConnectionError):
    """There is no cluster at that address."""


class Hand:
    """What an actor is."""

    def __init__(self, recipe: Recipe, out: str) -> None:
        self._recipe, self._out = recipe, out

    def start(self) -> str | Stopped:
        """The machine that it is on."""
        os.environ.update(dict.fromkeys(THREADS, str(self._recipe.threads)))
        try:
            from llflow.batch.worker import Worker  # PyTorch reads the environment

            self._worker = Worker(self._recipe, self._out)
        except (LLFlowError, OSError, ValueError) as error:
            return Stopped(str(error))
        return ray.get_runtime_context().get_node_id()

    def work(self, part: Part) -> Iterator[Began | Ended | Stopped]:
        try:
            yield from self._worker.work(part)
        except (LLFlowError, OSError, ValueError) as error:
            yield Stopped(str(error))


@dataclass
class _Hired:
    """An actor, what is awaited from it, its machine, and the number of its part."""

    actor: Any
    awaited: Any = None
    machine: str | None = None
    number: int | None = field(default=None)


class Ray:
    """`size` actors, or as many of them as the cluster has room for at the time.

    Args:
        recipe: what is done to each picture; source, results and weights are where every machine
            reaches them.
        out: path or address of the folder for results.
        size: how many; None for as many as the cluster has room for now.
        address: of the cluster: "auto" finds the one of this machine, "local" starts one that is
            gone afterwards.

    Raises:
        NoCluster: there is none.
    """

    def __init__(
        self, recipe: Recipe, out: str, size: int | None = None, address: str = "auto"
    ) -> None:
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if address == HERE else None,
            )
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise NoCluster(
                f"no Ray cluster at {address!r} ({first_line(error)}); start one with `ray start "
                f"--head`, or say --ray-address {HERE} for this machine alone"
            ) from error
        kind, each = ("GPU", 1) if recipe.device == "cuda" else ("CPU", recipe.threads)
        room = int(ray.cluster_resources().get(kind, 0)) // each
        self.size = size or max(1, room)
        actor = ray.remote(Hand).options(
            num_cpus=recipe.threads,
            num_gpus=1 if recipe.device == "cuda" else 0,
            max_restarts=0,
            max_task_retries=0,
        )
        self._hire = lambda: actor.remote(recipe, out)
        self._hands: list[_Hired] = []

    def __enter__(self) -> Self:
        self._hands = [self._hired() for _ in range(self.size)]
        return self

    def __exit__(self, *error: object) -> None:
        ray.shutdown()

    @property
    def free(self) -> int:
        return sum(hand.awaited is None for hand in self._hands)

    def give(self, number: int, part: Part) -> None:
        hand = next(hand for hand in self._hands if hand.awaited is None)
        hand.number = number
        hand.awaited = hand.actor.work.options(num_returns="streaming").remote(part)

    def events(self) -> list[tuple[int | None, Event]]:
        awaited = {hand.awaited: hand for hand in self._hands if hand.awaited is not None}
        ray.wait([*awaited], num_returns=1, fetch_local=False)
        there, _ = ray.wait([*awaited], num_returns=len(awaited), timeout=0, fetch_local=False)
        told: list[tuple[int | None, Event]] = []
        for one in there:
            hand = awaited[one]
            number, event = hand.number, self._event(hand)
            if event is not None:
                told.append((number, event))
        return told

    def _event(self, hand: _Hired) -> Event | None:
        """What came from an actor; None if it has started."""
        try:
            if hand.machine is None:
                came = ray.get(hand.awaited)
                if isinstance(came, Stopped):
                    return came
                hand.machine, hand.awaited = came, None
                return None
            return ray.get(next(hand.awaited))
        except StopIteration:
            hand.number = hand.awaited = None
            return Finished()
        except RayError as error:
            return self._death(hand, error)

    def _death(self, hand: _Hired, error: RayError) -> Died:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        gone = hand.machine is not None and hand.machine not in alive
        ray.kill(hand.actor)  # if it is only out of reach, it isn't to go on
        self._hands[self._hands.index(hand)] = self._hired()
        reason = "its machine has gone" if gone else " ".join(str(error).split())[:500]
        return Died(reason, to_blame=not gone)

    def _hired(self) -> _Hired:
        actor = self._hire()
        return _Hired(actor, actor.start.remote())
