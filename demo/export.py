"""For other tools: corrections, `python -m demo.export --csv FILE --format fastai|imagefolder|txt|json --out PATH`,
and checkpoints, `python -m demo.export --model REF --out model.onnx`.

Corrections come from whatever `demo.finetune` reads. fastai and json write a file; imagefolder and txt a folder with
copies of the images, or a zip where `--out` ends in .zip. What is in them, and what an absent label means there, is
`demo.exports`'; what is in an ONNX file is `demo.onnx_export`'s. Nothing is at `--out` before all of it is. Rows that
cannot be used are named and left out (exit code 3).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath

from demo import exports, tables
from demo.errors import EXIT_DONE, EXIT_SKIPPED, BadInput, TableError, command
from demo.flags import parse_flags
from demo.images import SUFFIXES
from demo.progress import Bar


@command
def main(arguments: Sequence[str] | None = None) -> int:
    flags = parse_flags(
        "export",
        arguments,
        description="Write corrections in the format of another tool (--csv, --format), or a checkpoint as an ONNX "
        "file (--model).",
    )
    if flags.csv and not flags.format:
        raise BadInput("--format is missing.", next_step="Say which tool the corrections are for.")
    if flags.model and flags.format:
        raise BadInput("--format goes with --csv.", "A checkpoint is written as ONNX.", "Leave --format out.")
    out = Path(flags.out)
    if any(out.iterdir()) if out.is_dir() else out.exists() and out.stat().st_size:
        raise BadInput(f"--out {out} is there already.", "An export replaces nothing.", "Name a new file or folder.")
    if not out.absolute().parent.is_dir():
        raise BadInput(f"--out {out} lies in no folder.", next_step="Make the folder first.")
    return _checkpoint(flags.model, out) if flags.model else _corrections(flags.csv, flags.format, out)


def _checkpoint(ref: str, out: Path) -> int:
    from demo import checkpoint, onnx_export  # PyTorch takes seconds, and corrections do without

    onnx_export.require_packages()
    loaded = checkpoint.load_checkpoint(ref)
    with _whole(out.absolute()) as part:
        difference = onnx_export.write(loaded, part)
    if difference is None:
        print(f"note: not checked against PyTorch: that takes {onnx_export.RUNTIME}", file=sys.stderr)
    else:
        print(f"note: scores differ from PyTorch's by at most {difference:.0e}", file=sys.stderr)
    print(f"{len(loaded.labels)} labels: {out}")
    return EXIT_DONE


def _corrections(csv: str, kind: str, out: Path) -> int:
    table = tables.read_table(csv)
    for text in [f"note: {note}" for note in table.notes] + [f"left out: {problem}" for problem in table.problems]:
        print(text, file=sys.stderr)
    images, folder = tables.merge_rows(table.rows), table.path.parent
    if not images:
        raise TableError(f"No row of {csv} can be used.", next_step="Correct what is named above.")
    if note := tables.disagreements(images, (), folder):
        print(f"note: {note}", file=sys.stderr)
    with _whole(out.absolute()) as part:
        if kind in ("fastai", "json"):
            to_bytes = exports.fastai_csv if kind == "fastai" else exports.to_json
            _write(part, to_bytes(images, folder, _relative_to(out.absolute().parent)))
        else:
            files = (exports.imagefolder if kind == "imagefolder" else exports.captions)(images, folder)
            with Bar("exporting", len(images), "image") as bar:
                if out.suffix == ".zip":
                    _write(part, exports.zipped(_counted(files, bar)))
                else:
                    for name, content in _counted(files, bar):
                        _write(part / name, content)
    written = len(images)
    if kind == "fastai" and (empty := sum(not tables.agreed(image, folder).labels for image in images)):
        print(f"note: {empty} images without a confirmed label are left out: fastai cannot read them", file=sys.stderr)
        written -= empty
    print(f"{written} images: {out}")
    return EXIT_SKIPPED if table.problems else EXIT_DONE


def _relative_to(folder: Path) -> exports.Naming:
    """Images by their path from `folder`, as fastai and `demo.tables` look for them."""
    return lambda image: PurePath(os.path.relpath(image.path, folder)).as_posix()


def _counted(files: Iterable[exports.File], bar: Bar) -> Iterator[exports.File]:
    for name, content in files:
        yield name, content
        bar.step(PurePath(name).suffix.lower() in SUFFIXES)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A path to write to, which is `out` once all went well and is gone otherwise. Raises BadInput."""
    part = out.with_name(f".{out.name}.part")
    _remove(part)
    try:
        yield part
        if out.is_dir():
            out.rmdir()  # it was empty
        part.replace(out)
    except OSError as error:
        raise BadInput(f"{out} could not be written.", f"{error.strerror or error}.", "Make room there.") from error
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(pieces)


if __name__ == "__main__":
    sys.exit(main())
