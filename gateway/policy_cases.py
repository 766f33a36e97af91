"""The cases beside a policy: who asks for what, and what the answer has to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from gateway.canonical import digest
from gateway.errors import PolicyError
from gateway.policy import Policy
from gateway.types import Decision, Subject, Tool

KEYS = frozenset(
    """name subject roles chain case tool arguments context verb expect rules
    approver approver_roles approvals""".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case, and what came of it."""

    name: str
    where: str
    expected: str
    got: Decision
    wanted_rules: tuple[str, ...] = ()
    wanted_approvals: int = 0  # 0: any number

    @property
    def passed(self) -> bool:
        """Whether the verdict, and the rules where the case names them, are as expected."""
        rules = {rule.id for rule in self.got.rules}
        persons = self.wanted_approvals in (0, self.got.approvals)
        return self.got.verdict == self.expected and rules.issuperset(self.wanted_rules) and persons

    def as_dict(self) -> dict[str, Any]:
        """As `policy test --json` prints it."""
        return {
            "name": self.name,
            "where": self.where,
            "passed": self.passed,
            "expected": self.expected,
            "got": self.got.verdict,
            "approvals": self.got.approvals,
            "rules": [rule.id for rule in self.got.rules],
            "errors": list(self.got.errors),
        }


def run_cases(directory: Path, tools: Iterable[Tool]) -> list[Outcome]:
    """Every case in DIRECTORY/tests/*.yaml, against the policies of the directory."""
    files = sorted((directory / "tests").glob("*.yaml"))
    if not files:
        raise PolicyError(
            f"{directory / 'tests'}: holds no *.yaml file; write cases like those beside the shipped policy"
        )
    known = {tool.public: tool for tool in tools}
    outcomes: list[Outcome] = []
    for file in files:
        document = _read(file)
        own = {tool.public: tool for tool in (_tool(file, body) for body in document.get("tools", ()))}
        here = {**known, **own}
        policy = Policy.load(directory, here.values(), "any")
        cases = document.get("cases") or []
        outcomes += [_run(policy, here, case, f"tests/{file.name}:{n}") for n, case in enumerate(cases, 1)]
    return outcomes


def _read(file: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not isinstance(document.get("cases"), list):
        raise PolicyError(f"{file}: has no list `cases`; see the cases of the shipped policy")
    return document


def _tool(file: Path, body: Any) -> Tool:
    try:
        server, name = body["server"], body["name"]
    except (TypeError, KeyError):
        raise PolicyError(f"{file}: a tool needs `server` and `name`, this has not: {body!r}") from None
    read_only = bool(body.get("readOnly", False))
    definition = {"name": name, "inputSchema": body.get("schema", {"type": "object"})}
    return Tool(
        server=server,
        name=name,
        public=f"{server}/{name}" if server == "hosted" else f"{server}__{name}",
        definition=definition,
        digest=digest(definition),
        read_only=read_only,
        destructive=bool(body.get("destructive", not read_only)),
        idempotent=bool(body.get("idempotent", read_only)),
        open_world=bool(body.get("openWorld", True)),
        labels=tuple(body.get("labels", ())),
    )


def _run(policy: Policy, tools: dict[str, Tool], case: Any, where: str) -> Outcome:
    if not isinstance(case, dict) or not {"subject", "tool", "expect"} <= case.keys() or case.keys() - KEYS:
        raise PolicyError(
            f"{where}: a case needs subject, tool and expect, and knows only {', '.join(sorted(KEYS))}; "
            f"this is {case!r}"
        )
    tool = tools.get(case["tool"])
    if tool is None:
        raise PolicyError(f"{where}: no tool {case['tool']!r} is known; list it under `tools` of the file")
    subject = Subject(
        case["subject"], tuple(case.get("roles", ())), tuple(case.get("chain", ())), case.get("case", "")
    )
    arguments, context = case.get("arguments", {}), dict(case.get("context", {}))
    if isinstance(context.get("now"), str):
        context["now"] = _moment(context["now"], where)
    if "approver" in case:
        approver = Subject(case["approver"], tuple(case.get("approver_roles", ())))
        got = policy.may_approve(approver, tool, arguments, subject, context)
    else:
        got = policy.decide(subject, case.get("verb", "call"), tool, arguments, context)
    name = case.get("name") or f"{subject.id} {tool.public}"
    rules, approvals = tuple(case.get("rules", ())), int(case.get("approvals", 0))
    return Outcome(name, where, case["expect"], got, rules, approvals)


def _moment(text: str, where: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise PolicyError(f'{where}: now is {text!r}; write a time like "2026-11-28 23:15"') from None
