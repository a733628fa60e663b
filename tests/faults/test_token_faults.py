"""A token goes to the Hub and nowhere else: the whole app is run with a canary, and all that it says is searched.

The app and the commands are processes of their own; what the app answers to a real browser and to programs is kept.
The planted implementations print their environment, or tell it in an error.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from demo.corrections import Corrections
from demo.flags import COMMANDS
from demo.settings import ROOT
from tests.browser.test_page import free_port
from tests.browser.test_retrain_tab import coloured
from tests.faults.table import demand, planted
from tests.hub_commits import OWNER, TOKEN, HubCommits, serve_commits

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

REPO = f"{OWNER}/first"
FAULTS = (401, 403, 404, 429, 500, None)
END = 600_000

PRINTS = "import os; print(dict(os.environ))\n"
TELLS = """
import os, demo.errors
demo.errors.DemoError.__str__ = lambda error: f"{error.args[0]} {dict(os.environ)}"
"""

TAP = """
import uvicorn

class Tapped(uvicorn.Config):
    "Keeps all that the app answers, uncompressed."
    def __init__(self, app, **options):
        async def tapped(scope, receive, send):
            async def keep(message):
                with open("answers", "ab") as file:
                    file.write(repr(message.get("headers")).encode() + message.get("body", b""))
                await send(message)
            if scope["type"] == "http":
                scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            await app(scope, receive, keep)
        super().__init__(tapped, **options)

uvicorn.Config = Tapped
"""

RUN = """
import importlib, json, sys
for name, arguments in json.loads(sys.argv[1]):
    code = importlib.import_module(f"demo.{name}").main(arguments)
    print(f"demo.{name} {' '.join(arguments)}: {code}", file=sys.stderr, flush=True)
"""
"""Several commands in one process, each with its exit code."""


class Run:
    """One run of the app and the commands in a folder of its own. prelude: Python that each process begins with.

    said: what came out, by what said it.
    """

    def __init__(self, folder: Path, model: Path, hub: HubCommits, prelude: str = "") -> None:
        self.folder, self.model, self.hub, self.prelude = folder, model, hub, prelude
        self.said: dict[str, bytes] = {}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("TAGLOOP_", "GRADIO_", "HF_"))}
        self.environment = kept | {
            "HF_TOKEN": TOKEN,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(folder / "hf-home"),
            "HF_HUB_DISABLE_XET": "1",
            "GRADIO_TEMP_DIR": str(folder / "gradio"),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }
        for fault in FAULTS:
            hub.create(f"{OWNER}/fault-{fault}", private=True)
            hub.fail(rf"(GET|HEAD) /{OWNER}/fault-{fault}/", fault)

    def python(self, code: str, *arguments: str) -> list[str]:
        return [sys.executable, "-c", self.prelude + code, *arguments]

    @contextmanager
    def app(self, browser: Browser) -> Iterator[Page]:
        """The app and a visitor's page, until the block ends."""
        port = free_port()
        flags = ["--model", str(self.model), "--device", "cpu", "--port", str(port)]
        command = self.python(TAP + "import sys, app; sys.exit(app.main())", *flags)
        with (self.folder / "app.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=log
            )
        lines = []
        while line := process.stdout.readline():
            lines.append(line)
            if b"TagLoop is at" in line:
                break
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        try:
            page = context.new_page()
            enter(page, f"http://127.0.0.1:{port}")
            yield page
        finally:
            context.close()
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=120)
            self.said["the app's stdout"] = b"".join(lines) + rest

    def commands(self, *calls: tuple[str, list[object]]) -> str:
        """What they said on stderr, each ended by its exit code."""
        told = json.dumps([(name, list(map(str, arguments))) for name, arguments in calls])
        done = subprocess.run(
            self.python(RUN, told), cwd=self.folder, env=self.environment, capture_output=True, timeout=600
        )
        self.said |= {"a command's stdout": done.stdout, "a command's stderr": done.stderr}
        assert done.returncode == 0, done.stderr.decode()
        return done.stderr.decode()

    def hits(self) -> list[str]:
        """Where the canary is to be found: in what was said, in any file, in a repo."""
        files = {
            str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }
        repos = {
            f"{name}/{path}": content
            for (_, name), repo in self.hub.repos.items()
            for path, content in repo.head.files.items()
        }
        return sorted(name for name, content in (self.said | files | repos).items() if is_in(content))


def is_in(content: bytes) -> bool:
    """Whether the canary is there, in whatever case, as base64, or packed in a zip."""
    needles = [TOKEN[3:].lower().encode()]
    needles += [base64.b64encode(b" " * shift + TOKEN.encode())[4 * bool(shift) : -4].lower() for shift in range(3)]
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(is_in(archive.read(name)) for name in archive.namelist())
    lower = content.lower()
    return any(needle in lower for needle in needles)


def enter(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.get_by_test_id("model").locator("b")).not_to_be_empty()


def try_faults(page: Page) -> None:
    """Ask for a model of each fault, on a fresh page; it has to say which it was."""
    field, problem = page.get_by_test_id("model"), page.locator(".model-box .problem")
    for fault in FAULTS:
        enter(page, page.url)
        field.fill(f"{OWNER}/fault-{fault}")
        page.keyboard.press("Enter")
        expect(problem).to_contain_text(f"fault-{fault}")
        expect(problem).to_contain_text(f"It answered {fault}" if fault else "cannot be asked for it")


def label_an_image(page: Page, data: bytes) -> None:
    file = FilePayload(name="x.png", mimeType="image/png", buffer=data)
    page.locator("input[type=file]").first.set_input_files(file)
    expect(page.locator("[data-label]").first).to_be_visible()
    page.locator("[data-label]").first.click()
    page.get_by_test_id("save").click()
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "saved")


def ask_as_a_program(url: str, data: bytes) -> None:
    """The addresses that programs use, and some that are not there."""
    with httpx.Client(base_url=url, timeout=60) as client:
        upload = client.post("/gradio_api/upload", files={"files": ("image.png", data)})
        file = {"path": upload.json()[0], "meta": {"_type": "gradio.FileData"}}
        for name, values in (
            ("tag", [file, None]),
            ("tag", [file, 7]),
            ("tag", [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, None]),
            ("save_correction", [file, ["cat"], ["dog"], "listed"]),
            ("save_correction", [file, ["cat"], ["cat"], "some"]),
        ):
            event = client.post(f"/gradio_api/call/{name}", json={"data": values}).json()["event_id"]
            assert client.get(f"/gradio_api/call/{name}/{event}").status_code == 200
        for path in (
            *("/", "/config", "/gradio_api/info", "/gradio_api/startup-events", "/openapi.json", "/nowhere"),
            *(f"/corrections/{name}" for name in ("corrections.csv", "corrections.zip", "export/corrections.json")),
            "/gradio_api/file=/proc/self/environ",
        ):
            answer = client.get(path)
            assert not is_in(answer.content) or answer.status_code == 200, path


def retrain(page: Page) -> None:
    page.get_by_role("tab", name="Retrain").click()
    page.get_by_test_id("retrain").click()
    expect(page.get_by_test_id("retrain-progress")).to_have_attribute("data-state", "done", timeout=END)
    page.get_by_test_id("use-model").click()
    expect(page.get_by_test_id("use-model")).to_be_disabled()


@pytest.fixture
def hub() -> Iterator[HubCommits]:
    with serve_commits() as running:
        yield running


@demand("token")
def test_the_token_is_told_to_nobody_but_the_hub(
    tmp_path: Path,
    tiny_checkpoint: Path,
    hub: HubCommits,
    browser: Browser,
    make_image: Callable[..., bytes],
    figure: Callable[[str], None],
) -> None:
    run = Run(tmp_path, tiny_checkpoint, hub)
    store = Corrections(tmp_path / "corrections")
    for number in range(60):
        present, absent = ("cat", "dog") if number % 2 else ("dog", "cat")
        lists = {"labels": [present], "rejected": [absent], "model_labels": []}
        store.save(coloured(number), "png", reviewed="listed", threshold=0.4, model="m@1", **lists)
    with run.app(browser) as page:
        label_an_image(page, make_image(1))
        try_faults(page)
        ask_as_a_program(page.url, make_image(2))
        retrain(page)
    (made,) = (tmp_path / "runs").iterdir()
    csv, photos = store.csv_path, tmp_path / "corrections/images"
    bad = f"{OWNER}/fault-500"
    said = run.commands(
        *((name, ["--no-such-flag"]) for name in COMMANDS if name != "app"),
        ("publish", [made, REPO, "--yes", "--private"]),
        ("publish", [made, "stranger/first", "--yes"]),
        ("publish", [tmp_path, REPO, "--yes"]),
        ("tag", [photos, "--model", REPO, "--out", tmp_path / "tags.csv"]),
        ("tag", [photos, "--model", bad]),
        ("evaluate", ["--csv", csv, "--model", REPO, "--json", tmp_path / "report.json"]),
        ("evaluate", ["--csv", csv, "--model", bad]),
        ("finetune", ["--csv", csv, "--model", REPO, "--out", tmp_path / "runs/second", "--workers", "0"]),
        ("finetune", ["--csv", csv, "--model", bad, "--out", tmp_path / "runs/third"]),
        ("export", ["--csv", csv, "--format", "json", "--out", tmp_path / "exported.json"]),
        ("export", ["--model", bad, "--out", tmp_path / "model.onnx"]),
    )
    codes = re.findall(r"^demo\.\w+ .*: (\d+)$", said, re.MULTILINE)
    assert codes == ["2"] * (len(COMMANDS) - 1) + list("02202020202"), said
    assert hub.repo(REPO).private, "the token was not used"
    assert b"TagLoop is at" in run.said["the app's stdout"]
    answers = (tmp_path / "answers").read_bytes()
    assert b"It answered 500" in answers
    hits, searched = run.hits(), sum(path.is_file() for path in tmp_path.rglob("*"))
    size = len(answers)
    figure(
        f"{len(hits)} hits in {size / 1e6:.1f} MB of answers, {searched} files and the output of {len(codes) + 1} runs"
    )
    assert hits == []


@planted("token")
@pytest.mark.parametrize(("prelude", "where"), [(PRINTS, "the app's stdout"), (TELLS, "answers")])
def test_the_check_of_the_token_catches_printing_settings(
    tmp_path: Path, tiny_checkpoint: Path, hub: HubCommits, browser: Browser, prelude: str, where: str
) -> None:
    run = Run(tmp_path, tiny_checkpoint, hub, prelude)
    with run.app(browser) as page:
        try_faults(page)
    assert run.hits() == [where]
