"""Scripts that are first in the page: what gradio is given for its head it adds when its own scripts run already."""

from __future__ import annotations

from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SCRIPTS = ("words_early", "streams")
HEAD = "<head><script>{}</script>".format(
    "".join(Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
).encode()


class Early:
    """Middleware that gives the page its head."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].endswith("/"):
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def send_with_head(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_page(message):
                start = message
                return
            if start is not None:  # the page is one piece
                body = message.get("body", b"").replace(b"<head>", HEAD, 1)
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(body))
                await send(start)
                start, message = None, message | {"body": body}
            await send(message)

        await self.app(scope, receive, send_with_head)


def _is_page(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/html")
