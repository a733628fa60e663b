"""Over HTTP: the CSV, and the report of a fine-tune: that file of that folder, and nothing beside it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from demo.albums import Albums
from demo.corrections import Corrections
from demo.report import REPORT
from demo.settings import Settings
from demo.tables import read_table
from demo.ui.page import launch_options
from demo.ui.serving import app_kwargs


def client(tmp_path: Path, runs: Path | None) -> TestClient:
    limits = {"max_upload_bytes": 1000, "max_queue_length": 1}
    kwargs = app_kwargs(Corrections(tmp_path / "corrections"), Albums(1, 1, 1), **limits, runs=runs)
    return TestClient(Starlette(routes=kwargs["routes"]))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run with a report, and files that are nobody's business."""
    runs = tmp_path / "runs"
    for folder in (runs / "first run", runs / "second", tmp_path / "other"):
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
    for folder in (runs / "first run", tmp_path / "other", runs, tmp_path):
        (folder / REPORT).write_text("<!doctype html><p>fine")
    (runs / "linked").symlink_to(tmp_path / "other")
    return runs


def test_a_runs_report_is_served_as_a_page_that_may_run_and_load_nothing(tmp_path: Path, runs: Path) -> None:
    answer = client(tmp_path, runs).get("/runs/first%20run/report.html")
    assert (answer.status_code, answer.text) == (200, "<!doctype html><p>fine")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["content-security-policy"].endswith("sandbox")


@pytest.mark.parametrize(
    "path",
    [
        "second/report.html",  # it has none
        "linked/report.html",  # it is elsewhere
        "first%20run/metrics.json",
        "%2E/report.html",
        "%2E%2E/report.html",
        "%2E%2E%2Fother/report.html",
        "..%2F..%2Fetc/report.html",
        "first%20run%2F..%2Fsecond%2F..%2Ffirst%20run/report.html",
        "a%00b/report.html",
        "a" * 300 + "/report.html",
        "report.html",
    ],
)
def test_other_names_are_not_found(tmp_path: Path, runs: Path, path: str) -> None:
    assert client(tmp_path, runs).get(f"/runs/{path}").status_code == 404


def test_on_a_public_host_no_report_is_served(tmp_path: Path, runs: Path) -> None:
    for settings, status in (
        (Settings(corrections=tmp_path / "corrections", runs=runs), 200),
        (Settings(corrections=tmp_path / "corrections", runs=runs, host="0.0.0.0"), 404),
        (Settings(corrections=tmp_path / "corrections", runs=runs, on_space=True), 404),
    ):
        routes = launch_options(settings, Corrections(settings.corrections), Albums(1, 1, 1))["app_kwargs"]["routes"]
        answer = TestClient(Starlette(routes=routes)).get("/runs/first%20run/report.html")
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("others", "is_bare"), [({}, False), ({"on_space": True}, True), ({"accounts": (("ann", "x"),)}, False)]
)
def test_strangers_download_pictures_without_what_else_is_in_their_files(
    tmp_path: Path, others: dict, is_bare: bool
) -> None:
    corrections, photos = Corrections(tmp_path / "corrections"), {}
    for kind in ("JPEG", "TIFF"):
        exif, photo = Image.Exif(), io.BytesIO()
        exif[0x0110] = "of whose camera it was"
        Image.new("RGB", (8, 8), "red").save(photo, kind, exif=exif)
        photos[kind] = photo.getvalue()
        said = {"labels": ["red"], "rejected": [], "reviewed": "listed", "model_labels": [], "threshold": 0.5}
        corrections.save(photos[kind], kind[:4].lower(), **said, model="m@1")
    settings = Settings(corrections=corrections.folder, host="0.0.0.0", **others)
    settings = settings if others else replace(settings, host="127.0.0.1")
    routes = launch_options(settings, corrections, Albums(1, 1, 1))["app_kwargs"]["routes"]
    for name in ("corrections.zip", "export/imagefolder.zip", "export/txt.zip"):
        answer = TestClient(Starlette(routes=routes)).get(f"/corrections/{name}")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            images = [path for path in archive.namelist() if not path.endswith((".txt", ".csv", ".json"))]
            archive.extractall(tmp_path / name)
        assert len(images) == 2
        for path in images:
            data = (tmp_path / name / path).read_bytes()
            assert (data not in photos.values()) == is_bare
            assert (0x0110 in Image.open(io.BytesIO(data)).getexif()) != is_bare
    rows = read_table(tmp_path / "corrections.zip" / "corrections.csv").rows
    assert {row.path.exists() for row in rows} == {True}
    assert {row.path.suffix for row in rows} == ({".jpg", ".png"} if is_bare else {".jpeg", ".tiff"})


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_csv_that_is_saved_to_while_it_is_downloaded_comes_as_it_was_when_that_began(
    tmp_path: Path, make_image: Callable[..., bytes], is_replaced: bool
) -> None:
    corrections = Corrections(tmp_path / "corrections")

    def save(seed: int, labels: list[str]) -> None:
        decided = {"labels": labels, "rejected": [], "reviewed": "listed"}
        by = {"model_labels": [], "threshold": 0.5, "model": "tiny"}
        corrections.save(make_image(seed), "png", **decided, **by)

    save(1, ["cat " * 50_000])
    before = corrections.csv_path.read_bytes()
    routes = app_kwargs(corrections, Albums(1, 1, 1), max_upload_bytes=1000, max_queue_length=1)["routes"]
    served = Starlette(routes=routes)

    async def saved_to(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                save(1 if is_replaced else 2, ["dog"])
            await send(message)

        await served(scope, receive, sending)

    answer = TestClient(saved_to).get("/corrections/corrections.csv")
    assert corrections.csv_path.read_bytes() != before
    assert answer.content == before
    assert int(answer.headers["content-length"]) == len(before)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="corrections.csv"'
