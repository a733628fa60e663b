"""Events: one line of JSON each, numbers and plain words, and nothing where nobody asked for them."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import gradio as gr
import pytest

from demo import logs
from demo.album import Album
from demo.checkpoint import Checkpoint
from demo.errors import CheckpointError, ImageRejected
from demo.models import Models
from demo.retrain import Retraining
from demo.settings import Settings
from demo.tagger import Tagger
from demo.ui.watching import watch_events
from tests import loops


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.start(stream)
    yield stream
    logs.stop()


def test_an_event_is_a_line_with_time_level_name_and_numbers(stream: io.StringIO) -> None:
    logs.event("image_tagged", seconds=0.123456, count=3, public=True, missing=None)
    logs.event("refused", "warning", kind="ImageRejected", status=413)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert abs(datetime.fromisoformat(first.pop("time")).timestamp() - datetime.now().timestamp()) < 60
    values = {"seconds": 0.1235, "count": 3, "public": True, "missing": None}
    assert first == {"level": "info", "event": "image_tagged", **values}
    assert (second["level"], second["kind"], second["status"]) == ("warning", "ImageRejected", 413)


@pytest.mark.parametrize(
    "text", ["a photo.jpg", "hf_canary123", "192.0.2.1", "corrections/images", "名", "x" * 61, "two\nlines", ""]
)
def test_what_is_no_plain_word_never_gets_into_a_line(stream: io.StringIO, text: str) -> None:
    logs.event("refused", kind=text)
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["kind"] is None


def test_nothing_is_written_unless_somebody_asked(stream: io.StringIO) -> None:
    logs.stop()
    logs.event("start")
    assert stream.getvalue() == ""


def test_a_reader_who_is_gone_stops_nobody(stream: io.StringIO) -> None:
    stream.close()
    logs.event("start")


def told(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_loads_of_models_are_events_and_so_are_those_that_fail(
    stream: io.StringIO, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    models = Models(Settings(model=str(tiny_checkpoint), runs=tmp_path, device="cpu"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        models.get(str(tmp_path / "empty"))
    loaded, failed = told(stream)
    assert (loaded["event"], loaded["level"]) == ("model_loaded", "info")
    assert loaded["seconds"] > 0
    assert (failed["event"], failed["level"], failed["kind"]) == ("model_failed", "error", "CheckpointError")


def test_photos_that_are_tagged_in_the_background_are_one_event_and_a_model_that_breaks_is_an_error(
    stream: io.StringIO, loaded_tiny: Checkpoint, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagger = Tagger(loaded_tiny, "cpu")
    for forward in (tagger.forward, lambda pixels: 1 / 0):
        monkeypatch.setattr(tagger, "forward", forward)
        sheet = Album(sorted(image_folder.iterdir())).sheet(tagger)
        sheet.start(tagger)
        if thread := sheet._thread:
            thread.join(60)
    tagged, failed = told(stream)
    assert (tagged["event"], tagged["count"]) == ("photos_tagged", 8)
    assert (failed["event"], failed["exception"]) == ("error", "ZeroDivisionError")


@pytest.mark.parametrize(("code", "level"), [(0, "info"), (2, "warning")])
def test_a_fine_tune_is_an_event_when_it_starts_and_when_it_ends(
    stream: io.StringIO, tmp_path: Path, code: int, level: str
) -> None:
    command = (sys.executable, "-c", f"raise SystemExit({code})")
    retraining = Retraining(Settings(runs=tmp_path / "runs"), command)
    retraining.start(tmp_path / "corrections.csv", "model")
    for thread in threading.enumerate():
        if thread.name == "retraining":
            thread.join(60)
    started, ended = told(stream)
    assert (started["event"], started["resumed"]) == ("retraining_started", False)
    assert (ended["event"], ended["level"], ended["status"]) == ("retraining_ended", level, code)


def test_what_a_handler_raises_is_an_event_with_its_type_and_what_it_tells_is_a_refusal(stream: io.StringIO) -> None:
    def fail(number: float) -> float:
        if number:
            raise gr.Error("a secret.jpg is too large") from ImageRejected("a secret.jpg")
        raise KeyError("secret.jpg")

    async def ask() -> None:
        with gr.Blocks(analytics_enabled=False) as page:
            gr.api(fail, api_name="fail")
        watch_events(page)
        for number, error in ((1, gr.Error), (0, KeyError)):
            with pytest.raises(error):
                await page.process_api(0, [number])

    loops.run(ask())
    refused, failed = told(stream)
    assert (refused["event"], refused["kind"]) == ("refused", "ImageRejected")
    assert (failed["event"], failed["level"], failed["exception"]) == ("error", "error", "KeyError")
    assert "secret" not in stream.getvalue()
