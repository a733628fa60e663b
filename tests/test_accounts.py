"""The file of who may log in: what it may hold, and errors that name the line and nothing that is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.accounts import read_accounts
from demo.errors import BadInput
from demo.settings import Settings


def test_a_line_is_a_name_and_a_password_which_may_hold_colons(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    path.write_bytes("\ufeff# who labels\r\nann lee:se:cret\r\n\n小明:密码\nb@x.org:two words\n".encode())
    assert read_accounts(path) == (("ann lee", "se:cret"), ("小明", "密码"), ("b@x.org", "two words"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ann:good\nhunter2\n", "Line 2 of .* is no account"),
        (b"=ann:hunter2", "Line 1"),  # it would be a formula in the corrections
        (b" ann:hunter2", "letters, digits"),
        (b":hunter2", "letters, digits"),
        (b"a\tb:hunter2", "letters, digits"),
        (b"a" * 101 + b":hunter2", "letters, digits"),
        (b"ann:", "a password is needed"),
        (b"ann: hunter2", "without spaces around it"),
        (b"ann:good\nann:hunter2", "Line 2 .* has a line already"),
        (b"ann:hunter2\xff", "not UTF-8"),
        (b"# hunter2\n\n", "names nobody"),
    ],
)
def test_what_is_no_account_is_told_without_what_it_says(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "accounts"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=said) as told:
        read_accounts(path)
    assert "hunter2" not in str(told.value)
    assert told.value.__cause__ is None


def test_a_file_that_is_not_there_or_a_folder_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(BadInput, match=r"cannot be read\..*NAME:PASSWORD"):
            read_accounts(path)


def test_who_may_save_has_an_account_of_just_that_name(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    path.write_text("ann:secret\nbob:secret\n")
    named = ["--auth", str(path), "--savers", "ann", "--retrainers"]
    assert Settings.from_flags([*named, "bob"], {}).savers == ("ann",)
    with pytest.raises(BadInput, match=r"name Bob, and .*accounts does not"):
        Settings.from_flags([*named, "Bob"], {})


def test_corrections_that_are_here_stay_here_and_new_ones_go_where_writing_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    (tmp_path / "corrections").mkdir()
    settings = Settings.from_flags([], {})
    assert settings.corrections == Path("corrections")
    assert settings.runs == tmp_path / "own" / "tagloop" / "runs"
