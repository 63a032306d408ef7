"""Who may ask, and what a browser may do with the answer.

A page of anybody's, open in a browser on this machine, reaches what listens on loopback: directly,
with forms and scripts, or under a name of its own that it lets point here (DNS rebinding). So a
request has to name this service as its host, by an address, as localhost, or by a name that was
allowed; and one that changes something mustn't come from another site. Nothing is ever allowed to
other origins (CORS).
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llflow.serve.problems import Problem

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
_OWN = ("same-origin", "none")  # of Sec-Fetch-Site: this page, or a person


class Guard:
    """Refuses strangers, and adds `HEADERS` to every answer.

    Args:
        app: what answers the others.
        hosts: names, without port, that this service has beside addresses and localhost.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self.app, self.hosts = app, {host.lower() for host in hosts} | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            self._require_friend(scope["method"], Headers(scope=scope))
        except Problem as problem:
            await problem.answer({"Connection": "close"})(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)

    def _require_friend(self, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        name = _name(host)
        if name is None or not (_is_address(name) or name in self.hosts):
            raise Problem(421, "this service isn't known by that host name (--allow-host)")
        if method in _SAFE:
            return
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign or (site is not None and site not in _OWN):
            raise Problem(403, "pages of other sites may not ask for this")


def _name(host: str) -> str | None:
    """A Host header's name, lower case and without port; None if it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where it is no number
        return parts.hostname if parts.netloc == host else None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
