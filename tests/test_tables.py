"""What may be brought to train on, and what the rows mean together."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.corrections import Corrections
from demo.errors import TableError
from demo.tables import disagreements, labels_in, merge_rows, read_table, renamed, require_good, targets

GOOD = {"file_name": "b.png", "labels": ["cat"]}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "c.png", "with, comma.png"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def table_of(folder, text, name="table.csv"):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return read_table(folder / name)


def ours(folder, *rows, header="file_name,labels,rejected,reviewed,is_valid,model,annotator"):
    return table_of(folder, "\n".join([header, *rows, ""]))


def said(table):
    return [(row.file_name, row.labels, row.rejected, row.reviewed) for row in table.rows]


def test_what_corrections_saved_is_read_back(tmp_path):
    corrections = Corrections(tmp_path)
    saved = [
        corrections.save(
            b"%d" % number,
            "png",
            labels=["null", "nan", "=x,\u2028"],
            rejected=["NA"],
            reviewed="all",
            model_labels=[],
            threshold=0.5,
            model="o/n@1",
            annotator="ann",
            vocabulary=["null", "nan", "NA", "dog"],
        )
        for number in range(6)
    ]
    table = read_table(corrections.csv_path)
    require_good(table)
    assert (table.problems, table.notes) == ([], [])
    for line, (row, correction) in enumerate(zip(table.rows, saved, strict=True), start=2):
        assert (row.line, row.path) == (line, corrections.image_path(correction))
        for name in ("file_name", "labels", "rejected", "reviewed", "is_valid", "model", "annotator"):
            assert getattr(row, name) == getattr(correction, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ours.csv", 'file_name,labels\na.png,"[""a\\ud800b""]"\nb.png,"[""cat""]"\n'),
        ("python.csv", "file_name,labels\na.png,['a\\ud800b']\nb.png,['cat']\n"),
        ("absent.csv", 'file_name,labels,rejected\na.png,[],"[""\\udfff""]"\nb.png,"[""cat""]",[]\n'),
        ("labels.json", json.dumps({"images": [{"file_name": "a.png", "labels": ["a\ud800b"]}, GOOD]})),
        ("model.json", json.dumps({"images": [{"file_name": "a.png", "labels": [], "model": "\ud800"}, GOOD]})),
    ],
)
def test_a_row_with_half_a_character_is_a_bad_row(folder, name, text):
    table = table_of(folder, text, name)
    assert said(table) == [("b.png", ("cat",), (), "listed")]
    (problem,) = table.problems
    assert problem.startswith("image 1: " if name.endswith("json") else "line 2: ")
    assert "UTF-8" in problem
    problem.encode()


def test_file_name_and_labels_are_enough(folder):
    table = ours(folder, 'a.png,"[""cat"", ""dog""]"', "b.png,[]", header="file_name,labels")
    assert said(table) == [("a.png", ("cat", "dog"), (), "listed"), ("b.png", (), (), "listed")]
    assert table.rows[0].is_valid is None
    assert "count as unknown" in table.notes[0]
    assert "no is_valid column" in table.notes[1]


def test_paths_may_be_absolute_or_relative_to_the_csv(folder):
    (folder / "sub").mkdir()
    rows = f'{folder}/a.png,"[""x""]"\n../b.png,[]\n../sub/../c.png,[]\n'
    table = table_of(folder, "file_name,labels\n" + rows, "sub/table.csv")
    assert [row.path for row in table.rows] == [folder / "a.png", folder / "b.png", folder / "c.png"]


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_do_no_harm(folder):
    table = table_of(folder, '\ufefffile_name,labels\r\n\r\na.png,"[""cat""]"\r\n')
    assert said(table) == [("a.png", ("cat",), (), "listed")]
    assert table.rows[0].line == 3


def test_fastai_labels_are_complete_over_the_labels_of_the_file(folder):
    table = table_of(folder, "fname,labels,is_valid\na.png,cat dog,True\nb.png,,False\nc.png,null cat,False\n")
    assert [row.labels for row in table.rows] == [("cat", "dog"), (), ("null", "cat")]
    assert {row.vocabulary_all for row in table.rows} == {("cat", "dog", "null")}
    merged = merge_rows(table.rows)
    assert [image.is_valid for image in merged] == [True, False, False]
    names = ("null", "new", "dog", "cat")
    expected = [[0, -1, 1, 1], [0, -1, 0, 0], [1, -1, 0, 1]]
    np.testing.assert_array_equal(targets(merged, names, ("new",), folder), np.float32(expected))


def test_fastai_images_may_be_in_a_folder_named_like_the_csv(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.jpg").write_bytes(b"")
    table = table_of(tmp_path, "fname,labels,is_valid\n1.jpg,chair,True\n", "train.csv")
    assert table.rows[0].path == tmp_path / "train" / "1.jpg"
    assert "train/" in table.notes[0]


def test_columns_of_0_and_1_with_empty_and_minus_1_for_unknown(folder):
    text = ",image,cat,red sofa,is_valid,width\n0,a.png,1,0,True,640\n1,b.png,,-1,False,480\n2,c.png,0.0,1.0,False,2\n"
    table = table_of(folder, text)
    assert said(table) == [
        ("a.png", ("cat",), ("red sofa",), "listed"),
        ("b.png", (), (), "listed"),
        ("c.png", ("red sofa",), ("cat",), "listed"),
    ]
    assert [row.is_valid for row in table.rows] == [True, False, False]
    assert any("width" in note for note in table.notes)
    merged = merge_rows(table.rows)
    assert labels_in(merged) == ("cat", "red sofa")
    expected = [[1, 0], [-1, -1], [0, 1]]
    np.testing.assert_array_equal(targets(merged, ("cat", "red sofa"), (), folder), np.float32(expected))


def test_a_cell_that_is_neither_0_nor_1_is_a_bad_row(folder):
    table = table_of(folder, "file,cat\na.png,1\nb.png,2\nc.png,yes\n")
    assert table.problems == [
        f"line {line}: 'cat' is '{cell}' and not 1, 0, -1 or empty" for line, cell in ((3, 2), (4, "yes"))
    ]


@pytest.mark.parametrize("names", ["cat\nred sofa\nnan\n", "0 cat\n1 red sofa\n2 nan\n", "1\tcat\n2\tred sofa\n3\tnan"])
def test_a_paddleclas_list_takes_its_names_from_the_list_beside_it(folder, names):
    (folder / "label_list.txt").write_text(names, encoding="utf-8")
    table = table_of(folder, "a.png\t1,0,-1\nwith, comma.png\t0,0,1\r\n\n", "train_list.txt")
    assert said(table) == [
        ("a.png", ("cat",), ("red sofa",), "listed"),
        ("with, comma.png", ("nan",), ("cat", "red sofa"), "listed"),
    ]
    assert [row.line for row in table.rows] == [1, 2]


def test_numbers_that_do_not_count_up_belong_to_the_names(folder):
    (folder / "labels.txt").write_text("2 dogs\n3 dogs\n", encoding="utf-8")
    assert said(table_of(folder, "a.png\t1,0\n", "list.txt")) == [("a.png", ("2 dogs",), ("3 dogs",), "listed")]


def test_a_paddleclas_list_without_names_numbers_them_and_says_so(folder):
    table = table_of(folder, "a.png\t0,1\nb.png\t0,1,1\nc.png\t1,x\n", "list.txt")
    assert said(table) == [("a.png", ("label_1",), ("label_0",), "listed")]
    assert [problem[:6] for problem in table.problems] == ["line 2", "line 3"]
    assert "label_0" in table.notes[0]


def test_a_label_list_of_another_length_is_an_error(folder):
    (folder / "labels.txt").write_text("cat\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"names 1 labels but .* has 2 values"):
        table_of(folder, "a.png\t0,1\n", "list.txt")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("gone.png,[],[],listed,True,m,", "no image 'gone.png'"),
        (f"{'x' * 5000},[],[],listed,True,m,", "no image"),
        ('a.png,"[""x""]","[""x""]",listed,True,m,', "'x' is both"),
        ("a.png,cat dog,[],listed,True,m,", "'cat dog' is not a JSON list"),
        ('a.png,"{""x"": 1}",[],listed,True,m,', "not a JSON list"),
        ("a.png,[1],[],listed,True,m,", "not a JSON list of strings"),
        ('a.png,"[""x"", ""x""]",[],listed,True,m,', "one label twice"),
        ('a.png,"[""""]",[],listed,True,m,', "an empty label"),
        (f"a.png,{'[' * 100_000},[],listed,True,m,", "not a JSON list"),
        ("a.png,[],[],most,True,m,", "'most' and not one of listed, all"),
        ("a.png,[],[],listed,maybe,m,", "is_valid is 'maybe' and not True or False"),
        ("a.png,[],[],listed,,m,", "is_valid is '' and not"),
        ("a.png,[]", "2 cells where 7 are needed"),
        ('a.png,"[],[],listed,True,m,', "not CSV and nothing below"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_the_good_ones_are_read(folder, row, words):
    table = ours(folder, "b.png,[],[],listed,TRUE,m,", row)
    assert [row.file_name for row in table.rows] == ["b.png"]
    assert len(table.problems) == 1
    with pytest.raises(TableError, match=words) as error:
        require_good(table)
    assert "line 3" in str(error.value)
    assert "1 of 2 rows" in str(error.value)


def test_the_first_ten_bad_rows_are_listed_and_the_others_counted(folder):
    table = ours(folder, *[f"gone{number}.png,[],[],listed,True,m," for number in range(25)])
    with pytest.raises(TableError, match=r"25 of 25 rows of .*\n  line 2: (.*\n)*  and 15 more\n Correct") as error:
        require_good(table)
    assert "line 11" in str(error.value)
    assert "line 12" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"file_name,labels\n", "has no rows"),
        (b"a,b\n1,2\n", "no columns of a kind.*'a, b'.*file_name,labels"),
        (b"file_name,size\na.png,640\n", "no columns of a kind"),
        (b"file_name;labels\na.png;[]\n", "no columns of a kind"),
        (b"file_name,cat,cat\na.png,1,1\n", "'cat' twice"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a text file"),
        ("file_name,labels\né.png,[]\n".encode("utf-16"), "not a text file"),
        ("file_name,labels\né.png,[]\n".encode("latin-1"), "not a text file"),
    ],
)
def test_a_file_that_cannot_be_used_says_what_it_is(tmp_path, content, words):
    if content is not None:
        (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(TableError, match=words):
        read_table(tmp_path / "table.csv")


def test_a_folder_without_labels_is_no_table(tmp_path, folder):
    with pytest.raises(TableError, match=r"folder without labels.*\.txt file of the same name.*metadata\.csv"):
        read_table(tmp_path)


def test_a_folder_is_read_by_the_txt_files_beside_its_images(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "d.jpg").write_bytes(b"")
    texts = {
        "a.txt": "cat, red sofa ,\r\n1girl,,cat\n",
        "b.txt": "",
        "sub/d.txt": "\ufeffnull, 50%2Coff, 5%",
        "x.txt": "no image",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    table = read_table(folder)
    assert said(table) == [
        ("a.png", ("cat", "red sofa", "1girl"), (), "listed"),
        ("b.png", (), (), "listed"),
        ("sub/d.jpg", ("null", "50,off", "5%"), (), "listed"),
    ]
    assert table.notes[:2] == [
        "Labels that a .txt file does not list count as unknown there.",
        "2 images without a .txt file are left out.",
    ]
    (folder / "b.txt").write_bytes(b"\xff\xfe")
    assert read_table(folder).problems == ["image 2: b.txt is not readable as UTF-8 text"]


@pytest.mark.parametrize(
    "cell", ['["cat", "it\'s"]', "['cat', \"it's\"]", "['cat' \"it's\"]", "['cat'\n \"it's\"]", "[ 'cat', 'it\\'s' ]"]
)
def test_lists_as_python_and_numpy_print_them_are_read(folder, cell):
    quoted = cell.replace('"', '""')
    table = table_of(folder, f'file_name,labels\na.png,"{quoted}"\n', "metadata.csv")
    assert said(table) == [("a.png", ("cat", "it's"), (), "listed")]


@pytest.mark.parametrize("cell", ["['a' ...]", "['a''b']", "[f'a']", "['\\q']", "['a'", "[1 2]"])
def test_what_only_looks_like_a_list_is_a_bad_row(folder, cell):
    assert "JSON list" in table_of(folder, f'file_name,labels\na.png,"{cell}"\n').problems[0]


def test_a_json_export_is_read_and_says_what_all_means(folder):
    images = [
        {"file_name": "a.png", "labels": ["cat"], "rejected": [], "reviewed": "all", "model": "m", "is_valid": True},
        {"file_name": "b.png", "labels": [], "rejected": ["dog"], "unknown": ["cat"], "is_valid": False},
        {"file_name": "gone.png", "labels": [], "is_valid": False},
        {"labels": []},
        {"file_name": "c.png", "labels": "cat", "is_valid": False},
    ]
    text = json.dumps({"vocabularies": {"m": ["cat", "dog", "tree"]}, "images": images}, indent=1)
    table = table_of(folder, text, "export.json")
    assert [row.is_valid for row in table.rows] == [True, False]
    found = targets(merge_rows(table.rows), ("cat", "dog", "tree", "new"), ("new",), folder)
    np.testing.assert_array_equal(found, np.float32([[1, 0, 0, -1], [-1, 0, -1, -1]]))
    assert [problem[:8] for problem in table.problems] == ["image 3:", "image 4:", "image 5:"]


def test_a_null_in_json_is_nothing_and_the_word_null_a_name(folder):
    images = [
        {"file_name": "a.png", "labels": None},
        {"file_name": None, "labels": ["cat"]},
        {"file_name": "a.png", "labels": ["null"], "rejected": None, "annotator": "null"},
    ]
    table = table_of(folder, json.dumps({"images": images}), "export.json")
    assert table.problems == [f"image {number}: it has no file_name or no labels" for number in (1, 2)]
    assert [(row.labels, row.rejected, row.annotator) for row in table.rows] == [(("null",), (), "null")]


@pytest.mark.parametrize("text", ["{", '{"a": 1}', '{"images": {}}', '{"images": [], "vocabularies": {"m": [1]}}'])
def test_json_of_another_kind_says_what_is_needed(folder, text):
    with pytest.raises(TableError, match="not an export of corrections"):
        table_of(folder, text, "export.json")


def test_a_torn_last_row_of_ours_is_left_out_with_a_note(tmp_path):
    corrections = Corrections(tmp_path)
    rest = {"labels": ["x"], "rejected": [], "reviewed": "listed", "model_labels": [], "threshold": 0.5, "model": "m"}
    for number in range(2):
        corrections.save(b"%d" % number, "png", **rest)
    corrections.csv_path.write_bytes(corrections.csv_path.read_bytes()[:-9])
    table = read_table(corrections.csv_path)
    assert (len(table.rows), table.problems) == (1, [])
    assert "torn" in table.notes[0]


def test_everything_reviewed_speaks_of_the_labels_of_that_rows_model(tmp_path):
    corrections = Corrections(tmp_path)
    rest = {"rejected": ["own"], "reviewed": "all", "model_labels": [], "threshold": 0.5}
    corrections.save(b"1", "png", labels=["cat"], model="old@1", vocabulary=["cat", "dog"], **rest)
    corrections.save(b"2", "png", labels=[], model="unknown@1", **rest)
    table = read_table(corrections.csv_path)
    assert "'unknown@1' are not kept" in table.notes[0]
    names = ("cat", "dog", "bird", "own", "new")
    cells = targets(merge_rows(table.rows), names, ("cat", "bird"), tmp_path)
    assert cells.dtype == np.float32
    np.testing.assert_array_equal(cells, [[1, 0, -1, 0, -1], [0, -1, 0, 0, -1]])


def test_cells_on_which_annotators_disagree_are_unknown_and_named(folder):
    table = ours(
        folder,
        'a.png,"[""cat"", ""dog""]",[],listed,False,m,ann',
        'a.png,"[""cat""]","[""dog""]",listed,True,m,ben',
        'b.png,"[""new""]",[],all,False,m,ann',
        'b.png,"[""cat"", ""dog""]",[],all,False,m,ben',
        "c.png,[],[],all,False,m,ann",
    )
    merged = merge_rows(table.rows)
    assert [(image.file_name, len(image.rows), image.is_valid) for image in merged] == [
        ("a.png", 2, True),
        ("b.png", 2, False),
        ("c.png", 1, False),
    ]
    model_names = ("cat", "dog", "bird")
    cells = targets(merged, ("cat", "dog", "bird", "new"), model_names, folder)
    # ben's model does not know `new`, so he did not deny it
    np.testing.assert_array_equal(cells, [[1, -1, -1, -1], [-1, -1, 0, 1], [0, 0, 0, -1]])
    note = disagreements(merged, model_names, folder)
    assert note.startswith(
        "3 cells on 2 images count as unknown, because annotators disagree: a.png (dog); b.png (cat, dog)"
    )
    assert disagreements(merged[2:], model_names, folder) == ""


@pytest.mark.parametrize(
    ("rows", "cat", "sofa"),
    [
        (['["kitten"],[],all'], 1, 0),
        (['["kitten"],["cat"],listed'], 1, -1),
        (['[],["cat"],listed'], 0, -1),  # the name itself is denied, whatever it meant then
        (['[],["kitten"],listed'], -1, -1),
        (['[],["kitten", "cat"],listed'], 0, -1),
        (['["couch"],[],listed'], -1, 1),
        (["[],[],all"], 0, 0),
        (['["kitten"],[],listed', "[],[],all"], -1, 0),  # they disagree
        (['["kitten"],["cat"],listed', '["cat"],[],listed'], 1, -1),
    ],
)
def test_what_is_said_of_old_labels_is_said_of_the_one_that_joins_them(folder, rows, cat, sofa):
    quoted = [cells.replace('"', '""').replace("[", '"[').replace("]", ']"') for cells in rows]
    merged = merge_rows(ours(folder, *(f"a.png,{cells},False,m,{at}" for at, cells in enumerate(quoted))).rows)
    origins, model_names = {"cat": ["kitten", "cat"], "sofa": ["couch"], "sky": ["sky"]}, ("kitten", "cat", "couch")
    joined = renamed(merged, origins, model_names, folder)
    assert targets(joined, ("cat", "sofa"), model_names, folder).tolist() == [[cat, sofa]]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_targets_are_what_the_rows_say_cell_by_cell(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("targets")
    (folder / "a.png").write_bytes(b"")
    names = ["p", "q", "r", "s"]
    model_names = names[:3]
    votes = data.draw(st.lists(st.tuples(st.booleans(), *[st.sampled_from([1, 0, -1])] * 4), min_size=1, max_size=4))
    rows = []
    for is_all, *cells in votes:
        lists = [json.dumps([n for n, c in zip(names, cells, strict=True) if c == value]) for value in (1, 0)]
        quoted = ",".join('"' + text.replace('"', '""') + '"' for text in lists)
        rows.append(f"a.png,{quoted},{'all' if is_all else 'listed'},True,m,")
    result = targets(merge_rows(ours(folder, *rows).rows), names, model_names, folder)
    for at, name in enumerate(names):
        said = {0 if row[0] and row[1 + at] == -1 and name in model_names else row[1 + at] for row in votes} - {-1}
        assert result[0, at] == (said.pop() if len(said) == 1 else -1)


def test_no_rows_make_targets_without_rows(tmp_path):
    assert targets([], ("a", "b"), (), tmp_path).shape == (0, 2)
    assert labels_in([]) == ()
