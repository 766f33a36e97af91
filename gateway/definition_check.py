"""Advice on a tool's definition for the operator who approves it; never the only control.

It looks for what poisoned definitions have in common: characters nobody sees, words that order the model
about, secrets that are asked for, names that pass for another tool's. How often it is wrong is in
docs/gateway.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST = 20_000
_WHOM = r"(?:the |any |your )?(?:user|users|human|humans|operator|person|customer|anyone|anybody)\b"
_ORDERS = (
    r"\b(?:ignore|disregard|forget|override|bypass|overrule)\b(?: \w+){0,4} "
    r"(?:instructions?|guidelines|guardrails|system prompt|safety|restrictions"
    r"|(?:other|previous|prior) rules)\b",
    r"\b(?:do not|don't|never|must not|without|no need to|avoid)(?: ever)? "
    r"(?:tell|inform|mention|reveal|notify|alert|warn|disclos|ask|show)\w*(?: \w+){0,3}? (?:to |with )?"
    + _WHOM,
    r"\b(?:hide|conceal|keep)\b(?: \w+){0,4} (?:from|secret from|hidden from) " + _WHOM,
    r"<\s*/?\s*(?:important|system|secret|instructions?|admin|hidden|assistant|critical)\s*/?\s*>",
    r"<\|[a-z_]{2,20}\|>|\[/?inst\]|<!--|^#{1,4} ?(?:system|instructions?)\b",
    r"\b(?:before|after|instead of|whenever|when|each time|every time)(?: you)? (?:use|us|call|invok|run)\w* "
    r"(?:any|any other|other|another|all|every|all other)(?: \w+)? tools?\b",
    r"\b(?:before|prior to) (?:using|calling|invoking|running) (?:this|the) (?:tool|function)\b[^.]{0,30}"
    r"\b(?:read|send|fetch|collect|include|open|print|cat)\b",
    r"\byou (?:must|should|need to|have to|are required to)(?: always| first| also| then| now)* "
    r"(?:read|send|include|pass|forward|attach|upload|append|email|bcc|copy|post)\b[^.]{0,80}"
    r"\b(?:files? |conversation|history|messages?|prompt|passwords?|keys?|tokens?|secrets?|credentials?"
    r"|contents? of)",
    r"\b(?:send|forward|post|upload|copy|bcc|transmit|report|leak|exfiltrate)\b[^.]{0,80}"
    r"\b(?:to|at|via) (?:https?://|[\w.+-]{1,40}@[\w-]{1,40}\.)",
    r"\b(?:system prompt|developer (?:message|prompt)|jailbreak"
    r"|your (?:hidden |initial |original )instructions)\b",
    r"\b(?:you are now|pretend (?:to be|that you)|from now on)\b",
    r"\bact as (?:an? )?(?:unrestricted|admin|root|system)\b",
    r"\b(?:this tool|it) (?:replaces|supersedes|overrides|takes precedence over)\b",
    r"\b(?:always|only) (?:use|call|prefer|choose) this(?: tool)? (?:instead|over|rather|first|before any)",
    r"\b(?:never|do not|don't) (?:use|call|trust) (?:any other|other|the other|another)\b[^.]{0,40}"
    r"\btools?\b",
    r"\b(?:attention|important|instructions?|message) (?:to|for) (?:the )?"
    r"(?:ai|llm|model|assistant|agent)s?\b|\bnote (?:to|for) the (?:ai|model|assistant|agent)\b",
    r"\b(?:silently|secretly|covertly) (?:add|append|call|copy|forward|include|read|run|send|upload)\w*\b",
    r"\b(?:already|pre-?|been|was|is)(?: been)? ?(?:approved|authori[sz]ed|confirmed) by (?:the )?"
    r"(?:user|admin|operator)\b",
    r"\b(?:approval|confirmation|permission)s? (?:is|are) not (?:needed|required|necessary)\b",
)
_SECRETS = (
    r"\.ssh\b|id_(?:rsa|ed25519|ecdsa)|/etc/(?:passwd|shadow|sudoers)|\.aws/|\.netrc|\.npmrc|\.pypirc"
    r"|\.git-credentials|\.docker/config|\.gnupg|\.bash_history|\.zsh_history|(?<![\w*])\.env\b(?!\.\w)"
    r"|login\.keychain|cookies\.sqlite|mcp\.json|claude_desktop_config|169\.254\.169\.254",
    r"\b(?:conversation|chat|message) history\b"
    r"|\b(?:entire|full|whole|complete) (?:conversation|chat|context)\b"
    r"|\bprevious (?:messages|tool (?:calls|results|outputs))\b",
    r"\b(?:the user'?s?|your|their|my) (?:\w+ )?(?:passwords?|passphrase|api[ _-]?keys?|private keys?|"
    r"access tokens?|credentials|seed phrase|credit card|secrets?|session cookies?)\b",
    r"\b(?:seed|recovery|mnemonic) phrase\b|\bwallet (?:keys?|password)\b|\b(?:cvv|social security number)\b",
)
_ORDER = re.compile("|".join(_ORDERS), re.IGNORECASE | re.MULTILINE)
_SECRET = re.compile("|".join(_SECRETS), re.IGNORECASE)
_ASKED = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|private_?key|ssh_?key|secret_?key|api_?key|access_?token"
    r"|auth_?token|bearer_?token|credentials?|seed_?phrase|mnemonic|credit_?card|cvv|pin_?code|otp)$"
)
_ENCODED = re.compile(r"[A-Za-z0-9+/]{120,}={0,2}|(?:\\x[0-9a-fA-F]{2}){12,}|(?:\\u[0-9a-fA-F]{4}){8,}")
_EMPTY = re.compile(r"[ \t]{120,}|(?:[ \t]*\n){20,}")
_WORD = re.compile(r"[^\W\d_]{2,}")
_UNSEEN = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")  # letters and marks without a picture
_ALPHABETS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")
_PASSES_FOR = str.maketrans(
    {"0": "o", "1": "l", "i": "l", "|": "l", "5": "s", "3": "e", "4": "a", "7": "t", "8": "b"}
)
_SAME_LOOK = str.maketrans("аеорсухіјѕԁӏԛԝαινορτυκ", "aeopcyxijsdlqwaivoptuk")
_SPOKEN_OF = re.compile(r"[A-Za-z0-9_-]+")


def flags(definition: dict[str, Any], others: Iterable[str] = (), own: Iterable[str] = ()) -> list[str]:
    """What a person should look at before approving; `others` are tools of other servers, `own` of this."""
    found: set[str] = set()
    for text in _texts(definition):
        if len(text) > LONGEST:
            found.add(f"has a text of {len(text)} characters, looked at up to {LONGEST}")
            text = text[:LONGEST]
        found |= set(_hidden(text))
        plain = " ".join(_bare(text).split()) if "\n" not in text else _lines(_bare(text))
        if match := _ORDER.search(plain):
            found.add(f"speaks to the model: {_short(match[0])!r}")
        if match := _SECRET.search(plain):
            found.add(f"mentions secrets or private data: {_short(match[0])!r}")
        if _ENCODED.search(text) and not text.startswith("data:image/"):
            found.add("holds encoded text")
        if mixed := next((word for word in _WORD.findall(text) if _alphabets(word) > 1), ""):
            found.add(f"mixes alphabets in one word: {mixed!a}")
    found |= {f"asks for a secret: {name!r}" for name in _asked(definition.get("inputSchema"))}
    found |= set(_names(definition, set(others), set(own)))
    return sorted(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


# -- what nobody sees --------------------------------------------------------------------------------


def _hidden(text: str) -> Iterator[str]:
    odd = sorted({f"U+{ord(c):04X}" for n, c in enumerate(text) if _unseen(text, n)})
    if odd:
        yield f"hidden characters {', '.join(odd[:5])}"
    if _EMPTY.search(text):
        yield "hides text behind empty space"


def _unseen(text: str, n: int) -> bool:
    c = text[n]
    if c.isascii() and (c.isprintable() or c in "\n\r\t"):
        return False
    if c == "\u200d":  # joins emoji; between letters nothing is joined
        return not (0 < n < len(text) - 1 and ord(text[n - 1]) > 0x2000 and ord(text[n + 1]) > 0x2000)
    if "\ufe00" <= c <= "\ufe0f":  # one chooses the form of an emoji; several carry a message
        return n > 0 and "\ufe00" <= text[n - 1] <= "\ufe0f"
    if "\U000e0100" <= c <= "\U000e01ef" or c in _UNSEEN:
        return True
    return unicodedata.category(c) in ("Cf", "Co", "Cn", "Cc", "Cs", "Zl", "Zp")


def _bare(text: str) -> str:
    """The text as a model reads it: without what is not seen, in the plain forms of its letters."""
    if text.isascii():
        return text
    seen = "".join(c for n, c in enumerate(text) if not _unseen(text, n))
    return unicodedata.normalize("NFKC", seen).translate(_SAME_LOOK)


def _lines(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def _alphabets(word: str) -> int:
    if word.isascii():
        return 1
    names = {unicodedata.name(c, "").partition(" ")[0] for c in word}
    return sum(alphabet in names for alphabet in _ALPHABETS)


# -- secrets among the arguments, and names ----------------------------------------------------------


def _asked(schema: Any) -> Iterator[str]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        if _ASKED.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()):
            yield name
        yield from _asked(inner)


def _names(definition: dict[str, Any], others: set[str], own: set[str]) -> Iterator[str]:
    name = str(definition.get("name", ""))
    if not name.isascii():
        yield "name with letters outside ASCII"
    known = {_skeleton(other): other for other in sorted(others | own) if _spelt(other) != _spelt(name)}
    if (twin := known.get(_skeleton(name))) is not None:
        yield f"its name passes for {twin!r}"
    words = set(_SPOKEN_OF.findall(str(definition.get("description", ""))[:LONGEST]))
    strange = {word for word in words & others - own - {name} if "_" in word or "-" in word}
    if strange:
        yield f"speaks of another server's tool: {min(strange)!r}"


def _spelt(name: str) -> str:
    """A name whatever its case and its separators."""
    return re.sub(r"[\s_.-]+", "", name.lower())


def _skeleton(name: str) -> str:
    """What is left of a name for somebody who reads it in passing."""
    plain = unicodedata.normalize("NFKC", name).lower().translate(_SAME_LOOK).translate(_PASSES_FOR)
    return _spelt(plain).replace("rn", "m").replace("vv", "w").replace("cl", "d")
