"""The positions of an invoice: a row is one if quantity times price is its amount, wherever they stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

from documents.labels import COLUMN_LABELS, SUM_LABELS
from documents.layout import Row, Segment
from documents.values import NUMBER, flat, fold, money, number

CENT = Decimal("0.01")
ENOUGH_COLUMNS = 3
_PERCENT = re.compile(rf"^-?\s*({NUMBER})\s*%$")
_WITH_UNIT = re.compile(rf"^({NUMBER})\s+[A-Za-zäöü²³]{{1,4}}\.?$")
_CALCULATION = re.compile(
    rf"^({NUMBER})\s*(?:\w{{1,6}}\.?\s+)?(?:x|×|\*|à|@)\s*({NUMBER})(?:\s*[-–]\s*({NUMBER})\s*%)?$",
    re.IGNORECASE,
)
_CODE = re.compile(r"^(?=.*\d)[A-Z0-9][A-Z0-9./_-]{2,19}$")
_RULE = re.compile(r"[-=_*.\s]{3,}")
_CODE_IN_WORDS = re.compile(r"\(((?=[^)]*\d)[A-Z0-9][A-Z0-9./_-]{2,19})\)")


@dataclass
class Position:
    """One line of an invoice; `fits` says whether its own figures agree."""

    words: str
    article: str
    quantity: Decimal
    price: Decimal
    discount: Decimal
    amount: Decimal
    page: int
    fits: bool

    def agrees(self, discount: Decimal) -> bool:
        return _product(self.quantity, self.price, discount) == abs(self.amount)


@dataclass(frozen=True)
class Header:
    """The headings of a table: where each column stands."""

    columns: dict[str, tuple[float, float]]

    @property
    def left(self) -> float:
        return min(start for start, _ in self.columns.values())

    @property
    def right(self) -> float:
        return max(end for _, end in self.columns.values())


@dataclass
class _Figures:
    """What the segments of a row are."""

    amounts: list[tuple[Decimal, Segment]] = field(default_factory=list)
    percents: list[tuple[Decimal, Segment]] = field(default_factory=list)
    words: list[Segment] = field(default_factory=list)


def header_of(row: Row) -> Header | None:
    """The headings of a table if this row is one."""
    columns: dict[str, tuple[float, float]] = {}
    for segment in row:
        pieces = [(part.text, part.x, part.end) for part in segment.parts]
        for text, start, end in [(segment.text, segment.x, segment.end), *pieces]:
            for name, left, right in _headings(fold(flat(text)), start, end):
                columns.setdefault(name, (left, right))
    wanted = {"description", "article"} & columns.keys() and {"quantity", "price"} & columns.keys()
    if len(columns) >= ENOUGH_COLUMNS and wanted and "amount" in columns:
        return Header(columns)
    return None


def _headings(text: str, start: float, end: float) -> Iterator[tuple[str, float, float]]:
    """The headings a text consists of, with their places; nothing if it holds anything else."""
    words = [(found.start(), found.end()) for found in re.finditer(r"\S+", text)]
    step = (end - start) / max(len(text), 1)
    found, at = [], 0
    while at < len(words):
        for last in range(len(words), at, -1):
            left, right = words[at][0], words[last - 1][1]
            name = next(
                (n for n, pattern in COLUMN_LABELS.items() if pattern.fullmatch(text, left, right)), ""
            )
            if name:
                found.append((name, start + left * step, start + right * step))
                at = last
                break
        else:
            return
    yield from found


def positions(rows: Sequence[Row], mark: str) -> list[Position]:
    """The positions of a document from the rows of all its pages."""
    reader = _Reader(mark)
    for row in rows:
        reader.take(row)
    return reader.finish()


def starts_sums(row: Iterable[Segment]) -> str:
    """Which sum a row begins with; empty if none."""
    for segment in row:
        for name, pattern in SUM_LABELS.items():
            if pattern.fullmatch(fold(segment.text)):
                return name
    return ""


class _Reader:
    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._found: list[Position] = []
        self._pending: list[str] = []
        self._header: Header | None = None
        self._reading = True
        self._page = 0

    def take(self, row: Row) -> None:
        if row[0].page != self._page:
            self._page = row[0].page
            self._reading = self._header is None and self._reading  # a table goes on under its headings
            if self._header is None:
                self._reading = True
        if header := header_of(row):
            if self._header is None:
                self._pending.clear()
            self._header, self._reading = header, True
            return
        if not self._reading:
            return
        if self._header:
            row = [s for s in row if self._header.left - 12 <= s.middle and s.x <= self._header.right + 12]
        name = starts_sums(row) if row else ""
        if name == "carried":
            return
        taken_off_a_price = name == "rebate" and not any(money(s.text, self._mark) for s in row)
        if name and not taken_off_a_price and (self._header or self._found):
            self._reading = False
            return
        row = [segment for segment in row if not _RULE.fullmatch(segment.text)]
        if row:
            self._row(row)

    def finish(self) -> list[Position]:
        self._flush(to_previous=True)
        return self._found

    def _row(self, row: Row) -> None:
        calculated = self._calculation(row)
        figures = self._figures(row)
        position = calculated or self._position(figures, row)
        if position is None:
            self._pending.append(" ".join(segment.text for segment in row))
            return
        if position.words:
            self._flush(to_previous=True)
        else:
            position.words = self._pending[-1] if self._pending else ""
            self._pending = self._pending[:-1]
            self._flush(to_previous=bool(self._header))
            position.article = position.article or _code(position.words)
        self._found.append(position)

    def _flush(self, to_previous: bool) -> None:
        """What stood below a position goes on with its words, or takes something off its price."""
        if to_previous and self._found and self._header:
            last = self._found[-1]
            for words in self._pending[:6]:
                percent = re.search(rf"({NUMBER})\s*%", words)
                value = number(percent[1], self._mark) if percent else None
                if value is not None and not last.fits and last.agrees(value):
                    last.discount, last.fits = value, True
                else:
                    last.words = f"{last.words} {words}"
            last.article = last.article or _code(last.words)
        self._pending.clear()

    def _figures(self, row: Row) -> _Figures:
        figures = _Figures()
        for segment in row:
            if percent := _PERCENT.match(segment.text):
                value = number(percent[1], self._mark)
                if value is not None:
                    figures.percents.append((value, segment))
            elif read := money(segment.text, self._mark):
                figures.amounts.append((read[0], segment))
            elif (unit := _WITH_UNIT.match(segment.text)) and (
                value := number(unit[1], self._mark)
            ) is not None:
                figures.amounts.append((value, segment))
            else:
                figures.words.append(segment)
        return figures

    def _calculation(self, row: Row) -> Position | None:
        """A row such as `5 pcs x 12.00 - 5 %     57.00`."""
        figures = [(found, s) for s in row if (found := _CALCULATION.match(s.text))]
        amount = money(row[-1].text, self._mark)
        if len(figures) != 1 or amount is None or figures[0][1] is row[-1]:
            return None
        parts = [number(part, self._mark) if part else Decimal(0) for part in figures[0][0].groups()]
        if parts[0] is None or parts[1] is None or parts[2] is None:
            return None
        fits = _product(parts[0], parts[1], parts[2]) == abs(amount[0])
        return Position("", "", parts[0], parts[1], parts[2], amount[0], row[0].page, fits)

    def _position(self, figures: _Figures, row: Row) -> Position | None:
        if len(figures.amounts) < 3 and not (self._header and len(figures.amounts) == 2 and figures.words):
            return None
        amount, at = figures.amounts[-1]
        if self._header and "amount" in self._header.columns:
            start, end = self._header.columns["amount"]
            if abs(at.end - end) > 25 and abs(at.x - start) > 25:
                return None
        factors = [value for value, _ in figures.amounts[:-1]]
        words = [s.text for s in figures.words if not _is_unit(s.text)]
        quantity, price, discount, fits = self._factors(factors, [v for v, _ in figures.percents], amount)
        if not fits and not self._header:
            return None
        if not fits:
            quantity, price = self._by_column(figures, quantity, price)
        text = " ".join(words)
        article = next((s.text for s in figures.words if _CODE.match(s.text)), "") or _code(text)
        return Position(text, article, quantity, price, discount, amount, row[0].page, fits)

    def _factors(
        self, factors: list[Decimal], percents: list[Decimal], amount: Decimal
    ) -> tuple[Decimal, Decimal, Decimal, bool]:
        for discount in [Decimal(0), *percents]:
            for right in range(len(factors) - 1, -1, -1):
                for left in range(right - 1, -1, -1):
                    if _product(factors[left], factors[right], discount) == abs(amount):
                        return factors[left], factors[right], discount, True
        if len(factors) == 1:
            return Decimal(1), factors[0], Decimal(0), factors[0] == abs(amount)
        return factors[-2], factors[-1], Decimal(0), False

    def _by_column(self, figures: _Figures, quantity: Decimal, price: Decimal) -> tuple[Decimal, Decimal]:
        assert self._header is not None
        found = {"quantity": quantity, "price": price}
        for name in found:
            if name in self._header.columns:
                start, end = self._header.columns[name]
                near = [v for v, s in figures.amounts[:-1] if min(abs(s.end - end), abs(s.x - start)) < 12]
                found[name] = near[0] if near else found[name]
        return found["quantity"], found["price"]


def _product(quantity: Decimal, price: Decimal, discount: Decimal) -> Decimal:
    return abs(quantity * price * (1 - discount / 100)).quantize(CENT, ROUND_HALF_UP)


def _is_unit(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-zäöü²³]{1,4}\.?", text))


def _code(words: str) -> str:
    found = _CODE_IN_WORDS.search(words)
    return found[1] if found else ""
