"""A disk that fills up under a running server: a program and a page are told, nothing is lost, the next save works.

RLIMIT_FSIZE stands for the full disk: no file of the process grows over so many bytes. `test_corrections_faults.py`
has the store alone, at every byte. The check is seen failing on a server that does not look at how much was written.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.faults.app_server import OURS, UNCHECKED_WRITE, Server, file
from tests.faults.table import demand, planted

pytestmark = pytest.mark.faults

UNTOUCHED_AND_NEXT = "What was saved before is untouched. Make room or give access there, then try again."
PART_OF_A_ROW = 20
SMALL = (8, 6)
"""Pixels of pictures that fit where the CSV of three rows does."""


@contextmanager
def full_at(server: Server, size: int) -> Iterator[None]:
    """No file of the server grows over so many bytes meanwhile."""
    _, hard = before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, hard))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


class Disk:
    """What a server keeps of corrections, with three rows in it."""

    def __init__(self, server: Server, make_image: Callable[..., bytes]) -> None:
        self.server, self.folder = server, server.folder / "corrections"
        for seed in range(3):
            assert self.save(server.upload(make_image(seed, SMALL))).startswith("event: complete")

    def save(self, path: str) -> str:
        return self.server.call("save_correction", file(path), ["cat"], [], "listed")

    def kept(self) -> dict[str, bytes]:
        """CSV and images, by name."""
        paths = [self.folder / "corrections.csv", *self.folder.glob("images/*")]
        return {path.name: path.read_bytes() for path in paths}

    def faults(self, image: bytes, size: int) -> list[str]:
        """What goes wrong with a save where no file grows over `size` bytes, and with the next one."""
        path, before = self.server.upload(image), self.kept()
        with full_at(self.server, size):
            told = self.save(path)
        after = self.kept()
        saved = self.save(path)
        row = json.loads(saved.rpartition("data: ")[2])[0] if saved.startswith("event: complete") else {}
        last = self.kept()
        wrong = {
            f"told {told}": not told.startswith("event: error") or UNTOUCHED_AND_NEXT not in told,
            "what was kept changed": after != before,
            f"the next save said {saved}": not row,
            "the next save's row is not the only new one": bool(row)
            and (last["corrections.csv"].count(b"\n") != before["corrections.csv"].count(b"\n") + 1)
            and last[Path(row["file_name"]).name] != image,
        }
        return [what for what, is_so in wrong.items() if is_so]


@demand("disk full")
def test_a_server_whose_disk_is_full_says_so_and_loses_nothing_and_saves_once_there_is_room(
    start: Callable[[str], Server], make_image: Callable[..., bytes], figure: Callable[[str], None]
) -> None:
    disk = Disk(start(OURS), make_image)
    held = len(disk.kept()["corrections.csv"])
    image = make_image(10, SMALL)
    rooms = {"the image": len(image) // 2, "any of the row": held, "all of the row": held + PART_OF_A_ROW}
    assert len(image) < held, "it would fail for its image"
    faults = {
        what: disk.faults(make_image(10 + number, SMALL), size) for number, (what, size) in enumerate(rooms.items())
    }
    figure(f"a server without room for {', '.join(rooms)}: {sum(map(len, faults.values()))} faults")
    assert not any(faults.values()), faults


@planted("disk full")
def test_the_check_of_servers_catches_an_unchecked_write(
    start: Callable[[str], Server], make_image: Callable[..., bytes]
) -> None:
    disk = Disk(start(UNCHECKED_WRITE), make_image)
    wrong = disk.faults(make_image(10, SMALL), len(disk.kept()["corrections.csv"]) + PART_OF_A_ROW)
    assert any(what.startswith("told event: complete") for what in wrong), wrong
    assert "what was kept changed" in wrong


@demand("disk full")
@pytest.mark.browser
def test_the_page_says_that_the_disk_is_full_and_what_was_decided_stays_until_it_is_saved(
    page: Page, start: Callable[[str], Server], make_image: Callable[..., bytes]
) -> None:
    disk = Disk(start(OURS), make_image)
    before = disk.kept()
    page.goto(disk.server.url)
    expect(page.get_by_test_id("model").locator("b")).not_to_be_empty()
    upload = {"name": "upload.png", "mimeType": "image/png", "buffer": make_image(20, SMALL)}
    page.locator("input[type=file]").first.set_input_files(upload)
    chip = page.get_by_test_id("tag-editor").locator('[data-label][data-state="active"]').first
    expect(page.get_by_test_id("tag-editor")).to_have_attribute("data-view", "ready")
    name = chip.get_attribute("data-label")
    chip = page.locator(f'[data-label="{name}"]')
    chip.click()
    status, save = page.get_by_test_id("status"), page.get_by_test_id("save")
    with full_at(disk.server, len(before["corrections.csv"]) + PART_OF_A_ROW):
        save.click()
        expect(status).to_have_attribute("data-state", "error")
        expect(status).to_contain_text("No space left on device")
        expect(status).to_contain_text(UNTOUCHED_AND_NEXT)
        expect(chip).to_have_attribute("data-state", "rejected")
    assert disk.kept() == before
    save.click()
    expect(status).to_have_attribute("data-state", "saved")
    (line,) = disk.kept()["corrections.csv"].removeprefix(before["corrections.csv"]).splitlines()
    assert f'[""{name}""]'.encode() in line
