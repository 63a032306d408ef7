"""The service with the network of the tests, listening."""

import asyncio
import contextlib
import threading
from functools import partial

import httpx

from llflow.serve.app import make_app
from llflow.serve.limits import Limits
from llflow.serve.server import Server, listen


@contextlib.contextmanager
def live(weights, port=0, **limits):
    """Its address, and the application."""
    app = make_app(weights, device="cpu", precision="float32", limits=Limits(**limits))
    ready = threading.Event()
    addresses = []
    with listen("127.0.0.1", port) as socket:
        server = Server(app, lambda: (addresses.append(socket.getsockname()[1]), ready.set()))
        thread = threading.Thread(target=partial(asyncio.run, server.whole(socket)))
        thread.start()
        try:
            assert ready.wait(300), "the service didn't start"
            yield f"http://127.0.0.1:{addresses[0]}", app
        finally:
            server.should_exit = True
            thread.join(60)


def client(address):
    return httpx.Client(base_url=address, timeout=120)
