"""Kills of a process that saves and syncs, its disk kept or gone; the check is seen failing on one that overwrites.

And how old a row may be that a lost machine takes along; that check is seen failing on one that falls behind. A few
kills run every time; `make test-faults` runs twenty, from three seeds.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session, disable_progress_bars
from PIL import Image, PngImagePlugin

from demo.corrections import Corrections
from demo.hub_rows import HubRows
from demo.sync import Sync
from tests.faults.table import demand, planted
from tests.hub_commits import OWNER, TOKEN, HubCommits, serve_commits
from tests.waiting import until

DATASET = f"{OWNER}/data"
INTERVAL_MINUTES = 0.1 / 60
ROUNDS_A_PERSON_TAKES = 20

PROCESSES = multiprocessing.get_context("forkserver")  # whose children need not import it all again
PROCESSES.set_forkserver_preload([__name__])


class Blind(HubRows):
    """A careless one: every process pushes to one folder and does not look at what it holds."""

    def read(self, make: bool = False) -> bool:
        is_new = super().read(make)
        self._tables, self._folder_of, self._pictures, self._own = {}, {}, {}, "data/all"
        return is_new


class Again(HubRows):
    """A careless one: it takes what it could not see arrive for not pushed."""

    def read(self, make: bool = False) -> bool:
        tables, folder_of, pictures, own = self._tables, self._folder_of, self._pictures, self._own
        is_new = super().read(make)
        self._tables, self._folder_of, self._pictures, self._own = tables, folder_of, pictures, own + "x"
        return is_new


class EverySecond(Sync):
    """One that falls behind: it takes every second round for done."""

    rounds = 0

    def exchange(self) -> None:
        self.rounds += 1
        if self.rounds % 2:
            super().exchange()


class OnlyOnce(Sync):
    """One that stops after its first round and does not say so."""

    rounds = 0

    def exchange(self) -> None:
        self.rounds += 1
        if self.rounds == 1:
            super().exchange()


def photo(name: int) -> bytes:
    """A picture whose bytes tell more than its pixels; of another colour for each name."""
    told, target = PngImagePlugin.PngInfo(), io.BytesIO()
    told.add_text("GPS", "canary")
    Image.new("RGB", (8, 6), (name % 256, name // 256, 7)).save(target, "PNG", pnginfo=told)
    return target.getvalue()


def talk_to(endpoint: str) -> None:
    """What a process of these tests does before it uses the Hub."""
    constants.ENDPOINT = endpoint
    constants.HUGGINGFACE_CO_URL_TEMPLATE = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    constants.HF_HUB_DISABLE_XET = True
    os.environ["HF_TOKEN"] = TOKEN
    close_session()
    disable_progress_bars()


def work(there_class: type[HubRows], endpoint: str, folder: Path, log_path: Path, seed: int, actions: int | None):
    """A server: rows are saved, saved again and deleted while they are synced; what was tried, done, synced is logged.

    actions: after so many it ends as one that is stopped; None for going on until it is killed.
    """
    talk_to(endpoint)
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def logged(what: str, name: int = -1, threshold: float | None = None) -> None:
        os.write(log, (json.dumps([what, name, threshold]) + "\n").encode())

    rng, corrections = random.Random(seed), Corrections(folder)
    sync, number = Sync(corrections, there_class(DATASET), INTERVAL_MINUTES).start(), 0
    while actions is None or number < actions:
        number += 1
        mine = corrections.rows()
        chance, threshold = rng.random(), round(rng.random(), 6)
        if mine and chance < 0.2:
            row = rng.choice(mine)
            logged("try", int(row.labels[0]))
            corrections.delete(row.file_name)
            logged("done", int(row.labels[0]))
        else:
            name = int(rng.choice(mine).labels[0]) if mine and chance < 0.4 else 1000 * seed + number
            logged("try", name, threshold)
            values = {"labels": [str(name)], "rejected": [], "model_labels": [], "reviewed": "listed", "model": "m@1"}
            corrections.save(photo(name), "png", threshold=threshold, **values)
            logged("done", name, threshold)
        looks_on = rng.random() < 0.1  # until all is synced
        while not (is_synced := bool(sync.state().synced_at) and not sync.state().waiting) and looks_on:
            time.sleep(0.01)
        if is_synced:
            logged("synced")
    sync.close(60)
    if not sync.state().waiting:
        logged("synced")


def run_kills(hub: HubCommits, tmp_path: Path, kills: int, seed: int, there_class: type[HubRows] = HubRows) -> dict:
    """Kill a server again and again; what is wrong afterwards, and how much was done and synced."""
    rng, log_path, folder = random.Random(seed), tmp_path / "log", tmp_path / "disk"
    for number in range(1, 4 * kills):  # answers that are lost, and pushes that are refused
        hub.fail("/commit/", rng.choice([None, 500]), first=5 * number, times=1, carried_out=rng.random() < 0.7)
    disks = []
    for kill in range(kills + 1):
        log_path.touch()
        lines_before = log_path.read_bytes().count(b"\n")
        actions = None if kill < kills else ROUNDS_A_PERSON_TAKES
        arguments = (there_class, hub.endpoint, folder, log_path, kill + 1, actions)
        process = PROCESSES.Process(target=work, args=arguments)
        process.start()
        if kill < kills:
            until(lambda before=lines_before: log_path.read_bytes().count(b"\n") > before)
            time.sleep(rng.uniform(0, 2.5))
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        if kill < kills:
            is_kept = rng.random() < 0.4
            disks.append("kept" if is_kept else "gone")
            with log_path.open("a") as log:
                log.write(json.dumps([disks[-1], -1, None]) + "\n")
            if not is_kept:
                shutil.rmtree(folder)
    return judged(hub, log_path) | {"disks": disks, "exit": process.exitcode}


def judged(hub: HubCommits, log_path: Path) -> dict:
    """What the dataset holds against what the log says that it may hold."""
    there: dict[int, set] = {}  # what the dataset may say of an image; None for nothing
    here: dict[int, set] = {}  # and what the disk may
    counts = {"done": 0, "synced": 0}
    for what, name, threshold in map(json.loads, log_path.read_text().splitlines()):
        counts[what] = counts.get(what, 0) + 1
        if what == "try":
            for possible in (there, here):
                possible[name] = possible.get(name, {None}) | {threshold}
        elif what == "done":
            here[name] = {threshold}
        elif what == "synced":
            there = {image: set(possible) for image, possible in here.items()}
        elif what == "gone":
            here = {image: set(possible) for image, possible in there.items()}
    wrong, found = [], {}
    head = hub.repo(DATASET, "dataset").head.files
    for path, content in head.items():
        if path.endswith("metadata.csv"):
            for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
                name = int(json.loads(row["labels"])[0])
                picture = head.get(f"{path.rpartition('/')[0]}/{row['file_name']}")
                wrong += [f"twice: {name}"] if name in found else []
                wrong += [] if picture and shows(picture, name) else [f"no picture: {name}"]
                found[name] = float(row["threshold"])
    pictures = sum("/images/" in path for path in head)
    wrong += [f"{pictures} pictures for {len(found)} rows"] if pictures != len(found) else []
    wrong += [f"lost or old: {image}" for image, may in there.items() if found.get(image) not in may]
    return {"wrong": wrong, "rows": len(found), **counts, "commits": len(hub.repo(DATASET, "dataset").commits)}


def shows(picture: bytes, name: int) -> bool:
    with Image.open(io.BytesIO(picture)) as image:
        return image.getpixel((0, 0)) == (name % 256, name // 256, 7) and b"canary" not in picture


# The stated interval: at any moment the machine may be lost with its disk, and what the dataset has then is left

STATED_SECONDS = 2
INTERVALS = 4


def work_by_the_clock(sync_class: type[Sync], endpoint: str, folder: Path, log_path: Path) -> None:
    """A server: a row every 50 ms; when each was acknowledged and when each round of syncing began and ended is logged.

    The clock is one for all processes of a machine.
    """
    talk_to(endpoint)
    log, corrections, number = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), Corrections(folder), 0

    def logged(what: str, name: int = -1) -> None:
        os.write(log, (json.dumps([what, name, time.monotonic()]) + "\n").encode())

    class Timed(sync_class):
        def exchange(self) -> None:
            logged("began")
            super().exchange()
            logged("ended")

    Timed(corrections, HubRows(DATASET), STATED_SECONDS / 60).start()
    while True:
        number += 1
        values = {"labels": [str(number)], "rejected": [], "model_labels": [], "reviewed": "listed", "model": "m@1"}
        corrections.save(photo(number), "png", threshold=0.5, **values)
        logged("saved", number)
        time.sleep(0.05)


def lost_by_stops(hub: HubCommits, tmp_path: Path, sync_class: type[Sync] = Sync) -> dict[str, object]:
    """What a loss of the machine at any of many moments takes along: how old it is, and what is too old for that.

    Too old is what was acknowledged longer ago than the interval and the longest push took.
    """
    log_path, folder, moments = tmp_path / "log", tmp_path / "disk", []
    log_path.touch()
    process = PROCESSES.Process(target=work_by_the_clock, args=(sync_class, hub.endpoint, folder, log_path))
    process.start()
    until(lambda: b"saved" in log_path.read_bytes())
    enough = time.monotonic() + INTERVALS * STATED_SECONDS
    while (now := time.monotonic()) < enough:
        made = ("dataset", DATASET) in hub.repos and hub.repo(DATASET, "dataset").commits
        moments.append((now, made[-1].files if made else {}))
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    shutil.rmtree(folder)
    saved, push_seconds, began = {}, 0.0, enough
    for what, name, at in map(json.loads, log_path.read_text().splitlines()):
        if what == "saved":
            saved[name] = at
        elif what == "began":
            began = at
        else:
            push_seconds, began = max(push_seconds, at - began), enough
    push_seconds = max(push_seconds, enough - began)  # the one that was cut off
    there, ages = {}, [0.0]
    for moment, files in moments:
        kept = there.setdefault(id(files), names_in(files))
        ages.append(max((moment - at for name, at in saved.items() if at < moment and name not in kept), default=0.0))
    oldest, most = max(ages), STATED_SECONDS + push_seconds
    return {"is_late": oldest > most, "oldest": oldest, "push": push_seconds, "rows": len(saved), "stops": len(moments)}


def names_in(files: dict[str, bytes]) -> set[int]:
    """What rows of a dataset's files are of."""
    tables = (content.decode() for path, content in files.items() if path.endswith("metadata.csv"))
    return {
        int(json.loads(row["labels"])[0]) for text in tables for row in csv.DictReader(io.StringIO(text, newline=""))
    }


@pytest.fixture
def hub() -> Iterator[HubCommits]:
    with serve_commits() as running:
        yield running


def test_nothing_that_was_synced_is_lost_or_doubled_by_a_few_kills(hub, tmp_path):
    came_to = run_kills(hub, tmp_path, 3, seed=1)
    print(came_to)
    assert came_to["wrong"] == [], came_to
    assert came_to["exit"] == 0
    assert came_to["synced"] > 3


@demand("sync, kill -9")
@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3 if os.environ.get("FAULTS") == "full" else 1))
def test_nothing_that_was_synced_is_lost_or_doubled_by_twenty_kills(hub, tmp_path, figure, seed):
    came_to = run_kills(hub, tmp_path, 20, seed)
    print(came_to)
    figure(
        f"20 kills, {came_to['done']} saves and deletions, {came_to['commits']} commits: {len(came_to['wrong'])} wrong"
    )
    assert came_to["wrong"] == [], came_to
    assert came_to["exit"] == 0
    assert came_to["synced"] > 15
    assert {"kept", "gone"} <= {*came_to["disks"]}


@planted("sync, kill -9")
@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("careless", [Blind, Again])
def test_the_check_catches_one_that_does_not_look_at_what_is_there(hub, tmp_path, careless):
    assert run_kills(hub, tmp_path, 6, seed=2, there_class=careless)["wrong"] != []


@demand("sync, kill -9")
@pytest.mark.faults
def test_a_lost_machine_takes_no_row_along_that_is_older_than_the_stated_interval(hub, tmp_path, figure):
    came_to = lost_by_stops(hub, tmp_path)
    told = f"the oldest row lost was {came_to['oldest']:.2f} s old, the longest push took {came_to['push']:.2f} s"
    figure(f"a machine lost at {came_to['stops']} moments, interval {STATED_SECONDS} s: {told}")
    assert not came_to["is_late"], came_to
    assert came_to["rows"] > 40


@planted("sync, kill -9")
@pytest.mark.faults
@pytest.mark.parametrize("slow", [EverySecond, OnlyOnce])
def test_the_check_of_the_interval_catches_one_that_falls_behind(hub, tmp_path, slow):
    assert lost_by_stops(hub, tmp_path, slow)["is_late"]
