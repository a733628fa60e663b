"""The tag editor: scores go to the browser once per image, and its slider filters them there.

A handler pushes one of three values: an `EditorState` (a tagged image), a `Status` (a message that leaves the
person's decisions alone) or None (no image). A handler that takes the editor as input gets `Decisions`, or None
while there is no image. Three events: `editor.save(…)` for Save and Everything reviewed, `editor.next(…)` and
`editor.previous(…)`; these two say which `turn` they are, and until that is answered nothing can be decided.

The browser sends back what it was given together with the slider and the decisions, and `Decisions` is worked out
from that here, so nothing is remembered between requests and the vocabulary may change with every image. It
saves nothing and runs no model. What a browser claims about scores is only as true as that browser.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr
import numpy as np

from demo.messages import for_page
from demo.settings import MAX_CHIPS, MAX_NEW_LABEL_CHARACTERS
from demo.thresholds import active, one_of_each
from demo.ui.panel import revision

if TYPE_CHECKING:
    from demo.own_curve import OwnCurve

_TYPED = re.compile(r"(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+(?<!\s)")  # a new label
SCRIPTS = (
    "words.js",
    "key_map.js",
    "tag_editor_model.js",
    "tag_editor_add.js",
    "tag_editor_groups.js",
    "tag_editor_curve.js",
    "tag_editor_photo.js",
    "tag_editor_keys.js",
    "tag_editor.js",
)


@dataclass(frozen=True, eq=False)
class EditorState:
    """A tagged image, L labels.

    key: names image and model, comes back in `Decisions.key`.
    names: L distinct strings, in logit order.
    scores: (L,) float32 in [0, 1].
    threshold: the recommended one, rounded to the slider's 0.001.
    curve: equally long lists `threshold` (rising), `precision`, `recall` and `f1` on the checkpoint's validation
        photos; None entries are undefined.
    own_curve: the same on what was corrected here; shows a switch between the two.
    thresholds: L tuned thresholds, None for a label without one; shows the *tuned* switch.
    categories: one per label, empty for a label without one, or none at all. Two or more make groups, each with a
        slider that moves it alone; the main slider moves all of them.
    exclusive: the categories whose labels exclude each other: the best one is active whatever the threshold, until a
        person chooses another.
    confirmed, rejected: decisions made before, also on labels that this model lacks.
    slider: where the slider starts, if not at the recommended threshold.
    note: a message to show, such as when this image was last saved.
    name, place: the image's file, and where it stands among how many, counted from 1; empty where there is no such.
    turn: of the press of Next or Previous that this answers; 0 for anything else.
    """

    key: str
    names: Sequence[str]
    scores: np.ndarray
    threshold: float
    curve: Mapping[str, Sequence[float | None]] | None = None
    own_curve: OwnCurve | None = None
    thresholds: Sequence[float | None] | None = None
    categories: Sequence[str] = ()
    exclusive: Collection[str] = ()
    confirmed: Sequence[str] = ()
    rejected: Sequence[str] = ()
    slider: float | None = None
    note: str = ""
    name: str = ""
    place: tuple[int, int] | None = None
    turn: int = 0


@dataclass(frozen=True)
class Status:
    """A message beside the buttons; `busy` also covers the labels until the next push, `done` the end of a queue.

    text: a `Message` where it is to be translated.
    clear: take away the image that was there, as when the new one cannot be decoded.
    saved: what was, though the page may hold something else by now.
    turn: as in `EditorState`.
    """

    state: Literal["saved", "error", "busy", "note", "done"]
    text: str
    clear: bool = False
    saved: Decisions | None = None
    turn: int = 0


@dataclass(frozen=True)
class Decisions:
    """What a person had on the screen when an event was sent.

    threshold: where the main slider stood; a category's own slider may have stood elsewhere.
    labels: active or confirmed, and not rejected; falling score, then labels that the model lacks.
    rejected, confirmed: turned off and turned on by the person.
    new: those of `labels` that the model lacks.
    model_labels: what the model had active where the sliders stood, whatever the person decided.
    tuned: whether the sliders shifted the tuned thresholds by their distance from the recommended one.
    reviewed: `all` after Everything reviewed, else `listed`.
    """

    key: str
    threshold: float
    labels: tuple[str, ...]
    rejected: tuple[str, ...]
    confirmed: tuple[str, ...]
    new: tuple[str, ...]
    model_labels: tuple[str, ...]
    tuned: bool
    reviewed: Literal["listed", "all"]


class TagEditor(gr.HTML):
    """Chips, threshold slider, autocomplete, undo and the save buttons, as one component."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            html_template=_read("tag_editor.html"),
            css_template=_read("tag_editor.css"),
            js_on_load="".join([f"const MAX_CHIPS = {MAX_CHIPS};\n", *map(_read, SCRIPTS)]),
            apply_default_css=False,
            **kwargs,
        )

    def postprocess(self, value: EditorState | Status | None) -> dict[str, Any] | None:
        """What the page gets. Raises ValueError for a state that it could not show."""
        if value is None:
            return None
        if isinstance(value, Status):
            saved = value.saved and {part: getattr(value.saved, part) for part in ("key", "confirmed", "rejected")}
            return {"revision": revision(), **for_page(asdict(value) | {"saved": saved})}
        scores = np.asarray(value.scores, dtype="<f4")
        if scores.shape != (len(value.names),) or not np.isfinite(scores).all():
            raise ValueError(f"{len(value.names)} labels need as many finite scores; these are {scores.shape}.")
        if value.categories and len(value.categories) != len(value.names):
            raise ValueError(f"{len(value.names)} labels need as many categories, not {len(value.categories)}.")
        groups, known = _groups(value.categories, value.exclusive), set(value.names)
        places = {category: place for place, category in enumerate(groups)}
        recommended = round(float(value.threshold), 3)
        tuned = [recommended if threshold is None else threshold for threshold in value.thresholds or ()]
        return {
            "revision": revision(),
            "key": value.key,
            "names": json.dumps(list(value.names)),
            "foreign": [label for label in (*value.confirmed, *value.rejected) if label not in known],
            "scores": _encode(scores),
            "threshold": recommended,
            "curve": value.curve and dict(value.curve),
            "own_curve": value.own_curve and value.own_curve.curve.to_dict(),
            "own_images": value.own_curve.images if value.own_curve else 0,
            "thresholds": _encode(np.asarray(tuned)) if tuned else None,
            "tuned_labels": sum(threshold is not None for threshold in value.thresholds or ()),
            "categories": groups,
            "membership": _encode(np.array([places[category] for category in value.categories])) if groups else None,
            "exclusive": [category in value.exclusive for category in groups],
            "levels": [None] * len(groups),
            "confirmed": list(value.confirmed),
            "rejected": list(value.rejected),
            "slider": recommended if value.slider is None else round(float(value.slider), 3),
            "tuned": False,
            "reviewed": "listed",
            "state": "note",
            "text": for_page(value.note),
            "name": value.name,
            "place": value.place,
            "turn": value.turn,
        }

    def preprocess(self, payload: Any) -> Decisions | None:
        """Check everything that the browser sent. Raises gr.Error, which the page shows."""
        if not isinstance(payload, dict) or "scores" not in payload:
            return None
        try:
            return _decisions(**payload)
        except (TypeError, ValueError, RecursionError) as error:
            raise gr.Error("The page sent something unreadable. Reload it.", print_exception=False) from error


def _decisions(
    key: str, names: str, scores: str, threshold: float, thresholds: str | None, slider: float, tuned: bool,
    categories: list[str], membership: str | None, exclusive: list[bool], levels: list[float | None],
    confirmed: list[str], rejected: list[str], foreign: list[str], reviewed: str, **_: object,
) -> Decisions:  # fmt: skip
    """What the person saw. Raises TypeError or ValueError for what the page would not send."""
    vocabulary = json.loads(names)
    lists = (vocabulary, foreign, categories, exclusive, levels, confirmed, rejected)
    for argument, kind in ((key, str), (tuned, bool), *((each, list) for each in lists)):
        _check(isinstance(argument, kind))
    _check(0 <= threshold <= 1 and 0 <= slider <= 1 and reviewed in ("listed", "all"))
    values = _decode(scores)
    known, on, off = set(vocabulary), set(confirmed), set(rejected)
    may_be_odd = known | set(foreign)  # a person types no such name, but models and rows hold any
    _check(len(vocabulary) == len(values) and len(on | off) == len([*confirmed, *rejected]))
    _check(all(isinstance(label, str) for label in (*vocabulary, *foreign, *confirmed, *rejected)))
    for label in (*confirmed, *rejected):
        _check(label in may_be_odd or _is_new(label))
    cuts = np.array([slider if level is None else level for level in levels] or [slider], np.float64)
    groups = _decode(membership) if categories else np.zeros(len(values))
    _check(len(categories) == len(exclusive) == len(levels) and bool(((cuts >= 0) & (cuts <= 1)).all()))
    _check(len(groups) == len(values) and bool(np.isin(groups, np.arange(len(cuts))).all()))
    one_of = [np.flatnonzero(groups == place) for place, is_so in enumerate(exclusive) if is_so]
    cut = cuts[groups.astype(int)]
    reaching = _reaching(values, cut, _decode(thresholds) if tuned else None, threshold)
    model = one_of_each(reaching, values, one_of)
    seen = model.copy()
    for group in one_of:  # a choice stands for the whole category
        seen[group] &= not any(vocabulary[position] in on for position in group)
    falling = [(vocabulary[i], seen[i], model[i]) for i in np.argsort(-values, kind="stable")]
    new = tuple(label for label in confirmed if label not in known)
    return Decisions(
        key=key,
        threshold=float(slider),
        labels=tuple(name for name, is_seen, _ in falling if (is_seen or name in on) and name not in off) + new,
        rejected=tuple(rejected),
        confirmed=tuple(confirmed),
        new=new,
        model_labels=tuple(name for name, _, is_active in falling if is_active),
        tuned=tuned,
        reviewed=reviewed,
    )


def _is_new(label: str) -> bool:
    """Whether a person could have typed it."""
    return len(label) <= MAX_NEW_LABEL_CHARACTERS and _TYPED.fullmatch(label) is not None


def _groups(categories: Sequence[str], exclusive: Collection[str]) -> list[str]:
    """Categories in the order of their groups: exclusive ones first, then as the vocabulary has them.

    None where a single list of labels says the same.
    """
    distinct = sorted(dict.fromkeys(categories), key=lambda category: category not in exclusive)
    return distinct if len(distinct) > 1 or {*distinct} & {*exclusive} else []


def _check(is_so: bool) -> None:
    if not is_so:
        raise ValueError("not what the page sends")


def _reaching(scores: np.ndarray, cut: np.ndarray, tuned: np.ndarray | None, recommended: float) -> np.ndarray:
    """What reaches its threshold, (L,) bool, bit for bit as the page's script has it; tuned ones shift in float64."""
    if tuned is None:
        return active(scores, cut)
    return scores.astype(np.float64) - tuned >= cut - recommended


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _decode(text: str) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    _check(bool(np.isfinite(values).all()))
    return values
