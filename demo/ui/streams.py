"""No event without its answer: the stream of answers stays open between events that follow each other.

gradio closes a page's stream when nothing is pending, and the page opens another when it next asks for something and
knows that the old one is closed. What it asks for while the word of that is still on its way, as *next* after *save*,
is answered into no stream, and seen only after the page has asked for something else. So a browser's stream is closed
when nobody has asked for anything for a while, and who asks for something then is told which stream was closed: before
the page has heard of that, `streams.js` does not let it have the answer. A stream is closed after so short a while
since a browser has six connections to a host, for all of its tabs.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from itertools import count
from urllib.parse import parse_qs

from gradio.route_utils import API_PREFIX
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS_OPEN = 3.0
"""Of a stream without anything pending."""

SECONDS_TO_HEAR = 60.0
"""From the word that the stream is closed being sent to the page knowing it, at most."""

SECONDS_WITHOUT_SCRIPT = 0.05
"""The same for a page that has no `streams.js`, as one of another site that shows ours as a part."""

CLOSING = b'data: {"msg":"close_stream"'
SESSION = re.compile(rb'"session_hash":\s*"([^"\\]*)"')


class Streams:
    """Middleware around gradio's routes of the queue. Programs have streams as gradio closes them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.joined: dict[str, asyncio.Event] = {}  # by session whose stream is open: something was asked for
        self.closed: dict[str, tuple[int, float]] = {}  # by session: the stream's number, and when by the loop's clock
        self.numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.endswith(f"{API_PREFIX}/queue/join"):
            await self._join(scope, receive, send)
        elif path.endswith(f"{API_PREFIX}/queue/data") and b"Mozilla" in dict(scope["headers"]).get(b"user-agent", b""):
            await self._data(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _data(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One stream to the page out of as many of gradio's as there are before nobody asks any more."""
        session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        joined, is_begun, last, number = asyncio.Event(), False, None, next(self.numbers)
        self.joined[session] = joined

        async def sent(message: Message) -> None:
            nonlocal is_begun, last
            if message["type"] == "http.response.start":
                is_begun, was_begun = True, is_begun
                if not was_begun:
                    await send(_with_header(message, b"x-stream", number))
            elif message.get("body", b"").startswith(CLOSING):
                joined.clear()  # gradio has just found nothing pending: what is asked for from here on sets it
                last = message
            elif message.get("more_body") or last is None:
                await send(message)

        try:
            while True:
                last = None
                await self.app(scope, receive, sent)
                if last is None:
                    break
                await _first(joined, receive)
                if not joined.is_set():  # nobody can ask between this and the close
                    self._close(session, joined, number)
                    break
            if last is not None:
                await send(last)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if self.joined.get(session) is joined:
                del self.joined[session]

    def _close(self, session: str, joined: asyncio.Event, number: int) -> None:
        if self.joined.get(session) is not joined:
            return
        del self.joined[session]
        now = asyncio.get_running_loop().time()
        self.closed.pop(session, None)
        self.closed[session] = number, now
        while (first := next(iter(self.closed))) != session and self.closed[first][1] < now - SECONDS_TO_HEAR:
            del self.closed[first]

    async def _join(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()

        async def received() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = SESSION.findall(body)
                session = told[-1].decode("latin-1") if told else ""
                if session in self.joined:
                    self.joined[session].set()
                elif session in self.closed:
                    number, at = self.closed[session]
                    message = _with_header(message, b"x-stream-closed", number)
                    since = asyncio.get_running_loop().time() - at
                    await asyncio.sleep(max(0.0, SECONDS_WITHOUT_SCRIPT - since))
            await send(message)

        await self.app(scope, received, sent)


def _with_header(start: Message, name: bytes, number: int) -> Message:
    return start | {"headers": [*start.get("headers", ()), (name, b"%d" % number)]}


async def _first(joined: asyncio.Event, receive: Receive) -> None:
    """Until something is asked for, the page has gone, or too much time."""
    tasks = [asyncio.create_task(joined.wait()), asyncio.create_task(_gone(receive))]
    try:
        await asyncio.wait(tasks, timeout=SECONDS_OPEN, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
