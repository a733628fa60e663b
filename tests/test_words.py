"""English and Chinese: every text that the page shows is in the dictionary, with the same places to fill."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import demo
from demo.messages import Message, for_page, joined
from demo.ui import words
from demo.ui.tag_editor import Status, TagEditor

DEMO = Path(demo.__file__).parent
UI = DEMO / "ui"
SCRIPTS = sorted(path for path in UI.glob("*.js") if path.name != "words.js")
PAGES = sorted(UI.glob("*.html"))
MODULES = sorted([*DEMO.glob("*.py"), *UI.glob("*.py")])
SAME = {"{first} {second}", "MCut", "JSON", "fastai CSV", "Hugging Face ImageFolder"}
"""What is the same in both languages: names, and what has no words."""

LITERAL = r'"((?:[^"\\]|\\.)*)"'
ONE = re.compile(rf"\btr\(\s*{LITERAL}")
MANY = re.compile(rf"\btr\.many\(\s*[^\"]*?,\s*{LITERAL},\s*{LITERAL}")
SHOWN = re.compile(r"""\b(?:textContent|title|ariaLabel|placeholder|innerText)\s*[=:]\s*(["`][^"`]*["`])""")
TEMPLATE_OF = {"Message": 0, "i18n": 0, "Message.many": 2, "joined": 1}


def of_script(path: Path) -> list[str]:
    source = path.read_text(encoding="utf-8")
    found = [found[1] for found in ONE.finditer(source)] + [found[2] for found in MANY.finditer(source)]
    return [json.loads(f'"{text}"') for text in found]


class Texts(HTMLParser):
    """What a person reads of a html file, but for keys of the keyboard."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open, self.found = [""], []
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.found += [text for name, text in attributes if name in ("title", "placeholder", "aria-label") and text]

    def handle_endtag(self, tag: str) -> None:
        while self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if re.search("[A-Za-z]", data) and self.open[-1] != "kbd":
            self.found.append(data.strip())


def of_module(path: Path) -> Iterator[tuple[str, ast.expr]]:
    """The calls that take a template, with the template."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in TEMPLATE_OF and path.name != "messages.py":
            call, place = ast.unparse(node.func), TEMPLATE_OF[ast.unparse(node.func)]
            if len(node.args) > place:
                yield call, node.args[place]


def all_texts() -> set[str]:
    texts = [text for path in SCRIPTS for text in of_script(path)]
    texts += [text for path in PAGES for text in Texts(path.read_text(encoding="utf-8")).found]
    texts += [ast.literal_eval(template) for path in MODULES for _, template in of_module(path)]
    return {*texts, *words.OF_COMPONENTS, inspect.signature(joined).parameters["between"].default}


def places(text: str) -> list[str]:
    return sorted(set(re.findall(r"\{\w+\}", text)))


def test_every_text_has_its_chinese_and_nothing_else_stands_in_the_dictionary():
    texts = all_texts()
    assert len(texts) > 300
    assert sorted(texts - words.CHINESE.keys() - SAME) == []
    assert sorted(words.CHINESE.keys() - texts) == []


def test_chinese_has_the_same_places_to_fill_and_is_not_the_english_by_accident():
    chinese = words.CHINESE
    assert [text for text in chinese if places(chinese[text]) != places(text)] == []
    assert [text for text in chinese if chinese[text] == text and text not in SAME] == []
    assert [text for text in chinese if not chinese[text].strip()] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_translates_whole_texts_and_shows_none_untranslated(path):
    source = path.read_text(encoding="utf-8")
    assert len(re.findall(r"\btr\(", source)) == len(ONE.findall(source)), "tr() takes a text in quotes"
    assert len(re.findall(r"\btr\.many\(", source)) == len(MANY.findall(source)), "tr.many() takes two texts in quotes"
    assert 'toLocaleString("' not in source
    literals = [re.sub(r"\$\{[^}]*\}", "", literal) for literal in SHOWN.findall(source)]
    assert [literal for literal in literals if re.search("[A-Za-z]{2}", literal)] == []


def test_one_of_something_is_said_with_the_places_of_several():
    for path in SCRIPTS:
        for one, several in MANY.findall(path.read_text(encoding="utf-8")):
            assert {*places(one)} | {"{count}"} == {*places(several)} | {"{count}"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_message_is_made_from_a_text_in_quotes(path):
    for call, template in of_module(path):
        assert isinstance(template, ast.Constant), f"{call}({ast.unparse(template)}…)"


def test_what_the_editor_is_told_can_be_translated():
    for path in UI.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Status":
                text = node.args[1]
                assert not isinstance(text, ast.JoinedStr), ast.unparse(node)
                assert not (isinstance(text, ast.Constant) and text.value), ast.unparse(node)


def test_a_message_is_its_english_and_remembers_what_it_was_made_of():
    labels = Message.many(1234, "{count} label", "{count} labels")
    message = Message("Saved {file} with {labels}.", file="{labels}.jpg", labels=labels)
    assert message == "Saved {labels}.jpg with 1,234 labels."
    assert Message.many(1, "{count} label", "{count} labels") == "1 label"
    assert Message.many(1, "{count} label", "{count} labels").template == "{count} labels"
    assert joined(["a", "", message], "{first}, {second}") == f"a, {message}"
    assert joined([]) == ""
    assert json.loads(json.dumps(message)) == str(copy.deepcopy(message)) == message


def test_the_page_gets_the_parts_of_messages_wherever_they_lie():
    message = Message("{what} by {who}", what=Message("Saved"), who="a")
    parts = {
        "said": "Saved by a",
        "template": "{what} by {who}",
        "values": {"what": {"said": "Saved", "template": "Saved", "values": {}}, "who": "a"},
    }
    assert for_page({"rows": [("x", message)], "n": 1}) == {"rows": [["x", parts]], "n": 1}
    assert TagEditor().postprocess(Status("saved", message))["text"] == parts


def test_the_dictionary_cannot_end_its_script(monkeypatch):
    monkeypatch.setattr(words, "CHINESE", {"a": "</script><script>alert(1)<!--"})
    head = words.head()
    assert head.count("<") == 2
    told = re.fullmatch(r"<script>window\.tagloopChinese = (.*);</script>", head)[1]
    assert json.loads(told) == {"a": "</script><script>alert(1)<!--"}
