"""Twenty visitors at once: how much of `demo.tag`'s throughput is left, how long each waits, and whose scores they get.

    python -m benchmarks.visitors [--visitors 20] [--images 6] [--rounds 3]

The app runs in a process of its own with the embedded model. Visitors are threads that speak HTTP as the page does
(upload, join the queue, read the stream of events until the editor has its scores) and as programs do (upload, call
`/tag`, read its answer); each has images that nobody else has, crops of the example photos. `demo.tag` is its loop in
this process, with its defaults: files to scores to rows of a CSV. Both sides read, decode, preprocess and score the
same files on all cores; imports, loading the model and one image a visitor to warm up are counted on neither. The
visitors' own work, which elsewhere is done by their machines, is done here and counts against the app. The three ways
take turns. Where others use the machine too, whoever has more processes gets more of it: then look at the CPU time.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from itertools import chain
from pathlib import Path

import numpy as np

from demo import images, tag
from demo.batches import scored
from demo.checkpoint import load_checkpoint
from demo.flags import parse_flags
from demo.settings import EXAMPLES, ROOT
from demo.tagger import Tagger

SIDE = (640, 480)
EDGE = "between-the-parts-of-a-form"
MOST_OFF = 1e-4
"""Between scores computed alone and in a batch, which are rounded otherwise."""


def crops(folder: Path, count: int) -> list[Path]:
    """So many JPEGs, no two of the same part of a photo."""
    photos = [images.decode(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.jpg"))]
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        photo = photos[number % len(photos)]
        width, height = (round(side * rng.uniform(0.4, 0.9)) for side in photo.size)
        left, top = int(rng.integers(photo.width - width + 1)), int(rng.integers(photo.height - height + 1))
        paths.append(folder / f"{number:04}.jpg")
        photo.crop((left, top, left + width, top + height)).convert("RGB").resize(SIDE).save(paths[-1], quality=90)
    return paths


def tag_files(tagger: Tagger, paths: list[Path], table: Path) -> float:
    """Images a second of what `python -m demo.tag` does once its model is loaded."""
    flags = parse_flags("tag", [str(paths[0].parent)], {}, description="", positionals=(("path", ""),))
    output, choose = tag.Output(table, None, False), tag.chooser(flags.threshold, tagger.checkpoint)
    output.start(tagger.checkpoint.labels)
    started = time.perf_counter()
    with closing(
        scored(
            tagger, paths, lambda path: tagger.checkpoint.preprocess(tag.read(path)), flags.batch_size, flags.workers
        )
    ) as batches:
        for files, scores, _ in batches:
            output.add(files, scores, tagger.checkpoint.labels, choose)
    return len(paths) / (time.perf_counter() - started)


class Visitor:
    """One who tags image after image. `tag` as a program does it and `open` as the page does give scores (L,).

    With http.client, since what a visitor takes of the cores the app lacks.
    """

    def __init__(self, host: str, number: int, names: tuple[str, ...]) -> None:
        self.http, self.session, self.names = HTTPConnection(host, timeout=300), f"visitor{number}", names
        config = json.loads(self._ask("/config").read())
        pictures = [part["id"] for part in config["components"] if part["type"] == "image"]
        self.image, self.event = next(
            (part, one) for part in pictures for one in config["dependencies"] if [part, "input"] in one["targets"]
        )

    def _ask(self, path: str, data: bytes | dict | None = None, kind: str = "application/json") -> HTTPResponse:
        body = json.dumps(data).encode() if isinstance(data, dict) else data
        self.http.request("GET" if body is None else "POST", path, body, {"content-type": kind})
        answer = self.http.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
        return answer

    def _upload(self, path: Path) -> dict:
        self.http.close()  # the server does, of one that waits for its turn for long
        head = f'--{EDGE}\r\ncontent-disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
        form = b"%b%b\r\n--%b--\r\n" % (head.encode(), path.read_bytes(), EDGE.encode())
        answer = self._ask("/gradio_api/upload", form, f"multipart/form-data; boundary={EDGE}")
        return {"path": json.loads(answer.read())[0], "meta": {"_type": "gradio.FileData"}}

    def tag(self, path: Path) -> np.ndarray:
        asked = self._ask("/gradio_api/call/tag", {"data": [self._upload(path), 0]})
        told = self._ask(f"/gradio_api/call/tag/{json.loads(asked.read())['event_id']}").read().decode()
        kind, _, data = told.rpartition("event: ")[2].partition("\ndata: ")
        if kind != "complete":
            raise RuntimeError(told)
        found = json.loads(data)[0]["labels"]
        return np.array([found[name] for name in self.names], np.float32)

    def open(self, path: Path) -> np.ndarray:
        event = self.event
        data = [None] * len(event["inputs"])
        data[event["inputs"].index(self.image)] = self._upload(path)
        asked = {"fn_index": event["id"], "trigger_id": self.image, "session_hash": self.session, "data": data}
        self._ask("/gradio_api/queue/join", asked).read()
        answer, found, is_done = self._ask(f"/gradio_api/queue/data?session_hash={self.session}"), None, False
        for line in answer:  # to the end, or the connection could not be used again
            message = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            found = next(iter(texts(message, "scores")), found)
            if message.get("msg") == "process_completed":
                if not message["success"]:
                    raise RuntimeError(line)
                is_done = True
        if not is_done or found is None:
            raise RuntimeError("the answer ended")
        return np.frombuffer(base64.b64decode(found), "<f4")


def texts(value: object, key: str) -> list[str]:
    """All texts under a key, wherever in the JSON: in an object, or in a change to one (`[what, [where…], text]`)."""
    if isinstance(value, dict):
        own = [value[key]] if isinstance(value.get(key), str) else []
        return own + list(chain.from_iterable(texts(part, key) for part in value.values()))
    if isinstance(value, list) and len(value) == 3 and isinstance(value[2], str) and value[1][-1:] == [key]:
        return [value[2]]
    return list(chain.from_iterable(texts(part, key) for part in value)) if isinstance(value, list) else []


def visit(
    ways: list[Callable[[Path], np.ndarray]], paths: list[Path], expected: np.ndarray
) -> tuple[float, list[float], int]:
    """Images a second of all visitors, the seconds that each image took, and how many got another one's scores."""
    ready = threading.Barrier(len(ways) + 1)
    own = np.array_split(np.arange(len(paths)), len(ways))

    def work(way: Callable[[Path], np.ndarray], numbers: np.ndarray) -> tuple[list[float], int]:
        ready.wait()
        seconds, crossed = [], 0
        for number in numbers:
            started = time.perf_counter()
            scores = way(paths[number])
            seconds.append(time.perf_counter() - started)
            off = np.abs(expected - scores).max(1)
            crossed += not (off[number] < MOST_OFF and off.argmin() == number)
        return seconds, crossed

    with ThreadPoolExecutor(len(ways)) as pool:
        futures = [pool.submit(work, way, numbers) for way, numbers in zip(ways, own, strict=True)]
        ready.wait()
        started = time.perf_counter()
        done = [future.result() for future in futures]
        took = time.perf_counter() - started
    return len(paths) / took, list(chain.from_iterable(seconds for seconds, _ in done)), sum(bad for _, bad in done)


def start(folder: Path) -> tuple[subprocess.Popen, str]:
    """The app, once it answers, and where."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TAGLOOP_")}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--port", str(port), "--device", "cpu"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    if "TagLoop is at" not in process.stdout.readline():
        raise SystemExit("The app did not start.")
    return process, f"127.0.0.1:{port}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--images", type=int, default=6, help="of each visitor, each time")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    tagger = Tagger(load_checkpoint(), "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        paths = crops(folder / "images", arguments.visitors * arguments.images)
        expected = np.stack([tagger.tag(tag.read(path)).scores for path in paths])
        apart = np.abs(expected[:, None] - expected).max(2) + np.eye(len(expected))
        print(f"{len(paths)} images; the two most alike differ by {apart.min():.4f} in a score")
        process, host = start(folder)
        try:
            people = [Visitor(host, number, tagger.checkpoint.labels.names) for number in range(arguments.visitors)]
            ways = {"the page": [one.open for one in people], "/tag": [one.tag for one in people]}
            for own in ways.values():
                visit(own, paths[: len(people)], expected[: len(people)])
            tag_files(tagger, paths[: len(people)], folder / "warm.csv")
            compare(tagger, ways, paths, expected, arguments.rounds, process.pid)
        finally:
            process.terminate()
            process.wait(60)


def cpu_seconds(process: int) -> float:
    """What a process has had of the cores so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def compare(
    tagger: Tagger, ways: dict[str, list], paths: list[Path], expected: np.ndarray, rounds: int, app: int
) -> None:
    """Print the table. app: its process."""
    alone, found = [], {name: [] for name in ways}
    for number in range(rounds):
        before = time.process_time()
        rate = tag_files(tagger, paths, paths[0].parent.parent / f"{number}.csv")
        alone.append((rate, time.process_time() - before))
        for name, own in ways.items():
            before = cpu_seconds(app)
            found[name].append((*visit(own, paths, expected), cpu_seconds(app) - before))
    each = 1000 / len(paths)
    print(
        f"\n{'':<10}{'images/s':>9}{'ratio':>7}{'p50 ms':>9}{'p95 ms':>9}{'crossed':>9}{'CPU ms each':>13}  each round"
    )
    rate, cpu = (statistics.median(values) for values in zip(*alone, strict=True))
    print(f"{'demo.tag':<10}{rate:9.1f}{1:7.2f}{cpu * each:40.0f}")
    for name, runs in found.items():
        rate, cpu = (statistics.median(run[part] for run in runs) for part in (0, 3))
        ratios = [run[0] / own for run, (own, _) in zip(runs, alone, strict=True)]
        p50, p95 = np.percentile(list(chain.from_iterable(run[1] for run in runs)), [50, 95]) * 1000
        crossed, rounds = sum(run[2] for run in runs), ", ".join(f"{ratio:.2f}" for ratio in ratios)
        ratio = statistics.median(ratios)
        print(f"{name:<10}{rate:9.1f}{ratio:7.2f}{p50:9.0f}{p95:9.0f}{crossed:9}{cpu * each:13.0f}  {rounds}")


if __name__ == "__main__":
    main()
