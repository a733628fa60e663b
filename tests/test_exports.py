"""What is exported comes back as the same labels, and other tools' readers are content with it."""

import csv
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import exports, spelling
from demo.corrections import Corrections
from demo.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_SKIPPED
from demo.export import main
from demo.tables import Merged, labels_in, merge_rows, read_table, require_good, respelled, targets

HOSTILE = ["red sofa", "red_sofa", "a,b", 'say "hi"', "50%", "%20", "%2C", "ünïcode", "猫", "=1+1", "+x", "-x", "@x"]
HOSTILE += ["null", "nan", " ", "  a ", "\t", "a\nb", "\u2028", "\x00", "\u3000x", "\\", "'", "[", "{", "#NA"]
NAMES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.sampled_from(' _%,"=+-@20aé\n\u00a0'), min_size=1, max_size=6),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
)
SAID = st.tuples(
    st.sampled_from(["", "ann", "bob"]), st.booleans(), st.lists(st.integers(-1, 1), min_size=6, max_size=6)
)


def save(corrections, image, labels, rejected=(), reviewed="listed", **changes):
    values = {"model_labels": [], "threshold": 0.5, "model": "owner/name@1"} | changes
    return corrections.save(image, "png", labels=list(labels), rejected=list(rejected), reviewed=reviewed, **values)


def images_of(path) -> list[Merged]:
    table = read_table(path)
    require_good(table)
    return merge_rows(table.rows)


def own_name(image):
    return image.file_name


def export(kind, images, folder):
    """Write an export beside or below the images of `folder`; returns what to read it by."""
    if kind in ("fastai", "json"):
        to_bytes = {"fastai": exports.fastai_csv, "json": exports.to_json}[kind]
        path = folder / f"export.{'csv' if kind == 'fastai' else 'json'}"
        path.write_bytes(b"".join(to_bytes(images, folder, own_name)))
        return path
    content = b"".join(
        exports.zipped((exports.imagefolder if kind == "imagefolder" else exports.captions)(images, folder))
    )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder / kind)
    return folder / kind / "metadata.csv" if kind == "imagefolder" else folder / kind


def cells_of(images, names, folder):
    return {image.path.name: row for image, row in zip(images, targets(images, names, (), folder), strict=True)}


@pytest.mark.parametrize("kind", ["fastai", "imagefolder", "txt", "json"])
@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, unique=True, min_size=2, max_size=6), st.lists(SAID, min_size=1, max_size=4))
def test_what_is_exported_comes_back_as_the_same_labels(kind, names, rows):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corrections = Corrections(folder)
        for number, (annotator, is_all, cells) in enumerate(rows):
            said = {value: [n for n, cell in zip(names, cells, strict=False) if cell == value] for value in (1, 0)}
            image = b"%d" % (number // 2)  # two annotators of an image, now and then
            how = {"reviewed": "all" if is_all else "listed", "annotator": annotator, "vocabulary": names}
            save(corrections, image, said[1], said[0], **how)
        before = images_of(corrections.csv_path)
        path = export(kind, before, folder)
        expected = cells_of(before, names, folder)
        if kind in ("fastai", "txt"):  # they hold what is present, and of fastai's nothing else is an image
            expected = {name: cells == 1 for name, cells in expected.items() if kind == "txt" or (cells == 1).any()}
        if not expected:
            return
        after = respelled(images_of(path), names)
        assert set(labels_in(after)) <= set(names)
        found = cells_of(after, names, path.parent)
        found = {name: cells == 1 for name, cells in found.items()} if kind in ("fastai", "txt") else found
        assert found.keys() == expected.keys()
        for name, cells in expected.items():
            np.testing.assert_array_equal(found[name], cells)
        if kind in ("imagefolder", "json"):
            assert {i.path.name: i.is_valid for i in after} == {i.path.name: i.is_valid for i in before}


@pytest.fixture
def corrections(tmp_path):
    corrections = Corrections(tmp_path / "corrections")
    save(corrections, b"1", ["red sofa", "cat"], ["dog"], "all", vocabulary=["cat", "dog", "red sofa", "tree"])
    save(corrections, b"2", [], ["cat"])
    save(corrections, b"3", ["cat", "tree"], annotator="ann")
    save(corrections, b"3", ["dog"], ["cat"], annotator="bob")
    return corrections


def read_csv(content):
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def test_fastai_gets_words_and_no_empty_cell(corrections):
    images = images_of(corrections.csv_path)
    header, *rows = read_csv(b"".join(exports.fastai_csv(images, corrections.folder, own_name)))
    assert header == ["fname", "labels", "is_valid"]
    assert [labels for _, labels, _ in rows] == ["red_sofa cat", "tree dog"]
    assert all((corrections.folder / fname).is_file() for fname, _, _ in rows)
    assert {side for _, _, side in rows} <= {"True", "False"}


def test_labels_that_would_become_one_word_are_percent_encoded():
    assert spelling.words(["red sofa", "cat"]) == {"red sofa": "red_sofa", "cat": "cat"}
    assert spelling.words(["red sofa", "red_sofa"]) == {"red sofa": "red%20sofa", "red_sofa": "red_sofa"}
    assert spelling.words(["a b_c", "a_b c"]) == {"a b_c": "a%20b_c", "a_b c": "a_b%20c"}


def test_a_word_is_no_other_labels_even_where_no_row_lists_that_one(corrections):
    save(corrections, b"4", ["a b"], model="other", vocabulary=["a b", "a_b"])
    _, *rows = read_csv(b"".join(exports.fastai_csv(images_of(corrections.csv_path), corrections.folder, own_name)))
    assert rows[-1][1] == "a%20b"


def test_a_fastai_word_is_the_models_label_where_only_one_is_written_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "t.csv").write_text("fname,labels,is_valid\na.png,red_sofa a_b x_y,True\n")
    images = respelled(images_of(tmp_path / "t.csv"), ["red sofa", "a b", "a_b"])
    assert labels_in(images) == ("red sofa", "a_b", "x_y")
    assert images[0].rows[0].vocabulary_all == ("red sofa", "a_b", "x_y")


@given(st.lists(NAMES, unique=True, min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_pandas_defaults_read_every_fastai_cell_as_text_and_no_cell_is_a_formula(names):
    words = spelling.words(names)
    assert len(set(words.values())) == len(names)
    for word in words.values():
        assert not word.startswith(("=", "+", "-", "@"))
        text = io.StringIO(newline="")
        csv.writer(text).writerows([["labels"], [word], ["x"]])
        assert pandas.read_csv(io.StringIO(text.getvalue())).labels[0] == word


def test_an_imagefolder_keeps_absent_and_unknown_and_brings_its_images(corrections, tmp_path):
    path = export("imagefolder", images_of(corrections.csv_path), corrections.folder)
    table = pandas.read_csv(path, keep_default_na=False)
    assert list(table.columns) == ["file_name", "labels", "rejected", "reviewed", "model", "is_valid"]
    assert json.loads(table.labels[0]) == ["red sofa", "cat"]
    assert [(path.parent / name).read_bytes() for name in table.file_name] == [b"1", b"2", b"3"]
    after = images_of(path)
    found = targets(after, ["cat", "dog", "tree", "red sofa"], (), path.parent)
    np.testing.assert_array_equal(found, [[1, 0, 0, 1], [0, -1, -1, -1], [-1, 1, 1, -1]])


def test_json_says_everything_and_is_one_image_a_line(corrections):
    text = b"".join(exports.to_json(images_of(corrections.csv_path), corrections.folder, own_name)).decode()
    document = json.loads(text)
    assert document["vocabularies"] == {"owner/name@1": ["cat", "dog", "red sofa", "tree"]}
    assert document["images"][2] == {
        "file_name": document["images"][2]["file_name"],
        "labels": ["tree", "dog"],
        "rejected": [],
        "unknown": ["cat"],
        "reviewed": "listed",
        "model": "owner/name@1",
        "is_valid": document["images"][2]["is_valid"],
    }
    assert sum(line.startswith('{"file_name"') for line in text.splitlines()) == 3


def test_an_image_that_went_meanwhile_is_left_out_of_the_zip(corrections):
    images = images_of(corrections.csv_path)
    images[1].path.unlink()
    for files in (exports.imagefolder(images, corrections.folder), exports.captions(images, corrections.folder)):
        with zipfile.ZipFile(io.BytesIO(b"".join(exports.zipped(files)))) as archive:
            assert sum(name.endswith(".png") for name in archive.namelist()) == 2
            if "metadata.csv" in archive.namelist():
                assert len(read_csv(archive.read("metadata.csv"))) == 3


def test_images_of_one_name_from_two_folders_stay_two(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_text(folder)
    (tmp_path / "t.csv").write_text('file_name,labels\nx/a.png,"[""x""]"\ny/a.png,"[""y""]"\n')
    path = export("txt", images_of(tmp_path / "t.csv"), tmp_path)
    assert {image.path.read_text(): image.rows[0].labels for image in images_of(path)} == {"x": ("x",), "y": ("y",)}


def test_a_zip_is_made_piece_by_piece(corrections):
    made = []
    files = ((name, content) for name, content in exports.captions(images_of(corrections.csv_path), corrections.folder))

    def counted():
        for file in files:
            made.append(file[0])
            yield file

    pieces = exports.zipped(counted())
    next(pieces)
    assert len(made) == 1
    assert sum(map(len, exports.gathered(pieces))) > 0


@pytest.mark.parametrize("kind", ["fastai", "imagefolder", "txt", "json"])
def test_the_command_writes_what_the_others_read(corrections, tmp_path, capsys, kind):
    out = tmp_path / {"fastai": "out.csv", "json": "out.json"}.get(kind, "out")
    arguments = ["--csv", str(corrections.csv_path), "--format", kind, "--out", str(out)]
    assert main(arguments) == EXIT_DONE
    said = capsys.readouterr()
    assert f"{2 if kind == 'fastai' else 3} images: {out}" in said.out
    assert "annotators disagree" in said.err
    images = images_of(out / "metadata.csv" if kind == "imagefolder" else out)
    assert sorted(image.path.read_bytes() for image in images) == (
        [b"1", b"3"] if kind == "fastai" else [b"1", b"2", b"3"]
    )
    assert main(arguments) == EXIT_BAD_INPUT
    assert "is there already" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_the_command_writes_a_zip_where_the_name_says_so(corrections, tmp_path):
    out = tmp_path / "out.zip"
    assert main(["--csv", str(corrections.csv_path), "--format", "txt", "--out", str(out)]) == EXIT_DONE
    with zipfile.ZipFile(out) as archive:
        assert sorted(Path(name).suffix for name in archive.namelist()) == [".png"] * 3 + [".txt"] * 3


def test_the_command_names_the_rows_that_it_leaves_out(corrections, tmp_path, capsys):
    row = corrections.rows()[0]
    corrections.image_path(row).unlink()
    out = tmp_path / "out.json"
    assert main(["--csv", str(corrections.csv_path), "--format", "json", "--out", str(out)]) == EXIT_SKIPPED
    assert f"left out: line 2: there is no image '{row.file_name[:20]}" in capsys.readouterr().err
    assert len(json.loads(out.read_text())["images"]) == 2


def test_nothing_is_left_of_an_export_that_failed(corrections, tmp_path, capsys, monkeypatch):
    def stops(*_):
        yield "1.png", [b"1"]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "captions", stops)
    out = tmp_path / "out"
    assert main(["--csv", str(corrections.csv_path), "--format", "txt", "--out", str(out)]) == EXIT_BAD_INPUT
    assert "No space left" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corrections"]
