"""The service as an application: who may ask, what is said when something is wrong, the page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from llflow.network import checkpoint
from llflow.pages import SLIDER
from llflow.serve import openapi
from llflow.serve.bodies import in_words
from llflow.serve.guard import Guard
from llflow.serve.limits import ENVELOPE, BodyLimit, Limits
from llflow.serve.problems import Problem
from llflow.serve.routes import router
from llflow.serve.service import Service, service_of
from llflow.serve.work import Network

PAGE = Path(__file__).parent / "page"


def make_app(
    weights: str | Path = checkpoint.DEFAULT,
    *,
    device: str = "auto",
    precision: str = "auto",
    limits: Limits = Limits(),
    hosts: Collection[str] = (),
) -> FastAPI:
    """The service, as an ASGI application.

    Args:
        weights, device, precision: as `llflow enhance` has them.
        limits: of what it takes.
        hosts: names that it is known by, beside addresses and localhost.

    Raises:
        OSError: the weights can't be read.
    """
    network = partial(Network, weights, device, precision, limits.pixels)
    sha256 = checkpoint.digest(checkpoint.file_of(weights))

    service = Service(network, limits, sha256)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            rounds = asyncio.create_task(service.forget())
            yield
            rounds.cancel()
            await service.close()
        finally:
            service.end()

    app = FastAPI(
        title="llflow",
        summary="Dark photographs made bright.",
        version=version("flowkit"),
        openapi_url="/v1/openapi.json",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses=openapi.PROBLEMS,
    )
    app.state.service = service
    app.add_middleware(BodyLimit, most=limits.bytes + ENVELOPE)
    app.add_middleware(Guard, hosts=hosts)
    _answer_problems(app)
    app.include_router(router)
    app.add_api_route("/healthz", health, tags=["service"])
    for file in (*PAGE.iterdir(), *SLIDER.iterdir()):
        folder = "" if file.parent == PAGE else f"{file.parent.name}/"
        name = "" if file.name == "index.html" else file.name
        app.add_route(f"/{folder}{name}", partial(_static, file), include_in_schema=False)
    return app


async def _static(file: Path, request: Request) -> Response:
    return FileResponse(file)


async def health(request: Request) -> dict[str, Any]:
    """Whether it works."""
    return {"status": "ok", "waiting": service_of(request).jobs.waiting()}


def _answer_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.answer()

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return Problem(error.status_code, error.detail).answer(dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return Problem(422, in_words(error.errors())).answer()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return Problem(500, "something went wrong in the service; its log says what").answer()
