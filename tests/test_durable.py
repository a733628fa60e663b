"""Whole files by many writers at once, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from demo import durable
from demo.corrections import Corrections
from demo.durable import put

SIZE, PUTS = 300_000, 60


def content(writer: int) -> bytes:
    return bytes([writer]) * (SIZE + writer)


def write(barrier, folder: Path, writer: int, results) -> None:
    barrier.wait()
    try:
        for _ in range(PUTS):
            put(folder / "shared", content(writer))
            put(folder / f"own-{writer}", content(writer))
        results.put("")
    except OSError as error:
        results.put(repr(error))


def complaints(folder: Path, writers: int = 4) -> list[str]:
    """What goes wrong while processes write into one folder, and while it is read."""
    fork = multiprocessing.get_context("fork")
    barrier, results = fork.Barrier(writers + 1), fork.SimpleQueue()
    running = [fork.Process(target=write, args=(barrier, folder, number, results)) for number in range(writers)]
    for process in running:
        process.start()
    whole, wrong = {content(number) for number in range(writers)}, []
    barrier.wait()
    while any(process.is_alive() for process in running):
        if (folder / "shared").exists() and (folder / "shared").read_bytes() not in whole:
            wrong.append("half a file")
    wrong += [said for said in (results.get() for _ in running) if said]
    own = {number: folder / f"own-{number}" for number in range(writers)}
    wrong += [path.name for n, path in own.items() if not path.exists() or path.read_bytes() != content(n)]
    return wrong


def test_many_processes_may_write_into_one_folder_at_once(tmp_path):
    assert complaints(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own-0", "own-1", "own-2", "own-3", "shared"]


def test_the_check_of_many_writers_catches_one_temporary_name_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(durable.secrets, "token_hex", lambda _: "same")
    assert complaints(tmp_path)


def killed_while_writing(path: Path) -> None:
    """A process that puts to `path` and is killed before the new content has its name."""

    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        Path.replace = killed
        put(path, b"half")

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_what_killed_writers_of_corrections_left_is_gone_when_they_are_opened_again(tmp_path):
    Corrections(tmp_path)
    for folder in (tmp_path, tmp_path / "images", tmp_path / "vocabularies"):
        folder.mkdir(exist_ok=True)
        killed_while_writing(folder / "file")
        assert [path.name for path in folder.glob(".writing-*")]
    Corrections(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.name != "corrections.csv.lock" and path.is_file()]


def test_a_put_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        put(tmp_path / "folder", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
