"""What the routes share, from the service's start to its end."""

from __future__ import annotations

import asyncio
from functools import partial

from starlette.requests import Request

from llflow.serve.jobs import Jobs
from llflow.serve.limits import Limits
from llflow.serve.work import Darkroom, Network
from llflow.serve.worker import Worker

_ROUND = 5.0  # seconds between looks for what may be forgotten


class Service:
    """The pictures, the processes that compute, and the folder where everything is.

    Args:
        network: makes what needs the network.
        limits: of what is taken.
        sha256: of the weights.
    """

    def __init__(self, network: partial[Network], limits: Limits, sha256: str) -> None:
        self.limits, self.sha256 = limits, sha256
        self.jobs = Jobs(limits)
        # Each job may be computed, and asked for one thing more.
        self.network = Worker(network, limits.seconds, 2 * limits.waiting)
        self.darkroom = Worker(partial(Darkroom, limits.pixels), limits.seconds, limits.waiting)

    async def start(self) -> None:
        """Wait until pictures can be computed, if they can't be already.

        Raises:
            Problem: they can't, because of weights or device.
        """
        await self.network.start()
        await self.darkroom.start()

    async def forget(self) -> None:
        """Look for what may be forgotten, again and again."""
        while True:
            await asyncio.sleep(_ROUND)
            await self.jobs.forget()

    async def close(self) -> None:
        """Cancel what is computed or waits, so that every request is answered."""
        await self.jobs.close()

    def end(self) -> None:
        """Leave nothing behind."""
        self.network.stop()
        self.darkroom.stop()
        self.jobs.remove()


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    return request.app.state.service
