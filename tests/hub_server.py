"""A real Hub for tests: olah on a free loopback port, serving git repositories from a folder, with no network.

A repo is published by committing a checkpoint's folder. olah answers a file that a branch does not have as if
there were no repo, and `/api/models/…` not at all; the Hub proper does better.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_GIT_ENVIRONMENT = {
    **{f"GIT_{who}_NAME": "TagLoop" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "tests@example.org" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_DATE": "2026-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}
_START_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class HubServer:
    """endpoint: what HF_ENDPOINT is set to. mirrors: holds `models/OWNER/NAME`."""

    endpoint: str
    mirrors: Path

    def publish(self, repo: str, folder: Path, tag: str | None = None) -> str:
        """Commit the files of `folder`, and nothing else, as `repo`'s main; the commit's hash.

        The same folders published in the same order give the same hashes.
        """
        path = self.mirrors / "models" / repo
        if not path.is_dir():
            path.mkdir(parents=True)
            self.git(repo, "init", "--quiet", "--initial-branch=main")
        for old in path.iterdir():
            if old.name != ".git":
                old.unlink()
        shutil.copytree(folder, path, dirs_exist_ok=True)
        self.git(repo, "add", "--all")
        self.git(repo, "commit", "--quiet", "--allow-empty", "--message", tag or "A checkpoint")
        if tag:
            self.git(repo, "tag", tag)
        return self.git(repo, "rev-parse", "HEAD")

    def git(self, repo: str, *arguments: str) -> str:
        path = self.mirrors / "models" / repo
        command = ["git", "-C", str(path), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | _GIT_ENVIRONMENT)
        return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serve_hub(folder: Path) -> Iterator[HubServer]:
    """Run olah over `folder/mirrors` until the block ends."""
    port, mirrors = free_port(), folder / "mirrors"
    (mirrors / "models").mkdir(parents=True)
    config = folder / "olah.toml"
    config.write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = "{folder / "repos"}"\n'
        f'mirrors-path = ["{mirrors}"]\n[accessibility]\noffline = true\n'
    )
    flags = ["--config", config, "--host", "127.0.0.1", "--port", port, "--log-path", folder / "logs"]
    command = [sys.executable, "-m", "olah.server", *map(str, flags)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "OLAH_"))}
    with (folder / "olah.out").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env=environment)
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _wait_until_healthy(process, endpoint, folder / "olah.out")
            yield HubServer(endpoint, mirrors)
        finally:
            process.kill()
            process.wait()


def _wait_until_healthy(process: subprocess.Popen, endpoint: str, output: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(endpoint + "/owner/none/resolve/main/none", timeout=5).close()
        except urllib.error.HTTPError:  # it answers: there is no such repo
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"olah did not start:\n{output.read_text(errors='replace')[-3000:]}")
