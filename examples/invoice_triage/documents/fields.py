"""The facts and sums of an invoice, each with the place where it stands and how sure that is."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from documents.labels import CREDIT_TITLE, FACT_LABELS, INVOICE_TITLE, LEGAL_FORM, SUM_LABELS
from documents.layout import Row, Segment, beside, with_parts
from documents.lines import header_of
from documents.values import CURRENCIES, flat, fold, ibans, money, read_date, vat_ids

SURE, NEAR, APART, GUESSED = 0.95, 0.85, 0.8, 0.6
CONFIRMED = 0.99  # by arithmetic or check digits
ROWS_BELOW = 3
CLOSE, FAR = 3.0, 12.0  # times the size of the print
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9./_-]*")
_BOUNDARY = re.compile(r"[ :]+")
_LABELS = (*FACT_LABELS.items(), *SUM_LABELS.items())
_DATES = ("date", "due")
_IDS = ("number", "order", "original")


@dataclass(frozen=True, slots=True)
class Found:
    """A value, the words on the page it was read from, and their place in points from the lower left."""

    value: str
    text: str
    page: int
    x: float
    y: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Label:
    """A label on the page and what follows it in the same piece of text."""

    name: str
    segment: Segment
    row: int
    index: int
    rest: str


@dataclass
class Reading:
    """What was read: facts by name, sums by name, every account, VAT id and currency."""

    facts: dict[str, Found] = field(default_factory=dict)
    sums: dict[str, list[Found]] = field(default_factory=dict)
    accounts: list[Found] = field(default_factory=list)
    credit: bool = False
    ours: bool = False  # the buyer's name or VAT id stands on it


@dataclass(frozen=True)
class Buyer:
    """Who receives the invoices: stands on every page and is nobody's supplier."""

    name: str
    vat_id: str = ""


def read_fields(rows: Sequence[Row], mark: str, buyer: Buyer) -> Reading:
    """Find every fact and sum by its label, beside it or below it."""
    reading = Reading()
    labels = list(_labels(rows))
    taken = {(label.row, label.index) for label in labels if not label.rest}
    for name in (*_IDS, *_DATES):
        parse = parser(name, mark)
        candidates = [
            f for label in labels if label.name == name and (f := _value(rows, label, taken, parse))
        ]
        if candidates:
            reading.facts[name] = max(candidates, key=lambda one: one.confidence)
    for name in SUM_LABELS:
        found = [
            value
            for label in labels
            if label.name == name and (value := _value(rows, label, taken, parser(name, mark)))
        ]
        if found:
            reading.sums[name] = found
    _titles(rows, reading)
    _accounts(rows, reading)
    _identify(rows, reading, buyer)
    _currency(rows, reading)
    return reading


def _labels(rows: Sequence[Row]) -> Iterator[Label]:
    for at, row in enumerate(rows):
        if header_of(row):
            continue
        for index, segment in enumerate(row):
            if label := _label(segment, at, index):
                yield label


def _label(segment: Segment, row: int, index: int) -> Label | None:
    """The label a segment is, or begins with: the one of the longest match."""
    folded = fold(segment.text)
    ends = [len(folded), *(found.end() for found in reversed(list(_BOUNDARY.finditer(folded))))]
    names = [(name, pattern) for name, pattern in _LABELS if pattern.match(folded)]
    for end in ends if names else []:
        for name, pattern in names:
            if pattern.fullmatch(folded, 0, end):
                return Label(name, segment, row, index, segment.text[end:].strip(" :"))
    return None


Parse = Callable[[str], str]


def _value(rows: Sequence[Row], label: Label, taken: set[tuple[int, int]], parse: Parse) -> Found | None:
    """What a label names: the rest of its own text, what stands right of it, or what stands below."""
    if label.rest:
        value = parse(label.rest)
        return _found(value, label.segment, SURE) if value else None
    return max(
        (found for found in (_right(rows, label, taken, parse), _below(rows, label, taken, parse)) if found),
        key=lambda one: one.confidence,
        default=None,
    )


def _right(rows: Sequence[Row], label: Label, taken: set[tuple[int, int]], parse: Parse) -> Found | None:
    """What stands right of a label; the further away, the less sure, unless it is a sum."""
    row, right = rows[label.row], label.index + 1
    if right >= len(row) or (label.row, right) in taken:
        return None
    other = row[right]
    value = parse(other.text) or (
        parse(row[right + 1].text) if _only_currency(other.text) and right + 1 < len(row) else ""
    )
    if not value:
        return None
    gap = (other.x - label.segment.end) / other.size if label.name in FACT_LABELS else 0.0
    return _found(value, other, SURE if gap <= CLOSE else APART if gap <= FAR else GUESSED)


def _below(rows: Sequence[Row], label: Label, taken: set[tuple[int, int]], parse: Parse) -> Found | None:
    one = label.segment
    row = rows[label.row]
    following = row[label.index + 1] if (label.row, label.index + 1) in taken else None
    before = row[label.index - 1] if (label.row, label.index - 1) in taken else None
    alone = label.index + 1 == len(row)
    limit = following.x if following else one.x + 1.2 * (one.x - before.x) if before and alone else one.x
    for at in range(label.row + 1, min(label.row + 1 + ROWS_BELOW, len(rows))):
        free = [segment for index, segment in enumerate(rows[at]) if (at, index) not in taken]
        for other in (piece for segment in free for piece in with_parts(segment)):
            if other.page != one.page or one.y - other.y > 3.2 * max(one.size, other.size):
                continue
            in_column = other.x >= one.x - 3 and other.end <= limit + 3
            if (beside(one, other) or in_column) and (value := parse(other.text)):
                return _found(value, other, NEAR)
    return None


def _found(value: str, segment: Segment, confidence: float) -> Found:
    return Found(value, segment.text, segment.page, round(segment.x, 1), round(segment.y, 1), confidence)


def _parse_id(text: str) -> str:
    """A number of a document: up to three words of letters and digits with a digit among them."""
    words = text.strip(" .:").split()
    if not 1 <= len(words) <= 3 or len(text) > 30 or read_date(text):
        return ""
    if not all(_ID.fullmatch(word) for word in words) or not re.search(r"\d", text):
        return ""
    return " ".join(words)


def _parse_date(text: str) -> str:
    read = read_date(text) if len(text) <= 40 else None
    return read[0].isoformat() if read else ""


def _parse_money(text: str, mark: str) -> str:
    read = money(text, mark)
    return str(read[0]) if read else ""


def parser(name: str, mark: str) -> Parse:
    """How the words of a field become its value: the empty string where they are none."""
    if name in _IDS:
        return _parse_id
    if name in _DATES:
        return _parse_date
    if name in SUM_LABELS:
        return lambda text: _parse_money(text, mark)
    first = {"iban": ibans, "vat_id": vat_ids}.get(name)
    if first:
        return lambda text: next(iter(first(text)), "")
    return flat if name == "supplier" else lambda text: CURRENCIES.get(flat(text), "")


def _only_currency(text: str) -> bool:
    return flat(text) in CURRENCIES


def _titles(rows: Sequence[Row], reading: Reading) -> None:
    """Whether it is a credit note, and its number if only the title names it."""
    body = _body_size(rows)
    for segment in (segment for row in rows for segment in row):
        folded = fold(segment.text)
        large = segment.size >= 1.2 * body
        credit = CREDIT_TITLE.match(folded)
        if credit and (
            large or credit.end() == len(folded) or folded[credit.end() :].lstrip().startswith(("n", "#"))
        ):
            reading.credit = True
        title = credit or INVOICE_TITLE.match(folded)
        if title and large and "number" not in reading.facts:
            value = _parse_id(segment.text[title.end() :])
            if value:
                reading.facts["number"] = _found(value, segment, NEAR)


def _accounts(rows: Sequence[Row], reading: Reading) -> None:
    """Every IBAN that can be seen, also one that goes on in the next line."""
    for at, row in enumerate(rows):
        for segment in row:
            seen = ibans(segment.text)
            if not seen and re.search(r"\b[A-Z]{2}\d{2}[A-Z0-9 ]{4,}$", segment.text):
                seen = ibans(segment.text + _next_line(rows, at, segment))
            for iban in seen:
                if iban not in [one.value for one in reading.accounts]:
                    reading.accounts.append(_found(iban, segment, SURE))
    if reading.accounts:
        reading.facts["iban"] = reading.accounts[0]


def _next_line(rows: Sequence[Row], at: int, segment: Segment) -> str:
    for row in rows[at + 1 : at + 3]:
        for other in row:
            if (
                other.page == segment.page
                and abs(other.x - segment.x) < 3
                and re.fullmatch(r"[A-Z0-9 ]+", other.text)
            ):
                return other.text
    return ""


def _identify(rows: Sequence[Row], reading: Reading, buyer: Buyer) -> None:
    """The supplier: the largest name of a firm that is not ours, and the VAT id that is not ours."""
    blocks = list(_blocks(rows))
    reading.ours |= any(_is_buyer(block.text, buyer) for block in blocks)
    names = [block for block in blocks if LEGAL_FORM.search(block.text) and not _is_buyer(block.text, buyer)]
    labelled = [block for block in names if not re.search(r"[:·]| - ", block.text)]
    if chosen := max(labelled, key=lambda one: (one.size, -one.page), default=None):
        reading.facts["supplier"] = _found(chosen.text, chosen, SURE if chosen.page == 1 else NEAR)
    for segment in (segment for row in rows for segment in row):
        for vat_id in [] if ibans(segment.text) else vat_ids(segment.text):
            reading.ours |= vat_id == buyer.vat_id
            if vat_id != buyer.vat_id and "vat_id" not in reading.facts:
                reading.facts["vat_id"] = _found(vat_id, segment, SURE)


def _blocks(rows: Sequence[Row]) -> Iterator[Segment]:
    """Segments; a legal form that stands alone is joined to the name above it."""
    flat_rows = [piece for row in rows for segment in row for piece in with_parts(segment)]
    for index, segment in enumerate(flat_rows):
        above = [
            other
            for other in flat_rows[:index]
            if other.page == segment.page
            and abs(other.x - segment.x) < 2
            and 0 < other.y - segment.y < 1.7 * segment.size
            and abs(other.size - segment.size) < 0.5
        ]
        if above and segment.bold and above[-1].bold:
            yield Segment(
                f"{above[-1].text} {segment.text}",
                segment.page,
                segment.x,
                segment.end,
                above[-1].y,
                segment.size,
            )
        elif not LEGAL_FORM.fullmatch(segment.text):
            yield segment


def _is_buyer(text: str, buyer: Buyer) -> bool:
    return difflib.SequenceMatcher(None, fold(text), fold(buyer.name)).ratio() > 0.8


def _currency(rows: Sequence[Row], reading: Reading) -> None:
    """The currency of the amount due, else the only one on the pages."""
    signs: Counter[str] = Counter()
    first: dict[str, Segment] = {}
    for segment in (segment for row in rows for segment in row):
        for sign in re.findall(r"\b(?:EUR|GBP|CHF|USD)\b|[€£$]", segment.text):
            signs[CURRENCIES[sign]] += 1
            first.setdefault(CURRENCIES[sign], segment)
    if signs:
        likeliest = signs.most_common(1)[0][0]
        reading.facts["currency"] = _found(likeliest, first[likeliest], SURE if len(signs) == 1 else GUESSED)


def _body_size(rows: Sequence[Row]) -> float:
    sizes = Counter(round(segment.size, 1) for row in rows for segment in row)
    return sizes.most_common(1)[0][0] if sizes else 10.0


def settle_sums(reading: Reading) -> dict[str, Found]:
    """The sums that agree with each other; else the last one of each name."""
    gross = reading.sums.get("gross") or reading.sums.get("gross_weak") or []
    for due in reversed(gross):
        for net in reading.sums.get("net", []):
            for vat in reading.sums.get("vat", []):
                if abs(_of(net)) + abs(_of(vat)) == abs(_of(due)):
                    return {"net": _sure(net), "vat": _sure(vat), "gross": _sure(due)}
    last = {name: found[-1] for name in ("net", "vat") if (found := reading.sums.get(name))}
    return {**last, **({"gross": gross[-1]} if gross else {})}


def _of(found: Found) -> Decimal:
    return Decimal(found.value)


def _sure(found: Found) -> Found:
    return Found(found.value, found.text, found.page, found.x, found.y, CONFIRMED)
