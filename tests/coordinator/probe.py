"""A specialist of the tests: looks at four things, one after the other, and suspects the first."""

from specialists.types import Card, Cause, Claim, Finding


class Probe:
    """Looks at things 1 to 4."""

    card = Card(name="probe", description="Looks at things.", tools=("things__look",))

    async def investigate(self, task, toolbox):
        """Look four times, then say what was seen."""
        seen = [(await toolbox.call("things__look", {"n": n})).required() for n in (1, 2, 3, 4)]
        evidence = (seen[0].quote("thing 1 is broken"), seen[3].quote("thing 4 is broken"))
        yield Finding(
            task=task.id,
            specialist="probe",
            status="found",
            summary="Thing 1 is broken.",
            claims=(
                Claim(
                    kind="symptom",
                    text="Thing 1 is broken.",
                    confidence=0.9,
                    evidence=evidence[:1],
                    component="thing",
                ),
            ),
            causes=(
                Cause(
                    category="saturation",
                    object="service/thing",
                    label="broken",
                    statement="Thing 1 is broken.",
                    confidence=0.8,
                    evidence=evidence,
                ),
            ),
        )
