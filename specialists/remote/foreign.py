"""An A2A agent that knows nothing of us: what it is told, and what its words are worth.

Its text helps a person and is no evidence. A sentence of it becomes a claim only where it cites a call that
came with the task, as `[call ID]`; the claim then stands on what was quoted from that call before.
"""

from __future__ import annotations

import re

from specialists.cloud import told as told
from specialists.types import Claim, Evidence, Finding, Guidance, Task

CITED = re.compile(r"\s*\[call ([A-Za-z0-9_.:-]{1,80})\]")
SENTENCE = re.compile(r"[^\n]+?(?:[.!?](?=\s|$)|(?=\n)|$)")
CONFIDENCE = 0.3  # of a claim whose author showed no confidence of its own
LONGEST_SUMMARY = 300


def finding(name: str, task: Task, text: str, url: str) -> Finding:
    """What a foreign agent's text comes to."""
    if not text.strip():
        why = f"the agent at {url} said nothing"
        return Finding(task=task.id, specialist=name, status="abstained", summary=why, missing=(why,))
    inherited: dict[str, list[Evidence]] = {}
    for holder in (*task.leads, *task.claims):
        for evidence in holder.evidence:
            if evidence not in inherited.setdefault(evidence.call, []):
                inherited[evidence.call].append(evidence)
    claims, unknown = [], 0
    for sentence in SENTENCE.findall(text):
        calls = CITED.findall(sentence)
        stands = tuple(e for call in dict.fromkeys(calls) for e in inherited.get(call, ()))
        words = " ".join(CITED.sub("", sentence).split())
        if stands and words:
            claims.append(Claim(kind="context", text=words, confidence=CONFIDENCE, evidence=stands))
        elif calls:
            unknown += 1
    page = Guidance(title=f"What {name} says", passage=text, where=url, call="")
    return Finding(
        task=task.id,
        specialist=name,
        status="found",
        summary=_short(text),
        claims=tuple(claims),
        guidance=(page,),
        dropped=unknown,
    )


def asking(name: str, task: Task, words: str, url: str) -> Finding:
    """A foreign agent that asks back: nobody answers for the person, so the question is what it found."""
    why = f"the agent at {url} asks: {words or 'for more, without saying what'}"
    return Finding(task=task.id, specialist=name, status="abstained", summary=_short(why), missing=(why,))


def _short(text: str) -> str:
    words = " ".join(CITED.sub("", text).split())
    return words if len(words) <= LONGEST_SUMMARY else words[: LONGEST_SUMMARY - 1] + "…"
