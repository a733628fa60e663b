"""No event without its answer: gradio's stream of answers is closed in agreement with the page.

gradio closes a page's stream when nothing is pending, and the page opens another when it next asks for something and
knows that the old one is closed. What it asks for while the word of that is still on its way would be answered into no
stream, and seen only after the page had asked for something else. So the answer to *join the queue* waits until the
page has let go of the closed stream.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from urllib.parse import parse_qs

from gradio.route_utils import API_PREFIX
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_SECONDS = 2.0
"""Who has not let go by then never will: programs read to the end instead."""

CLOSING = b'data: {"msg":"close_stream"'


class Streams:
    """Middleware around gradio's routes of the queue."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.closing: dict[str, asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.endswith(f"{API_PREFIX}/queue/data"):
            await self._data(scope, receive, send)
        elif path.endswith(f"{API_PREFIX}/queue/join"):
            await self._join(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _data(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        let_go: asyncio.Event | None = None

        async def sent(message: Message) -> None:
            nonlocal let_go
            if message.get("body", b"").startswith(CLOSING):
                let_go = self.closing[session] = asyncio.Event()
            if let_go and not message.get("more_body"):
                with suppress(TimeoutError):
                    await asyncio.wait_for(_gone(receive), MAX_SECONDS)
            await send(message)

        try:
            await self.app(scope, receive, sent)
        finally:
            if let_go:
                let_go.set()
                if self.closing.get(session) is let_go:
                    del self.closing[session]

    async def _join(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()

        async def received() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            is_start = message["type"] == "http.response.start"
            if is_start and self.closing and (let_go := self.closing.get(_session(body))):
                await let_go.wait()
            await send(message)

        await self.app(scope, received, sent)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _session(body: bytes | bytearray) -> str:
    with suppress(ValueError, AttributeError):
        return str(json.loads(body).get("session_hash"))
    return ""
