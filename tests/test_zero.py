"""ZeroGPU: where the GPU is lent by the call, nothing of CUDA happens but what a decorated function does.

There is no GPU here and no Space: `tests/zero_gpu/spaces.py` stands in for the package, and says what it keeps to.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from demo import lent_run, zero
from demo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from demo.errors import EXIT_BAD_INPUT, BadInput
from demo.heatmaps import Heatmaps
from demo.images import decode
from demo.lent_run import LentRun
from demo.run_folder import stop_file
from demo.settings import ROOT
from demo.tagger import Tagger
from tests.conftest import NAMES
from tests.test_app import environment

STAND_IN = Path(__file__).with_name("zero_gpu")


class Driven(NamedTuple):
    """came: what each thing came to. notes: every call of CUDA. folder: with the checkpoints and the pictures."""

    came: dict[str, Any]
    notes: list[dict[str, Any]]
    folder: Path

    def at(self, where: str) -> list[dict[str, Any]]:
        return [note for note in self.notes if note["where"] == where]


def drive(folder: Path, tiny: Path, other: Checkpoint, make_image: Callable[..., bytes], change: str = "") -> Driven:
    """Run all of it in a process of its own. change: Python that runs there first, to break something."""
    shutil.copytree(tiny, folder / "tiny")
    save_checkpoint(folder / "other", other)
    (folder / "images").mkdir()
    with (folder / "photos.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "labels", "rejected", "is_valid"])
        for number in range(12):
            (folder / "images" / f"{number:02}.png").write_bytes(make_image(number))
            has, lacks = (NAMES[0], NAMES[1]) if number % 2 else (NAMES[1], NAMES[0])
            rows.writerow([f"images/{number:02}.png", json.dumps([has]), json.dumps([lacks]), number % 4 == 0])
    told = {"SPACES_ZERO_GPU": "true", "ZERO_NOTES": str(folder / "notes"), "OMP_NUM_THREADS": "1"}
    start = f"import sys, runpy; sys.argv = sys.argv[1:]; {change}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", start, str(STAND_IN / "drive.py"), str(folder)],
        cwd=folder,
        env=environment(**told, PYTHONPATH=os.pathsep.join([str(ROOT), str(STAND_IN)])),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    notes = [json.loads(line) for line in (folder / "notes").read_text().splitlines()]
    return Driven(json.loads(done.stdout.splitlines()[-1]), notes, folder)


@pytest.fixture(scope="module")
def driven(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_checkpoint: Path,
    make_checkpoint: Callable[..., Checkpoint],
    make_image: Callable[..., bytes],
) -> Driven:
    return drive(tmp_path_factory.mktemp("zero"), tiny_checkpoint, make_checkpoint(1), make_image)


def test_nothing_of_cuda_happens_outside_of_what_the_gpu_is_lent_to(driven: Driven) -> None:
    calls = [note for note in driven.at("outside") if note["what"] != "GPU"]
    assert calls == []
    assert {note["what"] for note in driven.at("start")} == {"Module.to"}
    assert {"Tensor.to", "Module.to", "autocast"} <= {note["what"] for note in driven.at("lent")}


def test_no_model_is_compiled_there(driven: Driven) -> None:
    assert [note for note in driven.notes if note["what"] == "compile"] == []


def test_what_the_gpu_gives_is_what_the_model_says(driven: Driven) -> None:
    came, pictures = driven.came, [decode(path.read_bytes()) for path in sorted((driven.folder / "images").iterdir())]
    own = Tagger(load_checkpoint(driven.folder / "tiny"), "cpu")
    expected = own.scores(pictures)
    assert came["device"] == ["cuda", "bf16"]
    for name, scores in {"tag": expected, "tag api": expected[0], "back": expected[0]}.items():
        assert np.abs(np.array(came[name]) - scores).max() < 1e-5, name
    error, scores = came["album"]
    assert error == ""
    assert np.abs(np.array(scores) - expected).max() < 1e-5
    assert np.abs(np.array(came["why"]) - Heatmaps().of(own, "0", lambda: pictures[0], 2).values).max() < 1e-5


def test_a_model_that_is_loaded_later_is_read_where_the_gpu_is_and_stays_there(driven: Driven) -> None:
    other = driven.folder / "other"
    if (other / "gone").exists():
        (other / "gone").rename(other / "model.safetensors")
    picture = decode((driven.folder / "images" / "00.png").read_bytes())
    expected = Tagger(load_checkpoint(other), "cpu").tag(picture).scores
    assert np.abs(np.array(driven.came["other model"]) - expected).max() < 1e-5
    assert np.abs(np.array(driven.came["other model"]) - driven.came["back"]).max() > 1e-2
    assert driven.came["still there"] == driven.came["other model"]
    assert np.array(driven.came["other why"]).max() == 1


def test_what_is_wrong_with_an_images_scores_is_told_as_anywhere(driven: Driven) -> None:
    assert driven.came["nan"].startswith("A logit is NaN or infinite.")


def test_a_fine_tune_is_a_call_that_is_watched_cancelled_and_put_to_use_as_elsewhere(driven: Driven) -> None:
    state, message, verdict = driven.came["retrained"]
    assert (state, message) == ("done", "")
    assert verdict in ("better", "same", "worse", "unmeasured")
    assert "images to train on" in driven.came["log"]
    assert driven.came["cancelled"][0] == "interrupted"
    assert not list((driven.folder / "runs").glob("*.stop"))
    assert len(driven.came["new model"]) == len(NAMES)


class Held:
    """In the place of a fine-tune that has the GPU: it ends, with 130, when it is let go."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, arguments: Sequence[str], log: Path, images: int) -> int:
        self.began.set()
        assert self.go.wait(60)
        return 130


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Held:
    (tmp_path / "c.csv").write_text("file_name,labels\n")
    (tmp_path / "run").mkdir()
    held = Held()
    monkeypatch.setattr(lent_run, "_finetune", held)
    return held


def begin(folder: Path) -> LentRun:
    return LentRun([], folder / "run", folder / "run" / "log.txt", folder / "c.csv")


def test_a_stop_file_of_a_server_that_was_killed_stops_nothing(held: Held, tmp_path: Path) -> None:
    stop_file(tmp_path / "run").touch()
    run = begin(tmp_path)
    assert held.began.wait(60)
    assert not stop_file(tmp_path / "run").exists()
    held.go.set()
    assert run.wait(60) == 130


def test_who_cancels_a_run_as_it_ends_leaves_no_stop_file(held: Held, tmp_path: Path) -> None:
    run = begin(tmp_path)
    run.send_signal(signal.SIGTERM)
    assert stop_file(tmp_path / "run").exists()
    held.go.set()
    run.wait(60)
    run.send_signal(signal.SIGTERM)
    assert not stop_file(tmp_path / "run").exists()


def test_the_folder_of_a_run_that_was_given_up_is_free_once_it_has_ended_there(held: Held, tmp_path: Path) -> None:
    others, run = set(threading.enumerate()), begin(tmp_path)
    running = set(threading.enumerate()) - others
    run.kill()
    assert run.poll() is not None
    assert stop_file(tmp_path / "run").exists()
    with pytest.raises(BadInput, match="not free yet"):
        begin(tmp_path)
    held.go.set()
    for thread in running:
        thread.join(60)
    assert begin(tmp_path).wait(60) == 130


def test_rows_that_cannot_be_read_are_the_runs_failure_and_not_the_queues(held: Held, tmp_path: Path) -> None:
    (tmp_path / "c.csv").unlink()
    assert begin(tmp_path).wait(60) == EXIT_BAD_INPUT
    assert "c.csv cannot be read. No such file" in (tmp_path / "run" / "log.txt").read_text()
    assert not held.began.is_set()


def test_the_gpu_is_asked_for_by_the_size_of_the_work() -> None:
    lent, one, many = zero.Lent("r", "i"), np.zeros((1, 3, 2, 2)), np.zeros((32, 3, 2, 2))
    assert zero._seconds(lent, max, one) < zero._seconds(lent, max, many) < 60
    few, lots = (lent_run._seconds([], Path("log"), images) for images in (10, 300))
    assert few < lots < lent_run._seconds([], Path("log"), 10**6) == lent_run.MOST_SECONDS


def test_each_call_asks_for_seconds_and_they_are_few_for_one_image(driven: Driven) -> None:
    seconds = [note["seconds"] for note in driven.notes if note["what"] == "GPU"]
    assert seconds
    assert all(isinstance(asked, int) and 0 < asked < 60 for asked in seconds)


BREAKAGES = {
    "a tagger that computes in the app's own process": "demo.zero.Lent.compute = lambda lent, function, *arguments: "
    "(demo.zero.torch.zeros(1, device='cuda'), demo.zero._compute.__wrapped__(lent, function, *arguments))[1]",
    "a device that is asked for": "demo.tagger.choose_precision = lambda device: "
    "('bf16', demo.tagger.torch.cuda.is_bf16_supported() and None)",
}


@pytest.mark.slow
@pytest.mark.parametrize("how", BREAKAGES)
def test_the_check_catches(
    how: str,
    tmp_path: Path,
    tiny_checkpoint: Path,
    make_checkpoint: Callable[..., Checkpoint],
    make_image: Callable[..., bytes],
) -> None:
    change = f"import demo.tagger, demo.zero; {BREAKAGES[how]}"
    found = drive(tmp_path, tiny_checkpoint, make_checkpoint(1), make_image, change)
    with pytest.raises(AssertionError):
        test_nothing_of_cuda_happens_outside_of_what_the_gpu_is_lent_to(found)


def test_elsewhere_the_decorator_does_nothing_and_spaces_is_not_needed() -> None:
    assert not zero.IS_HERE

    def work(number: int) -> int:
        return 2 * number

    assert zero.gpu(lambda number: 1)(work) is work
    assert "spaces" not in sys.modules
    assert not zero.is_zero_gpu({})
    assert not zero.is_zero_gpu({"SPACES_ZERO_GPU": "false"})
    assert not zero.is_zero_gpu({"SPACES_ZERO_GPU": "true"}), "the package is not installed"


def test_off_zero_gpu_a_tagger_computes_where_it_is(loaded_tiny: Checkpoint) -> None:
    tagger = Tagger(loaded_tiny, "cpu")
    assert tagger.lent is None
    assert tagger.tag(Image.new("RGB", (40, 30))).scores.shape == (len(NAMES),)
