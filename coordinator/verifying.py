"""Proves a report against the ledger, later and as often as wanted: range, head, citations, quoted words.

What is proved is the report this home keeps, or a file that was delivered: Markdown, JSON, HTML or PDF.
Another form than Markdown is recognised by its SHA-256, which the ledger has; the words of a file that was
altered are compared with those that were delivered.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from coordinator.case_index import CaseIndex
from coordinator.delivery import case_records, digests
from coordinator.errors import CaseUnknown, UsageError
from coordinator.gateway_client import GatewayClient
from coordinator.markdown import markdown
from coordinator.types import Report

CASE = re.compile(r"\bINC-[0-9A-Z]{6}\b")
RANGE = re.compile(r"records (\d+) to (\d+) of this case; the head then was `?([0-9a-f]{64})`?")
CITED = re.compile(r"^- \[E(\d+)\] `([^`]+)` .*?call `([^`]+)`: “(.*)”$", re.M)
MOST_SHOWN = 10
BODIES = ("markdown", "body")  # the argument of a delivery that holds the report's Markdown


@dataclass
class Proof:
    """What was looked at, and what is not as it was."""

    case: str
    what: str
    records: tuple[int, int, str] = (0, 0, "")
    citations: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def wrong(self, text: str) -> None:
        """Note what differs."""
        if text not in self.problems:
            self.problems.append(text)

    def as_data(self) -> dict[str, Any]:
        """As JSON values."""
        first, last, head = self.records
        return {
            "ok": not self.problems, "case": self.case, "what": self.what, "citations": len(self.citations),
            "ledger": {"first": first, "last": last, "head": head}, "problems": self.problems,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the ledger holds of a case."""

    gateway: GatewayClient
    records: list[dict[str, Any]]
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def call(self, call: str) -> dict[str, Any]:
        """What it holds of one call."""
        if call not in self.shown:
            self.shown[call] = await self.gateway.show_call(call)
        return self.shown[call]

    def steps(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the case's steps of a kind, oldest first."""
        return [r["body"] for r in self.records if r["kind"] == "step" and r.get("step") == kind]


async def verify(target: str, index: CaseIndex, gateway_of: Any, person: GatewayClient) -> Proof:
    """Prove a case's report, or a file; `gateway_of(case)` opens the gateway for a case."""
    path = Path(target)
    given = path.read_bytes() if path.is_file() else None
    case = _case_of(given, path) if given is not None else index.get(target).id
    proof = Proof(case, str(path) if given is not None else f"the report of {case} in {index.home}")
    checked = await person.read("gateway__verify_ledger", {})
    for problem in checked["problems"]:
        proof.wrong(f"ledger, record {problem['seq']}: {problem['message']}")
    async with gateway_of(case) as gateway:
        ledger = Ledger(gateway, await case_records(case, gateway))
        if not ledger.records:
            raise CaseUnknown(f"the ledger holds nothing of case {case}: was it of another home or database?")
        if given is None:
            await _kept(index, proof, ledger)
        else:
            await _file(path, given, proof, ledger)
    return proof


async def _kept(index: CaseIndex, proof: Proof, ledger: Ledger) -> None:
    """The report in this home: its JSON, its Markdown, and that both are what was recorded."""
    paths = {form: index.report_path(proof.case, form) for form in ("json", "md")}
    if not paths["json"].is_file() or not paths["md"].is_file():
        raise CaseUnknown(f"case {proof.case} has no report here: see `pointsman cases show {proof.case}`")
    raw = {form: path.read_bytes() for form, path in paths.items()}
    text = raw["md"].decode(errors="replace")
    report = _report(raw["json"], proof)
    found = {form: hashlib.sha256(content).hexdigest() for form, content in raw.items()}
    _recorded(found, paths, proof, ledger)
    if report is not None:
        await _check_report(report, proof, ledger)
        _differences(markdown(report), text, "report.json says", "report.md says", proof)
    await _check_text(text, proof, ledger)


def _recorded(found: dict[str, str], paths: dict[str, Path], proof: Proof, ledger: Ledger) -> None:
    """Note which forms of the report have another SHA-256 than the ledger has of the latest one."""
    reports = ledger.steps("report")
    known = reports[-1].get("digests", {}) if reports else {}
    if not known:
        proof.wrong("the ledger holds no report of this case")
    for form, digest in found.items():
        if known and known.get(form) != digest:
            proof.wrong(f"{paths[form].name} was altered: its SHA-256 is {digest}, recorded is {known[form]}")


async def _file(path: Path, given: bytes, proof: Proof, ledger: Ledger) -> None:
    """A delivered file: what was delivered under its SHA-256, else the delivery it is most like."""
    if path.suffix == ".json":
        report = _report(given, proof)
        if report is not None:
            known = [body.get("digests", {}).get("json") for body in ledger.steps("report")]
            if digests(report)["json"] not in known:
                proof.wrong(f"{path.name} was altered: no report of {proof.case} was recorded like this")
            await _check_report(report, proof, ledger)
        return
    digest, words = hashlib.sha256(given).hexdigest(), _text_of(path, given)
    sent = [body for body in ledger.steps("delivery") if body["status"] == "sent"]
    same = [body for body in sent if digest in (body.get("files") or {}).values()]
    texts = [text for body in same or sent if (text := await _delivered(body, ledger))]
    written = [body.get("digests", {}).get("md") for body in ledger.steps("report")]
    best = max(texts, key=lambda text: _alike(text, words)) if texts else ""
    if not same and digest not in written:
        proof.wrong(f"{path.name} was altered: nothing was delivered with the SHA-256 {digest}")
        if best and path.suffix == ".md":
            _differences(best, words, "delivered", "in the file", proof)
        elif best:
            _other_words(best, words, proof)
    await _check_text(words if path.suffix == ".md" else best, proof, ledger)


async def _delivered(body: dict[str, Any], ledger: Ledger) -> str:
    """The Markdown that a delivery was given, as the ledger keeps it."""
    shown = await ledger.call(body["call"])
    arguments = shown.get("arguments") or {}
    return next((str(arguments[name]) for name in BODIES if isinstance(arguments.get(name), str)), "")


async def _check_report(report: Report, proof: Proof, ledger: Ledger) -> None:
    """Range, head, what the ledger says of the report, and every citation with its words."""
    stood = report.ledger
    _check_range(stood.first, stood.last, stood.head, proof, ledger)
    recorded = [body for body in ledger.steps("report") if body["ledger"]["last"] == stood.last]
    if not recorded:
        proof.wrong(f"no report that stands on the records up to {stood.last} is in the ledger")
    for body in recorded[-1:]:
        said = [f"{h['object']} ({h['label']}) {h['confidence']:.2f}" for h in body["hypotheses"]]
        says = [f"{h.object} ({h.label}) {h.confidence:.2f}" for h in report.hypotheses]
        if body["outcome"] != report.outcome:
            proof.wrong(f"outcome: recorded is {body['outcome']}, here it is {report.outcome}")
        for before, now in zip(said, says, strict=False):
            if before != now:
                proof.wrong(f"hypothesis: recorded is {before}, here it is {now}")
        if len(said) != len(says):
            proof.wrong(f"hypotheses: recorded are {len(said)}, here are {len(says)}")
        cited = {f"E{c.n}": c.call for c in report.citations}
        for name in sorted(cited.keys() ^ body["citations"].keys()):
            proof.wrong(f"[{name}] is {'not recorded' if name in cited else 'missing here'}")
    for c in report.citations:
        await _check_citation(c.n, c.tool, c.call, c.quote, proof, ledger)


async def _check_text(text: str, proof: Proof, ledger: Ledger) -> None:
    """The same for a report as Markdown, where a quotation is on one line and at most 300 characters."""
    stood = RANGE.search(text)
    if stood is None:
        proof.wrong("it does not say which records of the ledger it stands on")
    else:
        _check_range(int(stood[1]), int(stood[2]), stood[3], proof, ledger)
    cited = CITED.findall(text)
    named = {int(n) for n in re.findall(r"\[E(\d+)\]", text)}
    for n in sorted(named - {int(n) for n, *_ in cited}):
        proof.wrong(f"[E{n}] is cited, and its evidence is not listed")
    for n, tool, call, quote in cited:
        await _check_citation(int(n), tool, call, quote.replace("\\|", "|"), proof, ledger)


def _check_range(first: int, last: int, head: str, proof: Proof, ledger: Ledger) -> None:
    proof.records = (first, last, head)
    known = {int(record["seq"]): str(record["hash"]) for record in ledger.records}
    if min(known) != first:
        proof.wrong(f"the case begins at record {min(known)} of the ledger, not at {first}")
    if last not in known:
        proof.wrong(f"record {last}, the last the report stands on, is no record of this case in the ledger")
    elif known[last] != head:
        proof.wrong(f"the head at record {last} is {known[last]} in the ledger, {head} in the report")


async def _check_citation(n: int, tool: str, call: str, quote: str, proof: Proof, ledger: Ledger) -> None:
    """A citation names a call of this case, by its tool, whose released result holds the words."""
    made = [r for r in ledger.records if r.get("call") == call]
    if not made:
        proof.wrong(f"[E{n}]: no call {call} of this case is in the ledger")
        return
    proof.citations.add(n)
    if made[0].get("tool") != tool:
        proof.wrong(f"[E{n}]: call {call} was {made[0].get('tool')}, not {tool}")
    text = str((await ledger.call(call)).get("text", ""))
    if not text:
        proof.wrong(f"[E{n}]: the result of call {call} is not kept any more, so its words cannot be proved")
    elif _flat(quote) not in _flat(text):
        proof.wrong(f"[E{n}]: call {call} did not answer “{_flat(quote)[:120]}”")


def _report(raw: bytes, proof: Proof) -> Report | None:
    try:
        told = json.loads(raw)
        return Report.model_validate(told.get("report", told))
    except (ValueError, AttributeError) as error:
        proof.wrong(f"the JSON of the report cannot be read: {str(error).splitlines()[0]}")
        return None


def _case_of(given: bytes, path: Path) -> str:
    """The case that a file says it is the report of."""
    found = CASE.search(_text_of(path, given)) or CASE.search(path.name)
    if found is None:
        raise UsageError(f"{path} names no case (INC-…): is it a delivered report?")
    return found[0]


def _text_of(path: Path, given: bytes) -> str:
    """The words of a file."""
    if path.suffix == ".pdf":
        from pypdf import PdfReader
        from pypdf.errors import PdfReadError

        try:
            return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(given)).pages)
        except PdfReadError as error:
            raise UsageError(f"{path} is no PDF that can be read: {error}") from None
    text = given.decode("utf-8", errors="replace")
    if path.suffix in (".html", ".htm"):
        parser = _Words()
        parser.feed(text)
        return " ".join(parser.words)
    return text


class _Words(HTMLParser):
    """The visible text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden = tag if tag in ("style", "script", "title") else self._hidden

    def handle_endtag(self, tag: str) -> None:
        self._hidden = "" if tag == self._hidden else self._hidden

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def _differences(before: str, now: str, named: str, here: str, proof: Proof) -> None:
    """Note the lines in which two texts differ."""
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), n=0, lineterm="")
    shown = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    for line in shown[:MOST_SHOWN]:
        proof.wrong(f"{named if line[0] == '-' else here}: {line[1:][:300]}")
    if len(shown) > MOST_SHOWN:
        proof.wrong(f"{len(shown) - MOST_SHOWN} more lines differ")


def _other_words(before: str, now: str, proof: Proof) -> None:
    """Note the words in which two texts differ, whatever their form."""
    old, new = _plain(before), _plain(now)
    for how, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if how != "equal" and len(proof.problems) < MOST_SHOWN:
            proof.wrong(f"delivered: “{' '.join(old[a:b])[:200]}”, in the file: “{' '.join(new[c:d])[:200]}”")


def _plain(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _alike(one: str, other: str) -> int:
    return len(set(_plain(one)) & set(_plain(other)))


def _flat(text: str) -> str:
    return " ".join(text.split())
