"""The readers that exports are made for read them: `datasets`, and fastai (`pip install fastai`, slow)."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import exports
from demo.corrections import Corrections
from demo.tables import Merged, merge_rows, read_table

HOSTILE = ["red sofa", "red_sofa", "a,b", 'say "hi"', "50%", "%20", "ünïcode", "猫", "=1+1", "null", "nan"]
HOSTILE += ["a\nb", "\u2028", "\\", "'", "[", "{", "#NA", "`rm`", "\u202eabc"]


@pytest.fixture
def images(tmp_path: Path, make_image: Callable[..., bytes]) -> list[Merged]:
    """Twenty corrected images, every label on several, the last one without any."""
    corrections = Corrections(tmp_path / "corrections")
    for seed in range(20):
        labels = [name for place, name in enumerate(HOSTILE) if (seed + place) % 3 == 0] if seed < 19 else []
        rejected = [name for place, name in enumerate(HOSTILE) if (seed + place) % 3 == 1]
        values = {"model_labels": [], "threshold": 0.5, "model": "owner/a-test-of-names@1", "vocabulary": HOSTILE}
        values["reviewed"] = "all" if seed % 4 == 0 else "listed"
        corrections.save(make_image(seed), "png", labels=labels, rejected=rejected, **values)
    return merge_rows(read_table(corrections.csv_path).rows)


def test_datasets_reads_an_imagefolder_with_every_label_as_it_was(images: list[Merged], tmp_path: Path) -> None:
    with zipfile.ZipFile(
        io.BytesIO(b"".join(exports.zipped(exports.imagefolder(images, tmp_path / "corrections"))))
    ) as archive:
        archive.extractall(tmp_path / "exported")
    read = """if True:
        import json, sys
        from datasets import load_dataset
        rows = load_dataset("imagefolder", data_dir=sys.argv[1], cache_dir=sys.argv[2], split="train")
        print(json.dumps([
            [row["image"].size, json.loads(row["labels"]), json.loads(row["rejected"]), row["is_valid"]] for row in rows
        ]))"""
    command = [sys.executable, "-c", read, tmp_path / "exported", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, env={"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin"})
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert sorted(found) == sorted(
        [[96, 64], [*row.labels], [*row.rejected], row.is_valid] for image in images for row in image.rows
    )


@pytest.mark.slow
def test_fastai_reads_its_csv_with_every_label(images: list[Merged], tmp_path: Path) -> None:
    path = tmp_path / "corrections" / "fastai.csv"
    path.write_bytes(b"".join(exports.fastai_csv(images, path.parent, lambda image: image.file_name)))
    read = """if True:
        import json, sys
        from fastai.vision.all import ImageDataLoaders, Resize
        loaders = ImageDataLoaders.from_csv(
            sys.argv[1], "fastai.csv", label_delim=" ", valid_col="is_valid", bs=4, num_workers=0, item_tfms=Resize(32),
        )
        rows = {}
        for part in (loaders.train_ds, loaders.valid_ds):
            for number in range(len(part)):
                labels = [loaders.vocab[int(place)] for place in part[number][1].nonzero()]
                rows[part.items.iloc[number]["fname"]] = sorted(labels)
        loaders.one_batch()
        print(json.dumps([rows, list(loaders.vocab)]))"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", read, path.parent], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    found, vocabulary = json.loads(done.stdout.splitlines()[-1])
    assert len(vocabulary) == len(HOSTILE)
    expected = {image.file_name: len(image.rows[0].labels) for image in images if image.rows[0].labels}
    assert {name: len(labels) for name, labels in found.items()} == expected
    with path.open(encoding="utf-8", newline="") as file:
        assert found == {row["fname"]: sorted(row["labels"].split(" ")) for row in csv.DictReader(file)}
