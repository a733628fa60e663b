"""Bodies of 64 MB and 200 requests at once against the app in a process of its own, whose memory is looked at.

Each check is seen failing on gradio as it comes: with its max_file_size alone, and with its queue unlimited.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from demo.settings import TAGGING_AT_ONCE, Settings
from tests import loops
from tests.faults.app_server import MAX_FILE_SIZE_ALONE, OURS, UNLIMITED_QUEUE, Server, file
from tests.faults.table import demand, planted
from tests.faults.test_disguised_faults import named_ones

pytestmark = pytest.mark.faults

Figure = Callable[[str], None]
MB = 2**20
REQUESTS = 200


# Body size: 64 MB in each shape to each route that takes an image

BODY_BYTES = 64 * MB
ROUTES = [
    "upload",
    "process_recording",
    "component_server",
    "queue/join",
    "stream/0",
    *(f"{way}/{name}" for way in ("call", "call/v2", "run", "api") for name in ("tag", "save_correction")),
]
FORM = '--end\r\nContent-Disposition: form-data; name="files"{}\r\n\r\n'
SMALL = FORM.format('; filename="image.png"').encode() + b"small\r\n--end--\r\n"


def bodies() -> dict[str, tuple[str, bytes]]:
    """Content type and bytes of what is sent, by its name."""
    image = '{"data": [{"path": "image.png", "url": "data:image/png;base64,'
    wanted = '"}, null], "image": null, "fn_index": 0, "session_hash": "long"}'
    starts = {
        "a multipart file": (FORM.format('; filename="image.png"'), "\r\n--end--\r\n"),
        "a multipart field": (FORM.format(""), "\r\n--end--\r\n"),
        "JSON": (image, wanted),
    }
    return {
        name: (
            "application/json" if name == "JSON" else "multipart/form-data; boundary=end",
            begin.encode() + b"A" * (BODY_BYTES - len(begin) - len(end)) + end.encode(),
        )
        for name, (begin, end) in starts.items()
    }


def sent(server: Server, path: str, kind: str, content: bytes | Iterator[bytes]) -> int:
    """The status of the answer, 0 where the connection was cut before there was one."""
    try:
        return server.client.post(path, content=content, headers={"content-type": kind}).status_code
    except httpx.TransportError:
        return 0


def body_faults(server: Server, routes: list[str]) -> tuple[list[str], Counter[int], float]:
    """What of 64 MB was not refused cheaply; the statuses; the most MB that the server grew by."""
    small = server.upload(b"small")
    server.call("tag", file(small), None)  # loads what the first request loads
    faults, statuses, most = [], Counter(), 0.0
    for name, (kind, body) in bodies().items():
        for route in routes:
            for is_chunked in (False, True):
                pieces = (body[at : at + MB] for at in range(0, len(body), MB))
                with server.growth() as growth:
                    status = sent(server, f"/gradio_api/{route}", kind, pieces if is_chunked else body)
                statuses[status] += 1
                following = sent(server, "/gradio_api/upload", "multipart/form-data; boundary=end", SMALL)
                most = max(most, growth[0])
                if not 400 <= status < 500 or growth[0] >= 32 or following != 200:
                    what = f"{name}{', chunked,' if is_chunked else ''} to {route}"
                    faults.append(f"{what}: {status}, + {growth[0]:.0f} MB, then {following}")
    return faults, statuses, most


@demand("body size")
def test_sixty_four_megabytes_are_refused_on_every_route_without_being_kept(
    start: Callable[[str], Server], make_image: Callable[..., bytes], figure: Figure
) -> None:
    server = start(OURS)
    faults, statuses, most = body_faults(server, ROUTES)
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
    figure(f"{statuses.total()} bodies of 64 MB to {len(ROUTES)} routes: {answers}; memory + {most:.1f} MB")
    assert faults == []
    assert server.call("tag", file(server.upload(make_image(1))), None).startswith("event: complete")


@demand("body size")
def test_what_is_just_short_enough_is_taken(start: Callable[[str], Server], make_image: Callable[..., bytes]) -> None:
    server, most = start(OURS), Settings().max_upload_bytes
    path = server.upload(make_image(2) + bytes(most - len(make_image(2))))
    assert server.call("tag", file(path), None).startswith("event: complete")
    too_long = server.client.post("/gradio_api/upload", files={"files": ("image.png", bytes(most + 1))})
    assert too_long.status_code == 413


@planted("body size")
def test_the_check_of_bodies_catches_gradios_max_file_size_alone(start: Callable[[str], Server]) -> None:
    faults, statuses, most = body_faults(start(MAX_FILE_SIZE_ALONE), ["upload", "call/tag"])
    assert statuses[200]
    assert most > 64
    assert any(fault.startswith("JSON to call/tag") for fault in faults)


# Overload: 200 requests at once while no image gets tagged, then all that were let in are served


def ways(server: Server, path: str) -> dict[str, Callable[[int], tuple[str, dict]]]:
    """Each way to have an image tagged: a function of a request's number."""
    data, number = {"data": [file(path), None]}, server.event("tag")
    direct: dict[str, Callable[[int], tuple[str, dict]]] = {
        "call": lambda i: ("call/tag", data),
        "call/v2": lambda i: ("call/v2/tag", {"image": file(path), "threshold": None}),
        "queue/join": lambda i: ("queue/join", data | {"fn_index": number, "session_hash": f"visitor{i}"}),
        "run": lambda i: ("run/tag", data),
        "api": lambda i: ("api/tag", data),
    }
    kinds = list(direct.values())
    return direct | {"all of them": lambda i: kinds[i % len(kinds)](i)}


DIRECT = {"run": TAGGING_AT_ONCE, "api": TAGGING_AT_ONCE, "all of them": 2 * TAGGING_AT_ONCE}
"""How many of a way in are tagged while their request waits; beside them as many of the queue are."""


LOOK_MS = 20


@contextmanager
def health(server: Server) -> Iterator[list[float]]:
    """Looks at the server's health all the while; the list holds how many milliseconds each look took.

    A look that took long stands for those too that would have come meanwhile, and had to wait for the rest of it.
    """
    taken, over = [], threading.Event()

    def look() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not over.wait(LOOK_MS / 1000):
                started = time.perf_counter()
                assert client.get(server.health).status_code == 200
                took = (time.perf_counter() - started) * 1000
                taken.extend(took - waited * LOOK_MS for waited in range(1 + int(took // LOOK_MS)))

    thread = threading.Thread(target=look)
    thread.start()
    yield taken
    over.set()
    thread.join()


def p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * len(values))]


async def outcome(client: httpx.AsyncClient, request: tuple[str, dict], answer: httpx.Response) -> bool:
    """Whether what a request let in was tagged in the end."""
    route, body = request
    if route.startswith(("run/", "api/")):
        return answer.status_code == 200 and bool(answer.json()["data"][0]["labels"])
    if route == "queue/join":
        told = await client.get("/gradio_api/queue/data", params={"session_hash": body["session_hash"]})
        return '"msg":"process_completed"' in told.text and '"success":true' in told.text
    told = await client.get(f"/gradio_api/{route}/{answer.json()['event_id']}")
    return told.text.startswith("event: complete") or "\nevent: complete" in told.text


async def crowd(server: Server, way: Callable[[int], tuple[str, dict]], unanswered: int) -> dict[str, int | float]:
    """200 requests at once. Counts, and the p95 of looks at the health until the last of those accepted is served.

    unanswered: requests that have no answer before their image is tagged.
    """
    requests = [way(number) for number in range(REQUESTS)]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # an old one may be closed just then
    async with httpx.AsyncClient(base_url=server.url, timeout=240, limits=limits) as client:
        server.hold()
        with health(server) as looks_ms:
            tasks = [asyncio.ensure_future(client.post(f"/gradio_api/{route}", json=body)) for route, body in requests]
            waiting: set[asyncio.Future] = set(tasks)
            while len(waiting) > unanswered:
                done, waiting = await asyncio.wait(waiting, timeout=20, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
            queued = (await client.get("/gradio_api/queue/status")).json()["queue_size"]
            server.go()
            answers = await asyncio.gather(*tasks)
            refused = sum(answer.status_code == 503 for answer in answers)
            let_in: list[Awaitable[bool]] = [
                outcome(client, request, answer)
                for request, answer in zip(requests, answers, strict=True)
                if answer.status_code == 200
            ]
            served = sum(await asyncio.gather(*let_in))
    return {
        "accepted": len(let_in),
        "refused": refused,
        "served": served,
        "queued": queued,
        "health_ms": p95(looks_ms),
        "looks": len(looks_ms),
    }


def overload_faults(server: Server, name: str, image: bytes) -> tuple[list[str], dict[str, int | float]]:
    direct = DIRECT.get(name, 0)
    most = Settings().max_queue_length + TAGGING_AT_ONCE + direct
    result = loops.run(crowd(server, ways(server, server.upload(image))[name], direct))
    faults = {
        "more were accepted than may wait and run": result["accepted"] > most,
        "more wait than may": result["queued"] > Settings().max_queue_length,
        "not all others were told 503": result["accepted"] + result["refused"] != REQUESTS,
        "not all that were accepted were served": not 0 < result["served"] == result["accepted"],
        "the health check is slow": result["health_ms"] >= 500,
    }
    return [fault for fault, is_so in faults.items() if is_so], result


@pytest.fixture
def large(make_image: Callable[..., bytes]) -> bytes:
    """A picture that takes a tenth of a second to decode, so that the accepted ones are work."""
    return make_image(3, (3000, 2000), "JPEG")


@demand("overload")
@pytest.mark.parametrize("name", ["call", "queue/join", "run", "all of them"])
def test_of_two_hundred_requests_at_once_those_are_taken_that_may_wait_or_run(
    start: Callable[[str], Server], large: bytes, figure: Figure, name: str
) -> None:
    server = start(OURS)
    faults, result = overload_faults(server, name, large)
    told = f"{result['accepted']} accepted ({result['queued']} of them waiting), {result['refused']} told 503"
    seen = f"p95 of {result['looks']} looks at {server.health} {result['health_ms']:.0f} ms"
    figure(f"{REQUESTS} at once by {name}: {told}; {seen}")
    assert faults == [], json.dumps(result)
    assert server.call("tag", file(server.upload(large)), None).startswith("event: complete")


@planted("overload")
def test_the_check_of_overload_catches_an_unlimited_queue(start: Callable[[str], Server], large: bytes) -> None:
    faults, result = overload_faults(start(UNLIMITED_QUEUE), "call", large)
    assert result["accepted"] == REQUESTS
    assert {"more were accepted than may wait and run", "more wait than may"} <= set(faults)


@demand("disguised formats")
def test_a_program_is_told_what_a_file_called_png_is(start: Callable[[str], Server]) -> None:
    server = start(OURS)
    for name, data in named_ones().items():
        told = server.call("tag", file(server.upload(data)), None)
        assert told.startswith("event: error"), told
        assert f"This is a {name.split()[0]} file." in told, told
