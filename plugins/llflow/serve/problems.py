"""What is answered when something can't be done: RFC 9457's application/problem+json."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import JSONResponse

from llflow.errors import LLFlowError

MEDIA_TYPE = "application/problem+json"


class Problem(LLFlowError):
    """An answer that isn't the one hoped for.

    Args:
        status: of HTTP, 400 or above.
        detail: one line for the reader.
        retry_after: seconds after which it may go better.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after = status, detail, retry_after

    def answer(self, headers: dict[str, str] | None = None) -> JSONResponse:
        """The response, `headers` among its own."""
        after = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return JSONResponse(self.content(), self.status, {**(headers or {}), **after}, MEDIA_TYPE)

    def content(self) -> dict[str, str | int]:
        """What the response says."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }


SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
