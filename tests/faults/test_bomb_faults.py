"""Decompression bombs sent to the app in a process of its own, in every way that a program sends an image.

`test_image_faults.py` has them decoded alone. The check is seen failing on a server that has Pillow's default limit.
"""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from PIL import Image

from tests.faults.app_server import OURS, PILLOWS_LIMIT, Server, file
from tests.faults.table import demand, planted
from tests.faults.test_image_faults import phone_jpeg, png_of, webp_of_a_thousand_frames

pytestmark = pytest.mark.faults

ENDPOINTS = {"tag": (None,), "save_correction": (["cat"], [], "listed")}
TOO_MANY = re.compile(r"This (PNG|WebP) has .+(megapixels|frames).+ At most [\d,]+ .+ (Save|Export) ")


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("bombs") / "bomb.png"
    sides = {"26": (5200, 5000), "88": (9400, 9400), "178": (13350, 13350)}
    pngs = {f"PNG of {million} MP": png_of(path, *size).read_bytes() for million, size in sides.items()}
    return pngs | {"WebP of 1,000 frames": webp_of_a_thousand_frames()}


@dataclass
class Sent:
    """One picture's way in, and what came of it: the answer, and what it cost from the first byte to the last."""

    way: str
    answer: str
    seconds: float
    memory_mb: float

    def __str__(self) -> str:
        return f"{self.way}: {self.seconds:.2f} s, + {self.memory_mb:.0f} MB: {self.answer[:200]}"


def sent_each_way(server: Server, image: bytes) -> Iterator[Sent]:
    """A picture as an upload and as a data URL, to each endpoint."""

    def uploaded() -> dict[str, object]:
        return file(server.upload(image))

    def data_url() -> dict[str, object]:
        return {"url": f"data:image/png;base64,{base64.b64encode(image).decode()}"}

    for endpoint, values in ENDPOINTS.items():
        for given in (uploaded, data_url):
            with server.growth() as growth:
                began = time.perf_counter()
                answer = server.call(endpoint, given(), *values)
                seconds = time.perf_counter() - began
            yield Sent(f"{given.__name__} to /{endpoint}", answer, seconds, growth[0])


def warmed(server: Server) -> Server:
    """One that loaded what the first pictures of each kind load."""
    for kind in ("PNG", "WEBP", "JPEG"):
        target = io.BytesIO()
        Image.new("RGB", (64, 64)).save(target, kind)
        assert all(sent.answer.startswith("event: complete") for sent in sent_each_way(server, target.getvalue()))
    return server


def bomb_faults(server: Server, bombs: dict[str, bytes]) -> tuple[list[str], list[Sent]]:
    """What was not refused with a clear message, at once and cheaply; and all that was sent."""
    faults, everything = [], []
    for name, bomb in bombs.items():
        for sent in sent_each_way(server, bomb):
            everything.append(sent)
            is_clear = sent.answer.startswith("event: error") and TOO_MANY.search(sent.answer)
            if not is_clear or sent.seconds >= 1 or sent.memory_mb >= 64:
                faults.append(f"{name}, {sent}")
    return faults, everything


def most(sent: list[Sent]) -> str:
    return f"slowest {max(one.seconds for one in sent):.2f} s, memory + {max(one.memory_mb for one in sent):.0f} MB"


@demand("decompression bomb")
def test_a_server_refuses_every_bomb_by_every_way_in_at_once_and_in_little_memory(
    start: Callable[[str], Server], bombs: dict[str, bytes], figure: Callable[[str], None]
) -> None:
    server = warmed(start(OURS))
    rows = (server.folder / "corrections" / "corrections.csv").read_bytes()
    faults, sent = bomb_faults(server, bombs)
    figure(f"{len(bombs)} bombs sent to a server as {len(sent)} requests: {len(faults)} not refused; {most(sent)}")
    assert faults == []
    assert (server.folder / "corrections" / "corrections.csv").read_bytes() == rows


@demand("decompression bomb")
def test_a_server_takes_a_phone_jpeg_of_48_megapixels_by_every_way_in_and_in_little_memory(
    start: Callable[[str], Server], figure: Callable[[str], None]
) -> None:
    sent = [*sent_each_way(warmed(start(OURS)), phone_jpeg())]
    figure(f"JPEG of 48 MP sent to a server as {len(sent)} requests: {most(sent)}")
    assert [str(one) for one in sent if not one.answer.startswith("event: complete") or one.memory_mb >= 150] == []


@planted("decompression bomb")
def test_the_check_of_servers_catches_pillows_default_limit(
    start: Callable[[str], Server], bombs: dict[str, bytes]
) -> None:
    faults, sent = bomb_faults(warmed(start(PILLOWS_LIMIT)), {"88 MP": bombs["PNG of 88 MP"]})
    assert len(faults) == len(sent)
    assert all(one.answer.startswith("event: complete") for one in sent)
    assert max(one.memory_mb for one in sent) > 64
