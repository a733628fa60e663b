"""The app as a Space starts it: what a push brings, for reading alone, on a disk that goes, told by its environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from demo.settings import ROOT
from tests.hub_commits import OWNER, TOKEN, HubCommits
from tests.test_app import file, free_port

DATASET = f"{OWNER}/data"
DROP = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
HEEDING_MODES = [sys.executable, "-c", DROP]
"""A Python that writes to no file against its mode, as root neither."""


def checkout(folder: Path) -> Path:
    """What git would take of this repository, as it stands now, in a folder that nobody can write to."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    return folder


def make_writable(folder: Path) -> None:
    """So that it can be deleted."""
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        path.chmod(0o755)


def hosts_package(folder: Path) -> Path:
    """What the host's own `spaces` is to gradio: it wraps handlers, and reloads an app in dev mode. For PYTHONPATH."""
    (folder / "spaces").mkdir(parents=True)
    (folder / "spaces" / "__init__.py").write_text("def gradio_auto_wrap(handler):\n    return handler\n")
    (folder / "spaces" / "reloading.py").write_text("def start_reload_server(**_):\n    pass\n")
    about = folder / "spaces-0.50.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: spaces\nVersion: 0.50.0\n")
    return folder


class Browser:
    """Cookies and requests of one visitor, by name and value: those for https alone come back here too.

    site: where the page lies that asks, from here.
    """

    def __init__(self, url: str) -> None:
        self.url, self.cookies, self.site = url, {}, "same-origin"
        self.client = httpx.Client(base_url=url, timeout=120)

    def request(self, method: str, path: str, **more: object) -> httpx.Response:
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        headers["sec-fetch-site"] = self.site
        answer = self.client.request(method, path, headers=headers, **more)
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                gone = morsel["max-age"] == "0" or "1970" in morsel["expires"]
                self.cookies.pop(name, None) if gone else self.cookies.update({name: morsel.value})
        self.client.cookies.clear()
        return answer

    def log_in(self) -> httpx.Response:
        """Follow the way to the Hub's login and back."""
        answer = self.request("GET", "/login/huggingface")
        while answer.is_redirect:
            address = answer.headers["location"]
            is_ours = not urlsplit(address).hostname or address.startswith(self.url)
            answer = self.request("GET", address) if is_ours else httpx.get(address)
        return answer

    def upload(self, data: bytes) -> dict[str, object]:
        answer = self.request("POST", "/gradio_api/upload", files={"files": ("image.png", data)})
        assert answer.status_code == 200, answer.text
        return file(answer.json()[0])

    def call(self, name: str, *values: object) -> object:
        """What an endpoint gives; its error as text."""
        event = self.request("POST", f"/gradio_api/call/{name}", json={"data": list(values)}).json()["event_id"]
        said = self.request("GET", f"/gradio_api/call/{name}/{event}").text
        told = json.loads(said.rpartition("data: ")[2])
        return told[0] if "event: complete" in said else told["error"]

    def save(self, data: bytes, label: str) -> object:
        return self.call("save_correction", self.upload(data), [label], [], "listed")

    def event(self, target: str, name: str, values: list, data: object = None) -> dict[str, object]:
        """What an event of the page gives, by the class of its panel and its name, as the page asks for it."""
        config = self.request("GET", "/config").json()
        panel = next(one["id"] for one in config["components"] if target in (one["props"].get("elem_classes") or []))
        number = next(one["id"] for one in config["dependencies"] if [panel, name] in one["targets"])
        asked = {"data": values, "event_data": data, "fn_index": number, "trigger_id": panel, "session_hash": "one"}
        assert self.request("POST", "/gradio_api/queue/join", json=asked).status_code == 200
        said = self.request("GET", "/gradio_api/queue/data?session_hash=one").text
        lines = [json.loads(line.removeprefix("data: ")) for line in said.splitlines() if line.startswith("data: ")]
        return next(line for line in lines if line["msg"] == "process_completed")["output"]


class Space:
    """One start of it. disk: all that it may write to, HOME and TMPDIR."""

    def __init__(self, code: Path, disk: Path, hub: HubCommits, hosts: Path, **changes: str) -> None:
        for name in ("home", "tmp"):
            (disk / name).mkdir(parents=True, exist_ok=True)
        port = free_port()
        given = {
            "PATH": os.environ["PATH"],
            "HOME": str(disk / "home"),
            "TMPDIR": str(disk / "tmp"),
            "PYTHONPATH": str(hosts),
            "SYSTEM": "spaces",
            "SPACE_ID": f"{OWNER}/space",
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SERVER_PORT": str(port),
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "TAGLOOP_SYNC": DATASET,
            "TAGLOOP_SYNC_MINUTES": "0.02",
        }
        self.log = disk / "log.txt"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*HEEDING_MODES, "app.py"],
                cwd=code,
                env=given | changes,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("TagLoop is at"):
                break
        else:
            self.process.stdout.close()
            raise AssertionError(f"it ended with {self.process.wait()}: {self.log.read_text()}")
        self.url = f"http://127.0.0.1:{port}"

    def events(self, name: str) -> list[dict[str, object]]:
        lines = re.findall(r"^\{.*\}$", self.log.read_text(), re.MULTILINE)
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As the host stops it; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(120)
        self.process.stdout.close()
        return code
