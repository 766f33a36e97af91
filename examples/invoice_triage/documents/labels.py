"""The words that stand before, or above, the facts and sums of invoices, in English, German and French.

Patterns match text folded to small letters without accents. They are what invoices say in general; words of
one's own suppliers can be added here.
"""

from __future__ import annotations

import re

_NO = r"(?:no\.?|nr\.?|nbr\.?|number|num\.?|nummer|numero|n°|n º|#|id|code|ref\.?|reference)"
_DOC = r"(?:tax invoice|invoice|inv\.?|bill|document|doc\.?|rechnungs?|beleg|faktura|facture|piece)"
_CREDIT = r"(?:credit note|credit memo|gutschrifts?|rechnungskorrektur|avoir|note de credit|storno)"
_ORDER = (
    r"(?:purchase order|p\.?o\.?|order|customer order|bestell(?:ung|ungs)?|auftrags?|commande"
    r"|bon de commande)"
)
_OF = r"(?:de la |de l'|de |d'|du )?"
_YOUR = r"(?:your |ihre?n? |votre |vos |customer |client |kunden)?"
_SEP = r"\s*[-.]?\s*"

FACTS: dict[str, list[str]] = {
    "original": [
        r"(?:original|related|corrected) (?:invoice|document)(?: no\.?| number)?",
        r"(?:refers to|credit for|cancels|re:) invoice(?: no\.?| number)?",
        r"(?:zu|zur|bezug|ursprungliche|korrigierte|storno zu|betrifft)"
        + r" rechnung(?:s?nummer|s?-nr\.?| nr\.?)?",
        r"facture (?:d'origine|initiale|concernee)",
        r"(?:sur|annule|relatif a la?) facture(?: n°)?",
    ],
    "number": [
        rf"(?:{_DOC}|{_CREDIT}){_SEP}{_NO}",
        rf"{_NO}\s*{_OF}(?:{_DOC}|{_CREDIT})",
        r"rechnungsnr\.?",
        r"(?:n°|numero)\s*d'avoir",
    ],
    "due": [
        r"due(?: date| on| by)?",
        r"pay(?:ment)?(?: is)? (?:due|by|before)(?: date| on| by)?",
        r"payable (?:by|before|on)",
        r"fallig(?:keit|keitsdatum)?(?: am| bis| zum)?",
        r"zahlbar (?:bis|am|zum)",
        r"zahlungsziel|zahlungstermin|zu zahlen bis",
        r"(?:date d'|date limite d')?echeance(?: le)?",
        r"(?:a |date limite de )?(?:payer|paiement|reglement)(?: avant| au plus tard| le)*(?: le)?",
        r"payable (?:le|avant le)",
    ],
    "date": [
        rf"{_DOC}\s*date|date(?: of (?:issue|invoice))?|issue date|issued(?: on)?|tax (?:point|date)|dated",
        r"(?:rechnungs|beleg|ausstellungs)?datum|ausgestellt am|rechnung vom",
        rf"date {_OF}(?:facture|emission|facturation|avoir)|emise? le|le",
    ],
    "order": [
        rf"{_YOUR}(?:ref\.? )?{_ORDER}{_SEP}(?:{_NO})?",
        rf"{_NO}\s*{_OF}{_YOUR}(?:commande|bon de commande|order|bestellung)",
        r"(?:your|ihr|votre) (?:order|auftrag|ref\.? commande|commande|bestellung)(?: ref\.?| no\.?)?",
        r"order ref(?:\.|erence)?|bestellnummer|bestellzeichen|commande",
    ],
    "other": [  # facts we do not need, but must not take for one that we do
        r"(?:customer|client|account|kunden|debitor|code|compte)(?:\s|-)*(?:no\.?|nr\.?|number|nummer"
        r"|id|client)?",
        r"n° client|(?:delivery|dispatch|liefer)(?:\s|-)*(?:note|date|schein|datum|no\.?)?",
        r"(?:bon|date) de livraison|(?:our|unser|notre)e? (?:ref\.?|reference|zeichen)|phone|tel\.?"
        r"|telefon|telephone",
        r"bill to|invoice to|sold to|ship to|rechnung an|rechnungsempfanger|kunde|facture a|client|page"
        r"|seite",
        r"currency|wahrung|monnaie|devise|reference|referenz",
    ],
}
SUMS: dict[str, list[str]] = {
    "carried": [
        r"(?:subtotal )?(?:carried|brought) (?:forward|over)|subtotal carried over|subtotal page.*",
        r"ubertrag.*|zwischensumme seite.*|a reporter|report(?: page (?:suivante|precedente))?",
    ],
    "lines_total": [
        r"(?:goods|items?|lines?) total|(?:sum|total) of (?:the )?(?:items?|lines|positions|goods)"
        r"|goods value",
        r"summe (?:der )?(?:positionen|artikel)|warenwert|positionssumme",
        r"total (?:des )?lignes|montant brut(?: ht)?|total brut(?: ht)?|total articles",
    ],
    "rebate": [
        r"(?:less |minus )?(?:[\d.,]+ ?% )?(?:trade |volume )?(?:discount|rebate)(?: [\d.,]+ ?%)?",
        r"(?:abzuglich |abzgl\.? |minus )?(?:[\d.,]+ ?% )?(?:rabatt|nachlass|skonto)(?: [\d.,]+ ?%)?",
        r"remise(?: globale| commerciale)?(?: (?:de )?\(?[\d.,]+ ?%\)?)?|rabais(?: [\d.,]+ ?%)?",
    ],
    "freight": [
        r"carriage|shipping(?: (?:and|&) handling)?|freight(?: and packing)?|postage(?: and packing)?"
        r"|delivery(?: charge)?",
        r"versand(?:kosten)?|fracht(?:kosten)?|porto(?: und verpackung)?|lieferkosten|transportkosten",
        r"frais de (?:port|transport|livraison)|transport|port(?: et emballage)?",
    ],
    "vat": [
        r"(?:plus |zzgl\.? |incl\.? )?(?:[\d.,]+ ?% )?(?:vat|gst|sales tax|tax|mwst|mehrwertsteuer|ust"
        r"|umsatzsteuer|tva|t\.v\.a)"
        r"\.?(?: amount|-betrag)?(?:[ @(]*[\d.,]+ ?%\)?)?",
        r"montant (?:de la )?tva|total tva|steuerbetrag|total vat|vat total",
    ],
    "gross": [
        r"(?:total|amount|balance)(?: now)? (?:due|payable|to pay)|(?:invoice|grand) total"
        r"|total (?:invoice )?amount",
        r"total \(?(?:incl\.?|including|inc\.?) ?(?:vat|tax|gst)\)?|gross(?: total| amount)?|total gross",
        r"rechnungs(?:betrag|summe|endbetrag)|gesamt(?:betrag|summe)(?: brutto| inkl\.? mwst\.?)?"
        r"|endbetrag|endsumme",
        r"(?:zu )?zahl(?:ender |bar|betrag)(?:betrag)?|summe brutto|brutto(?:betrag|summe)?|gesamt brutto",
        r"(?:montant |prix )?(?:total )?(?:net )?(?:a payer|ttc)|total (?:a payer|ttc|general)"
        r"|net a payer(?: ttc)?",
        r"(?:total )?credit(?: total| amount)?|amount credited|total credit|gutschrift(?:sbetrag"
        r"| gesamt|ssumme)",
        r"total avoir(?: ttc)?|net a votre credit|montant (?:de l')?avoir(?: ttc)?",
    ],
    "net": [
        r"sub-?total|net(?: total| amount| value| sum)?|total (?:net|\(?(?:excl?\.?|excluding|before"
        r"|ex) ?(?:vat|tax)\)?)",
        r"zwischensumme|netto(?:betrag|summe|wert)?|(?:summe|gesamt|total) netto|nettobetrag",
        r"(?:sous-total|total|net|montant)(?: net)? h\.?t\.?|sous-total|total hors taxes?|base ht",
    ],
    "gross_weak": [r"total|gesamt|summe|sum|montant total|totalbetrag"],
}
COLUMNS: dict[str, str] = {
    "position": r"#|item|pos\.?|nr\.?|n°|ligne|line|position|lfd\.? ?nr\.?",
    "article": r"code|article|art\.?|part no\.?|sku|artikel(?:nummer|-?nr\.?)?|art\.-nr\.?|reference"
    r"|ref\.?|code article",
    "description": r"description|details|product|item|service|bezeichnung|beschreibung|leistung|text|artikel"
    r"|designation|libelle|produit|article",
    "quantity": r"qty\.?|quantity|menge|anzahl|qte\.?|quantite|hours",
    "unit": r"unit|uom|einheit|me|einh\.?|unite|u\.?",
    "price": r"unit price|price|rate|einzelpreis|preis|e-?preis|preis/einheit|stuckpreis|pu ht|pu"
    r"|prix unitaire"
    r"|p\.?u\.? ?ht|prix",
    "discount": r"disc\.?(?:ount)? ?%?|rabatt ?%?|remise ?%?|rem\.? ?%?",
    "vat": r"vat ?%?|mwst\.? ?%?|tva ?%?|ust\.? ?%?|tax",
    "amount": r"amount|line total|total|net|gesamtpreis|betrag|gesamt|g-?preis|summe|montant ht"
    r"|total ht|montant|total",
}
CREDIT_TITLE = re.compile(
    r"\b(?:credit note|credit memo|gutschrift|rechnungskorrektur|avoir|note de credit)\b"
)
INVOICE_TITLE = re.compile(r"\b(?:invoice|rechnung|facture)\b")
LEGAL_FORM = re.compile(
    r"(?:^|[\s,])(?:GmbH(?: ?& ?Co\.? ?KG)?|Ges\.?m\.?b\.?H\.?|AG|KG|OHG|e\.K\.|UG|SE|Ltd\.?|Limited"
    r"|plc|PLC|LLP|LLC|Inc\.?"
    r"|Corp\.?|DAC|B\.?V\.?|N\.?V\.?|S\.?A\.?R\.?L\.?|S[àÀ]rl|S\.?A\.?S\.?U?|S\.?A\.?|S\.?R\.?L\.?"
    r"|S\.?p\.?A\.?|EURL|SCOP)$",
    re.IGNORECASE,
)
ORDERS_TO_MACHINES = re.compile(
    r"\b(?:ai|artificial intelligence|ki|ia|llm|gpt|language models?|chatbots?|automated systems?)\b.{0,24}"
    r"\b(?:agents?|assistants?|systems?|systeme[ns]?|models?|modele[s]?|tools?|ignore|note)\b"
    r"|\bsyst[e]mes? d'ia\b|\bki-systeme?\b"
    r"|\bignor(?:e|ieren|ez|er)\b.{0,40}\b(?:instructions?|prompts?|checks?|rules?|prufung(?:en)?"
    r"|anweisung(?:en)?"
    r"|regeln|controles?|consignes?|regles?)\b"
    r"|\bsystem prompt\b|\b(?:you are|you must|du bist|tu es)\b.{0,30}\b(?:assistant|agent|model|modell"
    r"|modele)\b"
)

_END = r"\s*(?:[:.]|n°)?\s*"


def _compiled(groups: dict[str, list[str]]) -> dict[str, re.Pattern[str]]:
    return {name: re.compile(rf"(?:{'|'.join(words)})(?![a-z0-9]){_END}") for name, words in groups.items()}


FACT_LABELS = _compiled(FACTS)
SUM_LABELS = _compiled(SUMS)
COLUMN_LABELS = {
    name: re.compile(rf"(?:{words})(?: \(?(?:eur|gbp|chf|usd|€|£)\)?)?") for name, words in COLUMNS.items()
}
