"""The tag editor: scores go to the browser once per image, and its slider filters them there.

A handler pushes one of three values: an `EditorState` (a tagged image), a `Status` (a message that leaves the
person's decisions alone) or None (no image). A handler that takes the editor as input gets `Decisions`, or None
while there is no image. Two events: `editor.save(…)` for Save and Everything reviewed, `editor.next(…)`.

The browser sends back what it was given together with the slider and the decisions, and `Decisions` is worked out
from that here, so nothing is remembered between requests and the vocabulary may change with every image. It
saves nothing and runs no model. What a browser claims about scores is only as true as that browser.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr
import numpy as np

_HERE = Path(__file__).parent
_TYPED = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,200}")  # a new label: one line of text
_revisions = itertools.count(1)  # an equal value would not be noticed in the page


@dataclass(frozen=True, eq=False)
class EditorState:
    """A tagged image, L labels.

    key: names image and model, comes back in `Decisions.key`.
    names: L distinct strings without line breaks, in logit order.
    scores: (L,) float32 in [0, 1].
    threshold: the recommended one, rounded to the slider's 0.001.
    curve: equally long lists `threshold` (rising), `precision` and `recall`; None entries are undefined.
    thresholds: L tuned thresholds, None for a label without one; shows the *tuned* switch.
    confirmed, rejected: decisions made before, also on labels that this model lacks.
    slider: where the slider starts, if not at the recommended threshold.
    note: a message to show, such as when this image was last saved.
    """

    key: str
    names: Sequence[str]
    scores: np.ndarray
    threshold: float
    curve: Mapping[str, Sequence[float | None]] | None = None
    thresholds: Sequence[float | None] | None = None
    confirmed: Sequence[str] = ()
    rejected: Sequence[str] = ()
    slider: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Status:
    """A message beside the buttons; `busy` also covers the labels until the next push.

    clear: take the image that was there away too, as when the new one cannot be decoded.
    """

    state: Literal["saved", "error", "busy", "note"]
    text: str
    clear: bool = False


@dataclass(frozen=True)
class Decisions:
    """What a person had on the screen when an event was sent.

    labels: active or confirmed, and not rejected; falling score, then labels that the model lacks.
    rejected, confirmed: turned off and turned on by the person.
    new: those of `labels` that the model lacks.
    model_labels: what the model had active at `threshold`, whatever the person decided.
    tuned: whether `threshold` shifted the tuned thresholds by its distance from the recommended one.
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


def active_mask(
    scores: np.ndarray, threshold: float, tuned: np.ndarray | None = None, recommended: float = 0.0
) -> np.ndarray:
    """The labels that are active, (L,) bool, for float32 scores (L,); the page's script gives the same bits.

    Without `tuned`, scores are compared with the threshold rounded to float32, which is what NumPy makes of
    `scores >= 0.35`. With it, (L,) float32, each label's own threshold is shifted by `threshold - recommended` in
    float64.
    """
    if tuned is None:
        return scores >= np.float32(threshold)
    return scores.astype(np.float64) - tuned.astype(np.float64) >= threshold - recommended

from gradio.events import Dependency

class TagEditor(gr.HTML):
    """Chips, threshold slider, autocomplete, undo and the save buttons, as one component."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            html_template=_read("tag_editor.html"),
            css_template=_read("tag_editor.css"),
            js_on_load="".join(map(_read, SCRIPTS)),
            apply_default_css=False,
            **kwargs,
        )

    def postprocess(self, value: EditorState | Status | None) -> dict[str, Any] | None:
        """What the page gets. Raises ValueError for a state that it could not show."""
        if value is None:
            return None
        if isinstance(value, Status):
            return {"revision": next(_revisions), **asdict(value)}
        names, scores = "\n".join(value.names), np.asarray(value.scores, dtype="<f4")
        if scores.shape != (len(value.names),) or not np.isfinite(scores).all():
            raise ValueError(f"{len(value.names)} labels need as many finite scores; these are {scores.shape}.")
        if names.count("\n") != max(len(value.names) - 1, 0):
            raise ValueError("A label name holds a line break.")
        recommended = round(float(value.threshold), 3)
        tuned = [recommended if threshold is None else threshold for threshold in value.thresholds or ()]
        return {
            "revision": next(_revisions),
            "key": value.key,
            "names": names,
            "scores": _encode(scores),
            "threshold": recommended,
            "curve": value.curve and dict(value.curve),
            "thresholds": _encode(np.asarray(tuned)) if tuned else None,
            "confirmed": list(value.confirmed),
            "rejected": list(value.rejected),
            "slider": recommended if value.slider is None else round(float(value.slider), 3),
            "tuned": False,
            "reviewed": "listed",
            "state": "note",
            "text": value.note,
        }

    def preprocess(self, payload: Any) -> Decisions | None:
        """Check everything that the browser sent. Raises gr.Error, which the page shows."""
        if not isinstance(payload, dict) or "scores" not in payload:
            return None
        try:
            return _decisions(**payload)
        except (TypeError, ValueError) as error:
            raise gr.Error("The page sent something unreadable. Reload it.", print_exception=False) from error
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component


def _decisions(payload: dict[str, Any]) -> Decisions:
    """Raises KeyError, TypeError or ValueError for what the editor's script would not send."""
    key, reviewed, is_tuned = payload["key"], payload["reviewed"], payload["tuned"]
    if not isinstance(key, str) or reviewed not in ("listed", "all") or not isinstance(is_tuned, bool):
        raise ValueError("key, reviewed or tuned")
    scores = _decode(payload["scores"])
    names = payload["names"].split("\n") if len(scores) else []
    if len(names) != len(scores):
        raise ValueError("as many names as scores are needed")
    threshold, recommended = _unit(payload["slider"]), _unit(payload["threshold"])
    tuned = _decode(payload["thresholds"]) if is_tuned else None
    vocabulary = set(names)
    confirmed, rejected = (_labels(payload[name], vocabulary) for name in ("confirmed", "rejected"))
    if set(confirmed) & set(rejected):
        raise ValueError("a label is both confirmed and rejected")
    active = active_mask(scores, threshold, tuned, recommended)
    falling = np.argsort(-scores, kind="stable")
    chosen = set(confirmed)
    return Decisions(
        key=key,
        threshold=threshold,
        labels=(
            *(names[i] for i in falling if (active[i] or names[i] in chosen) and names[i] not in rejected),
            *(name for name in confirmed if name not in vocabulary),
        ),
        rejected=rejected,
        confirmed=confirmed,
        new=tuple(name for name in confirmed if name not in vocabulary),
        model_labels=tuple(names[i] for i in falling if active[i]),
        tuned=is_tuned,
        reviewed=reviewed,
    )


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _decode(text: str) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    if not np.isfinite(values).all():
        raise ValueError("scores are finite")
    return values


def _unit(number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
        raise ValueError("a threshold lies in [0, 1]")
    return float(number)


def _labels(names: Any, vocabulary: set[str]) -> tuple[str, ...]:
    """Distinct labels, of the vocabulary or as a person may type them."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError("distinct labels are needed")
    for name in names:
        if name not in vocabulary and not (_TYPED.fullmatch(name) and name == name.strip()):
            raise ValueError("a new label is a short line of text")
    return tuple(names)