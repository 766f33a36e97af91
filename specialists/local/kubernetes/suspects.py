"""A suspect: a fault that an analyzer believes in, how strongly, and the words it stands on."""

from __future__ import annotations

from dataclasses import dataclass

from specialists.local.kubernetes.catalog import FAULTS
from specialists.types import Cause, Evidence

ENOUGH = 0.75  # a suspect this sure ends the search


@dataclass(frozen=True)
class Suspect:
    """A fault of one object; `because` completes the sentence with what was seen."""

    label: str
    object: str
    confidence: float
    evidence: tuple[Evidence, ...]
    because: str = ""
    against: tuple[Evidence, ...] = ()

    @property
    def name(self) -> str:
        return self.object.split("/", 1)[-1]

    def cause(self, confidence: float) -> Cause:
        """The suspect as a cause of a finding, in words."""
        fault = FAULTS[self.label]
        said = fault.says.format(name=self.name)
        said = said[0].upper() + said[1:] if said.startswith("the ") else said
        statement = f"{said}: {self.because}." if self.because else f"{said}."
        return Cause(
            category=fault.category,
            object=self.object,
            label=self.label,
            statement=statement,
            confidence=round(confidence, 3),
            evidence=self.evidence[:6],
            against=self.against[:3],
            remedy=fault.remedy.format(name=self.name),
        )


def ranked(suspects: list[Suspect]) -> list[Suspect]:
    """The suspects that stand on evidence, best first, each fault of an object once."""
    best: dict[tuple[str, str], Suspect] = {}
    for suspect in suspects:
        key = (suspect.label, suspect.object)
        if suspect.evidence and (key not in best or best[key].confidence < suspect.confidence):
            best[key] = suspect
    return sorted(best.values(), key=lambda s: (-s.confidence, s.object, s.label))
