"""The report of a fine-tune over HTTP: that file of that folder, and nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from demo.albums import Albums
from demo.corrections import Corrections
from demo.report import REPORT
from demo.settings import Settings
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
        routes = launch_options(settings, Albums(1, 1, 1))["app_kwargs"]["routes"]
        answer = TestClient(Starlette(routes=routes)).get("/runs/first%20run/report.html")
        assert answer.status_code == status
