"""What can be asked for under /v1."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from llflow.serve import openapi
from llflow.serve.asked import Asked, Finish, Light
from llflow.serve.bodies import again, received
from llflow.serve.jobs import ENDS, Job, Jobs
from llflow.serve.problems import Problem
from llflow.serve.service import service_of

_PULSE = 1.0  # seconds between events of a computation
_CHUNK = 1 << 16


def _each_once(request: Request) -> None:
    """Refuse a setting that is given twice, of which the first would be ignored."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            raise Problem(422, f"{name[:100]}: given twice")


router = APIRouter(prefix="/v1", dependencies=[Depends(_each_once)])


class Submitted(Asked):
    """Settings, and where the picture is if it isn't in the body."""

    of: str | None = Field(None, description="Take the picture of this job, without a body.")


@router.get("/about", tags=["service"])
async def about(request: Request) -> dict[str, Any]:
    """Which weights compute, and what is taken."""
    service, limits = service_of(request), service_of(request).limits
    taken = {"bytes": limits.bytes, "pixels": limits.pixels, "seconds": limits.seconds}
    return {"version": request.app.version, "weights": service.sha256, "limits": taken}


@router.post(
    "/enhance",
    tags=["pictures"],
    response_class=Response,
    responses=openapi.PICTURE,
    openapi_extra=openapi.body(required=True),
)
async def enhance(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """A picture in, a bright picture out, as `llflow enhance` makes it."""
    service = service_of(request)
    job = await received(service.jobs, request, asked)
    try:
        compute = partial(service.network.call, "enhance", job.folder, job.asked)
        await _unless_gone(request, service.jobs.start(job, lambda tell: compute(tell=tell)))
        _require_done(job)
        return _picture(job.result)
    finally:
        await service.jobs.cancel(job)


@router.post("/jobs", tags=["jobs"], status_code=202, openapi_extra=openapi.body(required=False))
async def submit(
    request: Request, response: Response, submitted: Annotated[Submitted, Query()]
) -> dict[str, Any]:
    """Take a picture in and answer at once; it is kept for a while once it is done."""
    service = service_of(request)
    asked = Asked(**submitted.model_dump(exclude_unset=True, exclude={"of"}))
    if submitted.of is not None:
        job = await again(service.jobs, service.jobs.get(submitted.of), asked)
    else:
        job = await received(service.jobs, request, asked)
    compute = partial(service.network.call, "compute", job.folder, job.asked)
    service.jobs.start(job, lambda tell: compute(tell=tell))
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return _told(service.jobs, job)


@router.get("/jobs/{name}", tags=["jobs"])
async def told(request: Request, name: str) -> dict[str, Any]:
    """How far it is, and what is known of its picture."""
    jobs = service_of(request).jobs
    return _told(jobs, jobs.get(name))


@router.delete("/jobs/{name}", tags=["jobs"], status_code=204)
async def cancel(request: Request, name: str) -> None:
    """Stop it if it isn't done, and forget its picture."""
    jobs = service_of(request).jobs
    await jobs.cancel(jobs.get(name))


@router.get("/jobs/{name}/events", tags=["jobs"], response_class=Response, responses=openapi.EVENTS)
async def events(request: Request, name: str) -> Response:
    """Its progress, as server-sent events."""
    jobs = service_of(request).jobs
    return StreamingResponse(_events(jobs, jobs.get(name)), media_type="text/event-stream")


@router.get(
    "/jobs/{name}/result", tags=["jobs"], response_class=Response, responses=openapi.PICTURE
)
async def result(request: Request, name: str, finish: Annotated[Finish, Query()]) -> Response:
    """The whole picture, with all that its file carried; settings that are given here take the
    place of the job's, without the network."""
    service = service_of(request)
    job = service.jobs.get(name)
    _require_done(job)
    finish = job.asked.finish.model_copy(update=finish.model_dump(exclude_unset=True))
    return _picture(await service.darkroom.call("result", job.folder, finish))


@router.get(
    "/jobs/{name}/preview", tags=["jobs"], response_class=Response, responses=openapi.PICTURE
)
async def preview(request: Request, name: str, light: Annotated[Light, Query()]) -> Response:
    """The picture as a screen shows it; of strength 0 it is the dark one."""
    service = service_of(request)
    job = service.jobs.get(name)
    _require_done(job)
    light = job.asked.finish.light.model_copy(update=light.model_dump(exclude_unset=True))
    content, media_type = await service.darkroom.call("preview", job.folder, light)
    return Response(content, media_type=media_type)


@router.get(
    "/jobs/{name}/uncertainty", tags=["jobs"], response_class=Response, responses=openapi.PICTURE
)
async def uncertainty(request: Request, name: str) -> Response:
    """Where samples of the picture differ, dark for nowhere: a PNG, smaller than a preview."""
    service = service_of(request)
    job = service.jobs.get(name)
    _require_done(job)
    return Response(await service.network.call("uncertainty", job.folder), media_type="image/png")


@router.get("/jobs/{name}/score", tags=["jobs"])
async def score(request: Request, name: str) -> dict[str, float | None]:
    """How well the bright picture fits the dark one, of a small version: `llflow score`'s numbers,
    and one standard deviation of the predicted exposure in stops."""
    service = service_of(request)
    job = service.jobs.get(name)
    _require_done(job)
    return await service.network.call("score", job.folder)


def _told(jobs: Jobs, job: Job) -> dict[str, Any]:
    problem = None if job.problem is None else job.problem.content()
    return {
        "id": job.id,
        "status": job.status,
        "ahead": jobs.ahead(job),
        "share": round(job.share, 3),
        "seconds": round(job.elapsed(), 3),
        "settings": job.asked.model_dump(),
        "picture": job.result or None,
        "problem": problem,
    }


async def _events(jobs: Jobs, job: Job) -> AsyncIterator[str]:
    while True:
        changed = job.changed
        yield f"data: {json.dumps(_told(jobs, job))}\n\n"
        if job.status in ENDS:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), _PULSE)


def _require_done(job: Job) -> None:
    if job.problem is not None:
        raise job.problem
    if job.status == "cancelled":
        raise Problem(503, "the computation was cancelled; the service may be ending")
    if job.status != "done":
        raise Problem(409, f"the picture isn't done; it is {job.status}")


async def _unless_gone(request: Request, task: asyncio.Task) -> None:
    """Wait for the task, but not for longer than the client does."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.create_task(gone())
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()


def _picture(told: dict[str, Any]) -> Response:
    """The file, which may be removed or replaced while it is sent."""
    path: Path = told["path"]
    file = path.open("rb")
    headers = {
        "Content-Length": str(os.fstat(file.fileno()).st_size),
        "Content-Disposition": f'attachment; filename="bright{path.suffix}"',
    }
    return StreamingResponse(_chunks(file), media_type=told["media_type"], headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk
