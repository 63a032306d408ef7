"""Processes of this machine, each a worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Self

from llflow.batch.part import Died, Event, Finished, Part, Stopped
from llflow.batch.recipe import Recipe
from llflow.errors import LLFlowError

READY = "ready"
GRACE = 5.0  # seconds in which a process whose pipe is closed ends
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "VIPS_CONCURRENCY")


@dataclass
class _Hand:
    """A worker's process; `number` is that of its part, if it has one."""

    process: BaseProcess
    connection: Connection
    ready: bool = False
    number: int | None = None


class Local:
    """`size` processes. One that dies is started anew; if whoever leads them dies, each ends after
    the picture that it is at."""

    def __init__(self, recipe: Recipe, out: str, size: int) -> None:
        self._recipe, self._out, self.size = recipe, out, size
        self._hands: list[_Hand] = []

    def __enter__(self) -> Self:
        self._hands = [self._hired() for _ in range(self.size)]
        return self

    def __exit__(self, *error: object) -> None:
        for hand in self._hands:
            hand.process.terminate()
        for hand in self._hands:
            hand.process.join(GRACE)
            if hand.process.exitcode is None:
                hand.process.kill()
                hand.process.join()
            hand.connection.close()

    @property
    def free(self) -> int:
        return sum(hand.ready and hand.number is None for hand in self._hands)

    def give(self, number: int, part: Part) -> None:
        hand = next(hand for hand in self._hands if hand.ready and hand.number is None)
        hand.number = number
        with suppress(OSError):  # if it has died, its pipe tells that next
            hand.connection.send(part)

    def events(self) -> list[tuple[int | None, Event]]:
        told: list[tuple[int | None, Event]] = []
        there = wait([hand.connection for hand in self._hands])
        for place, hand in enumerate(self._hands):
            if hand.connection not in there:
                continue
            number = hand.number
            try:
                event = hand.connection.recv()
            except (EOFError, OSError):
                told.append((number, Died(_death(hand))))
                self._hands[place] = self._hired()
                continue
            if event == READY:
                hand.ready = True
                continue
            if isinstance(event, Finished):
                hand.number = None
            told.append((number, event))
        return told

    def _hired(self) -> _Hand:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, self._recipe, self._out), daemon=True)
        process.start()
        there.close()
        return _Hand(process, here)


def _death(hand: _Hand) -> str:
    """How a process ended, in words."""
    hand.connection.close()
    hand.process.join(GRACE)
    code = hand.process.exitcode
    if code == -signal.SIGKILL:
        return "killed, as the kernel does where memory is at an end"
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def serve(connection: Connection, recipe: Recipe, out: str) -> None:
    """What such a process does: parts, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who leads it decides
    os.environ.update(dict.fromkeys(THREADS, str(recipe.threads)))

    try:
        from llflow.batch.worker import Worker  # PyTorch reads the environment

        worker = Worker(recipe, out)
        connection.send(READY)
        while True:
            part = connection.recv()
            for event in worker.work(part):
                connection.send(event)
            connection.send(Finished())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # whoever leads has gone
    except (LLFlowError, OSError, ValueError) as error:
        connection.send(Stopped(str(error)))
