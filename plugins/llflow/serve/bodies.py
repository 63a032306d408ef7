"""How a picture comes: as the body itself, or as `file` of a form whose other fields are settings.

What the client calls its file is never looked at, and no field names a path.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from llflow.serve.asked import Asked
from llflow.serve.jobs import Job, Jobs
from llflow.serve.problems import Problem

_FORM = "multipart/form-data"
_ANYTHING = "application/octet-stream"
_FIELDS = 32


async def received(jobs: Jobs, request: Request, asked: Asked) -> Job:
    """A new job with the picture of this request.

    Raises:
        Problem: there are too many jobs, the body is none of the above, or a field isn't a setting.
    """
    try:
        job = jobs.open(asked)
    except Problem:
        async for _ in request.stream():  # an answer in the middle of a body isn't heard
            pass
        raise
    try:
        kind = request.headers.get("content-type", _ANYTHING).partition(";")[0].strip().lower()
        if kind == _FORM:
            job.asked = await _from_form(request, asked, job.folder / "source")
        elif kind == _ANYTHING or kind.startswith("image/"):
            with (job.folder / "source").open("xb") as file:
                async for chunk in request.stream():
                    file.write(chunk)
        else:
            expected = f"{_FORM}, {_ANYTHING} or image/..."
            raise Problem(415, f"expected a body of type {expected}, got {kind[:100]!r}")
        require_samples(job.asked, jobs.limits.samples)
    except BaseException:
        await jobs.cancel(job)
        raise
    return job


async def again(jobs: Jobs, source: Job, asked: Asked) -> Job:
    """A new job with another one's picture.

    Raises:
        Problem: there are too many jobs.
    """
    require_samples(asked, jobs.limits.samples)
    job = jobs.open(asked)
    try:
        os.link(source.folder / "source", job.folder / "source")
    except BaseException:
        await jobs.cancel(job)
        raise
    return job


async def _from_form(request: Request, asked: Asked, path: Path) -> Asked:
    async with request.form(max_files=1, max_fields=_FIELDS) as form:
        upload, fields = None, {}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "file":
                    raise Problem(422, f"expected the picture as 'file', got {name[:100]!r}")
                upload = value
            elif name in fields or name in asked.model_fields_set:
                raise Problem(422, f"{name[:100]}: given twice")
            else:
                fields[name] = value
        if upload is None:
            raise Problem(422, "expected a picture in the form, as 'file'; got none")
        with path.open("xb") as file:
            shutil.copyfileobj(upload.file, file)
    try:
        return Asked.model_validate(asked.model_dump(exclude_unset=True) | fields)
    except ValidationError as error:
        raise Problem(422, in_words(error.errors())) from None


def require_samples(asked: Asked, most: int) -> None:
    """Refuse more samples than the service computes for a picture, and several of no spread."""
    if asked.samples > most:
        raise Problem(422, f"samples: the limit of this service is {most}, got {asked.samples}")
    if asked.samples > 1 and asked.temperature == 0:
        raise Problem(422, "at temperature 0 all samples are the same; leave samples out")


def in_words(errors: object) -> str:
    """What pydantic found wrong, in one line."""
    assert isinstance(errors, list | tuple)
    said = []
    for error in errors:
        where = [str(part) for part in error["loc"] if part not in ("query", "path", "body")]
        name = where[0][:100] if where else "request"
        if error["type"] == "extra_forbidden":
            said.append(f"{name}: there is no such setting")
        else:
            said.append(f"{name}: {error['msg']}, got {str(error['input'])[:100]!r}")
    return "; ".join(said[:5])
