"""How much is taken from whom: bytes of a body, and the time it may take to come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llflow.serve.problems import Problem

SILENCE = 30.0  # seconds without a byte of a body that was announced
ENVELOPE = 64 * 1024  # bytes of a form around its file


@dataclass(frozen=True)
class Limits:
    """Of the service.

    Attributes:
        bytes: a picture's file may have.
        pixels: a picture may have.
        seconds: a computation may take.
        waiting: requests that may be computed or wait for it.
        kept: finished jobs that stay.
        kept_bytes: they may take on disk together.
        kept_seconds: each stays, from when it was last asked for.
        samples: may be averaged.
    """

    bytes: int = 200_000_000
    pixels: int = 50_000_000
    seconds: float = 600.0
    waiting: int = 64
    kept: int = 32
    kept_bytes: int = 4_000_000_000
    kept_seconds: float = 1800.0
    samples: int = 64


class BodyLimit:
    """Ends a request whose body is too large, as soon as that is known, or doesn't come.

    Args:
        app: what answers the others.
        most: bytes of a body.
        silence: seconds to wait for more of it.
    """

    def __init__(self, app: ASGIApp, most: int, silence: float = SILENCE) -> None:
        self.app, self.most, self.silence = app, most, silence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        came, ended, started = 0, False, False

        async def limited() -> Message:
            nonlocal came, ended
            if ended:  # what comes now is that the client has gone
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.silence)
            except TimeoutError:
                raise Problem(408, f"no more of the body came in {self.silence:g} s") from None
            came += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if came > self.most:
                raise self._too_large()
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            told = dict(scope["headers"]).get(b"content-length", b"")
            if told.isdigit() and int(told) > self.most:
                raise self._too_large()
            await self.app(scope, limited, watched)
        except Problem as problem:
            if started:
                raise
            await problem.answer({"Connection": "close"})(scope, receive, send)

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is too large; the limit is {self.most:,} bytes")
