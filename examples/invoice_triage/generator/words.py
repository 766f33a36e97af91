"""The words of invoices in three languages, and how suppliers write numbers and dates."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

MONTHS = {
    "en": [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    "de": [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ],
    "fr": [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
}
WORDS: dict[str, dict[str, list[str]]] = {
    "en": {
        "invoice": ["Invoice", "INVOICE", "Tax invoice"],
        "credit": ["Credit note", "CREDIT NOTE"],
        "number": ["Invoice no.", "Invoice number", "Invoice #", "Document no.", "Inv. No."],
        "credit_number": ["Credit note no.", "Credit note number", "Document no."],
        "date": ["Invoice date", "Date", "Date of issue", "Issued on"],
        "due": ["Due date", "Payment due", "Pay by", "Due on"],
        "order": ["PO number", "Your order", "Purchase order", "Your PO", "Customer order no."],
        "customer": ["Customer no.", "Account no.", "Client ID"],
        "delivery": ["Delivery note", "Delivery date", "Our ref."],
        "original": ["Original invoice", "Refers to invoice", "Credit for invoice"],
        "bill_to": ["Bill to", "Invoice to", "Sold to"],
        "vat_id": ["VAT no.", "VAT reg. no.", "VAT ID"],
        "position": ["#", "Item", "Pos."],
        "article": ["Code", "Article", "Part no.", "SKU"],
        "description": ["Description", "Details", "Product"],
        "quantity": ["Qty", "Quantity"],
        "unit": ["Unit", "UoM"],
        "price": ["Unit price", "Price", "Rate"],
        "discount": ["Disc. %", "Discount"],
        "amount": ["Amount", "Line total", "Total"],
        "lines_total": ["Goods total", "Sum of items"],
        "rebate": ["Discount {rate}", "Less {rate} rebate"],
        "freight": ["Carriage", "Shipping", "Freight and packing"],
        "net": ["Subtotal", "Net total", "Total excl. VAT", "Net amount"],
        "vat": ["VAT {rate}", "VAT @ {rate}", "Plus {rate} VAT"],
        "gross": ["Total due", "Amount due", "Invoice total", "Total incl. VAT", "Grand total", "Total"],
        "credit_gross": ["Total credit", "Credit total", "Amount credited"],
        "carried": ["Carried forward", "Subtotal carried over"],
        "brought": ["Brought forward"],
        "page": ["Page {page} of {pages}"],
        "thanks": ["Thank you for your business.", "Goods remain our property until paid in full."],
        "terms": ["Payable within {days} days without deduction.", "Terms: {days} days net."],
        "skonto": ["2 % discount if paid within 10 days."],
        "sentence": ["Please pay {gross} by {due} to account {iban}."],
        "bank": ["Bank details", "Remit to", "Payment to"],
        "phone": ["Phone", "Tel."],
    },
    "de": {
        "invoice": ["Rechnung", "RECHNUNG"],
        "credit": ["Gutschrift", "GUTSCHRIFT", "Rechnungskorrektur"],
        "number": ["Rechnungsnummer", "Rechnungs-Nr.", "Rechnung Nr.", "Belegnummer", "Rechnungsnr."],
        "credit_number": ["Gutschrift Nr.", "Belegnummer", "Gutschriftsnummer"],
        "date": ["Rechnungsdatum", "Datum", "Belegdatum", "Ausstellungsdatum"],
        "due": ["Fällig am", "Zahlbar bis", "Fälligkeit", "Zahlungsziel"],
        "order": ["Ihre Bestellung", "Bestellnummer", "Ihre Bestell-Nr.", "Bestell-Nr.", "Ihr Auftrag"],
        "customer": ["Kundennummer", "Kunden-Nr.", "Debitor"],
        "delivery": ["Lieferschein", "Lieferdatum", "Unser Zeichen"],
        "original": ["Zu Rechnung", "Ursprüngliche Rechnung", "Bezug Rechnung"],
        "bill_to": ["Rechnungsempfänger", "Rechnung an", "Kunde"],
        "vat_id": ["USt-IdNr.", "USt-ID", "UID", "MWST-Nr."],
        "position": ["Pos.", "Pos", "Nr."],
        "article": ["Artikel", "Art.-Nr.", "Artikelnummer"],
        "description": ["Bezeichnung", "Beschreibung", "Leistung"],
        "quantity": ["Menge", "Anzahl"],
        "unit": ["Einheit", "ME", "Einh."],
        "price": ["Einzelpreis", "Preis", "E-Preis", "Preis/Einheit"],
        "discount": ["Rabatt %", "Rabatt"],
        "amount": ["Gesamtpreis", "Betrag", "Gesamt", "G-Preis"],
        "lines_total": ["Summe Positionen", "Warenwert"],
        "rebate": ["Rabatt {rate}", "abzüglich {rate} Nachlass"],
        "freight": ["Versandkosten", "Fracht", "Porto und Verpackung"],
        "net": ["Nettobetrag", "Zwischensumme", "Summe netto", "Netto"],
        "vat": ["MwSt. {rate}", "zzgl. {rate} USt.", "Umsatzsteuer {rate}", "{rate} MwSt."],
        "gross": [
            "Rechnungsbetrag",
            "Gesamtbetrag",
            "Zu zahlender Betrag",
            "Summe brutto",
            "Endbetrag",
            "Gesamtsumme",
        ],
        "credit_gross": ["Gutschriftsbetrag", "Gutschrift gesamt"],
        "carried": ["Übertrag", "Zwischensumme Seite"],
        "brought": ["Übertrag"],
        "page": ["Seite {page} von {pages}"],
        "thanks": ["Vielen Dank für Ihren Auftrag.", "Es gelten unsere Lieferbedingungen."],
        "terms": ["Zahlbar innerhalb von {days} Tagen ohne Abzug.", "Zahlung: {days} Tage netto."],
        "skonto": ["Bei Zahlung innerhalb von 10 Tagen 2 % Skonto."],
        "sentence": ["Bitte überweisen Sie {gross} bis {due} auf das Konto {iban}."],
        "bank": ["Bankverbindung", "Zahlung an", "Konto"],
        "phone": ["Telefon", "Tel."],
    },
    "fr": {
        "invoice": ["Facture", "FACTURE"],
        "credit": ["Avoir", "AVOIR", "Note de crédit"],
        "number": ["Facture n°", "N° de facture", "Numéro de facture", "Facture No", "Réf. facture"],
        "credit_number": ["Avoir n°", "N° d'avoir", "Note de crédit n°"],
        "date": ["Date de facture", "Date", "Date d'émission", "Émise le"],
        "due": ["Échéance", "Date d'échéance", "À payer avant le", "Payable le"],
        "order": [
            "Votre commande",
            "N° de commande",
            "Bon de commande",
            "Commande n°",
            "Votre réf. commande",
        ],
        "customer": ["N° client", "Code client", "Compte client"],
        "delivery": ["Bon de livraison", "Date de livraison", "Notre réf."],
        "original": ["Facture d'origine", "Sur facture n°", "Annule facture"],
        "bill_to": ["Facturé à", "Client", "Adresse de facturation"],
        "vat_id": ["N° TVA", "TVA intracom.", "N° TVA intracommunautaire"],
        "position": ["N°", "Ligne", "Pos."],
        "article": ["Référence", "Réf.", "Code article"],
        "description": ["Désignation", "Description", "Libellé"],
        "quantity": ["Qté", "Quantité"],
        "unit": ["Unité", "U."],
        "price": ["PU HT", "Prix unitaire", "P.U. HT"],
        "discount": ["Remise %", "Rem. %"],
        "amount": ["Montant HT", "Total HT", "Montant"],
        "lines_total": ["Total lignes", "Montant brut HT"],
        "rebate": ["Remise {rate}", "Remise globale {rate}"],
        "freight": ["Frais de port", "Transport", "Port et emballage"],
        "net": ["Total HT", "Sous-total HT", "Montant net HT", "Net HT"],
        "vat": ["TVA {rate}", "TVA ({rate})", "T.V.A. {rate}"],
        "gross": ["Total TTC", "Net à payer", "Montant TTC", "Total à payer", "Montant total TTC"],
        "credit_gross": ["Total avoir TTC", "Net à votre crédit"],
        "carried": ["À reporter", "Report page suivante"],
        "brought": ["Report"],
        "page": ["Page {page}/{pages}"],
        "thanks": ["Merci de votre confiance.", "Pas d'escompte pour paiement anticipé."],
        "terms": ["Paiement à {days} jours net.", "Conditions : {days} jours date de facture."],
        "skonto": ["Escompte de 2 % pour paiement sous 10 jours."],
        "sentence": ["Merci de régler {gross} avant le {due} sur le compte {iban}."],
        "bank": ["Coordonnées bancaires", "RIB", "Règlement à"],
        "phone": ["Tél.", "Téléphone"],
    },
}


def word(language: str, key: str, voice: int) -> str:
    """The word a supplier uses, always the same one."""
    choices = WORDS[language][key]
    return choices[(voice + sum(map(ord, key))) % len(choices)]


def write_amount(amount: Decimal, style: str, places: int = 2) -> str:
    """An amount in the manner of the example `style`."""
    text = f"{abs(amount):,.{places}f}"
    marks = {"1,234.56": ",.", "1.234,56": ".,", "1 234,56": "\u00a0,", "1'234.50": "'."}[style]
    written = text.translate(str.maketrans({",": marks[0], ".": marks[1]}))
    return f"-{written}" if amount < 0 else written


def write_quantity(quantity: Decimal, style: str) -> str:
    """A quantity without decimals it does not need."""
    whole = quantity == quantity.to_integral_value()
    return write_amount(quantity, style, 0 if whole else 2)


def write_price(price: Decimal, style: str) -> str:
    """A price with as many decimals as it has, at least two."""
    exponent = price.normalize().as_tuple().exponent
    return write_amount(price, style, max(2, -int(exponent)))


def write_date(day: date, style: str, language: str) -> str:
    """A date in the manner of `style`."""
    month = MONTHS[language][day.month - 1]
    names = {
        "d.m.Y": f"{day:%d.%m.%Y}",
        "d.m.y": f"{day:%d.%m.%y}",
        "d/m/Y": f"{day:%d/%m/%Y}",
        "d-m-Y": f"{day:%d-%m-%Y}",
        "Y-m-d": f"{day:%Y-%m-%d}",
        "d month Y": f"{day.day} {month} {day.year}",
        "d. month Y": f"{day.day}. {month} {day.year}",
        "d-mon-Y": f"{day.day:02d}-{month[:3]}-{day.year}",
        "month d, Y": f"{month} {day.day}, {day.year}",
    }
    return names[style]


def spaced(iban: str) -> str:
    """An IBAN in groups of four."""
    return " ".join(iban[start : start + 4] for start in range(0, len(iban), 4))
