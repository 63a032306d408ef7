"""What OpenAPI is told that the routes' signatures don't tell."""

from __future__ import annotations

from typing import Any

from llflow.serve.asked import Asked
from llflow.serve.problems import MEDIA_TYPE, SCHEMA

_PROBLEM = {"description": "A problem, in words.", "content": {MEDIA_TYPE: {"schema": SCHEMA}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "5XX": _PROBLEM}
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture.",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The job whenever it changes, and each second while it is computed; the "
        "stream ends with the job.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def body(*, required: bool) -> dict[str, Any]:
    """A route's picture: a form with settings, or bytes."""
    settings = Asked.model_json_schema()["properties"]
    picture = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": picture, **settings},
        "additionalProperties": False,
    }
    content = {
        "multipart/form-data": {"schema": form},
        "application/octet-stream": {"schema": picture},
        "image/*": {"schema": picture},
    }
    return {"requestBody": {"required": required, "content": content}}
