"""Ten ways to lay out an invoice. Each is drawn by a function of its own; none knows how it will be read."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from generator.sheet import WIDTH, Column, Sheet
from generator.words import spaced, word, write_amount, write_date, write_price, write_quantity
from generator.world import BUYER, BUYER_ADDRESS, BUYER_VAT, Invoice, Line

SYMBOLS = {"EUR": "€", "GBP": "£", "CHF": "CHF"}
LEFT, RIGHT = 56.0, WIDTH - 56.0


@dataclass(frozen=True)
class Written:
    """An invoice in its supplier's words."""

    invoice: Invoice
    buyer: str = BUYER

    def say(self, key: str) -> str:
        return word(self.invoice.supplier.language, key, self.invoice.supplier.voice)

    def amount(self, amount: Decimal) -> str:
        sign = -1 if self.invoice.credit and self.invoice.supplier.voice % 2 else 1
        return write_amount(amount * sign, self.invoice.supplier.decimals)

    def money(self, amount: Decimal) -> str:
        currency = self.invoice.supplier.currency
        if self.invoice.supplier.voice % 3 == 0:
            return f"{self.amount(amount)} {currency}"
        if self.invoice.supplier.language == "en" and currency != "CHF":
            return f"{SYMBOLS[currency]}{self.amount(amount)}"
        return f"{self.amount(amount)} {SYMBOLS[currency]}"

    def rate(self, rate: Decimal) -> str:
        style = self.invoice.supplier.decimals
        return f"{write_quantity(rate, style) if rate % 1 == 0 else write_price(rate, style).rstrip('0')} %"

    @property
    def title(self) -> str:
        return self.say("credit" if self.invoice.credit else "invoice")

    @property
    def number_label(self) -> str:
        return self.say("credit_number" if self.invoice.credit else "number")

    @property
    def day(self) -> str:
        return self.date(self.invoice.date)

    def date(self, day) -> str:
        return write_date(day, self.invoice.supplier.dates, self.invoice.supplier.language)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Label and value of what stands in the head, in the order of this supplier."""
        invoice, supplier = self.invoice, self.invoice.supplier
        found = [(self.number_label, invoice.number), (self.say("date"), self.day)]
        if invoice.order:
            found.append((self.say("order"), invoice.order))
        if invoice.credit:
            found.append((self.say("original"), invoice.original))
        else:
            found.append((self.say("due"), self.date(invoice.due)))
        found.append((self.say("customer"), f"{10_000 + supplier.voice * 37}"))
        if supplier.voice % 2:
            found.insert(2, (self.say("delivery"), f"LS-{supplier.voice + 52_000}"))
        if supplier.voice % 5 == 1:
            found.reverse()
        return found

    @property
    def totals(self) -> list[tuple[str, str]]:
        """Label and amount of the sums, the last one the amount due."""
        invoice = self.invoice
        found = []
        if invoice.rebate or invoice.freight:
            found.append((self.say("lines_total"), self.money(invoice.lines_total)))
        if invoice.rebate:
            label = self.say("rebate").format(rate=self.rate(invoice.rebate))
            found.append((label, self.money(-invoice.rebate_amount)))
        if invoice.freight:
            found.append((self.say("freight"), self.money(invoice.freight)))
        found.append((self.say("net"), self.money(invoice.net)))
        found.append((self.say("vat").format(rate=self.rate(invoice.vat_rate)), self.money(invoice.vat)))
        found.append((self.say("credit_gross" if invoice.credit else "gross"), self.money(invoice.gross)))
        return found

    @property
    def sender(self) -> list[str]:
        supplier = self.invoice.supplier
        return [supplier.name, supplier.street, f"{supplier.city}"]

    @property
    def vat_line(self) -> str:
        return f"{self.say('vat_id')}: {self.invoice.supplier.vat_id}"

    @property
    def closing(self) -> list[str]:
        terms = self.say("terms").format(days=self.invoice.supplier.terms)
        words = [] if self.invoice.credit else [terms]
        if self.invoice.supplier.voice % 4 == 0 and not self.invoice.credit:
            words.append(self.say("skonto"))
        return [*words, self.say("thanks"), *self.invoice.notes]

    @property
    def bank(self) -> list[str]:
        invoice = self.invoice
        return [f"IBAN: {spaced(invoice.iban)}", f"BIC: {invoice.supplier.bic}"]

    def cells(self, index: int, line: Line) -> dict[str, str]:
        style = self.invoice.supplier.decimals
        return {
            "position": str(index),
            "article": line.article.code,
            "description": line.article.words,
            "quantity": write_quantity(line.quantity, style),
            "unit": line.article.unit,
            "price": write_price(line.price, style),
            "discount": f"{write_quantity(line.discount, style)} %" if line.discount else "",
            "amount": self.amount(line.amount),
            "vat": self.rate(self.invoice.vat_rate),
        }


def _column(said: Written, key: str, x: float, align: str = "left", width: float = 200) -> Column:
    return Column(key, said.say(key), x, align, width)


def _table(sheet: Sheet, said: Written, columns: list[Column], y: float, bottom: float, **how) -> float:
    """Draw the lines under their headings, on as many pages as it takes; where the table ended."""
    step = how.get("step", 12.0)
    y = _headings(sheet, columns, y, how)
    carried = Decimal(0)
    for index, line in enumerate(said.invoice.lines, 1):
        cells = said.cells(index, line)
        if how.get("article_below"):
            cells["description"] = f"{cells['description']} ({cells['article']})"
        folded = {c.key: sheet.fold(cells[c.key], c.width) for c in columns}
        height = max(map(len, folded.values())) * step
        if y + height > bottom:
            if how.get("carry"):
                sheet.text(columns[0].x, y, said.say("carried"), bold=True)
                sheet.text(columns[-1].x, y, said.amount(carried), bold=True, align="right")
            sheet.new_page()
            y = _headings(sheet, columns, how.get("top", 90.0), how)
            if how.get("carry"):
                sheet.text(columns[0].x, y, said.say("brought"))
                sheet.text(columns[-1].x, y, said.amount(carried), align="right")
                y += step * 1.4
        for column in columns:
            for row, words in enumerate(folded[column.key]):
                sheet.text(column.x, y + row * step, words, align=column.align)
        y += height + how.get("gap", 3.0)
        carried += line.amount
        if how.get("ruled"):
            sheet.rule(LEFT, y - step + 3, RIGHT, 0.3)
    return y


def _headings(sheet: Sheet, columns: list[Column], y: float, how: dict) -> float:
    band = how.get("band")
    colour = (1.0, 1.0, 1.0) if band else (0.0, 0.0, 0.0)
    if band:
        sheet.block(LEFT - 4, y - 11, RIGHT + 4, y + 5, band)
    for column in columns:
        sheet.text(column.x, y, column.heading, bold=True, align=column.align, colour=colour)
    if not band:
        sheet.rule(LEFT, y + 4, RIGHT)
    return y + 18


def _totals(
    sheet: Sheet, said: Written, label_x: float, value_x: float, y: float, align: str = "left"
) -> float:
    *parts, due = said.totals
    for label, amount in parts:
        sheet.text(label_x, y, label, align=align)
        sheet.text(value_x, y, amount, align="right")
        y += 14
    sheet.rule(label_x if align == "left" else label_x - 120, y - 8, value_x)
    sheet.text(label_x, y + 4, due[0], sheet.size + 1, bold=True, align=align)
    sheet.text(value_x, y + 4, due[1], sheet.size + 1, bold=True, align="right")
    return y + 26


def _room(sheet: Sheet, y: float, needed: float, top: float = 90.0) -> float:
    """Where to go on so that this much still fits on the page."""
    if y + needed <= 780:
        return y
    sheet.new_page()
    return top


def ruled(said: Written) -> bytes:
    """Sender on top left, facts in a box on the right, a ruled table, sums below on the right."""
    sheet = Sheet("sans", 9)
    sheet.text(LEFT, 62, said.sender[0], 14, bold=True)
    sheet.lines(LEFT, 78, [*said.sender[1:], said.vat_line], 8)
    sheet.text(RIGHT, 62, said.title, 18, bold=True, align="right")
    sheet.text(LEFT, 140, said.say("bill_to"), bold=True)
    sheet.lines(LEFT, 153, [said.buyer, *BUYER_ADDRESS])
    y = 140.0
    for label, value in said.facts:
        sheet.text(340, y, f"{label}:")
        sheet.text(RIGHT, y, value, align="right")
        y += 13
    columns = [
        _column(said, "position", LEFT),
        _column(said, "article", LEFT + 24, width=70),
        _column(said, "description", LEFT + 98, width=130),
        _column(said, "quantity", 330, "right"),
        _column(said, "unit", 340),
        _column(said, "price", 415, "right"),
        _column(said, "discount", 470, "right"),
        _column(said, "amount", RIGHT, "right"),
    ]
    y = _table(sheet, said, columns, 240, 720, ruled=True)
    y = _totals(sheet, said, 340, RIGHT, _room(sheet, y + 10, 150))
    y = sheet.lines(LEFT, y, said.closing)
    sheet.lines(LEFT, y + 8, [said.say("bank"), *said.bank], 8)
    return sheet.done()


def letter(said: Written) -> bytes:
    """A letter: small sender line, window address, block of facts on the right, three-part footer."""
    sheet = Sheet("serif", 10)

    def footer(page: Sheet) -> None:
        page.rule(LEFT, 775, RIGHT, 0.3)
        page.lines(LEFT, 786, said.sender, 7, 9)
        page.lines(230, 786, said.bank, 7, 9)
        page.lines(
            440, 786, [said.vat_line, f"{said.say('phone')} +49 30 555{said.invoice.supplier.voice}"], 7, 9
        )

    sheet.on_new_page = footer
    footer(sheet)
    sheet.text(RIGHT, 60, said.sender[0], 16, bold=True, align="right")
    sheet.text(LEFT, 128, " · ".join(said.sender), 6.5)
    sheet.lines(LEFT, 144, [said.buyer, *BUYER_ADDRESS])
    y = 144.0
    for label, value in said.facts:
        sheet.text(360, y, label, 8)
        sheet.text(450, y, value, 9)
        y += 13
    sheet.text(LEFT, 262, f"{said.title} {said.invoice.number}", 13, bold=True)
    columns = [
        _column(said, "position", LEFT),
        _column(said, "quantity", LEFT + 62, "right"),
        _column(said, "unit", LEFT + 68),
        _column(said, "description", LEFT + 100, width=190),
        _column(said, "price", 440, "right"),
        _column(said, "amount", RIGHT, "right"),
    ]
    discounted = any(line.discount for line in said.invoice.lines)
    if discounted:
        columns.insert(5, _column(said, "discount", 485, "right"))
    y = _table(sheet, said, columns, 290, 700, article_below=True, carry=True)
    y = _totals(sheet, said, 330, RIGHT, _room(sheet, y + 8, 140))
    sheet.lines(LEFT, y, said.closing)
    return sheet.done()


def band(said: Written) -> bytes:
    """White words on a dark head, values under their labels in a row, sums in a tinted box."""
    sheet = Sheet("embedded", 8)
    dark = (0.12, 0.22, 0.36)
    sheet.block(0, 0, WIDTH, 88, dark)
    sheet.text(LEFT, 48, said.sender[0], 17, bold=True, colour=(1, 1, 1))
    sheet.text(LEFT, 66, ", ".join(said.sender[1:]), 8, colour=(0.9, 0.92, 1))
    sheet.text(RIGHT, 48, said.title, 17, colour=(1, 1, 1), align="right")
    step = (RIGHT - LEFT) / len(said.facts)
    for index, (label, value) in enumerate(said.facts):
        sheet.text(LEFT + index * step, 112, label, 6.5, colour=(0.35, 0.35, 0.4))
        sheet.text(LEFT + index * step, 124, value, 8, bold=True)
    sheet.text(LEFT, 156, said.say("bill_to"), 6.5, colour=(0.35, 0.35, 0.4))
    sheet.lines(LEFT, 168, [said.buyer, *BUYER_ADDRESS, *([BUYER_VAT] if said.buyer == BUYER else [])])
    columns = [
        _column(said, "description", LEFT, width=190),
        _column(said, "article", 262, width=60),
        _column(said, "quantity", 355, "right"),
        _column(said, "price", 425, "right"),
        _column(said, "discount", 475, "right"),
        _column(said, "amount", RIGHT, "right"),
    ]
    y = _table(sheet, said, columns, 240, 715, band=dark, gap=6)
    y = _room(sheet, y + 14, 150)
    sheet.block(320, y - 14, RIGHT + 6, y + 14 * len(said.totals) + 12, (0.92, 0.94, 0.97))
    y = _totals(sheet, said, 330, RIGHT, y)
    y = sheet.lines(LEFT, y + 6, said.closing, 7.5)
    sheet.lines(LEFT, y + 10, [f"{said.say('bank')}: {' / '.join(said.bank)}", said.vat_line], 7.5)
    return sheet.done()


def sidebar(said: Written) -> bytes:
    """Everything about the supplier in a column on the left, the lines on the right."""
    sheet = Sheet("sans", 8.5)
    side = 40.0

    def column(page: Sheet) -> None:
        page.block(0, 0, 168, 842, (0.93, 0.93, 0.9))
        for index, words in enumerate(page.fold(said.sender[0], 120, 12)):
            page.text(side, 70 + index * 15, words, 12, bold=True)
        y = page.lines(side, 120, [*said.sender[1:], said.vat_line.replace(": ", ":")], 7.5, 11)
        page.lines(
            side,
            y + 20,
            [said.say("bank"), f"IBAN {said.invoice.iban[:14]}", said.invoice.iban[14:]],
            7.5,
            11,
        )

    sheet.on_new_page = column
    column(sheet)
    y = 260.0
    for label, value in said.facts:
        sheet.text(side, y, label, 7, colour=(0.3, 0.3, 0.3))
        sheet.text(side, y + 11, value, 9, bold=True)
        y += 30
    sheet.text(190, 70, said.title, 20, bold=True)
    sheet.lines(190, 100, [said.say("bill_to"), said.buyer, *BUYER_ADDRESS])
    columns = [
        _column(said, "article", 190, width=55),
        _column(said, "description", 248, width=110),
        _column(said, "quantity", 395, "right"),
        _column(said, "price", 460, "right"),
        _column(said, "amount", RIGHT, "right"),
    ]
    if any(line.discount for line in said.invoice.lines):
        columns.insert(4, _column(said, "discount", 497, "right"))
        columns[2] = _column(said, "quantity", 385, "right")
        columns[3] = _column(said, "price", 440, "right")
    y = _table(sheet, said, columns, 190, 700, top=80.0)
    y = _totals(sheet, said, 470, RIGHT, _room(sheet, y + 14, 140), align="right")
    sheet.lines(190, y, said.closing, 7.5)
    return sheet.done()


def printout(said: Written) -> bytes:
    """The printout of an old system: one typewriter font, columns made of spaces."""
    sheet = Sheet("mono", 9)
    invoice = said.invoice
    rows = [said.sender[0], *said.sender[1:], said.vat_line, "", "", f"{said.title:^88}".rstrip(), ""]
    left = [said.buyer, *BUYER_ADDRESS]
    for index in range(max(len(left), len(said.facts))):
        address = left[index] if index < len(left) else ""
        fact = f"{said.facts[index][0]:<22}: {said.facts[index][1]}" if index < len(said.facts) else ""
        rows.append(f"{address:<44}{fact}".rstrip())
    heads = [
        said.say(key) for key in ("position", "article", "description", "quantity", "unit", "price", "amount")
    ]
    shape = "{:<4} {:<11} {:<28} {:>9} {:<4} {:>11} {:>14}"
    rows += ["", shape.format(*(head[:28] for head in heads)), "-" * 88]
    for index, line in enumerate(invoice.lines, 1):
        cell = said.cells(index, line)
        words = textwrap.wrap(cell["description"], 28)
        rows.append(
            shape.format(
                cell["position"],
                cell["article"],
                words[0],
                cell["quantity"],
                cell["unit"],
                cell["price"],
                cell["amount"],
            )
        )
        rows += [f"{'':<17}{more}" for more in words[1:]]
        if line.discount:
            rows.append(f"{'':<17}{said.say('discount')} {cell['discount']}")
    rows.append("-" * 88)
    rows += [f"{label:>62} {amount:>25}" for label, amount in said.totals]
    rows += ["=" * 88, *said.closing, "", said.say("bank"), *said.bank]
    y = 60.0
    for row in rows:
        if y > 780:
            sheet.new_page()
            y = 60.0
        sheet.text(50, y, row, 9)
        y += 12
    return sheet.done()


def boxes(said: Written) -> bytes:
    """A form of boxes, a small label at the top of each and the value below."""
    sheet = Sheet("sans", 9)
    sheet.text(LEFT, 56, said.title, 16, bold=True)
    sheet.frame(LEFT, 70, 300, 150)
    sheet.text(
        LEFT + 4,
        79,
        {"en": "Supplier", "de": "Lieferant", "fr": "Fournisseur"}[said.invoice.supplier.language],
        6,
    )
    sheet.lines(LEFT + 4, 94, [*said.sender, said.vat_line])
    sheet.frame(300, 70, RIGHT, 150)
    sheet.text(304, 79, said.say("bill_to"), 6)
    sheet.lines(304, 94, [said.buyer, *BUYER_ADDRESS])
    cell = (RIGHT - LEFT) / 3
    for index, (label, value) in enumerate(said.facts):
        x, y = LEFT + index % 3 * cell, 160 + index // 3 * 32
        sheet.frame(x, y, x + cell, y + 32)
        sheet.text(x + 4, y + 9, label, 6)
        sheet.text(x + 8, y + 24, value, 10)
    columns = [
        _column(said, "position", LEFT + 3),
        _column(said, "description", LEFT + 30, width=180),
        _column(said, "quantity", 310, "right"),
        _column(said, "unit", 316),
        _column(said, "price", 400, "right"),
        _column(said, "discount", 455, "right"),
        _column(said, "amount", RIGHT - 3, "right"),
    ]
    y = _table(sheet, said, columns, 250, 690, article_below=True)
    y = _room(sheet, y + 10, 160)
    wide = (RIGHT - LEFT) / len(said.totals)
    for index, (label, amount) in enumerate(said.totals):
        x = LEFT + index * wide
        sheet.frame(x, y, x + wide, y + 34)
        sheet.text(x + 3, y + 9, label, 6)
        sheet.text(x + wide - 4, y + 26, amount, 8.5, bold=index == len(said.totals) - 1, align="right")
    y = sheet.lines(LEFT, y + 52, said.closing)
    sheet.lines(LEFT, y + 8, [said.say("bank"), *said.bank])
    return sheet.done()


def centred(said: Written) -> bytes:
    """Letterhead in the middle, facts in one running row, sums left of the account."""
    sheet = Sheet("serif", 9.5)
    sheet.text(WIDTH / 2, 58, said.sender[0].upper(), 17, bold=True, align="middle")
    sheet.text(WIDTH / 2, 74, " - ".join([*said.sender[1:], said.vat_line]), 8, align="middle")
    sheet.rule(LEFT, 84, RIGHT, 1.2)
    sheet.text(WIDTH / 2, 112, f"{said.title}", 14, align="middle")
    sheet.lines(350, 140, [said.buyer, *BUYER_ADDRESS])
    half = (len(said.facts) + 1) // 2
    for row, facts in enumerate((said.facts[:half], said.facts[half:])):
        x = LEFT
        for label, value in facts:
            sheet.text(x, 222 + row * 14, f"{label}: {value}")
            x += 168
    columns = [
        _column(said, "article", LEFT, width=75),
        _column(said, "description", LEFT + 80, width=170),
        _column(said, "quantity", 345, "right"),
        _column(said, "unit", 352),
        _column(said, "price", 425, "right"),
        Column(
            "vat", {"en": "VAT", "de": "MwSt.", "fr": "TVA"}[said.invoice.supplier.language], 470, "right"
        ),
        _column(said, "amount", RIGHT, "right"),
    ]
    if any(line.discount for line in said.invoice.lines):
        columns[5] = _column(said, "discount", 475, "right")
    y = _table(sheet, said, columns, 265, 700, carry=True, top=70.0)
    y = _room(sheet, y + 16, 150)
    sheet.lines(330, y, [said.say("bank"), said.invoice.supplier.name, *said.bank], 8.5)
    y = _totals(sheet, said, LEFT, 260, y)
    sheet.lines(LEFT, y + 20, said.closing, 8.5)
    return sheet.done()


def slip(said: Written) -> bytes:
    """Lines above, a payment slip with account, reference and amount at the foot of the last page."""
    sheet = Sheet("embedded", 8.5)
    sheet.lines(LEFT, 60, [*said.sender, said.vat_line])
    sheet.lines(360, 130, [said.buyer, *BUYER_ADDRESS])
    sheet.text(LEFT, 200, f"{said.title}", 15, bold=True)
    y = 220.0
    for label, value in said.facts:
        sheet.text(LEFT, y, label)
        sheet.text(LEFT + 130, y, value)
        y += 13
    columns = [
        _column(said, "description", LEFT, width=175),
        _column(said, "article", 240, width=60),
        _column(said, "quantity", 330, "right"),
        _column(said, "unit", 336),
        _column(said, "price", 415, "right"),
        _column(said, "discount", 465, "right"),
        _column(said, "amount", RIGHT, "right"),
    ]
    y = _table(sheet, said, columns, y + 18, 700, top=80.0)
    y = _totals(sheet, said, 320, RIGHT, _room(sheet, y + 8, 300, 80.0))
    sheet.lines(LEFT, y, said.closing, 8)
    sheet.rule(0, 640, WIDTH, 0.4)
    slip_words = {
        "en": ("Payment part", "Account / Payable to", "Reference", "Currency", "Amount", "Payable by"),
        "de": ("Zahlteil", "Konto / Zahlbar an", "Referenz", "Währung", "Betrag", "Zahlbar durch"),
        "fr": ("Section paiement", "Compte / Payable à", "Référence", "Monnaie", "Montant", "Payable par"),
    }[said.invoice.supplier.language]
    sheet.text(220, 662, slip_words[0], 11, bold=True)
    sheet.text(360, 662, slip_words[1], 7, bold=True)
    sheet.lines(360, 674, [spaced(said.invoice.iban), *said.sender], 8.5)
    sheet.text(360, 730, slip_words[2], 7, bold=True)
    sheet.text(360, 742, f"{said.invoice.supplier.voice:03d}00 {said.invoice.order or '0'} 00042", 8.5)
    sheet.text(360, 766, slip_words[5], 7, bold=True)
    sheet.lines(360, 778, [said.buyer, BUYER_ADDRESS[1]], 8.5)
    sheet.text(220, 760, slip_words[3], 7, bold=True)
    sheet.text(220, 774, said.invoice.supplier.currency, 10)
    sheet.text(272, 760, slip_words[4], 7, bold=True)
    sheet.text(272, 774, said.amount(said.invoice.gross), 10)
    return sheet.done()


def plain(said: Written) -> bytes:
    """Hardly any layout: sentences, and each position as a small calculation."""
    sheet = Sheet("sans", 10)
    invoice = said.invoice
    y = sheet.lines(LEFT, 64, [*said.sender, said.vat_line])
    y = sheet.lines(LEFT, y + 14, [said.buyer, *BUYER_ADDRESS])
    sheet.text(LEFT, y + 20, said.title, 15, bold=True)
    y = sheet.lines(LEFT, y + 42, [f"{label} {value}" for label, value in said.facts])
    y += 14
    for index, line in enumerate(invoice.lines, 1):
        cell = said.cells(index, line)
        y = _room(sheet, y, 34, 64)
        sheet.text(LEFT, y, f"{index}. {cell['description']} ({cell['article']})")
        less = f" - {cell['discount']}" if line.discount else ""
        sheet.text(LEFT + 16, y + 13, f"{cell['quantity']} {cell['unit']} x {cell['price']}{less}")
        sheet.text(RIGHT, y + 13, said.money(line.amount), align="right")
        y += 32
    y = _room(sheet, y + 6, 170, 64)
    for label, amount in said.totals:
        sheet.text(LEFT, y, f"{label}:")
        sheet.text(RIGHT, y, amount, align="right")
        y += 14
    words = (
        []
        if invoice.credit
        else [
            said.say("sentence").format(
                gross=said.money(invoice.gross), due=said.date(invoice.due), iban=spaced(invoice.iban)
            )
        ]
    )
    sheet.lines(LEFT, y + 12, [*words, *said.closing] if words else [*said.closing, *said.bank])
    return sheet.done()


def ledger(said: Written) -> bytes:
    """The sums stand in a row under headings of their own; facts in a table under the lines' own heading."""
    sheet = Sheet("serif", 9)
    sheet.text(LEFT, 60, said.title.upper(), 20, bold=True, colour=(0.5, 0.1, 0.1))
    sheet.lines(RIGHT, 56, [*said.sender, said.vat_line], align="right")
    sheet.lines(LEFT, 112, [f"{said.say('bill_to')}:", said.buyer, *BUYER_ADDRESS])
    cell = (RIGHT - LEFT) / len(said.facts)
    sheet.block(LEFT, 180, RIGHT, 194, (0.88, 0.88, 0.88))
    for index, (label, value) in enumerate(said.facts):
        middle = LEFT + (index + 0.5) * cell
        sheet.text(middle, 190, label, 7.5, bold=True, align="middle")
        sheet.text(middle, 206, value, 8.5, align="middle")
    columns = [
        _column(said, "quantity", LEFT + 40, "right"),
        _column(said, "unit", LEFT + 46),
        _column(said, "article", LEFT + 80, width=70),
        _column(said, "description", LEFT + 150, width=150),
        _column(said, "price", 430, "right"),
        _column(said, "discount", 480, "right"),
        _column(said, "amount", RIGHT, "right"),
    ]
    y = _table(sheet, said, columns, 240, 690)
    y = _room(sheet, y + 14, 130)
    parts = said.totals
    step = (RIGHT - LEFT) / len(parts)
    sheet.block(LEFT, y - 10, RIGHT, y + 4, (0.88, 0.88, 0.88))
    for index, (label, amount) in enumerate(parts):
        sheet.text(LEFT + (index + 1) * step - 4, y, label, 7.5, bold=True, align="right")
        sheet.text(LEFT + (index + 1) * step - 4, y + 16, amount, 9, align="right")
    y = sheet.lines(LEFT, y + 44, said.closing)
    sheet.lines(
        LEFT, y + 8, [f"{said.say('bank')}: IBAN {said.invoice.iban}  BIC {said.invoice.supplier.bic}"]
    )
    return sheet.done()


LAYOUTS: dict[str, Callable[[Written], bytes]] = {
    each.__name__: each
    for each in (ruled, letter, band, sidebar, printout, boxes, centred, slip, plain, ledger)
}


def draw(invoice: Invoice, buyer: str = BUYER) -> bytes:
    """The invoice as a PDF in its supplier's layout and words, addressed to this buyer."""
    return LAYOUTS[invoice.supplier.layout](Written(invoice, buyer))
