"""The answer to joining the queue waits for the page to let go of its closed stream, and for nothing else."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.types import Message, Receive, Scope, Send

from demo.ui import streams
from demo.ui.gate import Gate
from demo.ui.streams import Streams
from tests import loops


class Visitor:
    """What one connection hears; the app behind is a stand-in that answers as gradio's queue does."""

    def __init__(self, middleware: Streams, path: str, session: str) -> None:
        query = f"session_hash={session}".encode()
        self.scope = {"type": "http", "path": f"/gradio_api/queue/{path}", "query_string": query, "headers": []}
        self.scope["method"] = "GET" if path == "data" else "POST"
        self.body = json.dumps({"data": ["x" * 10], "session_hash": session}).encode()
        self.gone, self.heard = asyncio.Event(), []
        self.task = asyncio.create_task(middleware(self.scope, self.receive, self.send))
        self.has_asked = False

    async def receive(self) -> Message:
        if not self.has_asked:
            self.has_asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.heard.append(message)

    async def settled(self) -> bool:
        """Whether it has been answered to the end, once everything that can go on has."""
        for _ in range(20):
            await asyncio.sleep(0)
        return self.task.done()


async def gradio(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200})
    if scope["path"].endswith("/data"):
        for text in ('data: {"msg":"process_completed"}\n\n', 'data: {"msg":"close_stream"}\n\n'):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def test_an_answer_waits_for_the_page_that_has_not_let_go_and_for_no_other() -> None:
    async def main() -> None:
        middleware = Streams(gradio)
        stream = Visitor(middleware, "data", "mine")
        assert not await stream.settled()
        assert b"close_stream" in stream.heard[-1]["body"]
        mine, other = (Visitor(middleware, "join", session) for session in ("mine", "other"))
        assert await other.settled()
        assert not await mine.settled()
        assert not mine.heard
        stream.gone.set()
        assert await stream.settled()
        assert await mine.settled()
        assert not middleware.closing
        assert await Visitor(middleware, "join", "mine").settled()

    loops.run(main())


def test_nobody_else_waits_for_who_has_not_let_go() -> None:
    async def main() -> None:
        middleware = Streams(Gate(gradio, max_bytes=1000, max_at_once=9, max_working=1))
        stream = Visitor(middleware, "data", "mine")
        assert not await stream.settled()
        mine = Visitor(middleware, "join", "mine")
        assert not await mine.settled()
        assert await Visitor(middleware, "join", "other").settled()
        stream.gone.set()
        assert await mine.settled()

    loops.run(main())


def test_who_never_lets_go_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_SECONDS", 0.01)

    async def main() -> None:
        middleware = Streams(gradio)
        stream, mine = Visitor(middleware, "data", "mine"), Visitor(middleware, "join", "mine")
        await asyncio.gather(stream.task, mine.task)
        assert mine.heard

    loops.run(main())


def test_a_body_that_cannot_be_read_is_passed_on() -> None:
    async def main() -> None:
        middleware = Streams(gradio)
        stream, odd = Visitor(middleware, "data", "mine"), Visitor(middleware, "join", "mine")
        odd.body = b"[no json"
        assert await odd.settled()
        odd.task.result()
        stream.task.cancel()

    loops.run(main())
