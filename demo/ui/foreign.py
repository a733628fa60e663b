"""What another site's page asks for in somebody's browser, nobody asks for.

gradio lets every site in, so that its pages can be shown there, and on https its cookies go along; so a page elsewhere
could save, delete and fine-tune in the name of whoever looks at it, and read what they may read. Browsers say where a
request comes from. https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

OWN = (b"same-origin", b"none")


class Foreign:
    """Takes cookies, and what was read from them, away from what another site's page asks for.

    Not from a page of ours that is opened from there, by a link, in a frame or by the Hub's login: the other page does
    not see what comes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            is_opened = scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"
            if headers.get(b"sec-fetch-site", b"none") not in OWN and not is_opened:
                kept = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
                scope = scope | {"headers": kept, "session": {}}
        await self.app(scope, receive, send)
