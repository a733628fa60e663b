"""`/healthz`: honest about a model that does not score and a disk that takes nothing, and cheap to ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from demo.checkpoint import Checkpoint
from demo.corrections import Corrections
from demo.settings import MIN_FREE_BYTES, ROOT
from demo.tagger import Tagged, Tagger
from demo.ui import health as module
from demo.ui.health import PROBE, Health, Trial
from tests.test_together import counted
from tests.test_together import until as waits_for


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def models(loaded_tiny: Checkpoint) -> SimpleNamespace:
    return SimpleNamespace(own=Tagger(loaded_tiny, "cpu"))


@pytest.fixture
def health(models: SimpleNamespace, tmp_path: Path) -> Health:
    health = Health(models, Corrections(tmp_path))
    for trial in health.trials.values():
        trial.seconds = 0
    return health


def test_a_model_that_scores_and_a_disk_that_takes_are_well(health: Health, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    answer = TestClient(Starlette(routes=[health.route()])).get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "model": "ok", "disk": "ok"})
    assert answer.headers["cache-control"] == "no-store"
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_whose_gpu_is_lent_by_the_call_is_not_said_to_be_well(
    health: Health, models: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.own, "lent", object())
    monkeypatch.setattr(models.own, "tag", lambda _: pytest.fail("it spent a quota"))
    assert health.look() == {"status": "ok", "model": "not tried", "disk": "ok"}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda image: Tagged(np.full(12, np.nan, np.float32), 1), "no scores from 0 to 1"),
        (lambda image: Tagged(np.zeros(3, np.float32), 1), "no scores from 0 to 1"),
        (lambda image: Path("/nowhere/secret").read_text(), "It failed: FileNotFoundError."),
    ],
)
def test_a_model_that_does_not_score_is_told_without_what_it_said(
    health: Health, models: SimpleNamespace, broken: Callable, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert health.look()["status"] == "ok"
    monkeypatch.setattr(models.own, "tag", broken)
    answer = TestClient(Starlette(routes=[health.route()])).get("/healthz")
    assert (answer.status_code, answer.json()["status"], answer.json()["disk"]) == (503, "failing", "ok")
    assert said in answer.json()["model"]
    assert "secret" not in answer.text


def test_visitors_who_keep_the_model_busy_are_no_fault(
    health: Health, models: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = counted(models.own, monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        with models.own.running():
            asked = [threads.submit(health._score), threads.submit(models.own.tag, Image.new("RGB", (40, 30)))]
            waits_for(lambda: len(models.own._turns._waiting) == 2)
        assert asked[0].result(60) == ""
        asked[1].result(60)
    assert sizes == [2], "it goes with them, and does not wait until none is there"


def test_another_model_is_tried_at_once(
    health: Health, models: SimpleNamespace, make_checkpoint: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    health.trials["model"].seconds = 1e9
    assert health.look()["model"] == "ok"
    models.own = SimpleNamespace(checkpoint=SimpleNamespace(identity="other@1"), tag=None, lent=None)
    assert health.look()["model"] == "It failed: TypeError."


def test_a_folder_that_is_gone_and_one_that_takes_nothing_are_told(health: Health, tmp_path: Path) -> None:
    health.folder = tmp_path / "corrections"
    assert health.look() == {
        "status": "failing",
        "model": "ok",
        "disk": "Nothing can be saved: No such file or directory.",
    }
    health.folder.write_text("a file")
    assert "Not a directory" in health.look()["disk"]
    health.folder.unlink()
    health.folder.mkdir()
    assert health.look()["status"] == "ok"


def test_a_csv_that_takes_no_row_is_told_without_its_path(health: Health, tmp_path: Path) -> None:
    csv_path = health.corrections.csv_path
    csv_path.write_text("somebody,elses\n")
    assert health.look()["disk"].startswith("Nothing can be saved: the CSV is not ours")
    assert str(tmp_path) not in health.look()["disk"]
    csv_path.unlink()
    assert health.look()["disk"] == "ok"


def test_a_csv_that_somebody_keeps_locked_is_told(health: Health) -> None:
    health.trials["disk"].patience_seconds = 0.2
    with FileLock(f"{health.corrections.csv_path}.lock"):
        assert health.look()["disk"] == "It does not answer."
    waits_for(lambda: health.look()["disk"] == "ok")


def test_a_disk_with_little_room_is_told(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=MIN_FREE_BYTES - 1))
    assert health.look()["disk"] == "255 MB are free, less than the 256 that are wanted."
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=MIN_FREE_BYTES))
    assert health.look()["disk"] == "ok"


FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path
from demo.corrections import Corrections
from demo.ui.health import Health
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
health = Health(None, Corrections(Path(sys.argv[1])))
well = health._write()
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
full = health._write()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([well, full, health._write()]))
"""


def test_a_full_disk_is_noticed_by_writing_and_nothing_of_it_stays(tmp_path: Path) -> None:
    Corrections(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["", "Nothing can be saved: File too large.", ""]
    assert sorted(tmp_path.iterdir()) == before


def test_asking_again_within_the_time_tries_nothing() -> None:
    clock, tried = Clock(), []
    trial = Trial(lambda: tried.append(1) or "", 5, clock=clock)
    assert [trial.problem() for _ in range(100)] == [""] * 100
    clock.now = 4.9
    trial.problem()
    assert len(tried) == 1
    clock.now = 5
    trial.problem()
    assert len(tried) == 2


def test_an_attempt_that_hangs_is_a_problem_and_is_not_made_twice() -> None:
    clock, tried, go = Clock(), [], threading.Event()
    trial = Trial(lambda: tried.append(1) or (len(tried) > 1 and not go.wait(60)) or "", 5, clock=clock)
    assert trial.problem() == ""
    clock.now = 10
    assert trial.problem() == "", "what was known, while it is being tried again"
    clock.now = 10 + module.PATIENCE_SECONDS
    assert [trial.problem() for _ in range(3)] == ["It does not answer."] * 3
    assert len(tried) == 2
    thread = trial._thread
    go.set()
    thread.join(60)
    assert trial.problem() == ""


def test_nobody_waits_for_a_first_attempt_longer_than_patience_lasts() -> None:
    go = threading.Event()
    trial = Trial(lambda: str(go.wait(60)), 5, patience_seconds=0.05)
    assert trial.problem() == "It does not answer."
    go.set()
    trial._thread and trial._thread.join(60)


def test_the_probe_is_nothing_that_a_reader_of_the_corrections_takes_for_its_own() -> None:
    assert PROBE.startswith(".")
