"""What a run has seen so far: the labels of the tools whose results it read."""

from __future__ import annotations

from collections import OrderedDict

from gateway.types import Call, Subject

REMEMBERED = 10_000


class Labels:
    """Gathers labels by run, else by case, else by subject; policies read them as `context.labels`."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, frozenset[str]] = OrderedDict()

    def of(self, subject: Subject) -> frozenset[str]:
        """The labels gathered so far."""
        return self._seen.get(_scope(subject), frozenset())

    def saw(self, call: Call) -> None:
        """A result of this tool is being released."""
        if call.tool.labels:
            scope = _scope(call.subject)
            self._seen[scope] = self._seen.pop(scope, frozenset()) | frozenset(call.tool.labels)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)


def _scope(subject: Subject) -> str:
    return subject.run or subject.case or subject.id
