"""A made-up company: whom it buys from, what was ordered, what arrived, what was already paid."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
TODAY = date(2026, 11, 20)
BUYER = "Hallberg Instruments GmbH"
BUYER_VAT = "DE811223344"
BUYER_ADDRESS = ("Werftstraße 14", "24148 Kiel", "Germany")


@dataclass(frozen=True, slots=True)
class Article:
    """What a supplier sells."""

    code: str
    words: str
    unit: str
    price: Decimal


@dataclass(frozen=True, slots=True)
class Supplier:
    """Whom the company buys from, and how their invoices look."""

    id: str
    name: str
    street: str
    city: str
    country: str
    vat_id: str
    iban: str
    bic: str
    currency: str
    language: str  # en, de or fr
    layout: str
    decimals: str  # how numbers are written: "1,234.56", "1.234,56", "1 234,56" or "1'234.56"
    dates: str  # how dates are written, see words.write_date
    numbering: str  # of their invoices, a format of year and counter
    vat_rate: Decimal
    terms: int  # days until payment
    voice: int  # chooses among the words that mean the same
    articles: tuple[Article, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One position of an order or an invoice."""

    article: Article
    quantity: Decimal
    price: Decimal
    discount: Decimal = Decimal(0)  # percent

    @property
    def amount(self) -> Decimal:
        return cents(self.quantity * self.price * (1 - self.discount / 100))


@dataclass(frozen=True, slots=True)
class Order:
    """A purchase order and what of it has arrived."""

    number: str
    supplier: str
    date: date
    currency: str
    lines: tuple[Line, ...]
    received: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class Invoice:
    """What an invoice says; amounts follow from its lines unless they were forced."""

    supplier: Supplier
    number: str
    date: date
    order: str
    lines: tuple[Line, ...]
    vat_rate: Decimal
    credit: bool = False
    original: str = ""  # the invoice that a credit note takes back
    rebate: Decimal = Decimal(0)  # percent of the lines' sum
    freight: Decimal = Decimal(0)
    forced_gross: Decimal | None = None
    notes: tuple[str, ...] = ()
    pay_to: str = ""  # another account than the supplier's own

    @property
    def due(self) -> date:
        return self.date + timedelta(days=self.supplier.terms)

    @property
    def iban(self) -> str:
        return self.pay_to or self.supplier.iban

    @property
    def lines_total(self) -> Decimal:
        return sum((line.amount for line in self.lines), Decimal(0))

    @property
    def rebate_amount(self) -> Decimal:
        return cents(self.lines_total * self.rebate / 100)

    @property
    def net(self) -> Decimal:
        return self.lines_total - self.rebate_amount + self.freight

    @property
    def vat(self) -> Decimal:
        return cents(self.net * self.vat_rate / 100)

    @property
    def gross(self) -> Decimal:
        return self.net + self.vat if self.forced_gross is None else self.forced_gross


@dataclass
class World:
    """Everything the company's books hold before the invoices arrive."""

    suppliers: list[Supplier]
    orders: dict[str, Order] = field(default_factory=dict)
    paid: list[Invoice] = field(default_factory=list)
    open: list[str] = field(default_factory=list)  # orders that wait for their invoice


def cents(amount: Decimal) -> Decimal:
    """An amount rounded to cents, half up."""
    return amount.quantize(CENT, ROUND_HALF_UP)


def make_world(rng: random.Random, suppliers: int, open_orders: int, layouts: list[str]) -> World:
    """Suppliers with a year of paid orders behind them, and orders that still wait for their invoice."""
    world = World(make_suppliers(rng, suppliers, layouts))
    counter = 4_500_000 + rng.randrange(20_000)
    for supplier in world.suppliers:
        for _ in range(rng.randint(5, 9)):
            counter += rng.randint(1, 9)
            day = TODAY - timedelta(days=rng.randint(50, 380))
            order = make_order(rng, supplier, str(counter), day)
            world.orders[order.number] = order
            world.paid.append(invoice_of(rng, supplier, order, len(world.paid)))
    for index in range(open_orders):
        counter += rng.randint(1, 9)
        supplier = world.suppliers[index % len(world.suppliers)]
        order = make_order(rng, supplier, str(counter), TODAY - timedelta(days=rng.randint(12, 45)))
        world.orders[order.number] = order
        world.open.append(order.number)
    return world


def make_order(rng: random.Random, supplier: Supplier, number: str, day: date) -> Order:
    """An order of one to nine articles, all of which arrived; one in fifteen is long enough for two pages."""
    most = len(supplier.articles)
    count = most if rng.random() < 1 / 15 else rng.choice([1, 1, 2, 2, 3, 3, 4, 5, 7, 9])
    chosen = rng.sample(supplier.articles, min(count, most))
    lines = []
    for article in chosen:
        budget = Decimal(rng.choice([40, 90, 180, 350, 700, 1200]))
        quantity = max(Decimal(1), (budget / article.price).to_integral_value())
        if article.unit in ("h", "kg", "m") and rng.random() < 0.4:
            quantity += Decimal(rng.choice(["0.5", "0.25"]))
        discount = Decimal(rng.choice([0, 0, 0, 0, 0, 5, 10, 3]))
        lines.append(Line(article, quantity, article.price, discount))
    if rng.random() < 0.06:
        lines[0] = replace(lines[0], quantity=lines[0].quantity * 40)
    received = tuple(line.quantity for line in lines)
    return Order(number, supplier.id, day, supplier.currency, tuple(lines), received)


def invoice_of(rng: random.Random, supplier: Supplier, order: Order, serial: int) -> Invoice:
    """The invoice that honestly belongs to an order."""
    number = supplier.numbering.format(year=order.date.year, n=1000 + serial * 7 + rng.randrange(7))
    day = order.date + timedelta(days=rng.randint(3, 9))
    return Invoice(
        supplier,
        number,
        day,
        order.number,
        order.lines,
        supplier.vat_rate,
        rebate=Decimal(0),
        freight=Decimal(rng.choice([0, 0, 0, 0, 15, 25])) + Decimal(rng.choice(["0", "0", "0.90"])),
    )


# Countries: currency, rate of VAT, shape of VAT id and of account, ways to write numbers and dates.
_COUNTRIES = {
    "DE": ("EUR", "19", "DE#########", "##################", ["1.234,56"], ["d.m.Y", "d. month Y"], "de"),
    "AT": ("EUR", "20", "ATU########", "################", ["1.234,56"], ["d.m.Y"], "de"),
    "CH": ("CHF", "8.1", "CHE-###.###.###", "#################", ["1'234.50"], ["d.m.Y", "d.m.y"], "de"),
    "FR": (
        "EUR",
        "20",
        "FR## #########",
        "#######################",
        ["1 234,56"],
        ["d/m/Y", "d month Y"],
        "fr",
    ),
    "BE": (
        "EUR",
        "21",
        "BE 0###.###.###",
        "############",
        ["1.234,56", "1 234,56"],
        ["d/m/Y", "d-m-Y"],
        "fr",
    ),
    "GB": ("GBP", "20", "GB ### #### ##", "@@@@##############", ["1,234.56"], ["d/m/Y", "d month Y"], "en"),
    "IE": ("EUR", "23", "IE#######@@", "@@@@##############", ["1,234.56"], ["d-mon-Y", "month d, Y"], "en"),
    "NL": ("EUR", "21", "NL#########B01", "@@@@##########", ["1,234.56", "1.234,56"], ["Y-m-d"], "en"),
}
_PLACES = {
    "DE": [
        ("Industriestraße", "70565 Stuttgart"),
        ("Am Hafen", "20457 Hamburg"),
        ("Lindenweg", "04109 Leipzig"),
    ],
    "AT": [("Mariahilfer Straße", "1060 Wien"), ("Südtiroler Platz", "8020 Graz")],
    "CH": [("Hardturmstrasse", "8005 Zürich"), ("Freie Strasse", "4001 Basel")],
    "FR": [
        ("rue des Forges", "69003 Lyon"),
        ("avenue Foch", "67000 Strasbourg"),
        ("quai Sud", "44000 Nantes"),
    ],
    "BE": [("rue Haute", "1000 Bruxelles"), ("chaussée de Namur", "4000 Liège")],
    "GB": [
        ("Mill Lane", "Sheffield S1 2HE"),
        ("Station Road", "Leeds LS1 4DY"),
        ("Dock Street", "Bristol BS1 6QH"),
    ],
    "IE": [("Harbour Row", "Cork T12 XY45"), ("Main Street", "Galway H91 A2P3")],
    "NL": [("Keizersgracht", "1015 CJ Amsterdam"), ("Havenstraat", "3011 TG Rotterdam")],
}
_STEMS = {
    "de": [
        "Brandner",
        "Kessler",
        "Vogt",
        "Steinhauer",
        "Lindqvist",
        "Ahrens",
        "Rosskopf",
        "Wendland",
        "Thalmann",
        "Oberhuber",
        "Zellweger",
        "Mauerer",
        "Hinrichs",
        "Falkner",
    ],
    "fr": [
        "Delmas",
        "Garnier",
        "Perrault",
        "Fontanel",
        "Marchand",
        "Bellecour",
        "Rousselot",
        "Chavanne",
        "Lemoine",
    ],
    "en": [
        "Ashworth",
        "Carrick",
        "Pemberton",
        "Holloway",
        "Mullan",
        "Thornbury",
        "Redfern",
        "Van Aalst",
        "Kinsella",
        "Brightwell",
        "De Groot",
    ],
}
_TRADES = {
    "de": [
        "Feinmechanik",
        "Elektronik",
        "Verpackungen",
        "Werkzeugbau",
        "Labortechnik",
        "Kunststoffe",
        "Logistik",
    ],
    "fr": ["Mécanique", "Électronique", "Emballages", "Outillage", "Instruments", "Matériaux"],
    "en": ["Precision", "Electronics", "Packaging", "Tooling", "Instruments", "Fasteners", "Software"],
}
_FORMS = {
    "DE": ["GmbH", "AG", "GmbH & Co. KG", "KG"],
    "AT": ["GmbH", "Ges.m.b.H."],
    "CH": ["AG", "Sàrl", "GmbH"],
    "FR": ["SARL", "SAS", "S.A."],
    "BE": ["SRL", "SA"],
    "GB": ["Ltd", "Limited", "plc", "LLP"],
    "IE": ["Ltd", "DAC"],
    "NL": ["B.V.", "BV"],
}
_GOODS = {
    "de": [
        "Präzisionswelle",
        "Dichtring",
        "Gehäusedeckel",
        "Steckverbinder",
        "Federblech",
        "Messkopf",
        "Kabelsatz",
        "Schaumstoffeinlage",
        "Faltkarton",
        "Spannhülse",
        "Montagestunde",
        "Schmierfett",
        "Lagerbock",
        "Sensorplatine",
        "Klemmleiste",
        "Edelstahlrohr",
        "Führungsschiene",
        "Druckfeder",
    ],
    "fr": [
        "Arbre de précision",
        "Joint torique",
        "Capot",
        "Connecteur",
        "Ressort",
        "Tête de mesure",
        "Câblage",
        "Mousse de calage",
        "Carton double",
        "Douille",
        "Heure de montage",
        "Graisse",
        "Palier",
        "Carte capteur",
        "Bornier",
        "Tube inox",
        "Rail de guidage",
        "Vis épaulée",
    ],
    "en": [
        "Precision shaft",
        "Sealing ring",
        "Housing cover",
        "Connector",
        "Leaf spring",
        "Probe head",
        "Cable set",
        "Foam insert",
        "Folding carton",
        "Clamping sleeve",
        "Assembly labour",
        "Bearing grease",
        "Pillow block",
        "Sensor board",
        "Terminal strip",
        "Stainless tube",
        "Guide rail",
        "Shoulder screw",
    ],
}
_DETAILS = {
    "de": [
        "8 mm, gehärtet",
        "Typ B, schwarz",
        "nach Zeichnung 4711-2",
        "IP67",
        "V2A",
        "Satz zu 12 Teilen",
        "",
    ],
    "fr": ["8 mm, trempé", "type B, noir", "selon plan 4711-2", "IP67", "inox A4", "lot de 12 pièces", ""],
    "en": ["8 mm, hardened", "type B, black", "to drawing 4711-2", "IP67", "grade A4", "set of 12 parts", ""],
}
_UNITS = {
    "de": ["Stk", "Stk", "Stk", "m", "kg", "Std"],
    "fr": ["pce", "pce", "u", "m", "kg", "h"],
    "en": ["pcs", "pcs", "ea", "m", "kg", "h"],
}
_NUMBERINGS = [
    "RE-{year}-{n}",
    "{year}{n:06d}",
    "INV-{n:05d}",
    "F{year}/{n}",
    "{n:07d}",
    "R{n}-{year}",
    "AB/{n}/{year}",
]


def make_suppliers(rng: random.Random, count: int, layouts: list[str]) -> list[Supplier]:
    """So many suppliers, spread over countries and layouts."""
    countries = ["DE", "FR", "GB", "CH", "IE", "BE", "DE", "FR", "NL", "AT", "GB", "FR"]
    found: list[Supplier] = []
    names: set[str] = set()
    for index in range(count):
        country = countries[index % len(countries)]
        language = _COUNTRIES[country][6]
        while True:
            stem, trade = rng.choice(_STEMS[language]), rng.choice(_TRADES[language])
            joined = rng.choice(
                [f"{stem} {trade}", f"{trade} {stem}", f"{stem} & {rng.choice(_STEMS[language])}"]
            )
            if joined not in names and not any(stem in name and trade in name for name in names):
                break
        names.add(joined)
        name = f"{joined} {rng.choice(_FORMS[country])}"
        layout = layouts[(index // 3 + index) % len(layouts)]
        found.append(make_supplier(rng, f"S{1001 + index}", name, country, layout))
    return found


def make_supplier(rng: random.Random, id_: str, name: str, country: str, layout: str) -> Supplier:
    """A supplier of that name and country with an account, a VAT id and a catalogue of its own."""
    currency, rate, vat_id, account, decimals, dates, language = _COUNTRIES[country]
    street, city = rng.choice(_PLACES[country])
    bank = "".join(rng.choice("ABDEGKLMNPRST") for _ in range(4))
    return Supplier(
        id=id_,
        name=name,
        street=f"{street} {rng.randint(1, 180)}"
        if country not in ("FR", "GB", "IE")
        else f"{rng.randint(1, 180)} {street}",
        city=city,
        country=country,
        vat_id=_filled(rng, vat_id),
        iban=make_iban(country, _filled(rng, account.replace("@@@@", bank))),
        bic=f"{bank}{country}{rng.choice(['2H', 'FF', 'M1'])}XXX"[: rng.choice([8, 11])],
        currency=currency,
        language=language,
        layout=layout,
        decimals=rng.choice(decimals),
        dates=rng.choice(dates),
        numbering=rng.choice(_NUMBERINGS),
        vat_rate=Decimal(rate),
        terms=rng.choice([14, 30, 30, 45]),
        voice=rng.randrange(1000),
        articles=_catalogue(rng, language),
    )


def make_iban(country: str, account: str) -> str:
    """An IBAN with right check digits (ISO 13616, modulo 97)."""
    digits = "".join(str(int(letter, 36)) for letter in f"{account}{country}00")
    return f"{country}{98 - int(digits) % 97:02d}{account}"


def _catalogue(rng: random.Random, language: str) -> tuple[Article, ...]:
    shape = rng.choice(["{}-{:04d}", "{}{:05d}", "{:.1}.{:03d}.7"])
    letters = "".join(rng.choice("ABCDEFGHKLMPRSTW") for _ in range(2))
    articles = []
    for index, words in enumerate(rng.sample(_GOODS[language], len(_GOODS[language]))):
        detail = rng.choice(_DETAILS[language])
        unit = rng.choice(_UNITS[language])
        price = cents(Decimal(rng.choice([3, 9, 17, 42, 88, 145])) * Decimal(rng.uniform(0.6, 1.8)))
        if unit in ("pcs", "Stk", "pce") and rng.random() < 0.12:
            price = Decimal(rng.randint(150, 990)) / 1000 + Decimal(
                "0.0005"
            )  # small parts cost parts of a cent
        code = shape.format(letters, 100 + index * 13 + rng.randrange(13))
        articles.append(Article(code, f"{words} {detail}".strip(), unit, price))
    return tuple(articles)


def _filled(rng: random.Random, shape: str) -> str:
    letters = {"#": "0123456789", "@": "ABCDEFGHKLMNPRSTW"}
    return "".join(rng.choice(letters[sign]) if sign in letters else sign for sign in shape)
