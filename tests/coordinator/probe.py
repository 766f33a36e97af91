"""Specialists of the tests: one that looks, one that mends, one that is unsure, one that breaks."""

from specialists.types import Action, Card, Cause, Claim, Finding


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


class Mender:
    """Proposes to mend thing 1, and does it when told to."""

    card = Card(name="remediation", description="Mends things.", tools=("actions__*",))

    async def investigate(self, task, toolbox):
        """Propose, or mend and say that it recovered."""
        action = task.act or Action(tool="actions__mend", arguments={"n": 1}, reason="Mending helps.")
        finding = Finding(
            task=task.id, specialist="remediation", status="found", summary="Mend it.", actions=(action,)
        )
        if task.act is None:
            yield finding
            return
        result = (await toolbox.call(action.tool, action.arguments)).required()
        claim = Claim(
            kind="recovery",
            text="Thing 1 was mended.",
            confidence=0.9,
            evidence=(result.quote("was mended"),),
        )
        done = action.model_copy(update={"status": "done"})
        yield finding.model_copy(update={"actions": (done,), "claims": (claim,)})


class Unsure(Probe):
    """Suspects a thing, but hardly."""

    async def investigate(self, task, toolbox):
        """One look, little confidence."""
        seen = (await toolbox.call("things__look", {"n": 1})).required()
        cause = Cause(
            category="x", object="service/thing", label="odd", statement="Thing 1 is odd.", confidence=0.2,
            evidence=(seen.quote("thing 1 is broken"),),
        )  # fmt: skip
        yield Finding(task=task.id, specialist="probe", status="found", summary="Hm.", causes=(cause,))


class Broken(Probe):
    """Breaks while it works."""

    async def investigate(self, task, toolbox):
        """Look once, then break."""
        await toolbox.call("things__look", {"n": 1})
        raise ValueError("the probe broke")
        yield


class Forger(Probe):
    """Says what it saw, and cites words that stand nowhere."""

    async def investigate(self, task, toolbox):
        """One look, one claim that stands and one that does not."""
        seen = (await toolbox.call("things__look", {"n": 1})).required()
        true = seen.quote("thing 1 is broken")
        said = [
            Claim(kind="symptom", text=text, confidence=0.9, evidence=(evidence,), component="thing")
            for text, evidence in (
                ("Thing 1 is broken.", true),
                ("It was the moon.", true.model_copy(update={"quote": "the moon did it"})),
            )
        ]
        yield Finding(task=task.id, specialist="probe", status="found", summary="Hm.", claims=tuple(said))
