"""Tag folders of images from the command line: `python -m demo.tag photos --out tags.csv`.

Writes one CSV row an image as it goes (`file_name, labels, scores`; the last two JSON lists, labels in falling
score), and with --scores every label's score as .npz (`scores` float32 (N, L), `file_names`, `labels`). file_name is
relative to the CSV's folder for images in it, else absolute. A file that cannot be read is named on stderr and skipped.
--resume keeps whole rows and tags the rest; it does not check that the model and the threshold are the same.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from demo import durable, images
from demo.batches import scored
from demo.errors import EXIT_DONE, EXIT_SKIPPED, BadInput, DemoError, ImageRejected, Interrupted, command
from demo.flags import parse_flags
from demo.settings import MAX_IMAGE_BYTES
from demo.thresholds import active, mcut, one_of_each, rivals

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from demo.checkpoint import Checkpoint
    from demo.labels import LabelSet

COLUMNS = ["file_name", "labels", "scores"]
_HEADER = ",".join(COLUMNS) + "\n"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    flags = parse_flags(
        "tag",
        arguments,
        description="Tag images and folders of images into a CSV.",
        positionals=(("PATH…", "images, and folders that are searched for images"),),
    )
    paths = images.find_images(flags.path)
    if not paths:
        raise BadInput("There are no images here.", "By their names none of the files is one.", "Name another folder.")
    output = Output(Path(flags.out), Path(flags.scores) if flags.scores else None, flags.resume)

    from demo.checkpoint import load_checkpoint  # with torch, so after everything that can be wrong in the flags
    from demo.tagger import Tagger

    checkpoint = load_checkpoint(flags.model)
    choose = chooser(flags.threshold, checkpoint)
    tagger = Tagger(checkpoint, flags.device)
    named = {output.name_of(path): path for path in paths}
    done = output.start(checkpoint.labels)
    todo = [path for name, path in named.items() if name not in done]
    skipped = 0

    def pixels_of(path: Path) -> torch.Tensor:
        return checkpoint.preprocess(read(path))

    try:
        with (
            closing(scored(tagger, todo, pixels_of, flags.batch_size, flags.workers)) as batches,
            tqdm(total=len(named), initial=len(named) - len(todo), unit="image", dynamic_ncols=True) as bar,
        ):
            for files, scores, rejected in batches:
                output.add(files, scores, checkpoint.labels, choose)
                for path, why in rejected:
                    bar.write(f"skipped {path}: {why}", file=sys.stderr)
                skipped += len(rejected)
                bar.update(len(files) + len(rejected))
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped with {output.rows} rows in {output.table}.", next_step="The same command with --resume goes on."
        ) from None
    output.finish(checkpoint.labels)
    print(f"{output.rows} rows in {output.table}, {skipped} files skipped.", file=sys.stderr)
    return EXIT_SKIPPED if skipped else EXIT_DONE


def chooser(threshold: float | str | None, checkpoint: Checkpoint) -> Callable[[np.ndarray], np.ndarray]:
    """A function from one image's scores (L,) to a bool array: which labels are written.

    Of labels that exclude each other the best one is, at any threshold. Raises BadInput.
    """
    labels = checkpoint.labels
    if threshold == "tuned" and not labels.thresholds:
        raise BadInput(
            "--threshold tuned needs thresholds per label.",
            f"{checkpoint.identity} has none.",
            "Use a number or mcut.",
        )
    groups = rivals(labels.categories, labels.exclusive)
    given = checkpoint.threshold if threshold in (None, "tuned", "mcut") else float(threshold)
    own = labels.thresholds if threshold == "tuned" else (None,) * len(labels)
    levels = np.array([given if level is None else level for level in own], np.float32)

    def choose(scores: np.ndarray) -> np.ndarray:
        return one_of_each(active(scores, mcut(scores) if threshold == "mcut" else levels), scores, groups)

    return choose


def read(path: Path) -> Image.Image:
    """One image file decoded. Raises ImageRejected, and OSError where it cannot be read."""
    if not path.is_file():
        raise ImageRejected("It is not a file.")
    with path.open("rb") as file:
        return images.decode(file.read(MAX_IMAGE_BYTES + 1))


class Output:
    """The CSV, one synced append a batch; and with `scores` a `.part` beside it: raw float32 rows in the CSV's order.

    Rows of the part are written first, so after any end it has those of every whole row of the CSV; `finish` packs
    it into the .npz. Raises BadInput where a file is in the way.
    """

    def __init__(self, table: Path, scores: Path | None, resume: bool) -> None:
        self.table, self.scores, self.resume = table, scores, resume
        self.part = scores.with_name(scores.name + ".part") if scores else None
        self.names: list[str] = []
        for file in filter(None, (table, scores)):
            if file.is_dir() or not file.parent.is_dir():
                raise BadInput(f"{file} cannot be written.", "It is a folder, or in a folder that is not there.")
            if not resume and file.exists() and file.stat().st_size:
                raise BadInput(f"{file} is there already.", next_step="Name another file, or go on with --resume.")

    @property
    def rows(self) -> int:
        return len(self.names)

    def name_of(self, path: Path) -> str:
        """`path` as the CSV has it."""
        folder, path = (Path(os.path.normpath(part.absolute())) for part in (self.table.parent, path))
        return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()

    def start(self, labels: LabelSet) -> frozenset[str]:
        """Make the files ready to append to: whole rows stay, a torn one goes. The file names that stay."""
        rows = self._kept_rows() if self.resume and self.table.exists() else []
        if self.part:
            scores = self._kept_scores([row[0] for row in rows], labels)
            if len(scores) < len(rows):
                print(f"{len(rows) - len(scores)} rows have no scores and are tagged again.", file=sys.stderr)
            rows = rows[: len(scores)]
        try:
            if self.part:
                durable.put(self.part, scores.tobytes())
            durable.put(self.table, _csv([COLUMNS, *rows]))
        except OSError as error:
            raise self._cannot_write(error) from error
        self.names = [row[0] for row in rows]
        return frozenset(self.names)

    def add(
        self, files: Sequence[Path], scores: np.ndarray, labels: LabelSet, choose: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        """Append the rows of a batch: its files and scores (B, L)."""
        rows = []
        for path, own in zip(files, scores, strict=True):
            said = choose(own)
            chosen = [place for place in np.argsort(-own, kind="stable") if said[place]]
            named = json.dumps([labels.names[place] for place in chosen], ensure_ascii=False)
            rows.append([self.name_of(path), named, json.dumps([round(float(own[place]), 6) for place in chosen])])
        try:
            for file, content in ((self.part, scores.astype(np.float32).tobytes()), (self.table, _csv(rows))):
                if file and content:
                    _append(file, content)
        except OSError as error:
            raise self._cannot_write(error) from error
        self.names += [row[0] for row in rows]

    def finish(self, labels: LabelSet) -> None:
        """Pack the scores into the .npz."""
        if not self.part:
            return
        scores = np.fromfile(self.part, np.float32).reshape(-1, len(labels))[: self.rows]
        packed = io.BytesIO()
        np.savez(packed, scores=scores, file_names=np.array(self.names, str), labels=np.array(labels.names, str))
        try:
            durable.put(self.scores, packed.getvalue())
        except OSError as error:
            raise self._cannot_write(error) from error
        self.part.unlink()

    def _kept_rows(self) -> list[list[str]]:
        """The whole rows of the CSV. Raises BadInput for a table of another kind."""
        text = self.table.read_bytes().decode("utf-8", "surrogateescape")
        try:
            header, *rows = csv.reader(io.StringIO(text[: text.rfind("\n") + 1] or _HEADER, newline=""))
        except csv.Error as error:
            raise BadInput(f"{self.table} cannot be read as CSV.", f"{error}.", "Name another file.") from error
        if header != COLUMNS:
            raise BadInput(
                f"{self.table} is another table.", f"Its columns are {', '.join(header)}.", "Name another file."
            )
        whole = next((number for number, row in enumerate(rows) if len(row) != len(COLUMNS)), len(rows))
        return rows[:whole]

    def _kept_scores(self, names: list[str], labels: LabelSet) -> np.ndarray:
        """Scores (K, L) of the first K of these rows, from the part or from a finished .npz."""
        none = np.zeros((0, len(labels)), np.float32)
        if not self.resume:
            return none
        if self.part.exists():
            raw = np.frombuffer(self.part.read_bytes()[: 4 * len(labels) * len(names)], np.uint8)
            return raw[: len(raw) // (4 * len(labels)) * 4 * len(labels)].view(np.float32).reshape(-1, len(labels))
        if not self.scores.exists() or not self.scores.stat().st_size:
            return none
        try:
            with np.load(self.scores, allow_pickle=False) as packed:
                same = packed["labels"].tolist() == list(labels.names)
                known = packed["file_names"].tolist() if same else []
                count = next(
                    (n for n, pair in enumerate(zip(known, names, strict=False)) if pair[0] != pair[1]), len(known)
                )
                return packed["scores"][: min(count, len(names))] if same else none
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BadInput(f"{self.scores} holds no scores.", f"{error}.", "Name another file.") from error

    def _cannot_write(self, error: OSError) -> DemoError:
        return DemoError(f"{self.table} cannot be written.", f"{error}.", "What was written is kept; use --resume.")


def _append(file: Path, content: bytes) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        durable.append(fd, content)
    finally:
        os.close(fd)


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
