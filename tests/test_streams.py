"""A browser's stream of answers stays open between events, and who asks when it is closed is told so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from demo.ui import streams
from demo.ui.gate import Gate
from demo.ui.streams import Streams
from tests import loops

COMPLETED, CLOSE = 'data: {"msg":"process_completed"}\n\n', 'data: {"msg":"close_stream"}\n\n'


class Visitor:
    """What one connection hears; the app behind is a stand-in that answers as gradio's queue does."""

    def __init__(self, middleware: Streams, path: str, session: str, agent: str = "Mozilla/5.0") -> None:
        self.scope = {
            "type": "http",
            "method": "GET" if path == "data" else "POST",
            "path": f"/gradio_api/queue/{path}",
            "query_string": f"session_hash={session}".encode(),
            "headers": [(b"user-agent", agent.encode())],
        }
        told = {"data": ['"session_hash":"other"'], "session_hash": session}
        self.body = json.dumps(told, separators=(",", ":")).encode()
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

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.heard).decode()

    async def settled(self) -> bool:
        """Whether it has been answered to the end, once everything that can go on has."""
        for _ in range(50):
            await asyncio.sleep(0)
        return self.task.done() and not self.task.exception()


async def gradio(scope: Scope, receive: Receive, send: Send) -> None:
    await receive() if scope["method"] == "POST" else None
    await send({"type": "http.response.start", "status": 200})
    if scope["path"].endswith("/data"):
        for text in (COMPLETED, CLOSE):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def run(test: Callable[[Streams], Awaitable[None]]) -> None:
    async def main() -> None:
        await test(Streams(Gate(gradio, max_bytes=1000, max_at_once=9, max_working=1)))

    loops.run(main())


def test_the_stream_stays_open_and_goes_on_with_what_is_asked_for_next() -> None:
    async def test(middleware: Streams) -> None:
        stream = Visitor(middleware, "data", "mine")
        for asked in range(3):
            assert not await stream.settled()
            assert stream.text == COMPLETED * (asked + 1)
            assert await Visitor(middleware, "join", "other").settled()
            assert await Visitor(middleware, "join", "mine").settled()
        stream.gone.set()
        assert await stream.settled()
        assert [message["type"] for message in stream.heard].count("http.response.start") == 1
        assert not middleware.joined

    run(test)


def test_after_a_while_it_is_closed_and_who_asks_then_is_told_which_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SECONDS_OPEN", 0.0)

    async def test(middleware: Streams) -> None:
        before, stream = Visitor(middleware, "data", "mine"), Visitor(middleware, "data", "mine")
        await asyncio.gather(before.task, stream.task)
        assert stream.text == COMPLETED + CLOSE
        assert stream.heard[-1]["more_body"] is False
        number = header(stream, b"x-stream")
        assert number != header(before, b"x-stream")
        mine, other = Visitor(middleware, "join", "mine"), Visitor(middleware, "join", "other")
        assert await other.settled()
        assert not await mine.settled()  # of a page without the script
        await mine.task
        assert (header(mine, b"x-stream-closed"), header(other, b"x-stream-closed")) == (number, None)
        await asyncio.sleep(streams.SECONDS_WITHOUT_SCRIPT)
        assert await Visitor(middleware, "join", "mine").settled()
        monkeypatch.setattr(streams, "SECONDS_TO_HEAR", 0.0)
        await Visitor(middleware, "data", "other").task
        assert list(middleware.closed) == ["other"]

    run(test)


def header(visitor: Visitor, name: bytes) -> bytes | None:
    return dict(visitor.heard[0].get("headers", ())).get(name)


def test_a_programs_stream_is_closed_at_once() -> None:
    async def test(middleware: Streams) -> None:
        program = Visitor(middleware, "data", "mine", agent="python-httpx/0.28")
        assert await program.settled()
        assert program.text == COMPLETED + CLOSE

    run(test)
