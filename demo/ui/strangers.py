"""Who is who where nobody has to log in: a random id in a cookie of each browser, and a name made of it.

Who logged in with the Hub, as people may on a Space with `hf_oauth`, has the user name instead. gradio keeps that in a
cookie, signed with a secret that the Space alone has. It is not heeded that the Hub's token in there is good for some
hours only: nothing is asked of the Hub with it, and somebody's rows should not change their name in the middle of an
evening. The cookie ends two weeks after the page was last loaded.

The name of a browser goes to the corrections, which anybody may download, so it does not lead back to the cookie: who
knows a name cannot delete that person's rows. Clearing the browser's data makes a new person of somebody, and a program
that keeps no cookies is a new one with each request.
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
STRANGER = re.compile(r"visitor-[0-9a-f]{12}")
YEAR_SECONDS = 365 * 24 * 3600


def name_of(visitor_id: str) -> str:
    return f"visitor-{hashlib.sha256(visitor_id.encode()).hexdigest()[:12]}"


def is_stranger(name: str) -> bool:
    """Whether the name is one of a browser's."""
    return STRANGER.fullmatch(name) is not None


def hub_name(scope: Scope) -> str:
    """The Hub's name of who logged in there; '' for nobody.

    Somebody's name on the Hub that looks like a browser's is none here, or its rows would be theirs to delete.
    """
    told = scope.get("session", {}).get("oauth_info") or {}
    name = told.get("userinfo", {}).get("preferred_username", "")
    return "" if is_stranger(name) else name


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
        on_hub = hub_name(scope)
        if on_hub and scope["path"] == "/":
            scope["session"]["oauth_info"] = scope["session"]["oauth_info"]  # or it would end two weeks after the login
        headers = [(key, value) for key, value in scope["headers"] if key != HEADER.encode()]
        scope = scope | {"headers": [*headers, (HEADER.encode(), (on_hub or name_of(visitor_id)).encode("latin-1"))]}

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
