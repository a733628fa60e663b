"""Who is turned away in front of the page, and who is not."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from demo.ui.gate import Gate
from tests import loops

LIMITS = {"max_bytes": 100, "max_at_once": 3, "max_working": 2, "own_limits": ("/albums/",)}


class Inside:
    """An app that keeps its visitors until `going`."""

    def __init__(self) -> None:
        self.going = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.going.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def ask(gate: Gate, path: str, method: str = "POST", **headers: str) -> int:
    """The status of the answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("a body was asked for")

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await gate({"type": "http", "method": method, "path": path, "headers": named}, receive, send)
    return sent[0]["status"]


def statuses(*requests: dict[str, str]) -> list[int]:
    """Of requests that come one after the other, each while those let in before are still inside."""

    async def run() -> list[int]:
        inside = Inside()
        gate = Gate(inside, **LIMITS)
        tasks = [asyncio.ensure_future(ask(gate, **request)) for request in requests]
        await asyncio.sleep(0)
        inside.going.set()
        answers = await asyncio.gather(*tasks)
        assert not gate.inside
        return answers

    return loops.run(run())


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/gradio_api/upload", {"content_length": "100"}, 200),
        ("/gradio_api/upload", {"content_length": "101"}, 413),
        ("/gradio_api/upload", {"content_length": "ten"}, 413),
        ("/gradio_api/upload", {"transfer_encoding": "chunked"}, 411),
        ("/gradio_api/upload", {"transfer_encoding": "chunked", "content_length": "1"}, 411),
        ("/gradio_api/upload", {}, 200),
        ("/albums/token/photos", {"content_length": "101"}, 200),
        ("/albums/token/photos", {"transfer_encoding": "chunked"}, 200),
        ("/gradio_api/file=http://a/b.png", {}, 403),
        ("/gradio_api/file/https://a/b.png", {}, 403),
        ("/below/gradio_api/file=http://a/b.png", {}, 403),
        ("/gradio_api/file=/tmp/a/b.png", {}, 200),
    ],
)
def test_bodies_and_addresses_are_refused_by_the_head_of_a_request(
    path: str, headers: dict[str, str], status: int
) -> None:
    method = "GET" if "/file" in path else "POST"
    assert statuses({"path": path, "method": method, **headers}) == [status]


def test_each_route_takes_so_many_at_once_and_those_that_work_fewer() -> None:
    assert statuses(*[{"path": f"/gradio_api/call/tag{i}"} for i in range(5)]) == [200, 200, 200, 503, 503]
    assert statuses(*[{"path": "/gradio_api/run/tag"}] * 4) == [200, 200, 503, 503]
    mixed = [{"path": f"/gradio_api/{way}"} for way in ("run/a", "run/b", "api/a", "run/c", "upload")]
    assert statuses(*mixed) == [200, 200, 200, 503, 200]


def test_looking_is_not_counted() -> None:
    assert statuses(*[{"path": "/gradio_api/call/tag/1", "method": "GET"}] * 9) == [200] * 9
    assert statuses(*[{"path": "/albums/a/photos"}] * 9) == [200] * 9


def test_those_that_join_the_queue_do_so_in_turn_once_their_bodies_are_there() -> None:
    async def run() -> list[str]:
        told: list[str] = []
        bodies = {name: asyncio.Event() for name in ("slow", "first", "second", "other")}

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            name = scope["path"].rpartition("/")[2]
            while (await receive())["more_body"]:
                pass
            told.append(f"{name} begins")
            await asyncio.sleep(0)
            told.append(f"{name} ends")

        async def join(route: str, name: str) -> None:
            async def receive() -> Message:
                await bodies[name].wait()
                return {"type": "http.request", "more_body": False}

            async def send(message: Message) -> None: ...

            scope = {"type": "http", "method": "POST", "path": f"/gradio_api/{route}/{name}", "headers": []}
            await gate(scope, receive, send)

        gate = Gate(app, **LIMITS)
        tasks = [
            asyncio.ensure_future(join(route, name))
            for route, name in (("call", "slow"), ("call", "first"), ("queue", "second"), ("upload", "other"))
        ]
        for name in ("first", "second", "other"):
            bodies[name].set()
        await asyncio.gather(*tasks[1:])
        bodies["slow"].set()
        await tasks[0]
        return told

    told = loops.run(run())
    joined = [said for said in told if "other" not in said]
    assert joined == [f"{name} {what}" for name in ("first", "second", "slow") for what in ("begins", "ends")]
    assert told.index("other begins") < told.index("second begins")
