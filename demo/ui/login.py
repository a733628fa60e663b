"""The login in front of everything that gradio's own does not ask at: downloads, thumbnails, uploads of albums.

With `auth` gradio asks who is there on its own routes alone, and on some of those not. Here every path needs the login
but those that are named, so that a new route needs it too. Who is logged in is gradio's to know: a token in a cookie,
and a name for it as long as the server runs. Does not slow down who guesses passwords.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from demo.ui.health import HEALTH

OPEN = {
    *("/", "/login", "/login/", HEALTH),
    *("/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *("/gradio_api/startup-events", "/gradio_api/theme.css", "/gradio_api/app_id", "/gradio_api/login_check"),
}
"""What the page of the login is made of, and what says how the server is. "/" is that page for who is not logged in."""
OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/", "/pwa_icon")
"""Files of gradio's own."""


class Login:
    """Answers 401 to who is not logged in, where accounts were given to gradio; else lets everybody by."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._is_let_in(scope):
            return await self.app(scope, receive, send)
        await JSONResponse({"detail": "Log in first: open the page and give name and password."}, 401)(
            scope, receive, send
        )

    def _is_let_in(self, scope: Scope) -> bool:
        app, path = scope["app"], scope["path"]
        if app.auth is None or path in OPEN or path.startswith(OPEN_FOLDERS):
            return True
        cookies = HTTPConnection(scope).cookies
        names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
        return any(app.tokens.get(cookies.get(name)) is not None for name in names)
