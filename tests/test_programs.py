"""The endpoints for programs, and what the README tells programs to do, done with a server of its own."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import pytest

from demo.albums import Albums
from demo.corrections import Corrections
from demo.models import Models
from demo.settings import ROOT, Settings
from demo.ui.programs import add_programs
from demo.ui.tagging import Tagging
from tests import loops
from tests.test_app import Server, started

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.search(r"## For programs.*?```python\n(.*?)```", README, re.DOTALL)[1]
MCP = re.search(r"^python (docs/mcp_tag\.py) (\S+) photo\.jpg", README, re.MULTILINE)


@pytest.fixture
def server(tmp_path: Path, tiny_checkpoint: Path, make_image: Callable[..., bytes]) -> Iterator[Server]:
    """In a folder with a photo, and with the names of a login that is not asked for."""
    (tmp_path / "photo.jpg").write_bytes(make_image(1, kind="JPEG"))
    with started(tmp_path, tiny_checkpoint) as server:
        yield server


def run(server: Server, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=server.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_lines_for_programs_tag_and_save(server: Server) -> None:
    lines = (
        PYTHON.replace("http://127.0.0.1:7860", server.url) + "\nimport json; print(); print(json.dumps([tags, row]))"
    )
    tags, row = json.loads(run(server, "-c", lines).splitlines()[-1])
    assert tags["threshold"] == 0.4
    assert min(tags["labels"].values()) >= 0.4
    assert (row["labels"], row["rejected"], row["reviewed"]) == (["cat"], ["dog"], "listed")
    photo = (server.folder / "photo.jpg").read_bytes()
    assert (server.folder / "corrections" / row["file_name"]).read_bytes() == photo


@pytest.mark.slow
def test_the_readmes_client_of_the_mcp_tools_tags(
    tmp_path: Path, tiny_checkpoint: Path, make_image: Callable[..., bytes]
) -> None:
    (tmp_path / "photo.jpg").write_bytes(make_image(1, kind="JPEG"))
    with started(tmp_path, tiny_checkpoint, "--mcp") as server:
        said = run(server, str(ROOT / MCP[1]), server.url, "photo.jpg")
    assert "'threshold': 0.4" in said
    assert "'cat'" in said or "'labels': {}" in said


@pytest.fixture
def tagging(tmp_path: Path, tiny_checkpoint: Path) -> Tagging:
    """Of a server where an address may save one row an hour."""
    folder = tmp_path / "corrections"
    settings = Settings(model=str(tiny_checkpoint), corrections=folder, device="cpu", max_saves_per_hour=1)
    return Tagging(settings, Models(settings), Corrections(folder), Albums(1, 1, 1), tmp_path / "none")


@pytest.fixture
def save_correction(tagging: Tagging) -> Callable[..., dict[str, object]]:
    async def made() -> gr.Blocks:  # where no loop runs gradio makes some and closes none
        with gr.Blocks() as page:
            add_programs(tagging)
        return page

    handlers = loops.run(made()).fns.values()
    return next(handler.fn for handler in handlers if handler.api_name == "save_correction")


@pytest.fixture
def image(make_image: Callable[..., bytes]) -> dict[str, str]:
    return {"url": "data:image/png;base64," + base64.b64encode(make_image(1)).decode()}


def test_a_save_that_is_refused_does_not_count_among_those_of_the_hour(
    save_correction: Callable[..., dict[str, object]], image: dict[str, str]
) -> None:
    with pytest.raises(gr.Error, match="cat"):
        save_correction(image, ["cat"], ["cat"])
    assert save_correction(image, ["cat"], [])["labels"] == ("cat",)
    with pytest.raises(gr.Error, match="an hour"):
        save_correction(image, ["cat"], [])


def test_the_own_curve_hears_of_a_programs_save(
    save_correction: Callable[..., dict[str, object]],
    image: dict[str, str],
    tagging: Tagging,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(tagging.own_curves, "corrected", heard.append)
    assert heard == [save_correction(image, ["cat"], [])["model"]]
