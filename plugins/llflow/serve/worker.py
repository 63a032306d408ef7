"""A process that computes for the service: whatever a picture does to it ends with it.

It is replaced after it died, ran out of time, or was told to stop in the middle of something.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from llflow.errors import first_line
from llflow.serve.problems import Problem

Progress = Callable[[float], object]

_log = logging.getLogger("llflow.serve")
# Forked from a process that has imported PyTorch, a new one is there at once.
_METHODS = multiprocessing.get_all_start_methods()
_CONTEXT: Any = multiprocessing.get_context("forkserver" if "forkserver" in _METHODS else "spawn")
_PATIENCE = 120.0  # seconds to be ready in


class Worker:
    """One process; one task at a time, the others wait in the order they came in.

    Args:
        make: a picklable function that makes the object whose methods are the tasks, given what
            they tell their progress to.
        seconds: a task may take.
        waiting: calls that may wait or be done at once.
    """

    def __init__(self, make: Callable[[Progress], object], seconds: float, waiting: int) -> None:
        self.make, self.seconds, self.waiting = make, seconds, waiting
        self._calls = 0
        self._lock = asyncio.Lock()
        self._process: Any = None
        self._connection: Connection | None = None

    async def start(self) -> None:
        """Wait until it is ready.

        Raises:
            Problem: it can't be.
        """
        async with self._lock:
            await self._ready()

    async def call(self, task: str, *arguments: Any, tell: Progress = lambda share: None) -> Any:
        """What the method `task` returns; `tell` is called with 0 when its turn comes, and with
        the share that is done from then on.

        If the caller is cancelled, so is the task.

        Raises:
            Problem: what went wrong, for the client.
        """
        if self._calls >= self.waiting:
            raise Problem(503, f"{self._calls} requests are waiting already", 1)
        self._calls += 1
        try:
            async with self._lock:
                await self._ready()
                tell(0.0)
                return await self._answer((task, arguments), self.seconds, tell)
        finally:
            self._calls -= 1

    def stop(self) -> None:
        """End the process, now."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return None if self._process is None else self._process.pid

    async def _ready(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        self.stop()
        self._connection, other = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(other, self.make), daemon=True)
        await asyncio.to_thread(_start, process)
        self._process = process
        other.close()
        await self._answer(None, _PATIENCE)

    async def _answer(
        self, message: object, seconds: float, tell: Progress = lambda share: None
    ) -> Any:
        connection, loop = self._connection, asyncio.get_running_loop()
        assert connection is not None

        def received() -> Any:
            end = time.monotonic() + seconds
            if message is not None:
                connection.send(message)
            while connection.poll(max(0.0, end - time.monotonic())):
                answer = connection.recv()
                if not isinstance(answer, float):
                    return answer
                loop.call_soon_threadsafe(tell, answer)
            return None

        waiting = asyncio.ensure_future(asyncio.to_thread(received))
        try:
            answer = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self._process.kill()  # which ends the wait
            await asyncio.wait([waiting])
            waiting.exception()
            self.stop()
            raise
        except (EOFError, OSError):
            code = self._process.exitcode
            self.stop()
            _log.error("the process that computes has ended (%s)", code)
            raise Problem(
                503, "the computation was ended by the system; it may lack memory for this picture"
            ) from None
        if answer is None:
            self.stop()
            raise Problem(504, f"the computation took longer than the limit of {seconds:g} s")
        problem, result = answer
        if problem is not None:
            raise Problem(*problem)
        return result


def _start(process: Any) -> None:
    """Start it, and the process that it is forked from, deaf to Ctrl-C, which is for the service
    to hear."""
    if _CONTEXT.get_start_method() == "spawn":
        process.start()
        return
    _CONTEXT.set_forkserver_preload(["llflow.serve.work"])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, make: Callable[[Progress], Any]) -> None:
    """The process: one task after another, until nobody listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    problem, work = _tried(make, connection.send)
    connection.send((problem, None))
    while problem is None:
        try:
            task, arguments = connection.recv()
        except EOFError:
            return
        connection.send(_tried(getattr(work, task), *arguments))


def _tried(function: Callable[..., Any], *arguments: Any) -> tuple[tuple[int, str] | None, Any]:
    """A problem's status and detail, or None and the result."""
    from llflow.picture.files import NotAPicture

    try:
        return None, function(*arguments)
    except NotAPicture as error:
        return (415, str(error)), None
    except OSError as error:  # names files of this machine
        _log.exception("a file of the service's own")
        return (503, f"the service's disk fails ({error.strerror or 'unknown error'})"), None
    except (ValueError, ArithmeticError) as error:
        return (422, first_line(error)), None
    except (MemoryError, RuntimeError):  # torch's word for "out of memory", too
        _log.exception("the computation failed")
        return (
            503,
            "the computation failed; there may be too little memory for this picture",
        ), None
    except Exception:
        _log.exception("%s failed", function)
        return (500, "something went wrong in the service; its log says what"), None
