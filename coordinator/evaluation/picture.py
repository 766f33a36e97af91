"""Pictures of calibration: bars for a terminal, and a reliability diagram as SVG."""

from __future__ import annotations

from html import escape
from typing import Any

WIDTH = 40  # characters of a full bar
SIDE, EDGE = 360, 56  # of the diagram's square and its margins, in pixels


def bars(bins: list[dict[str, Any]]) -> list[str]:
    """A line a bin: how often it was right, with a mark where the confidence says it should be."""
    if not bins:
        return []
    lines = ["", f"{'sure':<12}{'right':>6}  cases   (| marks how sure it was)"]
    for one in bins:
        full = round(one["right"] * WIDTH)
        drawn = list("█" * full + "·" * (WIDTH - full))
        drawn[min(WIDTH - 1, round(one["sure"] * WIDTH))] = "|"
        lines.append(
            f"{one['from']:.1f} – {one['to']:.1f}   {one['right']:>6.2f}  {one['cases']:>5}   "
            + "".join(drawn)
        )
    return lines


def reliability(title: str, bins: list[dict[str, Any]], error: float) -> str:
    """A reliability diagram: what was right against how sure it was, over the diagonal of honesty."""
    most = max((one["cases"] for one in bins), default=1)
    size = SIDE + 2 * EDGE
    shapes = [
        f'<rect width="{size}" height="{size}" fill="#ffffff"/>',
        f'<text x="{size / 2}" y="24" text-anchor="middle" font-size="15">{escape(title)}</text>',
        f'<text x="{size / 2}" y="42" text-anchor="middle" font-size="12">ECE {error:.3f}</text>',
    ]
    for n in range(6):
        value = n / 5
        shapes += [
            _line(_x(value), _y(0), _x(value), _y(1), "#e3e3e3"),
            _line(_x(0), _y(value), _x(1), _y(value), "#e3e3e3"),
            _label(_x(value), _y(0) + 18, "middle", f"{value:.1f}"),
            _label(_x(0) - 8, _y(value) + 4, "end", f"{value:.1f}"),
        ]
    shapes.append(_line(_x(0), _y(0), _x(1), _y(1), "#888888", dashed=True))
    for one in bins:
        left, wide = _x(one["from"]) + 2, (one["to"] - one["from"]) * SIDE - 4
        dark = 0.35 + 0.6 * one["cases"] / most
        shapes.append(
            f'<rect x="{left:.1f}" y="{_y(one["right"]):.1f}" width="{wide:.1f}" '
            f'height="{one["right"] * SIDE:.1f}" fill="#2f6f9f" fill-opacity="{dark:.2f}">'
            f"<title>{one['cases']} cases, {one['sure']:.2f} sure, {one['right']:.2f} right</title></rect>"
        )
        shapes.append(_label(left + wide / 2, _y(one["right"]) - 5, "middle", str(one["cases"])))
        shapes.append(
            f'<circle cx="{_x(one["sure"]):.1f}" cy="{_y(one["right"]):.1f}" r="4" fill="#c0392b"/>'
        )
    shapes += [
        _label(size / 2, size - 12, "middle", "how sure the first explanation was"),
        f'<text transform="translate(16 {size / 2}) rotate(-90)" text-anchor="middle" font-size="12">'
        "share that was right</text>",
    ]
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" height="{size}" '
        f'font-family="sans-serif">\n{body}\n</svg>\n'
    )


def _x(value: float) -> float:
    return EDGE + value * SIDE


def _y(value: float) -> float:
    return EDGE + (1 - value) * SIDE


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}"{dash}/>'


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="12">{escape(text)}</text>'
