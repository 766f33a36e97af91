"""A PDF under way: words at places, tables over several pages, what nobody is meant to see."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import reportlab
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

WIDTH, HEIGHT = A4
FAMILIES = {
    "sans": ("Helvetica", "Helvetica-Bold"),
    "serif": ("Times-Roman", "Times-Bold"),
    "mono": ("Courier", "Courier-Bold"),
    "embedded": ("Vera", "VeraBd"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, the place of its text, and on which side that stands."""

    key: str
    heading: str
    x: float
    align: str = "left"  # left or right
    width: float = 200.0  # text wider than this goes on in the next line


@dataclass
class Sheet:
    """One document on A4; y counts from the top in points."""

    family: str = "sans"
    size: float = 9.0
    pages: int = 1
    on_new_page: Callable[[Sheet], None] | None = None
    buffer: io.BytesIO = field(default_factory=io.BytesIO)
    canvas: Any = None

    def __post_init__(self) -> None:
        if self.family == "embedded" and "Vera" not in pdfmetrics.getRegisteredFontNames():
            fonts = Path(reportlab.__file__).parent / "fonts"
            for name in FAMILIES["embedded"]:
                pdfmetrics.registerFont(TTFont(name, str(fonts / f"{name}.ttf")))
        self.canvas = Canvas(self.buffer, pagesize=A4, invariant=True)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 0,
        bold: bool = False,
        align: str = "left",
        colour: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Words with their left, right or middle at x, on a baseline y below the top."""
        self.canvas.setFillColorRGB(*colour)
        self.canvas.setFont(FAMILIES[self.family][bold], size or self.size)
        draw = {
            "left": self.canvas.drawString,
            "right": self.canvas.drawRightString,
            "middle": self.canvas.drawCentredString,
        }[align]
        draw(x, HEIGHT - y, words)

    def width(self, words: str, size: float = 0, bold: bool = False) -> float:
        """How wide words are."""
        return pdfmetrics.stringWidth(words, FAMILIES[self.family][bold], size or self.size)

    def lines(
        self, x: float, y: float, words: Sequence[str], size: float = 0, step: float = 0, **how: Any
    ) -> float:
        """Lines one below the other; where the next would stand."""
        for line in words:
            self.text(x, y, line, size, **how)
            y += step or (size or self.size) * 1.35
        return y

    def rule(self, x: float, y: float, end: float, thick: float = 0.6) -> None:
        """A horizontal line."""
        self.canvas.setStrokeColorRGB(0, 0, 0)
        self.canvas.setLineWidth(thick)
        self.canvas.line(x, HEIGHT - y, end, HEIGHT - y)

    def block(self, x: float, y: float, end: float, bottom: float, colour: Sequence[float]) -> None:
        """A filled rectangle."""
        self.canvas.setFillColorRGB(*colour)
        self.canvas.rect(x, HEIGHT - bottom, end - x, bottom - y, stroke=0, fill=1)

    def frame(self, x: float, y: float, end: float, bottom: float) -> None:
        """An empty rectangle."""
        self.canvas.setStrokeColorRGB(0.4, 0.4, 0.4)
        self.canvas.setLineWidth(0.5)
        self.canvas.rect(x, HEIGHT - bottom, end - x, bottom - y, stroke=1, fill=0)

    def fold(self, words: str, width: float, size: float = 0) -> list[str]:
        """Words broken into lines of at most this width."""
        lines: list[str] = []
        for piece in words.split(" "):
            if lines and self.width(f"{lines[-1]} {piece}", size) <= width:
                lines[-1] += f" {piece}"
            else:
                lines.append(piece)
        return lines

    def new_page(self) -> None:
        """Begin the next page."""
        self.canvas.showPage()
        self.pages += 1
        if self.on_new_page:
            self.on_new_page(self)

    def done(self) -> bytes:
        """The document."""
        self.canvas.save()
        return self.buffer.getvalue()
