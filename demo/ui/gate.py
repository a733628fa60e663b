"""What is turned away before the page hears of it: bodies that are too long, more requests at once than there is room
for, and addresses that gradio would fetch.

Goes by a request's head alone. What was let in and has to wait is counted by gradio's queue.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from gradio.route_utils import API_PREFIX
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

WORKING = ("run", "api", "process_recording")
"""Routes of gradio that do the work while the request waits."""

JOINING = ("call", "queue")
"""Routes of gradio that put it into the queue, which is work for its event loop."""


class Gate:
    """Answers 411, 413, 403 or 503 where it lets nobody in, and says what to do.

    max_bytes: of a body, which has to say its length, so that nothing is read or kept of one that is too long.
    max_at_once: requests that one route of gradio is sent; max_working: that one is which does its work past the queue.
    Those that join the queue do so one after the other, and who asks for something else comes in between. own_limits:
    starts of the paths of routes that count what they are sent themselves.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, max_at_once: int, max_working: int, own_limits: tuple[str, ...] = ()
    ) -> None:
        self.app, self.max_bytes, self.own_limits = app, max_bytes, own_limits
        self.max_at_once, self.max_working = max_at_once, max_working
        self.inside: Counter[str] = Counter()
        self.turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self.own_limits):
            return await self.app(scope, receive, send)
        route = scope["path"].partition(API_PREFIX + "/")[2]
        if refusal := self._refusal(dict(scope["headers"]), route):
            return await refusal(scope, receive, send)
        door = route.partition("/")[0]
        if scope["method"] != "POST" or not door:
            return await self.app(scope, receive, send)
        if self.inside[door] >= (self.max_working if door in WORKING else self.max_at_once):
            busy = _refusal(503, "Too many requests at once. Try again in a moment.")
            return await busy(scope, receive, send)
        self.inside[door] += 1
        try:
            await (self._in_turn if door in JOINING else self.app)(scope, receive, send)
        finally:
            self.inside[door] -= 1
            self.inside = +self.inside  # without the empty ones: anybody can name a door

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The turn goes from the body's arrival to the answer, so that nobody waits for somebody's slow line."""
        is_mine = False

        async def received() -> Message:
            nonlocal is_mine
            message = await receive()
            if not is_mine and not message.get("more_body"):
                is_mine = await self.turn.acquire()
            return message

        def end() -> None:
            nonlocal is_mine
            if is_mine:
                self.turn.release()
            is_mine = False

        async def sent(message: Message) -> None:
            end()
            await send(message)

        try:
            await self.app(scope, received, sent)
        finally:
            end()

    def _refusal(self, headers: dict[bytes, bytes], route: str) -> JSONResponse | None:
        """For what a request is, whatever else goes on."""
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers:
            return _refusal(411, "The request does not say how long it is. Send it with a Content-Length.")
        if not length.isdigit() or int(length) > self.max_bytes:
            most = f"At most {self.max_bytes / 2**20:.0f} MB are taken."
            return _refusal(413, f"{most} Save the image smaller and try again.")
        if route.startswith("file") and "://" in route:
            return _refusal(403, "Addresses are not fetched here. Upload the file.")
        return None


def _refusal(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)
