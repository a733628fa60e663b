"""A stand-in for the Hub that fails as told; it speaks as much of the protocol as huggingface_hub needs for a file.

The servers that serve for real cannot be made to fail, or to be slow, on demand.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.standing_in import standing_in

COMMIT = "c0ffee" * 6 + "c0ff"
HOLD_SECONDS = 120


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@dataclass
class Faults:
    """How the stand-in answers: with `status`, for all files or for those of `only`, or cutting the weights off.

    hold: half of the weights is sent at once, the rest when this is set. token: without which nothing is shown.
    requests: what was asked, in order.
    """

    status: int = 200
    only: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: str = ""
    hold: threading.Event | None = None
    token: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


class FaultyHub(BaseHTTPRequestHandler):
    """Serves the same files under every repo name."""

    protocol_version = "HTTP/1.1"
    faults: Faults

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        faults, name = self.faults, self.path.rpartition("/")[2]
        faults.requests.append(f"{self.command} {name}")
        if faults.token and self.headers.get("Authorization") != f"Bearer {faults.token}":
            return self.reply(401, b"", {"X-Error-Code": "RepoNotFound"})
        if faults.status != 200 and faults.only in ("", name):
            return self.reply(faults.status, b"no" if with_body else b"", faults.headers)
        if name not in faults.files:
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content, start = faults.files[name], 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and faults.cut != "and starts over":
            start = int(asked[1])
        headers = {"ETag": f'"{len(content):040x}"', "X-Repo-Commit": COMMIT}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.reply(206 if start else 200, content[start:] if with_body else content, headers, with_body, name, start)
        return None

    def reply(
        self, status: int, body: bytes, headers: dict[str, str], send: bool = True, name: str = "", start: int = 0
    ) -> None:
        self.send_response(status)
        for header, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(header, value)
        self.end_headers()
        if not send:
            return
        if self.faults.cut and name == "model.safetensors":
            body = body[: max(0, len(self.faults.files[name]) // 2 - start)]
            self.close_connection = True
        if self.faults.hold is not None and name == "model.safetensors":
            self.wfile.write(body[: len(body) // 2])
            body = body[len(body) // 2 :]
            self.faults.hold.wait(HOLD_SECONDS)
        with suppress(ConnectionError):  # the client may have gone
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_faulty(faults: Faults) -> Iterator[str]:
    """The stand-in's address, until the block ends."""
    handler = type("Handler", (FaultyHub,), {"faults": faults})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with standing_in(server):
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            if faults.hold is not None:
                faults.hold.set()
