"""What the corrections CSV promises; crashes and full disks are in tests/faults."""

import csv
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import corrections as module  # noqa: F401, for `killed`
from demo import ledger
from demo.corrections import Corrections, View, read_vocabulary
from demo.errors import BadInput, CorrectionsError
from demo.rows import COLUMNS

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)  # all that UTF-8 can keep
HOSTILE = ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "a\nb", "a\r\nb", "\x85", "\u2028", "\u2029", "\x0b\x1c\x1e", "\x00"]
HOSTILE += [
    "null",
    "nan",
    "",
    '"',
    ",",
    "'",
    "\\",
    "\\n",
    "\u202eabc",
    "<img onerror=1>",
    "${1+1}",
    "\\m/",
    "x" * 10_000,
]


def give(corrections, image=b"picture", extension="png", **changes):
    values = {"labels": ["cat"], "rejected": ["dog"], "reviewed": "listed", "model_labels": ["cat", "dog"]}
    values |= {"threshold": 0.35, "model": "owner/name@abc"}
    return corrections.save(image, extension, **values | changes)


@pytest.fixture
def corrections(tmp_path):
    return Corrections(tmp_path / "corrections")


def test_a_saved_row_comes_back_and_is_readable_by_others(corrections):
    row = give(corrections, annotator="ann")
    assert corrections.rows() == [row]
    digest = hashlib.sha256(b"picture").hexdigest()
    assert row.file_name == f"images/{digest}.png"
    assert row.is_valid == (int(digest[:8], 16) % 5 == 0)
    assert corrections.image_path(row).read_bytes() == b"picture"
    table = pandas.read_csv(corrections.csv_path, keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    assert json.loads(table.labels[0]) == ["cat"]
    assert row.saved_at.endswith("+00:00")


def test_the_columns_are_those_of_the_contract(corrections):
    give(corrections)
    header = "file_name,labels,rejected,reviewed,is_valid,model_labels,threshold,model,annotator,saved_at"
    assert corrections.csv_path.read_text(encoding="utf-8").splitlines()[0] == header


@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, unique=True, max_size=6), st.floats(0, 1), st.sampled_from(["listed", "all"]), st.data())
def test_whatever_goes_in_comes_back_exactly_on_one_line_without_formulas(names, threshold, reviewed, data):
    half = data.draw(st.integers(0, len(names)))
    with tempfile.TemporaryDirectory() as folder:
        corrections = Corrections(folder)
        row = give(
            corrections,
            labels=names[:half],
            rejected=names[half:],
            model_labels=names,
            threshold=threshold,
            reviewed=reviewed,
        )
        check_line(corrections, row)


def check_line(corrections, row):
    assert Corrections(corrections.folder).rows() == [row]
    text = corrections.csv_path.read_bytes().decode()
    assert len(text.splitlines()) == 2
    for cells in csv.reader(io.StringIO(text, newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


def test_hostile_label_names_come_back_exactly(corrections):
    row = give(corrections, labels=[name for name in HOSTILE if name], model_labels=[])
    check_line(corrections, row)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["dog"]}, "both confirmed and rejected"),
        ({"labels": ["cat", "cat"]}, "twice"),
        ({"labels": [""]}, "empty label"),
        ({"labels": "cat"}, "list of strings"),
        ({"labels": [1]}, "list of strings"),
        ({"labels": ["\ud800\udc00"]}, "UTF-8"),
        ({"labels": ["fine", "a\ud800b"]}, r"'a\\ud800b' has characters that UTF-8 text cannot keep"),
        ({"rejected": ["\udfff"]}, "UTF-8"),
        ({"model_labels": ["\ud83d"]}, "UTF-8"),
        ({"vocabulary": ["\ud83d"]}, "UTF-8"),
        ({"annotator": "a\ud800"}, "UTF-8"),
        ({"model": "local:\udcff@abc"}, "UTF-8"),
        ({"reviewed": "some"}, "listed, all"),
        ({"threshold": 1.5}, "0 to 1"),
        ({"threshold": float("nan")}, "0 to 1"),
        ({"model": "=cmd"}, "formula"),
        ({"model": ""}, "no model"),
        ({"annotator": "-ann"}, "formula"),
        ({"annotator": "a\nb"}, "control characters"),
        ({"annotator": "\t"}, "control characters"),
        ({"extension": "../x"}, "image file"),
        ({"image": b""}, "no image bytes"),
        ({"vocabulary": ["a", "a"]}, "twice"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_leaves_no_trace(corrections, changes, words):
    with pytest.raises(BadInput, match=words):
        give(corrections, **changes)
    assert not corrections.csv_path.exists()
    assert corrections.rows() == []


def test_a_second_save_by_the_same_annotator_replaces_the_row_and_keeps_the_old_one(corrections):
    first, other = give(corrections), give(corrections, annotator="ann")
    second = give(corrections, labels=[], rejected=["cat"])
    assert corrections.rows() == [second, other]
    history = corrections.history_path.read_text(encoding="utf-8").splitlines()
    assert len(history) == 2
    assert first.saved_at in history[1]
    assert '[""cat""]' in history[1]
    assert corrections.totals() == {"rows": 2, "images": 1}
    assert give(corrections, b"another") == corrections.rows()[-1]


def test_the_same_bytes_under_another_extension_are_the_same_image(corrections):
    first = give(corrections, extension="jpeg")
    second = give(corrections, extension="JPG")
    assert corrections.rows() == [second]
    assert not corrections.image_path(first).exists()
    assert corrections.image_path(second).exists()


def test_deleting_moves_the_row_to_the_history_and_the_image_goes_with_its_last_row(corrections):
    mine, hers = give(corrections), give(corrections, annotator="ann")
    assert corrections.delete(mine.file_name) == mine
    assert corrections.rows() == [hers]
    assert corrections.image_path(hers).exists()
    assert corrections.delete(hers.file_name, "ann") == hers
    assert not corrections.image_path(hers).exists()
    assert corrections.rows() == []
    assert len(corrections.history_path.read_bytes().splitlines()) == 3
    with pytest.raises(BadInput, match="no correction of"):
        corrections.delete(hers.file_name, "ann")
    assert give(corrections) in corrections.rows()


def killed(folder, at, action):
    """Do something with the corrections in a process that is killed when it calls `at`."""
    script = f"import sys, os; sys.path.insert(0, '.'); from tests.test_corrections import *; {at} = "
    script += f"lambda *a, **k: os.kill(os.getpid(), 9); {action}"
    assert subprocess.run([sys.executable, "-c", script, str(folder)], check=False).returncode == -9


@pytest.mark.parametrize(
    ("at", "saved"), [("module.sync_folder", False), ("module.Ledger.append", False), ("Path.replace", True)]
)
def test_the_image_of_a_save_that_was_killed_is_there_when_its_row_is(tmp_path, at, saved):
    give(Corrections(tmp_path), b"first")
    killed(tmp_path, at, "give(Corrections(sys.argv[1]), b'second')")
    assert len(list((tmp_path / "images").iterdir())) == 2
    store = Corrections(tmp_path)
    images = {path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert images == ({b"first", b"second"} if saved else {b"first"})
    assert {store.image_path(row).read_bytes() for row in store.rows()} == images


@pytest.mark.parametrize(
    ("at", "deleted"), [("ledger.Ledger._remember", False), ("ledger.put", False), ("Path.unlink", True)]
)
def test_the_image_of_a_row_that_was_being_deleted_goes_or_stays_with_it(tmp_path, at, deleted):
    row = give(Corrections(tmp_path), b"first")
    killed(tmp_path, at, f"Corrections(sys.argv[1]).delete({row.file_name!r})")
    store = Corrections(tmp_path)
    assert store.rows() == ([] if deleted else [row])
    assert [path.read_bytes() for path in (tmp_path / "images").iterdir()] == ([] if deleted else [b"first"])


def test_a_save_that_failed_leaves_no_image(corrections, monkeypatch):
    give(corrections, b"first")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger.Ledger, "append", full)
    with pytest.raises(CorrectionsError):
        give(corrections, b"second")
    assert {path.read_bytes() for path in (corrections.folder / "images").iterdir()} == {b"first"}


def test_two_writers_of_one_folder_see_each_others_rows(tmp_path):
    one, two = Corrections(tmp_path), Corrections(tmp_path)
    give(one, b"a")
    give(two, b"b")
    assert one.totals() == two.totals() == {"rows": 2, "images": 2}
    for turn in range(6):  # a rewritten file may get the inode number of the one before the last
        replaced = give((one, two)[turn % 2], b"a", threshold=turn / 10)
        assert replaced == one.rows()[0] == two.rows()[0]
        give((two, one)[turn % 2], b"b", threshold=turn / 10)
    assert len(one.rows()) == len(Corrections(tmp_path).rows()) == 2


def test_threads_of_one_process_may_save_at_once(corrections):
    threads = [
        threading.Thread(target=lambda who=who: [give(corrections, b"%d" % n, annotator=f"a{who}") for n in range(5)])
        for who in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(row.file_name, row.annotator) for row in corrections.rows()}) == 20


def test_an_image_is_never_overwritten_with_other_bytes(corrections):
    row = give(corrections)
    corrections.image_path(row).write_bytes(b"other")
    with pytest.raises(CorrectionsError, match="never overwritten"):
        give(corrections, annotator="ann")
    assert corrections.image_path(row).read_bytes() == b"other"
    assert corrections.rows() == [row]


@pytest.mark.parametrize("content", [b"fname,labels\n1.jpg,cat\n", b"file_name,labels\n", b"\xff\xfe\x00", b"\n"])
def test_a_foreign_file_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "corrections.csv"
    path.write_bytes(content)
    with pytest.raises(CorrectionsError, match=r"not a corrections CSV of ours.*first line"):
        Corrections(tmp_path)
    assert path.read_bytes() == content


def test_a_header_damaged_while_the_app_runs_is_refused_at_the_next_save(corrections):
    give(corrections)
    damaged = b"X" + corrections.csv_path.read_bytes()[1:]
    corrections.csv_path.write_bytes(damaged)
    with pytest.raises(CorrectionsError, match="not a corrections CSV of ours"):
        give(corrections, b"more")
    assert corrections.csv_path.read_bytes() == damaged


def test_a_damaged_row_is_named_with_its_line_and_does_not_stop_saving(corrections):
    give(corrections)
    with corrections.csv_path.open("a", encoding="utf-8") as file:
        file.write('images/x.png,"[""cat"\n')
    give(corrections, b"more")
    with pytest.raises(CorrectionsError, match="line 3"):
        corrections.rows()


def test_a_row_with_half_a_character_is_a_damaged_one_as_others_are(corrections):
    row = give(corrections, labels=["a b"])
    damaged = corrections.csv_path.read_text(encoding="utf-8").splitlines()[1].replace("a b", "a\\ud800b")
    with corrections.csv_path.open("a", encoding="utf-8") as file:
        file.write(damaged.replace(".png,", ".jpg,") + "\n")
    with pytest.raises(CorrectionsError, match=r"damaged row: line 3 .*UTF-8.*Correct or remove that line") as error:
        corrections.rows()
    str(error.value).encode()
    assert corrections.row(corrections.lines()[0], 2) == row
    assert give(corrections, b"more").file_name


def test_a_torn_tail_is_cut_off_kept_and_reported(corrections):
    row = give(corrections)
    with corrections.csv_path.open("ab") as file:
        file.write(b"images/torn.png,[")
    assert give(corrections, b"more") in corrections.rows()
    assert corrections.rows()[0] == row
    assert "17 bytes" in corrections.healed
    assert (corrections.folder / "corrections.csv.torn").read_bytes() == b"images/torn.png,[\n"
    assert Corrections(corrections.folder).healed == ""


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CorrectionsError, match="could not be opened"):
        Corrections(tmp_path / "file" / "corrections")


def test_the_vocabulary_of_a_model_is_kept_once(corrections):
    names = ("cat", "a/b\u2028", "null", "\x7f")
    give(corrections, vocabulary=names)
    give(corrections, b"more", vocabulary=list(names))
    assert read_vocabulary(corrections.folder, "owner/name@abc") == names
    assert read_vocabulary(corrections.folder, "owner/name@other") is None
    assert len(list((corrections.folder / "vocabularies").iterdir())) == 1
    with pytest.raises(CorrectionsError, match="not those that were kept"):
        give(Corrections(corrections.folder), b"third", vocabulary=["cat"])
    assert len(corrections.rows()) == 2


def test_model_ids_that_look_alike_have_vocabularies_of_their_own(corrections):
    for number, model in enumerate(["a/b@c", "a_b@c", "local:a b@c", "../" * 40 + "x"]):
        give(corrections, b"%d" % number, model=model, vocabulary=[f"label {number}"])
        assert read_vocabulary(corrections.folder, model) == (f"label {number}",)
    assert {path.parent.name for path in corrections.folder.rglob("*.json")} == {"vocabularies"}


def test_a_damaged_vocabulary_is_an_error(corrections):
    give(corrections, vocabulary=["cat"])
    next((corrections.folder / "vocabularies").iterdir()).write_text("{", encoding="utf-8")
    with pytest.raises(CorrectionsError, match="cannot be read"):
        read_vocabulary(corrections.folder, "owner/name@abc")


def test_the_zip_is_a_folder_that_opens_as_corrections(corrections, tmp_path):
    rows = [give(corrections, b"%d" % number, vocabulary=["cat", "dog"]) for number in range(3)]
    corrections.image_path(rows[1]).unlink()
    target = io.BytesIO()
    assert corrections.write_zip(target) == 2
    zipfile.ZipFile(target).extractall(tmp_path / "out")
    copy = Corrections(tmp_path / "out")
    assert copy.rows() == [rows[0], rows[2]]
    assert copy.image_path(rows[2]).read_bytes() == b"2"
    assert read_vocabulary(copy.folder, "owner/name@abc") == ("cat", "dog")
    assert corrections.write_zip(tmp_path / "file.zip") == 2


def test_the_zip_holds_no_file_from_outside_the_folder(corrections, tmp_path):
    row = give(corrections)
    (tmp_path / "secret.png").write_bytes(b"secret")
    text = corrections.csv_path.read_text(encoding="utf-8")
    with corrections.csv_path.open("a", encoding="utf-8") as file:
        file.write(text.splitlines()[1].replace(row.file_name, "../secret.png") + "\n")
    target = io.BytesIO()
    assert corrections.write_zip(target) == 1
    assert not any("secret" in name for name in zipfile.ZipFile(target).namelist())


def test_an_empty_folder_packs_to_a_header(corrections):
    target = io.BytesIO()
    assert corrections.write_zip(target) == 0
    assert zipfile.ZipFile(target).read("corrections.csv").startswith(b"file_name,labels")
    assert corrections.totals() == {"rows": 0, "images": 0}


def test_labels_longer_than_the_csv_modules_default_limit_come_back(corrections):
    row = give(corrections, model_labels=[f"a long label with number {number}" for number in range(10_000)])
    assert Corrections(corrections.folder).rows() == [row]


def test_importing_it_loads_neither_torch_nor_gradio():
    code = "import sys, demo.corrections, demo.tables; print({'torch', 'gradio'} & set(sys.modules))"
    root = Path(__file__).resolve().parent.parent
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"


def test_it_is_known_which_images_a_person_has_saved(corrections: Corrections) -> None:
    mine, theirs = give(corrections, b"1"), give(corrections, b"2", annotator="ada")
    digests = [Path(row.file_name).stem for row in (mine, theirs)]
    assert corrections.saved_of([*digests, "0" * 64]) == {digests[0]}
    assert Corrections(corrections.folder).saved_of(digests, "ada") == {digests[1]}
    corrections.delete(mine.file_name)
    assert corrections.saved_of(digests) == set()


def adding(label):
    """A view that adds a label to what a person had said, or says it alone."""

    def view(digest, saved):
        labels = (*saved.labels, label) if saved else (label,)
        rejected = saved.rejected if saved else ()
        reviewed = saved.reviewed if saved else "listed"
        return View(labels, rejected, reviewed, (), 0.5, "owner/name@abc", ("cat", "sea", "sky"))

    return view


def test_many_rows_are_saved_at_once_each_from_the_row_that_was_there(corrections: Corrections) -> None:
    mine, hers = give(corrections, b"1", reviewed="all"), give(corrections, b"2", annotator="ada")
    rows = corrections.save_many([(b"2", "png"), (b"1", "png"), (b"3", "jpg")], adding("sea"))
    assert [(row.labels, row.rejected, row.reviewed) for row in rows] == [
        (("sea",), (), "listed"),
        (("cat", "sea"), ("dog",), "all"),
        (("sea",), (), "listed"),
    ]
    assert corrections.rows() == Corrections(corrections.folder).rows() == [rows[1], hers, rows[0], rows[2]]
    assert [corrections.image_path(row).read_bytes() for row in corrections.rows()] == [b"1", b"2", b"2", b"3"]
    assert corrections.history_path.read_bytes().count(b"\n") == 2
    assert mine.saved_at.encode() in corrections.history_path.read_bytes()
    assert read_vocabulary(corrections.folder, "owner/name@abc") == ("cat", "sea", "sky")
    assert corrections.totals() == {"rows": 4, "images": 3}


def test_an_image_that_comes_twice_has_one_row_with_both_changes(corrections: Corrections) -> None:
    names = iter(("sea", "sky"))
    (row,) = corrections.save_many([(b"1", "png")] * 2, lambda digest, saved: adding(next(names))(digest, saved))
    assert corrections.rows() == [row]
    assert row.labels == ("sea", "sky")


@pytest.mark.parametrize("is_saved", [False, True])
def test_a_batch_with_something_that_cannot_be_saved_leaves_every_row_as_it_was(
    corrections: Corrections, is_saved: bool
) -> None:
    if is_saved:
        give(corrections, b"1")
    before = corrections.rows()
    with pytest.raises(BadInput, match="no image bytes"):
        corrections.save_many([(b"1", "png"), (b"", "png")], adding("sea"))
    with pytest.raises(BadInput, match="twice"):
        corrections.save_many([(b"1", "png"), (b"2", "png")], adding("cat" if is_saved else ""))
    assert corrections.rows() == before
    assert corrections.save_many([], adding("sea")) == []


def test_the_file_is_written_once_for_any_number_of_rows(
    corrections: Corrections, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(corrections, b"0")
    written = []
    for name in ("put", "append"):
        real = getattr(ledger, name)

        def counting(where, *rest, name=name, real=real, **options):
            path = where if name == "put" else Path(f"/proc/self/fd/{where}").readlink()
            written.append((name, path.name))
            return real(where, *rest, **options)

        monkeypatch.setattr(ledger, name, counting)
    images = [(b"%d" % number, "png") for number in range(1, 30)]
    corrections.save_many(images, adding("sea"))
    assert [call for call in written if call[1].endswith("csv")] == [("append", "corrections.csv")]
    written.clear()
    corrections.save_many([(b"0", "png"), *images, (b"new", "png")], adding("sky"))
    changed = [call for call in written if call[1].endswith("csv")]
    assert changed == [("put", "history.csv"), ("append", "history.csv"), ("put", "corrections.csv")]


def test_rows_of_some_images_are_read_without_the_others(corrections: Corrections) -> None:
    rows = [give(corrections, b"%d" % number) for number in range(3)]
    hers = give(corrections, b"0", annotator="ada")
    digests = [Path(row.file_name).stem for row in rows]
    with corrections.csv_path.open("a", encoding="utf-8") as file:
        file.write(f'images/{"1" * 64}.png,"[""cat"\n')
    assert corrections.rows_of([digests[0], digests[2], "0" * 64]) == {digests[0]: rows[0], digests[2]: rows[2]}
    assert corrections.rows_of(digests, "ada") == {digests[0]: hers}
