"""The text of a PDF page with places, sizes and colours: what a person reads, and what nobody can see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pypdf import PageObject
from pypdf.errors import PyPdfError
from pypdf.generic import ContentStream, DictionaryObject, StreamObject
from pypdf.generic._font import Font  # the only reader of PDF encodings and widths that pypdf has

Matrix = tuple[float, float, float, float, float, float]
Colour = tuple[float, float, float]  # red, green, blue from 0 to 1
Box = tuple[float, float, float, float]  # left, bottom, right, top in points

IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
WHITE: Colour = (1.0, 1.0, 1.0)
BLACK: Colour = (0.0, 0.0, 0.0)
INFINITE = float("inf")
SMALLEST_SIZE = 3.5  # points; print nobody reads
LEAST_CONTRAST = 0.2  # of luminance, between text and what lies behind it
LEAST_OPACITY = 0.1
DEEPEST_FORM = 8
MOST_OPERATIONS = 200_000


class UnreadablePage(Exception):
    """The page holds more than a page of an invoice can hold, or is broken."""


@dataclass(frozen=True, slots=True)
class Run:
    """A piece of text drawn at once: where, how large, and why nobody sees it (empty = they do)."""

    text: str
    x: float
    y: float
    end: float
    size: float
    hidden: str = ""
    bold: bool = False


@dataclass
class _State:
    matrix: Matrix = IDENTITY
    clip: Box = (-INFINITE, -INFINITE, INFINITE, INFINITE)
    fill: Colour = BLACK
    opacity: float = 1.0
    font: Font | None = None
    size: float = 0.0
    leading: float = 0.0
    char_space: float = 0.0
    word_space: float = 0.0
    scale: float = 1.0
    rise: float = 0.0
    mode: int = 0


@dataclass
class _Reader:
    """Walks the operators of a page; knows what was painted where, in the order of painting."""

    box: Box
    runs: list[Run] = field(default_factory=list)
    state: _State = field(default_factory=_State)
    stack: list[_State] = field(default_factory=list)
    text: Matrix = IDENTITY
    line: Matrix = IDENTITY
    path: list[Box] = field(default_factory=list)
    painted: list[tuple[Box, Colour]] = field(default_factory=list)
    fonts: dict[int, Font] = field(default_factory=dict)
    off: frozenset[int] = frozenset()  # object numbers of the layers that are switched off
    marked: list[bool] = field(default_factory=list)  # of each marked piece that is open: in such a layer
    clipping: bool = False
    operations: int = 0

    def read(self, stream: Any, resources: DictionaryObject, depth: int = 0) -> None:
        for operands, operator in stream.operations:
            self.operations += 1
            if self.operations > MOST_OPERATIONS:
                raise UnreadablePage(f"more than {MOST_OPERATIONS} drawing operations on a page")
            self._operate(operator, operands, resources, depth)

    def _operate(self, operator: bytes, given: list[Any], resources: DictionaryObject, depth: int) -> None:
        if operator == b"Do":
            self._draw(given[0], resources, depth)
        elif operator == b"Tf":
            self.state.font = self._font(given[0], resources)
            self.state.size = float(given[1])
        elif operator in (b"BDC", b"BMC"):
            self.marked.append(operator == b"BDC" and self._is_off(given, resources))
        elif operator == b"gs":
            self._graphics_state(given[0], resources)
        elif handler := _OPERATORS.get(operator):
            handler(self, given)

    def _is_off(self, given: list[Any], resources: DictionaryObject) -> bool:
        if given[0] != "/OC" or not isinstance(given[1], str):
            return False
        layer = resources.get("/Properties", DictionaryObject()).get_object().raw_get(given[1])
        return getattr(layer, "idnum", 0) in self.off

    def _font(self, name: str, resources: DictionaryObject) -> Font | None:
        found = resources.get("/Font", DictionaryObject()).get_object().get(name)
        if found is None:
            return None
        resource = found.get_object()
        if id(resource) not in self.fonts:
            self.fonts[id(resource)] = Font.from_font_resource(resource)
        return self.fonts[id(resource)]

    def _graphics_state(self, name: str, resources: DictionaryObject) -> None:
        found = resources.get("/ExtGState", DictionaryObject()).get_object().get(name)
        if found is not None and "/ca" in found.get_object():
            self.state.opacity = float(found.get_object()["/ca"])

    def _draw(self, name: str, resources: DictionaryObject, depth: int) -> None:
        drawn = resources.get("/XObject", DictionaryObject()).get_object().get(name)
        if drawn is None:
            return
        drawn = drawn.get_object()
        if drawn.get("/Subtype") == "/Image":
            self._cover(_corners(self.state.matrix, (0.0, 0.0, 1.0, 1.0)), (0.5, 0.5, 0.5))
        elif drawn.get("/Subtype") == "/Form" and depth < DEEPEST_FORM and isinstance(drawn, StreamObject):
            saved, self.state = self.state, replace(self.state)
            if "/Matrix" in drawn:
                self.state.matrix = _times(_matrix(drawn["/Matrix"]), self.state.matrix)
            inner = drawn.get("/Resources", resources).get_object()
            self.read(ContentStream(drawn, None), inner, depth + 1)
            self.state = saved

    def save(self, _: list[Any]) -> None:
        self.stack.append(replace(self.state))

    def restore(self, _: list[Any]) -> None:
        if self.stack:
            self.state = self.stack.pop()

    def transform(self, given: list[Any]) -> None:
        self.state.matrix = _times(_matrix(given), self.state.matrix)

    def begin_text(self, _: list[Any]) -> None:
        self.text = self.line = IDENTITY

    def move(self, given: list[Any]) -> None:
        self.line = _times((1, 0, 0, 1, float(given[0]), float(given[1])), self.line)
        self.text = self.line

    def move_leading(self, given: list[Any]) -> None:
        self.state.leading = -float(given[1])
        self.move(given)

    def place(self, given: list[Any]) -> None:
        self.text = self.line = _matrix(given)

    def next_line(self, _: list[Any]) -> None:
        self.move([0, -self.state.leading])

    def show(self, given: list[Any]) -> None:
        self._show(given[-1])

    def show_next(self, given: list[Any]) -> None:
        self.next_line([])
        self._show(given[-1])

    def show_spaced(self, given: list[Any]) -> None:
        self.state.word_space, self.state.char_space = float(given[0]), float(given[1])
        self.show_next(given)

    def show_array(self, given: list[Any]) -> None:
        for part in given[0]:
            if isinstance(part, int | float):
                self._advance(-float(part) / 1000 * self.state.size * self.state.scale)
            else:
                self._show(part)

    def grey(self, given: list[Any]) -> None:
        self.state.fill = (float(given[0]),) * 3

    def rgb(self, given: list[Any]) -> None:
        self.state.fill = (float(given[0]), float(given[1]), float(given[2]))

    def cmyk(self, given: list[Any]) -> None:
        c, m, y, k = (float(part) for part in given[:4])
        self.state.fill = tuple((1 - ink) * (1 - k) for ink in (c, m, y))  # type: ignore[assignment]

    def colour(self, given: list[Any]) -> None:
        numbers = [part for part in given if isinstance(part, int | float)]
        if handler := {1: self.grey, 3: self.rgb, 4: self.cmyk}.get(len(numbers)):
            handler(numbers)

    def end_marked(self, _: list[Any]) -> None:
        if self.marked:
            self.marked.pop()

    def clip(self, _: list[Any]) -> None:
        self.clipping = True

    def rectangle(self, given: list[Any]) -> None:
        x, y, width, height = (float(part) for part in given)
        corners = (min(x, x + width), min(y, y + height), max(x, x + width), max(y, y + height))
        self.path.append(_corners(self.state.matrix, corners))

    def fill_path(self, _: list[Any]) -> None:
        if self.state.opacity > 0.9:
            for box in self.path:
                self._cover(box, self.state.fill)
        self.end_path([])

    def end_path(self, _: list[Any]) -> None:
        """Forget the path; if it was to clip, only what lies within is seen from here on."""
        if self.clipping and self.path:
            a, b = self.state.clip, _around(self.path)
            self.state.clip = (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
        self.clipping = False
        self.path.clear()

    def _cover(self, box: Box, colour: Colour) -> None:
        """Something opaque is painted: text beneath it is seen no more."""
        self.painted.append((box, colour))
        self.runs = [
            replace(run, hidden="covered") if not run.hidden and _covers(box, run) else run
            for run in self.runs
        ]

    def _show(self, raw: Any) -> None:
        state = self.state
        if state.font is None:
            return
        text, width = _decode(state.font, raw, state)
        trm = _times((state.size * state.scale, 0, 0, state.size, 0, state.rise), self.text)
        placed = _times(trm, state.matrix)
        self._advance(width)
        ended = _times(self.text, state.matrix)
        size = (placed[2] ** 2 + placed[3] ** 2) ** 0.5
        if text.strip():
            run = Run(
                text,
                placed[4],
                placed[5],
                max(ended[4], placed[4]),
                size,
                bold="bold" in state.font.name.lower(),
            )
            self.runs.append(replace(run, hidden=self._why_hidden(run)))

    def _advance(self, width: float) -> None:
        self.text = _times((1, 0, 0, 1, width, 0), self.text)

    def _why_hidden(self, run: Run) -> str:
        left, bottom, right, top = self.box
        if self.state.mode in (3, 7):
            return "drawn without ink"
        if run.size < SMALLEST_SIZE:
            return "tiny"
        if self.state.opacity < LEAST_OPACITY:
            return "transparent"
        if any(self.marked):
            return "in a layer that is switched off"
        if run.x >= right or run.end <= left or run.y >= top or run.y + run.size <= bottom:
            return "off the page"
        middle = ((run.x + run.end) / 2, run.y + run.size / 3)
        if not _within(self.state.clip, middle):
            return "cut away"
        behind = next((colour for box, colour in reversed(self.painted) if _within(box, middle)), WHITE)
        if abs(_luminance(behind) - _luminance(self.state.fill)) < LEAST_CONTRAST:
            return "the colour of what lies behind it"
        return ""


def layers_off(root: DictionaryObject) -> frozenset[int]:
    """The object numbers of the layers (optional content groups) that a document opens without."""
    properties: Any = root.get("/OCProperties", DictionaryObject()).get_object()
    shown: Any = properties.get("/D", DictionaryObject()).get_object()
    hidden = shown.get("/OFF", [])
    if shown.get("/BaseState") == "/OFF":
        on = {layer.idnum for layer in shown.get("/ON", [])}
        return frozenset(layer.idnum for layer in properties.get("/OCGs", []) if layer.idnum not in on)
    return frozenset(layer.idnum for layer in hidden)


def _number(name: str, index: int = 0, scale: float = 1.0) -> Any:
    def setter(reader: _Reader, given: list[Any]) -> None:
        setattr(reader.state, name, float(given[index]) * scale)

    return setter


def _mode(reader: _Reader, given: list[Any]) -> None:
    reader.state.mode = int(given[0])


_OPERATORS: dict[bytes, Any] = {
    b"q": _Reader.save,
    b"Q": _Reader.restore,
    b"cm": _Reader.transform,
    b"BT": _Reader.begin_text,
    b"Td": _Reader.move,
    b"TD": _Reader.move_leading,
    b"Tm": _Reader.place,
    b"T*": _Reader.next_line,
    b"Tj": _Reader.show,
    b"TJ": _Reader.show_array,
    b"'": _Reader.show_next,
    b'"': _Reader.show_spaced,
    b"TL": _number("leading"),
    b"Tc": _number("char_space"),
    b"Tw": _number("word_space"),
    b"Tz": _number("scale", scale=0.01),
    b"Ts": _number("rise"),
    b"Tr": _mode,
    b"g": _Reader.grey,
    b"rg": _Reader.rgb,
    b"k": _Reader.cmyk,
    b"sc": _Reader.colour,
    b"scn": _Reader.colour,
    b"re": _Reader.rectangle,
    b"W": _Reader.clip,
    b"W*": _Reader.clip,
    b"EMC": _Reader.end_marked,
    **dict.fromkeys((b"f", b"F", b"f*", b"B", b"B*", b"b", b"b*"), _Reader.fill_path),
    **dict.fromkeys((b"S", b"s", b"n"), _Reader.end_path),
}


def read_page(page: PageObject, off: frozenset[int] = frozenset()) -> list[Run]:
    """Every piece of text on a page in the order it was drawn; UnreadablePage if it cannot be read whole."""
    contents = page.get_contents()
    if contents is None:
        return []
    box = page.cropbox
    edges = (float(box.left), float(box.bottom), float(box.right), float(box.top))
    reader = _Reader(edges, off=off)
    resources: Any = page.get("/Resources", DictionaryObject())
    try:
        reader.read(contents, resources.get_object())
    except (PyPdfError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise UnreadablePage(f"the drawing operators cannot be followed: {error}") from error
    return reader.runs


def _decode(font: Font, raw: Any, state: _State) -> tuple[str, float]:
    """The text of a shown string and its width in text space."""
    data = raw.original_bytes if hasattr(raw, "original_bytes") else bytes(raw)
    if isinstance(font.encoding, str):
        codes: Iterator[str] = iter(data.decode(font.encoding, "replace"))
    else:
        codes = (font.encoding.get(byte, chr(byte)) for byte in data)
    text, width = [], 0.0
    for code in codes:
        shown = font.character_map.get(code, code)
        text.append(shown)
        widths = font.character_widths
        glyph = widths.get(shown, widths.get(code, widths.get("default", 500.0)))
        width += glyph / 1000 * state.size + state.char_space + (state.word_space if shown == " " else 0.0)
    return "".join(text), width * state.scale


def _times(a: Matrix, b: Matrix) -> Matrix:
    return (
        a[0] * b[0] + a[1] * b[2],
        a[0] * b[1] + a[1] * b[3],
        a[2] * b[0] + a[3] * b[2],
        a[2] * b[1] + a[3] * b[3],
        a[4] * b[0] + a[5] * b[2] + b[4],
        a[4] * b[1] + a[5] * b[3] + b[5],
    )


def _matrix(given: Any) -> Matrix:
    a, b, c, d, e, f = (float(part) for part in given)
    return (a, b, c, d, e, f)


def _corners(matrix: Matrix, box: Box) -> Box:
    xs, ys = [], []
    for x in (box[0], box[2]):
        for y in (box[1], box[3]):
            xs.append(matrix[0] * x + matrix[2] * y + matrix[4])
            ys.append(matrix[1] * x + matrix[3] * y + matrix[5])
    return (min(xs), min(ys), max(xs), max(ys))


def _around(boxes: list[Box]) -> Box:
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return (min(lefts), min(bottoms), max(rights), max(tops))


def _within(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _covers(box: Box, run: Run) -> bool:
    return _within(box, ((run.x + run.end) / 2, run.y + run.size / 3))


def _luminance(colour: Colour) -> float:
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
