"""Many people at one server for a long time, and a server that dies:   python -m tests.faults.soak [--minutes 60]

Clients upload, tag, save, save again, bring photos to work through and retrain at random, over HTTP as the page and
programs do, while in the first half the server is killed (SIGKILL) at random moments and started again. At the end
every acknowledged correction must be there once, with its image; no file may be left that belongs to nobody; and in
the second half, which one process lives through, its memory may grow by less than 5 %. Prints a figure for each and
exits 1 where one is not held.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from demo.checkpoint import save_checkpoint
from demo.corrections import Corrections
from demo.durable import WRITING
from tests.conftest import NAMES, seeded_checkpoint

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = {"tag": 40, "save": 40, "save again": 10, "look": 5, "bring": 4, "retrain": 1}
"""How often a client does what."""

MAX_GROWTH = 0.05
GONE = (httpx.TransportError, ConnectionError)


class Server:
    """The app as a process of its own, in `folder`; it can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.corrections, self.tmp = folder, folder / "corrections", folder / "tmp"
        self.tmp.mkdir()
        save_checkpoint(folder / "tiny", seeded_checkpoint())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{self.port}", (folder / "log.txt").open("w")

    def start(self) -> None:
        environment = os.environ | {"TMPDIR": str(self.tmp), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / "app.py"), "--model", "tiny", "--port", str(self.port), "--device", "cpu"]
        self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stderr=self.log, stdout=self.log)
        while True:
            try:
                httpx.get(self.url)
                return
            except httpx.TransportError:
                if self.process.poll() is not None:
                    raise SystemExit(f"The server ended: {(self.folder / 'log.txt').read_text()[-2000:]}") from None
                time.sleep(0.2)

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=60)

    def megabytes(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Client:
    """One person or program; `possible` has by image the label lists that its row may have, None for no row."""

    def __init__(self, server: Server, number: int, stop: threading.Event) -> None:
        self.server, self.number, self.stop = server, number, stop
        self.rng, self.http = random.Random(number), httpx.Client(base_url=server.url, timeout=120)
        self.images: list[bytes] = []
        self.possible: dict[str, set[tuple[str, ...] | None]] = {}
        self.did: Counter[str] = Counter()
        self.faults: list[str] = []
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self.stop.is_set():
            what = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            try:
                getattr(self, f"_{what.replace(' ', '_')}")()
                self.did[what] += 1
            except GONE:
                self.did["lost"] += 1
                self.stop.wait(0.5)
            except Exception as error:
                self.faults.append(f"{what}: {type(error).__name__}: {error}")

    def _image(self) -> bytes:
        blocks = np.random.default_rng([self.number, len(self.images)]).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        target = io.BytesIO()
        Image.fromarray(blocks).resize((192, 128)).save(target, "PNG")
        self.images.append(target.getvalue())
        return self.images[-1]

    def _upload(self, data: bytes) -> dict[str, Any]:
        answer = self.http.post("/gradio_api/upload", files={"files": ("x.png", data, "image/png")})
        answer.raise_for_status()
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    def _call(self, name: str, *values: Any) -> Any:
        answer = self.http.post(f"/gradio_api/call/{name}", json={"data": values})
        answer.raise_for_status()
        event = "error"
        with self.http.stream("GET", f"/gradio_api/call/{name}/{answer.json()['event_id']}") as lines:
            for line in lines.iter_lines():
                key, _, value = line.partition(": ")
                if key == "event":
                    event = value
                elif key == "data" and event == "complete":
                    return json.loads(value)[0]
                elif key == "data" and event == "error":
                    raise RuntimeError(value)
        raise httpx.ReadError("the answer ended")

    def _tag(self) -> None:
        if self._call("tag", self._upload(self._image()), None)["labels"].keys() - set(NAMES):
            raise RuntimeError("labels of another model")

    def _save(self, image: bytes | None = None) -> None:
        image = image or self._image()
        labels = tuple(self.rng.sample(NAMES, 2))
        digest, given = hashlib.sha256(image).hexdigest(), self._upload(image)
        before = self.possible.get(digest, {None})
        self.possible[digest] = before | {labels}
        row = self._call("save_correction", given, list(labels), [], "listed")
        if tuple(row["labels"]) != labels:
            raise RuntimeError(f"{row['labels']} was saved and not {labels}")
        self.possible[digest] = {labels}

    def _save_again(self) -> None:
        self._save(self.rng.choice(self.images) if self.images else None)

    def _look(self) -> None:
        for path in ("/", "/corrections/corrections.csv"):
            self.http.get(path).raise_for_status()

    def _event(self, marked: str, name: str) -> list[Any]:
        """What an event of the page's component with that mark in its template gives, for a visitor of their own."""
        config = self.http.get("/config").json()
        component = next(part["id"] for part in config["components"] if marked in json.dumps(part["props"]))
        event = next(which for which in config["dependencies"] if [component, name] in which["targets"])
        session = f"{self.rng.getrandbits(64):x}"
        asked = {"fn_index": event["id"], "session_hash": session, "trigger_id": component, "event_data": None}
        data = [None] * len(event["inputs"])
        self.http.post("/gradio_api/queue/join", json=asked | {"data": data}).raise_for_status()
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(str(message["output"]))
                    return message["output"]["data"]
        raise httpx.ReadError("the answer ended")

    def _bring(self) -> None:
        token = self._event('data-testid=\\"filmstrip\\"', "bring")[0]["token"]
        for _ in range(3):
            answer = self.http.post(f"/albums/{token}/photos", content=self._image(), headers={"x-name": "x.png"})
            if answer.status_code != 404:  # so many have brought photos since that these were put away
                answer.raise_for_status()

    def _retrain(self) -> None:
        self._event('data-testid=\\"retrain\\"', "start")


def violations(server: Server, clients: list[Client]) -> tuple[int, list[str]]:
    """How many rows there are, and everything that is wrong on the disk now that the server has ended."""
    possible = {digest: may for client in clients for digest, may in client.possible.items()}
    store, wrong, found = Corrections(server.corrections), [], {}
    for row in store.rows():
        digest = Path(row.file_name).stem
        if digest in found:
            wrong.append(f"twice: {digest}")
        found[digest] = row.labels
        if hashlib.sha256(store.image_path(row).read_bytes()).hexdigest() != digest:
            wrong.append(f"not its image: {digest}")
    wrong += [f"lost or other: {digest}" for digest, may in possible.items() if found.get(digest) not in may]
    wrong += [f"nobody's: {digest}" for digest in found.keys() - possible.keys()]
    kept = {path.stem for path in (server.corrections / "images").iterdir()}
    wrong += [f"image of no row: {digest}" for digest in kept - found.keys()]
    wrong += [f"half written: {path}" for path in server.folder.rglob(f"{WRITING}*")]
    wrong += [f"left in the temporary directory: {path.name}" for path in server.tmp.glob("*agloop*")]
    return len(found), wrong


def growth(samples: list[float]) -> float:
    """How much more the last tenth of the samples is than the first, each by its median."""
    tenth = max(len(samples) // 10, 1)
    return statistics.median(samples[-tenth:]) / statistics.median(samples[:tenth]) - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, half = random.Random(given.seed), given.minutes * 30
    with tempfile.TemporaryDirectory() as folder:
        server, stop = Server(Path(folder)), threading.Event()
        server.start()
        clients = [Client(server, number, stop) for number in range(given.clients)]
        for client in clients:
            client.thread.start()
        began = time.monotonic()
        for moment in sorted(rng.uniform(0, half * 0.9) for _ in range(given.kills)):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            server.end(signal.SIGKILL)
            server.start()
        time.sleep(max(0.0, began + half - time.monotonic()))
        samples, ends = [server.megabytes()], time.monotonic() + half  # starting again may have taken longer
        while time.monotonic() < ends:
            samples.append(server.megabytes())
            time.sleep(1)
        stop.set()
        for client in clients:
            client.thread.join(timeout=180)
        server.end(signal.SIGTERM)
        rows, wrong = violations(server, clients)
    did, faults = sum((client.did for client in clients), Counter()), [said for c in clients for said in c.faults]
    grown = growth(samples)
    print(f"{given.clients} clients, {given.minutes:g} minutes, {given.kills} kills: {dict(did)}")
    print(f"{'corrections':<16}{rows:>8} rows, {len(wrong)} lost, twice or left over", *wrong[:20], sep="\n  ")
    print(
        f"{'refused':<16}{len(faults):>8}",
        *(f"{n} × {said[:200]}" for said, n in Counter(faults).most_common(5)),
        sep="\n  ",
    )
    print(f"{'memory':<16}{samples[-1]:>8.0f} MB, {grown:+.1%} over the second half")
    held = not wrong and not faults and grown < MAX_GROWTH
    print("held" if held else "not held")
    return not held


if __name__ == "__main__":
    sys.exit(main())
