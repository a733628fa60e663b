"""Files that are nobody's business and addresses that nobody may have fetched, asked of the app by every way in.

The check is seen failing on a server that allows its own folder, and on gradio without the gate in front of it.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from demo.settings import ROOT
from tests.faults.app_server import ALLOWED_PATHS, MAX_FILE_SIZE_ALONE, OURS, Server, file
from tests.faults.table import demand, planted

pytestmark = pytest.mark.faults

UP = "../" * 12
LINKED = re.compile(r'/gradio_api/file=([^"\\]+)|"path": ?"([^"]+)"')


class Canary:
    """A listening port: how often somebody came."""

    def __init__(self) -> None:
        self.socket, self.visits = socket.create_server(("127.0.0.1", 0)), 0
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            visitor, _ = self.socket.accept()
            with visitor:
                if visitor.recv(4) == b"end":
                    return
                self.visits += 1
                visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary")

    def close(self) -> None:
        with socket.create_connection(self.socket.getsockname()) as last:
            last.sendall(b"end")
        self.thread.join()
        self.socket.close()


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.close()


class House:
    """A server with something to steal: the secrets are what each file is known by."""

    def __init__(self, server: Server, checkpoint: Path, image: bytes) -> None:
        self.server, self.work, self.uploads = server, server.folder, server.uploads
        self.good = server.upload(image)
        stored = server.upload(image + b"canary-in-an-image")
        saved = server.call("save_correction", file(stored), ["canary of the corrections"], [], "listed")
        row = json.loads(saved.split("data: ")[-1])[0]
        for path in (self.uploads / "link.png", self.work / "link.png"):
            path.symlink_to(self.work.parent / "secret.png")
        (self.uploads / "link").symlink_to(self.work)
        made = {
            self.work / "secret.txt": b"canary-in-the-folder",
            self.work / ".env": b"canary-in-a-dotfile",
            self.work.parent / "secret.png": b"canary-beside-the-folder",
        }
        for path, secret in made.items():
            path.write_bytes(image + secret if path.suffix == ".png" else secret)
        weights = next(checkpoint.glob("*.safetensors"))
        self.shown = {self.work / "corrections" / "corrections.csv": b"canary of the corrections"}
        self.secrets = made | {
            self.work / "corrections" / row["file_name"]: b"canary-in-an-image",
            Path("/proc/self/environ"): b"canary-of-the-environment",
            Path("/etc/passwd"): b"root:x:0:0",
            ROOT / "app.py": "settings → tagger → page".encode(),
            weights: weights.read_bytes()[-64:],
        }

    def paths(self) -> list[str]:
        """Each secret by its own path, and some by ways around."""
        return [
            *map(str, [*self.secrets, *self.shown]),
            f"{self.work}/link.png",
            f"{self.uploads}/link.png",
            f"{self.uploads}/link/secret.txt",
            f"{self.uploads}/../secret.txt",
            f"{self.uploads}/{UP}etc/passwd",
            f"{Path(self.good).parent}/../../secret.txt",
            f"{self.good}/../../../secret.txt",
            f"{self.work}//./secret.txt",
            f"/{self.work}/secret.txt",
            "secret.txt",
            "./.env",
            "corrections/corrections.csv",
            "corrections/../secret.txt",
            f"{UP}etc/passwd",
            "/proc/self/cwd/secret.txt",
            "/proc/self/root/etc/passwd",
            f"/proc/{self.server.process.pid}/environ",
            f"file://{self.work}/secret.txt",
            "file:///etc/passwd",
        ]

    def fetches(self, addresses: list[str]) -> list[str]:
        """All of it by the routes that give files."""
        everything = [*self.paths(), *addresses]
        whole = [quote(one, safe="") for one in everything]
        own = [quote(str(path), safe="") for path in [*self.secrets, *self.shown]]
        ways = [
            *(f"file={quote(one)}" for one in everything),
            *(f"file={one}" for one in whole),
            *(f"file={quote(one)}" for one in whole),
            *(f"file/{one}" for one in whole),
            *(f"proxy={one}" for one in whole),
            *(f"file={one}%00.png" for one in own),
            *(f"file={quote(self.good)}%2f..%2f..%2f..%2f..{one}" for one in own),
            *(f"custom_component/a/client/component/{'..%2f' * 12}{one}" for one in own),
            *(f"stream/a/b/{one}/playlist.m3u8" for one in own),
            "vibe-code",
        ]
        return [f"/gradio_api/{way}" for way in ways]

    def around(self) -> list[str]:
        """The same by the other routes, which give other things."""
        routes = ["static", "assets", "svelte", "runs", "corrections/thumbnails", "corrections/export", "file="]
        return [
            f"/{route}/{start}{quote(str(path).lstrip('/'), safe='')}{end}"
            for route in routes
            for path in [*self.secrets, *self.shown, "secret.txt"]
            for start in ("", "..%2f" * 12, "%2f")
            for end in ("", "/report.html")
        ]


def addresses(port: int) -> list[str]:
    """Ways to the canary, and to hosts that would have to be looked up or rung at."""
    hosts = ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0", "user@127.0.0.1"]
    return [
        *(f"http://{host}:{port}/a.png" for host in hosts),
        *(f"{start}127.0.0.1:{port}/a.png" for start in ("https://", "HTTP://", "//", "ftp://", "http:/", "http:\\\\")),
        f"http://127.0.0.1:{port}/a.png#.hf.space",
        f"http://127.0.0.1:{port}/gradio_api/file=/etc/passwd",
        f"http://127.0.0.1:{port}/gradio_api/file=%2Fetc%2Fpasswd",
        "http://canary.invalid/a.png",
        "https://example.com/a.png",
        "http://192.0.2.1/a.png",
        "http://169.254.169.254/latest/meta-data/",
    ]


class Thief:
    """Asks for everything. faults: what it got and should not have; asked, events: how often it tried."""

    def __init__(self, house: House, canary: Canary) -> None:
        self.house, self.server, self.canary = house, house.server, canary
        self.addresses = addresses(canary.port)
        self.faults: list[str] = []
        self.asked = self.events = 0

    def steal(self) -> None:
        self.server.sockets()
        for path in self.house.fetches(self.addresses):
            for method in ("GET", "HEAD"):
                status, body = self.get(path, method)
                if status < 400:
                    self.faults.append(f"{method} {path}: {status}")
                self.look(path, body)
        for path in self.house.around():
            self.look(path, self.get(path)[1])
        everything = [*self.house.paths(), *self.addresses]
        for path in everything:
            for named in (file(path), {"path": path}, {"url": path}, file(path, is_stream=True, url="data:,")):
                self.program(named, must_fail=True)
            self.program(file(self.house.good, url=path), must_fail=False)
        for path in everything:
            self.save_label(path)
        for event in self.server.client.get("/config").json()["dependencies"]:
            for path in (*self.house.paths()[:3], self.addresses[0]):
                self.page_event(event, file(path, url=path))
        self.faults += [f"outgoing: {line}" for line in self.server.sockets()]
        self.faults += ["the canary was visited"] * self.canary.visits

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """The path goes over the wire as it stands."""
        self.asked += 1
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=60)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, route: str, body: object) -> tuple[int, bytes]:
        self.asked += 1
        answer = self.server.client.post(f"/gradio_api/{route}", json=body)
        return answer.status_code, answer.content

    def program(self, named: object, must_fail: bool) -> None:
        for route, data in (("run/tag", [named, None]), ("run/save_correction", [named, [], [], "listed"])):
            status, body = self.post(route, {"data": data})
            if must_fail and status == 200:
                self.faults.append(f"{route} took {named}")
            self.look(f"{route} {named}", body)
        self.look(f"call/tag {named}", self.server.call("tag", named, None).encode())

    def save_label(self, path: str) -> None:
        """A file where there should be a label, which comes back with the row."""
        data = [file(self.house.good), [file(path, url=path)], [], "listed"]
        self.look(f"label {path}", self.post("run/save_correction", {"data": data})[1])

    def page_event(self, event: dict, named: object) -> None:
        """As every value and as the data of an event of the page."""
        session = f"thief{self.asked}"
        data = {"data": [named] * len(event["inputs"]), "event_data": named}
        status, _ = self.post("queue/join", data | {"fn_index": event["id"], "session_hash": session})
        if status == 200:
            self.events += 1
            told = self.server.client.get("/gradio_api/queue/data", params={"session_hash": session})
            self.look(f"event {event['id']} {named}", told.content, self.house.secrets)

    def look(self, what: str, body: bytes, secrets: dict[Path, bytes] | None = None) -> None:
        """Into an answer, and behind the links in it."""
        bodies = [body]
        for link in LINKED.findall(body.decode(errors="replace")):
            bodies.append(self.get(f"/gradio_api/file={quote(''.join(link), safe='%/')}")[1])
        for path, secret in (self.house.secrets | self.house.shown if secrets is None else secrets).items():
            if any(form in body for body in bodies for form in forms(secret)):
                self.faults.append(f"{what}: gave {path}")


def forms(secret: bytes) -> list[bytes]:
    """A secret as it stands, and inside anything that is in base64."""
    inside = [base64.b64encode(bytes(shift) + secret)[4:-4] for shift in range(3)]
    return [secret, *inside]


@pytest.fixture(scope="module")
def thief(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, make_image: Callable[..., bytes], canary: Canary
) -> Iterator[Callable[[str], Thief]]:
    """Start the app, or the bad version that a text makes of it, with something in it to steal."""
    servers: list[Server] = []

    def let_loose(how: str) -> Thief:
        servers.append(Server(tmp_path_factory.mktemp("house") / "work", tiny_checkpoint, how))
        return Thief(House(servers[-1], tiny_checkpoint, make_image(5)), canary)

    yield let_loose
    for server in servers:
        server.close()


@demand("file theft")
def test_no_path_gives_a_file_from_outside_and_no_address_is_fetched(
    thief: Callable[[str], Thief], figure: Callable[[str], None]
) -> None:
    ours = thief(OURS)
    ours.steal()
    paths = len(ours.house.fetches(ours.addresses)) + len(ours.house.around())
    figure(f"{paths} paths and addresses, {ours.asked} requests: {len(ours.faults)} gave a byte or made a connection")
    assert paths > 100
    assert ours.faults == []
    assert ours.events > 100
    assert ours.get(f"/gradio_api/file={ours.house.good}")[0] == 200
    assert ours.server.call("tag", file(ours.house.good), None).startswith("event: complete")


@planted("file theft")
def test_the_check_of_thefts_catches_a_server_that_allows_its_own_folder(thief: Callable[[str], Thief]) -> None:
    bad = thief(ALLOWED_PATHS)
    for path in bad.house.fetches([]):
        bad.look(path, bad.get(path)[1])
    assert any(fault.endswith("secret.txt") for fault in bad.faults)


@planted("file theft")
def test_the_check_of_thefts_catches_fetched_addresses_and_trusted_paths(thief: Callable[[str], Thief]) -> None:
    trusting = "import demo.ui.image_input\ndemo.ui.image_input.is_in_or_equal = lambda *paths: True\n"
    bad = thief(MAX_FILE_SIZE_ALONE + trusting)
    bad.server.sockets()
    bad.get("/gradio_api/file=http%3A%2F%2Fcanary.invalid%2Fa.png")
    assert any("canary.invalid" in line for line in bad.server.sockets())
    bad.program({"path": str(bad.house.work.parent / "secret.png")}, must_fail=True)
    assert any(fault.startswith("run/tag took") for fault in bad.faults)
