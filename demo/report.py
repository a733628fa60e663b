"""`report.html` of a fine-tune: one file that asks for nothing, to read, to keep and to send.

The verdict comes first. Whatever comes from outside, label names above all, is text and never markup; the file's
own policy forbids scripts and requests besides. It holds small copies of photos and says so.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from demo import charts, images
from demo.errors import ImageRejected
from demo.messages import Message, joined
from demo.rows import shortened

REPORT = "report.html"
TEMPLATE = Path(__file__).with_name("report.html")
THUMBNAIL_PIXELS = 240
SHOWN_PHOTOS, SHOWN_LABELS, LISTED_LABELS = 8, 15, 500

BADGES = {
    "better": "Better",
    "same": "No clear difference",
    "worse": "Worse",
    "unmeasured": "Not measured",
}
FIGURES = {
    "map": "mAP",
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "sample_f1": "Sample F1",
    "micro_precision": "Precision",
    "micro_recall": "Recall",
    "accuracy": "Label accuracy",
}


def page(metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]], paths: Mapping[str, Path]) -> str:
    """The page of a `metrics.json`, a run's `history`, and the photos' paths by file name."""
    comparison, thumbnails = metrics["comparison"], _Thumbnails(paths)
    worst = _worst(metrics["worst"], thumbnails)
    suspects = _suspects(metrics["suspects"], thumbnails)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{BADGES[metrics['verdict']]}: {metrics['model']}"),
        model=escape(metrics["model"].removeprefix("local:")),
        verdict=metrics["verdict"],
        badge=BADGES[metrics["verdict"]],
        summary=escape(metrics["summary"]),
        warnings=_list(metrics["warnings"]),
        on=escape(judged_on(comparison)),
        figures=_figures(comparison),
        below=escape(small_print(comparison)),
        loss=_loss(history),
        threshold=_threshold(metrics["curve"], comparison["threshold"]["new"]),
        labels=_labels(comparison["per_label"]),
        worst=worst,
        suspects=suspects,
        inside=escape(
            f"Figures of {metrics['model']} on {metrics['csv']}, file and label names, and small copies of "
            f"{len(thumbnails.made)} photos. It loads nothing from elsewhere. Share it as you would share the photos."
        ),
    )


class _Thumbnails:
    """Photos as data URLs, each made once."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths, self.made = paths, {}

    def __call__(self, file_name: str) -> str:
        try:
            if file_name not in self.made:
                small = images.thumbnail(self.paths[file_name].read_bytes(), THUMBNAIL_PIXELS)
                self.made[file_name] = base64.b64encode(small).decode()
        except (KeyError, OSError, ImageRejected):
            return '<div class="gone">not readable</div>'
        return f'<img alt="" src="data:image/jpeg;base64,{self.made[file_name]}">'


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="warnings">{items}</ul>' if items else ""


def judged_on(comparison: Mapping[str, Any]) -> str:
    """Which images a `comparison` is of."""
    images, cells, labels = (comparison[key] for key in ("images", "known_cells", "labels"))
    how = {
        "valid": Message("{images} held-out images, which neither model learned from here", images=images),
        "folds": Message(
            "{images} images, each scored by a head that was trained without it (the rest of the model is the old one)",
            images=images,
        ),
    }[comparison["by"]]
    return Message("{how}; {cells} decided cells of {labels} labels.", how=how, cells=cells, labels=labels)


def _figures(comparison: Mapping[str, Any]) -> str:
    rows = []
    for key, title in FIGURES.items():
        nothing, old, new = (comparison[row][key] for row in ("predict_nothing", "old", "new"))
        change = comparison["difference"].get(key)
        moved = "–" if new is None or old is None else _points(new - old)
        if change:
            moved += f"<small>{_points(change['low'])} to {_points(change['high'])}</small>"
        rows.append(
            f'<tr><th scope="row">{title}</th><td>{_number(nothing)}</td><td>{_number(old)}</td>'
            f'<td class="new">{_number(new)}</td><td>{moved}</td></tr>'
        )
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("", "Predict nothing", "Old model", "New model", "Change, points")
    )
    return f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def small_print(comparison: Mapping[str, Any]) -> str:
    """What stands below the figures of a `comparison`: thresholds, calibration, flipped decisions."""
    threshold, error, flipped = comparison["threshold"], comparison["calibration"], comparison["flipped"]
    old, new = (f"{threshold[which]:.2f}" for which in ("old", "new"))
    parts = [Message("Each model at its own threshold: old {old}, new {new}.", old=old, new=new)]
    if error["new"] is not None:
        old, new = _number(error["old"]), _number(error["new"])
        parts.append(Message("Calibration error: old {old}, new {new}.", old=old, new=new))
    if flipped["share"] is not None:
        parts.append(
            Message(
                "Of {decisions} decisions that nobody corrected, {share} % came out otherwise.",
                decisions=flipped["decisions"],
                share=f"{100 * flipped['share']:.2f}",
            )
        )
    return joined(parts)


def _loss(history: Sequence[Mapping[str, Any]]) -> str:
    entries = [entry for entry in history if entry["phase"] in ("head", "backbone")]
    if not entries:
        return '<p class="quiet">No epoch was trained.</p>'
    series: dict[str, list[tuple[float, float]]] = {}
    for number, entry in enumerate(entries, start=1):
        series.setdefault(f"{entry['phase']} training", []).append((number, entry["loss"]))
    top = max(entry["loss"] for entry in entries) * 1.05 or 1
    x_range = (1, max(len(entries), 2))
    return charts.curves(series, "Training loss by epoch", x_range, (0, top), x_titles=("first epoch", "", "last"))


def _threshold(curve: Mapping[str, Sequence[float]] | None, chosen: float) -> str:
    if curve is None:
        return f'<p class="quiet">Too few images say what is absent to tell; {chosen:.2f} is used.</p>'
    series = {
        name.replace("f1", "F1"): list(zip(curve["threshold"], curve[name], strict=True))
        for name in ("precision", "recall", "f1")
    }
    title = f"Precision, recall and F1 over the threshold; {chosen:.2f} is used"
    return charts.curves(series, title, (0, 1), (0, 1), {f"{chosen:.2f}, in use": chosen}, ("0", "threshold", "1"))


def _labels(per_label: Mapping[str, Mapping[str, Any]]) -> str:
    measured = {name: row for name, row in per_label.items() if row["after"] is not None}
    if not measured:
        return '<p class="quiet">No label has a decided presence on these images.</p>'

    def moved(row: Mapping[str, Any]) -> float:
        return abs(row["after"] - (row["before"] or 0)) * row["support"] ** 0.5

    names = sorted(measured, key=lambda name: (-moved(measured[name]), name))[:LISTED_LABELS]
    rest = len(per_label) - len(measured)
    note = "The ring is the old model, the dot the new one; what moved most, on most photos, comes first."
    note += f" {rest} labels have no decided presence here." if rest else ""
    note += f" {len(measured) - LISTED_LABELS} more are in metrics.json." if len(measured) > LISTED_LABELS else ""
    first, more = names[:SHOWN_LABELS], names[SHOWN_LABELS:]
    table = _label_table({name: measured[name] for name in first})
    if more:
        others = _label_table({name: measured[name] for name in more})
        table += f"<details><summary>{len(more)} more</summary>{others}</details>"
    return f'<p class="quiet">{note}</p>{table}'


def _label_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, row in rows.items():
        title = f"{_number(row['before'])} before, {_number(row['after'])} after"
        lines.append(
            f"<tr><td><bdi>{escape(shortened(name))}</bdi></td>"
            f"<td>{charts.before_after(row['before'], row['after'], title)}</td>"
            f'<td>{_number(row["before"])}</td><td class="new">{_number(row["after"])}</td>'
            f"<td>{row['support']}</td></tr>"
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Label", "", "Old", "New", "Photos"))
    return f'<table class="labels figures"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _worst(worst: Sequence[Mapping[str, Any]], thumbnails: _Thumbnails) -> str:
    cards = []
    for photo in worst[:SHOWN_PHOTOS]:
        said = [("missed", "not found"), ("wrong", "found, but rejected")]
        lines = "".join(f"<span>{title}: {_cells(photo[key])}</span>" for key, title in said if photo[key])
        caption = f"{_bdi(photo['file_name'])}{lines}"
        cards.append(f"<figure>{thumbnails(photo['file_name'])}<figcaption>{caption}</figcaption></figure>")
    return _section("Images that went worst", "By the mean loss of their decided cells.", cards)


def _suspects(suspects: Mapping[str, Any], thumbnails: _Thumbnails) -> str:
    cells = suspects["cells"]
    cards = [
        f"<figure>{thumbnails(cell['file_name'])}<figcaption><b><bdi>{escape(shortened(cell['label']))}</bdi></b> said "
        f"{cell['said']}, score {cell['score']:.2f}<span>{_bdi(cell['file_name'])}</span></figcaption></figure>"
        for cell in cells[:SHOWN_PHOTOS]
    ]
    note = f"{suspects['found']} decided cells contradict a model that did not see them. It may be the one that errs."
    more = ""
    if rest := cells[SHOWN_PHOTOS:]:
        rows = "".join(
            f"<tr><td>{_bdi(cell['file_name'])}</td><td><bdi>{escape(shortened(cell['label']))}</bdi></td>"
            f"<td>{cell['said']}</td><td>{cell['score']:.2f}</td></tr>"
            for cell in rest
        )
        head = "".join(f'<th scope="col">{name}</th>' for name in ("File", "Label", "Said", "Score"))
        table = f'<table class="suspects"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        more = f"<details><summary>{len(rest)} more</summary>{table}</details>"
    return _section("Likely label errors", note, cards, more)


def _section(title: str, note: str, cards: Sequence[str], more: str = "") -> str:
    if not cards:
        return ""
    return (
        f'<section><h2>{title}</h2><p class="quiet">{escape(note)}</p>'
        f'<div class="cards">{"".join(cards)}</div>{more}</section>'
    )


def _cells(cells: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"<bdi>{escape(shortened(cell['label']))}</bdi> {cell['score']:.2f}" for cell in cells)


def _bdi(file_name: str) -> str:
    return f"<bdi>{escape(shortened(file_name))}</bdi>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")
