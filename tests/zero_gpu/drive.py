"""Everything of the app that wants a model, on a stand-in for ZeroGPU; tests/test_zero.py runs it and reads the notes.

    python drive.py FOLDER

The folder holds the checkpoints `tiny` and `other`, pictures in `images`, and a CSV of them. What each thing
came to is printed as one JSON object.
"""

import json
import sys
import threading
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file

from demo.album import Album
from demo.albums import Albums
from demo.corrections import Corrections
from demo.errors import DemoError
from demo.heatmaps import Heatmaps
from demo.images import decode
from demo.models import Models
from demo.retrain import Retraining
from demo.settings import Settings

folder = Path(sys.argv[1])
images = sorted((folder / "images").iterdir())
settings = Settings(model=str(folder / "tiny"), corrections=folder / "corrections", runs=folder / "runs", port=0)
models, retraining, albums = Models(settings), Retraining(settings), Albums(2, 100, 2**20)
corrections = Corrections(settings.corrections)

from demo.ui.page import build_page, launch_options  # noqa: E402

page = build_page(settings, models, corrections, albums, retraining)
_, url, _ = page.launch(prevent_thread_lock=True, **launch_options(settings, corrections, albums, models))
came: dict[str, object] = {}


def until(ended) -> None:
    pause = threading.Event()
    while not ended():
        pause.wait(0.05)


def visit() -> None:
    own = models.own
    came["device"] = [own.device, own.precision]
    told = Client(url, verbose=False).predict(handle_file(images[0]), 0, api_name="/tag")["labels"]
    came["tag api"] = [told[name] for name in own.checkpoint.labels.names]
    pictures = [decode(path.read_bytes()) for path in images]
    ready, scores = threading.Barrier(len(pictures)), {}

    def ask(number: int) -> None:
        ready.wait()
        scores[number] = own.tag(pictures[number]).scores.tolist()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    came["tag"] = [scores[number] for number in range(len(pictures))]
    came["why"] = Heatmaps().of(own, "0", lambda: pictures[0], 2).values.tolist()
    album = Album(images)
    sheet = album.sheet(own)
    sheet.start(own)
    until(lambda: not sheet.is_running)
    came["album"] = [sheet.error, sheet.scores().tolist()]

    other = models.get(str((folder / "other").absolute()))
    came["other model"] = other.tag(pictures[0]).scores.tolist()
    came["other why"] = Heatmaps().of(other, "0", lambda: pictures[0], 2).values.tolist()
    (folder / "other" / "model.safetensors").rename(folder / "other" / "gone")
    came["back"] = own.tag(pictures[0]).scores.tolist()
    came["still there"] = other.tag(pictures[0]).scores.tolist()
    own.checkpoint.preprocess, preprocess = lambda image: preprocess(image) * np.nan, own.checkpoint.preprocess
    try:
        own.tag(pictures[0])
    except DemoError as error:
        came["nan"] = str(error)

    flags = ["--train", "full", "--epochs", "1", "--head-epochs", "1"]
    retraining.start(folder / "photos.csv", str(folder / "tiny"), flags)
    until(lambda: retraining.status().state != "running")
    run = retraining.status()
    came["retrained"] = [run.state, run.message, run.metrics.get("verdict")]
    came["log"] = (Path(run.out) / "log.txt").read_text()
    retraining.start(folder / "photos.csv", str(folder / "tiny"), ["--train", "full", "--epochs", "100000"])
    until(lambda: retraining.status().phase == "backbone" or retraining.status().state != "running")
    cancelled = retraining.cancel()
    came["cancelled"] = [cancelled.state, cancelled.message]
    new = models.get(run.out)
    came["new model"] = new.tag(pictures[0]).scores.tolist()


visitor = threading.Thread(target=visit)
visitor.start()
visitor.join()
print(json.dumps(came))
sys.stdout.flush()
page.close(verbose=False)
