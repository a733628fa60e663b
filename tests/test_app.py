"""`python app.py` as a person runs it: flags, exit codes, the address, and what the server refuses."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from demo.settings import ROOT

APP = [sys.executable, str(ROOT / "app.py")]


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAGLOOP_", "GRADIO_"))}
    return kept | {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"} | changes


def run(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*APP, *arguments], cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=200
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (["--nonsense"], {}, "unrecognized arguments: --nonsense"),
        (["--port", "70000"], {}, "The port is 70000."),
        (["--device", "toaster"], {}, "--device is 'toaster'."),
        (["--images", "nowhere"], {}, "is not a folder"),
        ([], {"TAGLOOP_NONSENSE": "1"}, "TAGLOOP_NONSENSE belongs to no flag"),
        ([], {"GRADIO_SERVER_PORT": "x"}, "GRADIO_SERVER_PORT is 'x'."),
    ],
)
def test_bad_flags_end_with_a_message_and_exit_code_2(
    tmp_path: Path, arguments: list[str], changes: dict[str, str], message: str
) -> None:
    done = run(tmp_path, *arguments, **changes)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, "--model", "nowhere/at/all")
    assert done.returncode == 2
    assert "There is no checkpoint at 'nowhere/at/all'." in done.stderr


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(tmp_path, "--model", str(tiny_checkpoint), "--port", port)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "another --port" in done.stderr


class Server:
    def __init__(self, url: str, process: subprocess.Popen[str], folder: Path) -> None:
        self.url, self.process, self.folder = url, process, folder
        self.client = httpx.Client(base_url=url, timeout=60)

    def upload(self, data: bytes) -> str:
        answer = self.client.post("/gradio_api/upload", files={"files": ("image.png", data)})
        assert answer.status_code == 200, answer.text
        return answer.json()[0]

    def call(self, name: str, *values: object) -> httpx.Response:
        """The answer's last event, as text."""
        event = self.client.post(f"/gradio_api/call/{name}", json={"data": list(values)}).json()["event_id"]
        return self.client.get(f"/gradio_api/call/{name}/{event}")


def file(path: str) -> dict[str, object]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@contextmanager
def started(folder: Path, checkpoint: Path, *arguments: str, **changes: str) -> Iterator[Server]:
    """The app on a checkpoint, in a process of its own that ends with SIGTERM."""
    port = free_port()
    process = subprocess.Popen(
        [*APP, "--model", str(checkpoint), "--port", str(port), *arguments],
        cwd=folder,
        env=environment(TAGLOOP_DEVICE="cpu", **changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in process.stdout:
            if line.startswith("TagLoop is at"):
                break
        else:
            pytest.fail(f"the server ended with {process.wait()}")
        server = Server(f"http://127.0.0.1:{port}", process, folder)
        with server.client:
            yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[Server]:
    """The app on the tiny checkpoint, settings half from flags, half from the environment."""
    with started(tmp_path_factory.mktemp("app"), tiny_checkpoint, TAGLOOP_CORRECTIONS="mine") as server:
        yield server


@pytest.mark.slow
def test_what_was_uploaded_is_gone_when_the_server_has_ended(
    tmp_path: Path, tiny_checkpoint: Path, make_image: Callable[..., bytes]
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with started(tmp_path, tiny_checkpoint, TMPDIR=str(temporary)) as server:
        path = server.upload(make_image(1))
        assert Path(path).is_relative_to(temporary)
        assert Path(path).exists()
    assert list(temporary.iterdir()) == []


def test_programs_tag_and_save(server: Server, make_image: Callable[..., bytes]) -> None:
    path = server.upload(make_image(1))
    answer = server.call("tag", file(path), None).text
    assert answer.startswith("event: complete")
    tagged = httpx.Response(200, text=answer.split("data: ", 1)[1]).json()[0]
    assert tagged["threshold"] == 0.4
    assert tagged["model"].startswith("local:tiny@")
    scores = list(tagged["labels"].values())
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.4
    saved = server.call("save_correction", file(path), ["cat"], ["dog"], "listed").text
    row = httpx.Response(200, text=saved.split("data: ", 1)[1]).json()[0]
    assert (row["labels"], row["rejected"]) == (["cat"], ["dog"])
    assert (server.folder / "mine" / row["file_name"]).read_bytes() == make_image(1)


def test_programs_are_told_nothing_of_other_files(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    for named in (
        file(str(tmp_path / "secret.png")),
        {"path": str(tmp_path / "secret.png")},
        {"path": str(server.folder / "mine" / "corrections.csv")},
        file("http://127.0.0.1:9/image.png"),
        {"url": "http://127.0.0.1:9/image.png"},
        {"path": 3},
    ):
        assert server.call("tag", named, None).text.startswith("event: error"), named


@pytest.mark.parametrize("image", [None, "image.png", 3, ["image.png"], {}, {"path": None}])
def test_programs_that_send_no_image_are_told_so(server: Server, image: object) -> None:
    for said in (server.call("tag", image, None), server.call("save_correction", image, ["cat"], [], "listed")):
        assert said.text.startswith("event: error")
        assert "The image did not arrive." in said.text


def test_the_corrections_are_downloads_and_nothing_beside_them_is(server: Server) -> None:
    assert server.client.get("/corrections/corrections.csv").text.startswith("file_name,labels,")
    assert server.client.get("/corrections/corrections.zip").content.startswith(b"PK")
    for name in ("imagefolder.zip", "txt.zip", "fastai.csv", "corrections.json"):
        answer = server.client.get(f"/corrections/export/{name}")
        assert answer.status_code == 200 or "cannot be read" in answer.text  # while nothing is saved
    assert server.client.get("/corrections/export/images.zip").status_code == 404
    for path in ("corrections.csv", "..%2Fcorrections.csv", "%2E%2E/%2E%2E/etc/passwd", "a" * 64 + ".png"):
        assert server.client.get(f"/corrections/thumbnails/{path}").status_code == 404
    inside = server.folder / "mine" / "corrections.csv"
    assert server.client.get(f"/gradio_api/file={inside}").status_code == 403


def test_a_body_that_is_too_long_is_refused_and_so_is_one_of_unsaid_length(server: Server) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 2**20

    for content, status in ((b"x" * (40 * 2**20), 413), (pieces(), 411)):
        answer = server.client.post(
            "/gradio_api/call/tag", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == status
    assert server.client.get("/").status_code == 200


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_an_interrupt_ends_the_app_and_so_does_sigterm(
    tmp_path: Path, tiny_checkpoint: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [*APP, "--model", str(tiny_checkpoint), "--port", str(free_port())],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("TagLoop is at http://127.0.0.1:")
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert '"event"' not in errors, "on one's own machine nobody asked for that"


COMPUTING = """
import runpy, sys, threading, torch
def compute():
    while True:
        torch.ones(100) + 1
threading.Thread(target=compute, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The app beside a thread that never leaves PyTorch, as one does that tags a folder."""


def test_the_app_ends_in_peace_while_the_model_is_at_work(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", COMPUTING, *APP[1:], "--model", str(tiny_checkpoint), "--port", str(free_port())],
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path / "tmp"), PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("TagLoop is at http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert not list((tmp_path / "tmp").iterdir()), "what is registered for the end is done all the same"


def test_a_server_that_is_open_to_others_says_so_and_its_health_sees_a_full_disk(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    port = free_port()
    process = subprocess.Popen(
        [*APP, "--model", str(tiny_checkpoint), "--port", str(port), "--host", "0.0.0.0", "--auth", "none"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert f":{port}" in process.stdout.readline()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))  # no file grows over that
    answer = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    told = {"status": "failing", "model": "ok", "disk": "Nothing can be saved: File too large."}
    assert (answer.status_code, answer.json()) == (503, told)
    assert process.returncode == 0
    assert "warning: whoever reaches 0.0.0.0 can tag, save and read all corrections" in errors
    events = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events] == ["model_loaded", "start", "refused", "stop"]
    assert (events[1]["public"], events[1]["login"], events[2]["status"]) == (True, False, 503)
