"""What the README says can be done."""

import re

import pytest

from demo.flags import COMMANDS
from demo.settings import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_path_of_the_tree_exists():
    tree = re.search(r"```\n(app\.py .*?)```", README, re.DOTALL)[1]
    paths = [line.split()[0] for line in tree.splitlines()]
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_picture_and_linked_file_exists():
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(linked) >= 6
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_every_flag_that_it_names_belongs_to_the_command():
    for command, line in re.findall(r"^python (app\.py|-m demo\.\w+)(.*)$", README, re.MULTILINE):
        known = {f"--{flag.name}" for flag in COMMANDS[command.removeprefix("-m demo.").removesuffix(".py")]}
        assert set(re.findall(r"--[a-z-]+", line.partition("#")[0])) <= known


def test_every_test_that_the_promises_name_exists():
    named, last = 0, None
    for path, test in re.findall(
        r"`(…|[\w./…]+\.py)(?:::(\w+))?`", (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    ):
        file = last if path == "…" else ROOT / path.replace("…", "tests/faults/")
        last, named = file, named + 1
        assert file.is_file(), path
        assert not test or f"def {test}(" in file.read_text(encoding="utf-8"), test
    assert named > 15


@pytest.mark.parametrize("key", ["title", "sdk: gradio", "sdk_version", "python_version", "app_file: app.py"])
def test_it_begins_with_what_a_space_needs(key):
    front = README.split("---")[1]
    assert key in front
