"""Who is who where nobody logs in: a random id in a cookie of each browser, and a name made of it.

The name goes to the corrections, which anybody may download, so it does not lead back to the cookie: who knows a name
cannot delete that person's rows. Clearing the browser's data makes a new person of somebody, and a program that keeps
no cookies is a new one with each request.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE, HEADER = "tagloop-visitor", "x-tagloop-visitor"
ID = re.compile(r"[0-9a-f]{32}")
YEAR_SECONDS = 365 * 24 * 3600


def name_of(visitor_id: str) -> str:
    return f"visitor-{hashlib.sha256(visitor_id.encode()).hexdigest()[:12]}"


class Strangers:
    """Tells the app who a request is from, in a header of its own that nobody else can set."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        connection = HTTPConnection(scope)
        known = connection.cookies.get(COOKIE, "")
        visitor_id = known if ID.fullmatch(known) else secrets.token_hex(16)
        headers = [(key, value) for key, value in scope["headers"] if key != HEADER.encode()]
        scope = scope | {"headers": [*headers, (HEADER.encode(), name_of(visitor_id).encode())]}

        async def introduced(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", _cookie(visitor_id, connection))
            await send(message)

        await self.app(scope, receive, send if visitor_id == known else introduced)


def _cookie(visitor_id: str, connection: HTTPConnection) -> str:
    """A Space is shown inside another site's page, where only a cookie of the last kind is kept."""
    is_https = "https" in (connection.url.scheme, connection.headers.get("x-forwarded-proto", "").partition(",")[0])
    kind = "SameSite=None; Secure; Partitioned" if is_https else "SameSite=Lax"
    return f"{COOKIE}={visitor_id}; Path=/; Max-Age={YEAR_SECONDS}; HttpOnly; {kind}"
