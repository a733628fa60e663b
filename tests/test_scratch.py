"""Temporary files of processes that end, that are killed, and that go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.scratch import Scratch

HOLDS = """
import sys
from pathlib import Path
from demo.scratch import Scratch
scratch = Scratch(Path(sys.argv[1]))
(scratch.folder / "upload.png").write_bytes(b"...")
print(scratch.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that holds a folder, and that folder."""
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_what_a_killed_process_left_goes_when_the_next_one_starts(tmp_path: Path, other) -> None:
    process, folder = other
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (folder / "upload.png").exists()
    mine = Scratch(tmp_path)
    assert not folder.exists()
    assert {path.stem for path in tmp_path.iterdir()} == {mine.folder.name}


def test_what_another_process_is_using_stays(tmp_path: Path, other) -> None:
    _, folder = other
    Scratch(tmp_path).close()
    assert (folder / "upload.png").exists()
    assert {path.stem for path in tmp_path.iterdir()} == {folder.name}


def test_a_folder_is_its_owners_alone_and_gone_when_it_is_closed(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    assert scratch.folder.stat().st_mode & 0o077 == 0
    (scratch.folder / "some" / "thing").mkdir(parents=True)
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_only_what_has_a_lock_is_removed(tmp_path: Path) -> None:
    (tmp_path / "tagloop-mine").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tagloop-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tagloop-link.lock").touch()
    Scratch(tmp_path).close()
    assert (tmp_path / "tagloop-mine").is_dir()
    assert (tmp_path / "elsewhere").is_dir()
