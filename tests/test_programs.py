"""What the README tells programs to do, done with a server of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.settings import ROOT
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
