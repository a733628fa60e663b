"""Small charts as inline SVG: curves, an interval around zero, a before and after. Colours come from the page's CSS."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 38, 6, 10, 24
CLASSES = ("a", "b", "c")

Points = Sequence[tuple[float, float]]


def curves(
    series: dict[str, Points],
    title: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    marks: dict[str, float] | None = None,
    x_titles: tuple[str, str, str] = ("", "", ""),
) -> str:
    """Up to three named curves of (x, y) points, and dotted lines at the x of `marks`, with a legend of them all.

    x_titles: what stands below the axis at its start, its middle and its end.
    """
    (x0, x1), (y0, y1) = x_range, y_range

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x0) / ((x1 - x0) or 1)
        up = (y - y0) / ((y1 - y0) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    for step in range(5):
        level = y0 + (y1 - y0) * step / 4
        y = at(x0, level)[1]
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{level:.3g}</text>')
    places = ((LEFT, "start"), ((WIDTH + LEFT - RIGHT) / 2, "middle"), (WIDTH - RIGHT, "end"))
    for (across, anchor), text in zip(places, x_titles, strict=True):
        parts.append(f'<text x="{across}" y="{HEIGHT - 5}" text-anchor="{anchor}">{escape(text)}</text>')
    for x in (marks or {}).values():
        across = f'x1="{at(x, y0)[0]:.1f}" x2="{at(x, y0)[0]:.1f}"'
        parts.append(f'<line class="mark" {across} y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke-width="2"/>')
    for style, points in zip(CLASSES, series.values(), strict=False):
        line = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in points)
        parts.append(f'<polyline class="curve {style}" points="{line}"/>')
    legend = [
        _legend(f'<line class="curve {style}" x2="26" y1="6" y2="6"/>', name)
        for style, name in zip(CLASSES, series, strict=False)
    ]
    legend += [_legend('<line class="mark" x2="26" y1="6" y2="6" stroke-width="2"/>', name) for name in marks or {}]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f'<ul class="legend">{"".join(legend)}</ul>'
    )


def before_after(before: float | None, after: float, title: str) -> str:
    """A line from 0 to 1 with a ring at `before`, if any, and a dot at `after`."""
    ring = ""
    if before is not None:
        style = "up" if after >= before else "down"
        ring = (
            f'<line class="{style}" x1="{_percent(before)}" x2="{_percent(after)}" y1="9" y2="9"/>'
            f'<circle class="was" cx="{_percent(before)}" cy="9" r="4"/>'
        )
    return (
        f'<svg role="img" aria-label="{escape(title)}"><line class="axis" x1="3%" x2="97%" y1="9" y2="9"/>{ring}'
        f'<circle class="is" cx="{_percent(after)}" cy="9" r="5"/></svg>'
    )


def _percent(value: float) -> str:
    return f"{3 + 94 * value:.1f}%"


def _legend(line: str, name: str) -> str:
    return f'<li><svg viewBox="0 0 26 12" aria-hidden="true">{line}</svg>{escape(name)}</li>'
