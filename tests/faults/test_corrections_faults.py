"""Crashes, full disks and power loss against the corrections CSV; every check is seen failing on a bad writer.

A taste of each is part of `make test`; FAULTS=full, as `make test-faults` sets it, runs the numbers that are demanded.
"""

import csv
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest

from benchmarks.save_cost import filled, milliseconds, percentile, save_one
from demo.corrections import Corrections, View
from demo.errors import CorrectionsError
from demo.rows import HEADER, Correction, from_line, to_line
from tests.faults.table import demand, planted
from tests.waiting import until

FULL = os.environ.get("FAULTS") == "full"
WRITERS, SAVES, KILLS, SEEDS = (8, 500, 20, 10) if FULL else (8, 10, 4, 1)


def give(store, image, threshold=0.5):
    """Save a row that carries its image's name as label."""
    lists = {"labels": [image], "rejected": [], "model_labels": []}
    return store.save(image.encode(), "png", reviewed="listed", threshold=threshold, model="m@1", **lists)


def give_many(store, images, threshold=0.5):
    """Save a row for each image in one go."""

    def view(digest, saved):
        (name,) = (image for image in images if hashlib.sha256(image.encode()).hexdigest() == digest)
        return View((name,), (), "listed", (), threshold, "m@1")

    return store.save_many([(image.encode(), "png") for image in images], view)


class BadWriter:
    """A save without care; `write` is each child's own mistake."""

    def __init__(self, folder):
        self.csv_path = Path(folder) / "corrections.csv"
        self.csv_path.parent.mkdir(exist_ok=True)
        if not self.csv_path.exists():
            self.csv_path.write_bytes(HEADER)

    def save(self, image, extension, **values):
        values |= {name: tuple(values[name]) for name in ("labels", "rejected", "model_labels")}
        values |= {"is_valid": False, "annotator": "", "saved_at": "now"}
        row = Correction(file_name=f"images/{image.hex()}.png", **values)
        self.write(to_line(row))
        return row


class ReadModifyWrite(BadWriter):
    def write(self, line):
        self.csv_path.write_bytes(self.csv_path.read_bytes() + line)


class FlushOnly(BadWriter):
    """Nor does it heal, nor look at how much was written."""

    def write(self, line):
        file = os.open(self.csv_path, os.O_WRONLY | os.O_APPEND)
        os.write(file, line)
        os.close(file)


class RescanOnSave(Corrections):
    def save(self, *arguments, **values):
        row = super().save(*arguments, **values)
        with self.csv_path.open(encoding="utf-8", newline="") as file:
            len(list(csv.reader(file)))
        return row


def work(store_class, folder, log_path, name, saves, rewrites, turns, writer):
    """One process: save `saves` images, some of them again, delete some, and log what was tried and what was done.

    turns: how many were begun, for each writer; this is number `writer`.
    """
    store, rng, mine = store_class(folder), random.Random(name), {}
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def logged(what, image, threshold):
        os.write(log, (json.dumps([what, image, threshold]) + "\n").encode())

    for number in range(saves):
        turns[writer] += 1
        image, threshold = f"{name} {number}", round(rng.random(), 6)
        if rewrites and len(mine) > 2 and rng.random() < 0.4:
            image = rng.choice(sorted(mine))
            if rng.random() < 0.3:
                logged("try", image, None)
                store.delete(mine.pop(image))
                logged("done", image, None)
                continue
        images = [image, *(f"{image} and {more}" for more in range(3 * (rewrites and number % 4 == 0)))]
        for one in images:
            logged("try", one, threshold)
        if len(images) == 1:
            mine[image] = give(store, image, threshold).file_name
        else:
            mine.update((row.labels[0], row.file_name) for row in give_many(store, images, threshold))
        for one in images:
            logged("done", one, threshold)


def run_writers(store_class, folder, *, saves, kills, seed, rewrites=False):
    """Eight writers, some killed and replaced; everything that is wrong afterwards, and how many were killed.

    The kills come at random moments all over the saves that there would be without any.
    """
    logs, rng, killed = folder / "logs", random.Random(seed), 0
    logs.mkdir(parents=True)
    fork = multiprocessing.get_context("fork")
    turns = fork.RawArray("L", WRITERS)  # without a lock, which a writer could take to its grave

    def start(writer, name):
        arguments = (store_class, folder / "corrections", logs / name, name, saves, rewrites, turns, writer)
        process = fork.Process(target=work, args=arguments)
        process.start()
        return process

    store_class(folder / "corrections")
    running = [start(number, f"s{seed}w{number}") for number in range(WRITERS)]
    for kill in range(kills):
        turn = WRITERS * saves * (kill + rng.random()) / (kills + 1)
        until(lambda turn=turn: sum(turns) > turn, 1800)
        time.sleep(rng.uniform(0, 0.01))
        for attempt in itertools.count():
            alive = [number for number, process in enumerate(running) if process.is_alive()]
            victim = rng.choice(alive or range(WRITERS))
            if not alive:  # they were quicker than the kill
                before, running[victim] = turns[victim], start(victim, f"s{seed}w{victim}k{kill}a{attempt}")
                until(lambda victim=victim, before=before: turns[victim] > before, 60)
            os.kill(running[victim].pid, signal.SIGKILL)
            running[victim].join()
            if running[victim].exitcode == -signal.SIGKILL:  # it may have been done just before
                killed += 1
                running[victim] = start(victim, f"s{seed}w{victim}k{kill}")
                break
    for process in running:
        process.join()
    store_class(folder / "corrections")  # what is left by those who were killed goes when it is opened
    return violations(folder / "corrections" / "corrections.csv", logs), killed


def violations(csv_path, logs):
    possible = {}  # by image: the thresholds its row may have; None for no row
    for log in sorted(logs.iterdir()):
        for what, image, threshold in map(json.loads, log.read_text().splitlines()):
            possible[image] = {threshold} if what == "done" else possible.get(image, {None}) | {threshold}
    header, *lines = csv_path.read_bytes().splitlines(keepends=True)
    wrong = [] if header == HEADER and HEADER not in lines else ["header"]
    found, images = {}, set()
    for line in lines:
        try:
            row = from_line(line)
        except ValueError as error:
            wrong.append(f"torn: {error}")
            continue
        if row.labels[0] in found or not line.endswith(b"\n"):
            wrong.append(f"twice or open-ended: {row}")
        found[row.labels[0]] = row.threshold
        images.add(Path(row.file_name).name)
    kept = {path.name for path in (csv_path.parent / "images").glob("*")}
    wrong += [f"image without a row: {name}" for name in kept - images]
    return wrong + [f"lost: {image}" for image, may in possible.items() if found.get(image) not in may]


@demand("eight writers, kill -9")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("rewrites", [False, True])
def test_no_acknowledged_row_is_lost_when_writers_are_killed(tmp_path, figure, seed, rewrites):
    wrong, killed = run_writers(Corrections, tmp_path, saves=SAVES, kills=KILLS, seed=seed, rewrites=rewrites)
    how = "while rows are rewritten" if rewrites else "appended"
    figure(f"{WRITERS} × {SAVES} saves {how}, {killed} kills, seed {seed}: {len(wrong)} rows lost or torn")
    assert wrong == []
    assert killed == KILLS
    store = Corrections(tmp_path / "corrections")
    assert all(store.image_path(row).read_bytes() == row.labels[0].encode() for row in store.rows())


@planted("eight writers, kill -9")
def test_the_check_of_killed_writers_catches_read_modify_write(tmp_path):
    # so many that all are at it at the same time, however fast they are
    wrong, _ = run_writers(ReadModifyWrite, tmp_path, saves=200, kills=0, seed=0)
    assert len(wrong) > 10


# A torn tail: a file of 50 rows is cut at a byte, then one row is saved


def saves_after_cut(store_class, folder, whole, cut):
    """Whether a file cut at byte `cut` keeps its whole rows, takes a new one, and says that it was healed."""
    path = folder / "corrections.csv"
    path.write_bytes(whole[:cut])
    store = store_class(folder)
    row = give(store, "new")
    kept = whole[: whole.rfind(b"\n", 0, cut) + 1] or HEADER
    told = bool(getattr(store, "healed", "")) == (cut != 0 and whole[cut - 1 : cut] != b"\n")
    return told and path.read_bytes() == kept + to_line(row)


def rows_of(folder, count):
    store = Corrections(folder)
    for number in range(count):
        give(store, f"image {number}", number / 100)
    return store.csv_path.read_bytes()


@demand("torn tail")
def test_a_file_cut_at_any_byte_keeps_its_whole_rows_and_takes_the_next(tmp_path, figure, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # that it is called is checked below; here it costs minutes
    whole = rows_of(tmp_path, 50)
    cuts = range(len(whole)) if FULL else [*range(0, len(whole), 101), *range(len(whole) - 40, len(whole))]
    failed = [cut for cut in cuts if not saves_after_cut(Corrections, tmp_path, whole, cut)]
    figure(f"{len(cuts)} cuts of a file of {len(whole)} bytes: {len(failed)} lost a row or were not told")
    assert failed == []


@planted("torn tail")
def test_the_check_of_torn_tails_catches_appending_without_healing(tmp_path):
    whole = rows_of(tmp_path, 3)
    assert not saves_after_cut(FlushOnly, tmp_path, whole, len(whole) - 10)


# A full disk: the file may grow by so many bytes and no more


TASTE = 1 if FULL else 13
"""Every so many-th byte is tried."""


def survives_full_disk(store, action, room):
    """Whether `action` fails with an error, leaves the file as it was, and works once there is room."""
    before = store.csv_path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
    try:
        action()
        failed = False
    except CorrectionsError:
        failed = True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    unchanged = store.csv_path.read_bytes() == before
    row = action()
    return failed and unchanged and to_line(row) in store.csv_path.read_bytes().splitlines(keepends=True)


@demand("disk full")
def test_a_disk_that_is_full_at_any_byte_of_a_row_loses_nothing(tmp_path, figure):
    store = Corrections(tmp_path)
    length = len(to_line(give(store, "first")))
    give(store, "second")
    rooms = range(0, length, TASTE)
    for room in rooms:
        assert survives_full_disk(store, lambda room=room: give(store, f"{room:05}"), room)
    figure(f"{len(rooms)} short writes of an appended row: 0 lost")
    assert len(store.rows()) == len(rooms) + 2


@demand("disk full")
def test_a_disk_that_is_full_while_a_row_is_replaced_loses_nothing(tmp_path):
    store = Corrections(tmp_path)
    length = len(to_line(give(store, "first")))
    for room in range(-length, -1, TASTE):
        # The rewritten file is as long as the old one, so there is room for less than that.
        assert survives_full_disk(store, lambda: give(store, "first"), room)
    assert len(store.rows()) == 1


@demand("disk full")
@pytest.mark.parametrize("is_saved", [False, True])
def test_a_disk_that_is_full_while_many_rows_are_saved_loses_nothing(tmp_path, is_saved):
    store = Corrections(tmp_path)
    give_many(store, ["old 1", "old 2"])
    images = ["new 1", "old 2" if is_saved else "new 2", "new 3"]
    length = len(to_line(store.rows()[0]))
    for room in range(0, (2 if is_saved else 3) * length, 7 * TASTE):
        action = lambda: give_many(store, images)[0]  # noqa: E731
        assert survives_full_disk(store, action, room)
        for row in store.rows():
            if row.labels[0].startswith("new"):
                store.delete(row.file_name)
    assert len(store.rows()) == 2


@planted("disk full")
def test_the_check_of_full_disks_catches_an_unchecked_write(tmp_path):
    store = FlushOnly(tmp_path)
    assert not survives_full_disk(store, lambda: give(store, "first"), 20)


# Power loss: the system calls of a save, in order


def not_synced(monkeypatch, action):
    """Paths that `action` wrote or named, and that were not on the disk when it returned."""
    waiting = []
    real = {name: getattr(os, name) for name in ("write", "ftruncate", "fsync", "replace", "mkdir")}

    def path_of(fd):
        return str(Path(f"/proc/self/fd/{fd}").readlink())

    def touched(name):
        def call(fd, *arguments):
            waiting.append(path_of(fd))
            return real[name](fd, *arguments)

        return call

    def fsync(fd):
        real["fsync"](fd)
        waiting[:] = [path for path in waiting if path != path_of(fd)]

    def replace(source, target):
        assert str(source) not in waiting, "renamed before its bytes were on the disk"
        real["replace"](source, target)
        waiting.append(str(Path(target).parent))

    def mkdir(path, *arguments):
        real["mkdir"](path, *arguments)
        waiting.append(str(Path(path).parent))

    with monkeypatch.context() as patch:
        for name, call in (("write", touched("write")), ("ftruncate", touched("ftruncate"))):
            patch.setattr(os, name, call)
        for call in (fsync, replace, mkdir):
            patch.setattr(os, call.__name__, call)
        action()
    return waiting


@demand("power loss")
def test_everything_is_on_the_disk_before_a_save_is_acknowledged(tmp_path, monkeypatch, figure):
    opened, early = [], {}

    def check(what, action):
        early[what] = not_synced(monkeypatch, action)

    check("opening a new folder", lambda: opened.append(Corrections(tmp_path / "new" / "corrections")))
    (store,) = opened
    for what in ("a first save, which makes the file", "a second save, which appends", "a third"):
        check(what, lambda what=what: give(store, what))
    with store.csv_path.open("ab") as file:
        file.write(b"torn")
    check("a save that heals", lambda: give(store, "healed"))
    assert store.healed
    check("a save that replaces", lambda: give(store, "healed", 0.6))
    check("a deletion", lambda: store.delete(store.rows()[0].file_name))
    check("a save of many", lambda: give_many(store, ["many", "new"]))
    check("a save of many, some of them again", lambda: give_many(store, ["many", "and more"]))
    figure(f"{len(early)} acknowledgements: {sum(map(bool, early.values()))} before all was on the disk")
    assert not any(early.values()), early


@demand("power loss")
def test_the_row_is_written_in_one_write_between_its_image_and_the_images_name(tmp_path, monkeypatch):
    order = []
    for name in ("write", "replace"):
        real = getattr(os, name)

        def call(*arguments, name=name, real=real):
            where = arguments[1] if name == "replace" else Path(f"/proc/self/fd/{arguments[0]}").readlink()
            order.append((name, Path(where).name))
            return real(*arguments)

        monkeypatch.setattr(os, name, call)
    row = give(Corrections(tmp_path), "image")
    image = Path(row.file_name).name
    assert order[-2:] == [("write", "corrections.csv"), ("replace", image)]
    assert order.index(("write", f".writing-{image}")) < len(order) - 2
    assert order.count(("write", "corrections.csv")) == 1


@planted("power loss")
def test_the_check_of_power_loss_catches_flush_only(tmp_path, monkeypatch):
    store = FlushOnly(tmp_path)
    assert not_synced(monkeypatch, lambda: give(store, "first")) == [str(store.csv_path)]


# Spreadsheet formulas: generated label names, some made to start one


def formula_faults(line_of):
    """Label sets that do not come back from `line_of`'s line, or of which some cell starts a formula."""
    rng, faults = random.Random(0), []
    alphabet = "=+-@\t\r\n ,;\"'[]\\\x00\x0b\x85\u2028aé\U0001f600"
    for _ in range(1000):
        names = {"".join(rng.choices(alphabet, k=rng.randint(1, 8))) for _ in range(rng.randint(1, 5))}
        line = line_of(tuple(sorted(names)))
        cells = next(csv.reader(io.StringIO(line.decode(errors="replace"), newline="")))
        formula = any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
        try:
            same = from_line(line).labels == tuple(sorted(names))
        except ValueError:
            same = False
        if formula or not same or len(line.decode(errors="replace").splitlines()) != 1:
            faults.append(names)
    return faults


def row_with(labels):
    return Correction("images/x.png", labels, (), "listed", True, (), 0.5, "m", "", "now")


@demand("spreadsheet formulas")
def test_a_thousand_label_sets_come_back_and_none_starts_a_formula(figure):
    faults = formula_faults(lambda names: to_line(row_with(names)))
    figure(f"1,000 label sets: {len(faults)} changed or started a formula")
    assert faults == []


@planted("spreadsheet formulas")
def test_the_check_of_formulas_catches_a_plain_join():
    def joined(names):
        return to_line(row_with(())).replace(b"[]", ",".join(names).encode(errors="replace"), 1)

    assert len(formula_faults(joined)) > 900


# What a save costs


def cost(store_class, folder, rows, repeats):
    """p50 at 100 rows, p50 and p95 at `rows` rows, in milliseconds."""
    few, many = (store_class(filled(folder / str(count), count).folder) for count in (100, rows))
    few_times, many_times = milliseconds([lambda: save_one(few), lambda: save_one(many)], repeats)
    return percentile(few_times, 0.5), percentile(many_times, 0.5), percentile(many_times, 0.95)


@demand("save cost")
@pytest.mark.faults
def test_a_save_costs_the_same_at_a_hundred_thousand_rows(tmp_path, figure):
    few, many, p95 = cost(Corrections, tmp_path, 100_000, 200)
    figure(f"p95 {p95:.1f} ms at 100,000 rows; median {many / few:.2f} × that at 100")
    assert p95 < 20
    assert many <= 1.2 * few


@planted("save cost")
@pytest.mark.faults
def test_the_check_of_costs_catches_a_rescan_on_save(tmp_path):
    few, many, p95 = cost(RescanOnSave, tmp_path, 20_000, 5)
    assert p95 > 20
    assert many > 1.2 * few
