"""Numbers, dates, accounts and VAT ids as invoices write them."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from datetime import date
from decimal import Decimal, InvalidOperation

SPACES = "\u00a0\u202f\u2009"
NUMBER = r"\d{1,3}(?:[ .,'’]\d{3})+(?:[.,]\d{1,4})?|\d+(?:[.,]\d{1,4})?"
CURRENCIES = {"€": "EUR", "£": "GBP", "$": "USD", "EUR": "EUR", "GBP": "GBP", "CHF": "CHF", "USD": "USD"}
CURRENCY = r"EUR|GBP|CHF|USD|€|£|\$|Fr\."
_MONEY = re.compile(
    rf"^(?P<before>{CURRENCY})?\s*(?P<sign>[-−–])?\s*(?P<mark>{CURRENCY})?\s*(?P<lead>[-−–])?"
    rf"(?P<number>{NUMBER})\s*(?P<trail>[-−])?\s*(?P<after>{CURRENCY})?$"
)
_MONTHS = {
    name: index
    for index, names in enumerate(
        (
            "january januar janvier jan jaenner",
            "february februar fevrier feb fev",
            "march marz mars mar mrz",
            "april avril apr avr",
            "may mai",
            "june juni juin jun",
            "july juli juillet jul juil",
            "august aout aug",
            "september septembre sep sept",
            "october oktober octobre oct okt",
            "november novembre nov",
            "december dezember decembre dec dez",
        ),
        1,
    )
    for name in names.split()
}
_NUMERIC_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})|(\d{1,2})([./-])(\d{1,2})\5(\d{4}|\d{2})(?!\d)")
_NAMED_DATE = re.compile(
    r"(\d{1,2})(?:\.|st|nd|rd|th|er)?[ -]([a-z]+)\.?[ -](\d{4})|([a-z]+)\.? (\d{1,2})(?:st|nd|rd"
    r"|th)?, (\d{4})"
)
_IBAN = re.compile(r"\b([A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{1,4}){2,8})")
_IBAN_LENGTH = {
    "AT": 20, "BE": 16, "CH": 21, "CZ": 24, "DE": 22, "DK": 18, "ES": 24, "FI": 18, "FR": 27, "GB": 22,
    "HU": 28, "IE": 22, "IT": 27, "LI": 21, "LU": 20, "NL": 18,
    "NO": 15, "PL": 28, "PT": 25, "RO": 24, "SE": 24,
    "SI": 19, "SK": 24,
}  # fmt: skip
_VAT_ID = re.compile(
    r"\b(?:ATU\d{8}|BE[01]\d{9}|CHE\d{9}|DE\d{9}|FR[A-Z0-9]{2}\d{9}|GB\d{9}(?:\d{3})?|IE\d{7}[A-Z]{1,2}"
    r"|NL\d{9}B\d{2}|IT\d{11}|ES[A-Z0-9]\d{7}[A-Z0-9]|LU\d{8}|PL\d{10}|CZ\d{8,10}|DK\d{8}|SE\d{12})\b"
)
_VAT_SHAPE = re.compile(r"\b(?:AT|BE|CHE|DE|FR|GB|IE|NL|IT|ES|LU|PL|CZ|DK|SE)(?:[ .-]?[A-Z0-9]){8,13}")


@functools.lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """Small letters without accents, sign for sign, so that places stay the same."""
    return "".join(map(_fold_sign, text))


@functools.lru_cache(maxsize=4096)
def _fold_sign(sign: str) -> str:
    return " " if sign in SPACES else unicodedata.normalize("NFD", sign)[0].lower()[:1]


def flat(text: str) -> str:
    """Text with plain spaces only."""
    return "".join(" " if sign in SPACES else sign for sign in text).strip()


def decimal_mark(texts: Iterable[str]) -> str:
    """The sign before the cents, by the amounts that leave no doubt; a point if none does."""
    votes = {",": 0, ".": 0}
    for text in texts:
        for found in re.finditer(r"(?<![\d.,])\d{1,3}(?:[ .,'’]?\d{3})*([.,])\d{2}(?![\d.,])", flat(text)):
            votes[found[1]] += 1
    return max(votes, key=lambda mark: votes[mark]) if any(votes.values()) else "."


def number(text: str, mark: str) -> Decimal | None:
    """A number written with this decimal mark."""
    bare = re.sub(r"[ '’]", "", flat(text))
    thousands = "." if mark == "," else ","
    if re.search(rf"{re.escape(thousands)}(?!\d{{3}}(?!\d))", bare):
        return None
    try:
        return Decimal(bare.replace(thousands, "").replace(mark, "."))
    except InvalidOperation:
        return None


def money(text: str, mark: str) -> tuple[Decimal, str] | None:
    """An amount and its currency (empty if it has none); None if the text is no amount."""
    found = _MONEY.match(flat(text))
    if not found:
        return None
    value = number(found["number"], mark)
    if value is None:
        return None
    sign = found["before"] or found["mark"] or found["after"] or ""
    negative = found["sign"] or found["lead"] or found["trail"]
    return (-value if negative else value), CURRENCIES.get(sign, "CHF" if sign == "Fr." else "")


def read_date(text: str, *, month_first: bool = False) -> tuple[date, bool] | None:
    """The first date in a text and whether day and month could be swapped; None if there is none."""
    folded = fold(text)
    if found := _NUMERIC_DATE.search(folded):
        if found[1]:
            return _day(int(found[1]), int(found[2]), int(found[3]), False)
        first, second, year = int(found[4]), int(found[6]), int(found[7])
        year += 2000 if year < 100 else 0
        swappable = found[5] == "/" and first <= 12 and second <= 12 and first != second
        if second > 12 or (month_first and found[5] == "/" and first <= 12):
            first, second = second, first
        return _day(year, second, first, swappable)
    for found in _NAMED_DATE.finditer(folded):
        day, month, year = (found[1], found[2], found[3]) if found[1] else (found[5], found[4], found[6])
        if month in _MONTHS:
            return _day(int(year), _MONTHS[month], int(day), False)
    return None


def _day(year: int, month: int, day: int, swappable: bool) -> tuple[date, bool] | None:
    try:
        return date(year, month, day), swappable
    except ValueError:
        return None


def ibans(text: str) -> list[str]:
    """Everything in a text that has the shape of an IBAN of its country's length, right or wrong."""
    found = []
    for each in _IBAN.finditer(flat(text)):
        bare = each[1].replace(" ", "")
        length = _IBAN_LENGTH.get(bare[:2])
        if length and len(bare) >= length:
            found.append(bare[:length])
    return found


def iban_is_valid(iban: str) -> bool:
    """Whether the check digits are right (ISO 13616, modulo 97)."""
    try:
        return int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4])) % 97 == 1
    except ValueError:
        return False


def vat_ids(text: str) -> list[str]:
    """The VAT ids in a text, without spaces and points."""
    found = []
    for shape in _VAT_SHAPE.finditer(flat(text).upper()):
        bare = re.sub(r"[ .-]", "", shape[0])
        for length in range(len(bare), 8, -1):
            if _VAT_ID.fullmatch(bare[:length]):
                found.append(bare[:length])
                break
    return found
