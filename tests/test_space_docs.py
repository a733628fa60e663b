"""docs/space.md: its commands are those of the installed tools; what needs no Hub of its own is run on the stand-in."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from huggingface_hub.cli.hf import app

from demo.corrections import Corrections
from demo.flags import COMMANDS
from demo.hub_rows import HubRows
from demo.settings import ROOT
from demo.sync import Sync
from tests.hub_commits import TOKEN, HubCommits, talking
from tests.space import checkout, make_writable

TEXT = (ROOT / "docs" / "space.md").read_text(encoding="utf-8")
BLOCKS = [
    [line.partition(" #")[0].strip() for line in block.splitlines()]
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
]
LINES = [line for block in BLOCKS for line in block]
ELSEWHERE = [line for line in [*LINES, *re.findall(r"`(hf [^`…]+)`", TEXT)] if line.startswith("hf ")]
RUN = ("hf repos create", "hf upload")


pytestmark = pytest.mark.filterwarnings(  # huggingface_hub's own way of sending a file
    "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    with talking(monkeypatch) as running:
        running.tokens = {TOKEN: ("you",)}
        yield running


def run(folder: Path, hub: HubCommits, home: Path, line: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(line)
    words[:1] = [sys.executable] if words[0] == "python" else [str(Path(sys.executable).with_name("hf"))]
    given = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
    given |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(words, cwd=folder, env=given, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert TOKEN not in done.stdout + done.stderr
    return done


def test_five_commands_lead_to_a_running_space() -> None:
    assert len(BLOCKS[0]) == 5
    assert [line for line in BLOCKS[0] if line.startswith(RUN)] == BLOCKS[0][2:4]


@pytest.mark.parametrize("line", [line for line in ELSEWHERE if not line.startswith(RUN) and "you/" in line])
def test_the_hubs_tool_has_the_commands_and_options(line: str) -> None:
    context, name, command, words = None, "hf", app, shlex.split(line)[1:]
    while hasattr(command, "resolve_command"):
        context = command.make_context(name, words, parent=context)
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(name, words, parent=context)


def test_the_readmes_header_tells_the_truth() -> None:
    front = yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert (front["sdk"], front["sdk_version"], front["hf_oauth"]) == ("gradio", version("gradio"), True)
    assert front["python_version"] in ("3.11", "3.12")
    assert (ROOT / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60  # the Hub takes no more


def test_every_variable_and_flag_is_one_of_ours() -> None:
    ours = {flag.variable for flag in COMMANDS["app"]}
    named = re.findall(r"TAGLOOP_[A-Z_]+", TEXT)
    assert len({*named}) > 6
    assert {*named} <= ours
    for command, line in re.findall(r"^python -m demo\.(\w+)(.*)$", TEXT, re.MULTILINE):
        assert {*re.findall(r"--[a-z-]+", line)} <= {f"--{flag.name}" for flag in COMMANDS[command]}


def test_what_the_commands_push_is_this_repository_with_its_front_matter(hub: HubCommits, tmp_path: Path) -> None:
    clone = checkout(tmp_path / "clone")
    for line in BLOCKS[0][2:4]:
        run(clone, hub, tmp_path / "home", line)
    pushed = hub.repo("you/tagloop", "space").head.files
    expected = {str(path.relative_to(clone)): path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    assert {path: pushed.get(path) for path in expected} == expected
    assert b"sdk: gradio\n" in pushed["README.md"].split(b"---")[1]
    make_writable(clone)


@pytest.mark.slow
def test_the_way_home_pulls_fine_tunes_and_publishes(
    hub: HubCommits, tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    corrections = Corrections(tmp_path / "disk")
    for seed in range(20):
        values = {"labels": [("cat", "dog")[seed % 2]], "rejected": [("dog", "cat")[seed % 2]], "model_labels": []}
        corrections.save(make_image(seed), "png", **values, reviewed="listed", threshold=0.5, model="m@1")
    Sync(corrections, HubRows("you/corrections"), 60).exchange()
    home = [line for line in BLOCKS[-1] if line.startswith("python")]
    for line in home[:3]:
        run(tmp_path, hub, tmp_path / "home", line)
    assert (tmp_path / "runs" / "second" / "model.safetensors").exists()
    assert home[3].startswith("python -m demo.publish runs/second")
