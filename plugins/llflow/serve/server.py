"""The application on a socket, from its first request to an orderly end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

_GRACE = 10  # seconds for answers that are being sent
# Seconds until a connection without a request is closed: longer than clients keep one, or the two
# would meet, and a request be lost.
_IDLE = 75


def listen(host: str, port: int) -> socket.socket:
    """A socket on this address and port, or any port for 0.

    Raises:
        OSError: it is taken, or there is no such address here; told in words.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise OSError(f"{host} port {port}: {error.strerror or error}") from error
    return listening


def run(app: FastAPI, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `ready` is called with the address.

    Raises:
        Problem: it can't start.
    """
    host, port = listening.getsockname()[:2]
    named = f"[{host}]" if ":" in host else host
    server = Server(app, lambda: ready(f"http://{named}:{port}"))
    asyncio.run(server.whole(listening))


class Server(uvicorn.Server):
    """uvicorn's, which would let requests come before anything can be computed, and wait for
    computations without an end."""

    def __init__(self, app: FastAPI, ready: Callable[[], object]) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=_IDLE,
            lifespan="on",
        )
        super().__init__(config)
        self.service, self.ready = app.state.service, ready

    async def whole(self, listening: socket.socket) -> None:
        """From start to end."""
        try:
            await self.service.start()
            await self.serve(sockets=[listening])
        finally:
            self.service.end()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.service.close()
        await super().shutdown(sockets)
