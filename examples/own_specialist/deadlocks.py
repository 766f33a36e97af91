"""A specialist of one's own: finds deadlocks that a database reports in the logs of a service."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime

from specialists.toolbox import Toolbox
from specialists.types import Card, Cause, Claim, Event, Finding, Progress, Task


class DeadlocksSpecialist:
    """Asks the logs for deadlocks; a cause when there are several, nothing when there is none."""

    card = Card(
        name="deadlocks",
        description="Deadlocks that a database reports in the logs.",
        tools=("logs__search",),
    )

    async def investigate(self, task: Task, toolbox: Toolbox) -> AsyncIterator[Event]:
        """Look once; the last event is the finding."""
        yield Progress(specialist=self.card.name, kind="note", text="looking for deadlocks")
        result = (await toolbox.call("logs__search", {"text": "deadlock detected", "limit": 100})).required()
        lines = result.data["lines"]
        if len(lines) < 3:
            summary = f"{len(lines)} deadlocks in the logs: too few to blame."
            yield Finding(task=task.id, specialist=self.card.name, status="abstained", summary=summary)
            return
        service, count = Counter(line["service"] for line in lines).most_common(1)[0]
        first = next(line for line in lines if line["service"] == service)
        began = datetime.fromisoformat(first["timestamp"].replace("Z", "+00:00"))
        said = result.quote(first["message"])  # words that stand literally in the result, or an error
        text = f"{service} runs into deadlocks: {count} since {first['timestamp']}."
        yield Finding(
            task=task.id,
            specialist=self.card.name,
            status="found",
            summary=text,
            claims=(
                Claim(
                    kind="symptom", text=text, confidence=0.9, evidence=(said,), component=service, at=began
                ),
            ),
            causes=(
                Cause(
                    category="saturation",
                    object=f"service/{service}",
                    label="deadlocks",
                    statement=f"Transactions of {service} deadlock.",
                    confidence=0.85,
                    evidence=(said,),
                    at=began,
                    remedy="Take locks in one order, or make the transactions shorter.",
                ),
            ),
        )
