"""`python app.py` in a process of its own, as a thief, a crowd or a lorry of bytes finds it; and bad versions of it.

The process does two more things: `sockets()` tells what it connected to or looked up, and `hold()` keeps every image
from being tagged until `go()`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from demo.settings import ROOT
from tests.test_app import environment, free_port

START = """
import os, sys, threading
sys.path.insert(0, os.environ["PROJECT"])
import app
import demo.tagger
import demo.ui.page as page
log = os.open("sockets.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def heard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        os.write(log, f"{event} {arguments[-1] if event == 'socket.connect' else arguments[0]}\\n".encode())
sys.addaudithook(heard)
going, tag = threading.Event(), demo.tagger.Tagger.tag
going.set()
def tag_when_going(self, image):
    going.wait()
    return tag(self, image)
demo.tagger.Tagger.tag = tag_when_going
def listen():
    for line in sys.stdin:
        (going.set if line == "go\\n" else going.clear)()
        print(line, end="", flush=True)
threading.Thread(target=listen, daemon=True).start()
options, build = page.launch_options, page.build_page
%s
sys.exit(app.main(sys.argv[1:]))
"""

OURS = ""
MAX_FILE_SIZE_ALONE = """
from demo.ui.gate import Gate
def without_gate(*arguments, **named):
    given = options(*arguments, **named)
    kept = [middleware for middleware in given["app_kwargs"]["middleware"] if middleware.cls is not Gate]
    return given | {"app_kwargs": given["app_kwargs"] | {"middleware": kept}}
page.launch_options = without_gate
"""
UNLIMITED_QUEUE = f"""{MAX_FILE_SIZE_ALONE}
page.build_page = lambda *arguments, **named: build(*arguments, **named).queue(max_size=None)
"""
ALLOWED_PATHS = """
page.launch_options = lambda *arguments, **named: options(*arguments, **named) | {"allowed_paths": ["."]}
"""
PILLOWS_LIMIT = """
import io, demo.ui.programs as programs
from demo.errors import ImageRejected
from PIL import Image
Image.MAX_IMAGE_PIXELS = 2**30 // 4 // 3
def with_pillows_limit(data, max_bytes=None):
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except Exception as error:
        raise ImageRejected(str(error))
programs.decode = with_pillows_limit
"""
UNCHECKED_WRITE = """
import os, demo.ledger
demo.ledger.append = os.write
"""


class Server:
    """What a test does with the app: `folder` is where it runs, `uploads` where gradio keeps what it is sent."""

    def __init__(self, folder: Path, checkpoint: Path, how: str = OURS) -> None:
        self.folder, self.uploads = folder, folder / "uploads"
        self.uploads.mkdir(parents=True)
        port = free_port()
        told = {"GRADIO_TEMP_DIR": str(self.uploads), "PROJECT": str(ROOT), "CANARY": "canary-of-the-environment"}
        with (folder / "errors.log").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START % how, "--model", str(checkpoint), "--port", str(port), "--device", "cpu"],
                cwd=folder,
                env=environment(**told),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        line = self.process.stdout.readline()
        assert f"127.0.0.1:{port}" in line, line + (folder / "errors.log").read_text()
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=120)
        self.health = "/healthz" if self.client.get("/healthz").status_code == 200 else "/"

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.communicate(timeout=60)

    def upload(self, data: bytes) -> str:
        answer = self.client.post("/gradio_api/upload", files={"files": ("image.png", data)})
        assert answer.status_code == 200, answer.text
        return answer.json()[0]

    def call(self, name: str, *values: object) -> str:
        """The answer's events, as text."""
        event = self.client.post(f"/gradio_api/call/{name}", json={"data": list(values)})
        assert event.status_code == 200, event.text
        return self.client.get(f"/gradio_api/call/{name}/{event.json()['event_id']}").text

    def event(self, name: str) -> int:
        """The number of an endpoint among the page's events."""
        events = self.client.get("/config").json()["dependencies"]
        return next(event["id"] for event in events if event["api_name"] == name)

    def hold(self) -> None:
        self._tell("hold\n")

    def go(self) -> None:
        self._tell("go\n")

    def _tell(self, word: str) -> None:
        self.process.stdin.write(word)
        self.process.stdin.flush()
        assert self.process.stdout.readline() == word

    def sockets(self) -> list[str]:
        """What was looked up or connected to since the last time."""
        log = self.folder / "sockets.log"
        lines = log.read_text().splitlines()
        os.truncate(log, 0)
        return lines

    def memory_mb(self, name: str) -> float:
        """VmRSS, or VmHWM: the most of it since `most_memory` began."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024

    @contextmanager
    def growth(self) -> Iterator[list[float]]:
        """A list that holds, afterwards, by how many MB the process grew at most meanwhile."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        before, most = self.memory_mb("VmHWM"), []
        yield most
        most.append(self.memory_mb("VmHWM") - before)


def file(path: object, **more: object) -> dict[str, object]:
    """An uploaded file as a program names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[Callable[[str], Server]]:
    """Start the app, or the bad version that a text makes of it; it ends with the module."""
    servers: dict[str, Server] = {}

    def started(how: str) -> Server:
        if how not in servers:
            servers[how] = Server(tmp_path_factory.mktemp("app") / "work", tiny_checkpoint, how)
        return servers[how]

    yield started
    for server in servers.values():
        server.close()
