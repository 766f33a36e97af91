"""`pointsman chat`: the conversation with the incident triage copilot."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from coordinator import trigger
from coordinator.case_index import CaseRow
from coordinator.chat_answers import Answer, Answerer, CaseView
from coordinator.chat_intents import Intent, read, words_of
from coordinator.chat_looks import Looks
from coordinator.chat_printer import Printer
from coordinator.chat_show import show, why_approval, why_call
from coordinator.errors import CoordinatorError, UsageError
from coordinator.gateway_client import GatewayClient
from coordinator.markdown import markdown
from coordinator.planning import scope_of
from coordinator.progress import Lines, silent
from coordinator.report import clock
from coordinator.session import Session, open_session
from coordinator.types import CaseResult, Proposal, Sentence, Trigger

CONTINUES = timedelta(hours=12)  # a later `--message` goes on with a case this young
WITHOUT_CASE = frozenset({"help", "hello", "thanks", "unknown", "show"})  # needs no triage
COMMANDS = {
    "/show": "/show N        open reference [EN]: call, arguments, the words quoted, the ledger's records",
    "/why": "/why A-1 | N   which policy rule makes an action wait, or let a call go",
    "/approve": "/approve A-1 WHY   agree to a proposed action; it runs, and recovery is checked",
    "/deny": "/deny A-1 WHY      refuse it",
    "/report": "/report        the whole report",
    "/new": "/new TEXT      look again, as a new case",
    "/cases": "/cases         the latest cases",
    "/help": "/help          this list",
    "/quit": "/quit          leave",
}


def run_chat(
    *, message: str | None, recording: str | None, case: str | None, as_json: bool, config: str | None
) -> int:
    """Talk until the person leaves, or for one message."""
    return asyncio.run(_run(message, recording, case, as_json, config))


async def _run(
    message: str | None, recording: str | None, case: str | None, as_json: bool, config: str | None
) -> int:
    printer = Printer(as_json=as_json)
    if message is not None and not message.strip():
        raise UsageError(
            "the message is empty: say what you want to know, such as --message 'what is wrong?'"
        )
    if recording:
        trigger.read_recording(Path(recording))  # a mistyped directory is said before anything starts
    tell = silent if as_json else Lines(sys.stderr if message else sys.stdout)
    async with open_session(config, Path(recording) if recording else None, tell) as session:
        chat = Chat(session, printer, interactive=message is None and sys.stdin.isatty())
        if case:
            await chat.open_case(case)
        if message is not None:
            await chat.continue_latest(message)
            await chat.turn(message)
            return 0
        await chat.converse()
        return 0


class Chat:
    """One conversation: at most one case at a time, and the person who asks."""

    def __init__(self, session: Session, printer: Printer, interactive: bool = False) -> None:
        self.session, self.printer, self.interactive = session, printer, interactive
        self.runner, self.index = session.runner, session.runner.index
        self.result: CaseResult | None = None

    async def converse(self) -> None:
        """Turn after turn, until the person leaves."""
        self._greet()
        async for line in _lines(self.session.home, self.interactive):
            try:
                if line.split()[:1] in (["/quit"], ["/exit"]):
                    return
                await self.turn(line)
            except CoordinatorError as error:
                self.printer.problem(error.code, str(error))
            except Exception as error:  # one bad turn does not end a conversation
                if getattr(error, "exit_code", None) is None:
                    raise
                self.printer.problem(str(getattr(error, "code", "failed")), str(error))

    async def turn(self, line: str) -> None:
        """Answer one line: a command or a message."""
        line = line.strip()
        if line.startswith("/"):
            await self._command(line)
        elif self.result is None:
            await self._first(line)
        else:
            answer = await self._answer(line)
            self.printer.answer(answer, self._facts())

    async def open_case(self, case: str) -> None:
        """Go on with a case: what it came to, taken further if it stopped."""
        found = await self.runner.look(case)
        self.result = found if found.report else await self._settled(await self.runner.resume(case))

    async def continue_latest(self, message: str) -> None:
        """For a single message: a follow-up question belongs to the latest case about the same trouble."""
        recorded = self._trigger("")
        young = datetime.now(UTC) - CONTINUES
        latest = next((c for c in self.index.list(20) if _same_trouble(c, recorded)), None)
        if self.result or latest is None or latest.updated < young:
            return
        if (
            latest.status not in ("delivered", "waiting")
            or not (found := await self.runner.look(latest.id)).report
        ):
            return
        assert found.state is not None
        if (
            message.startswith("/")
            or CaseView.of(latest.id, found.state, found.report).intent(message).kind != "summary"
        ):
            self.result = found
            self.printer.note(f"continuing case {latest.id}")

    async def _first(self, message: str) -> None:
        """The first message: opens a case, unless it asks for nothing that needs one."""
        intent = self._intent(message)
        if message and intent.kind in WITHOUT_CASE:
            self.printer.answer(_without_case(intent), {})
            return
        await self._triage(message)
        if intent.kind not in _OPENING:
            self.printer.answer(await self._answer(message), self._facts())

    def _intent(self, message: str) -> Intent:
        """What a message asks for before there is a case: the alert's names and words are known."""
        opened = self._trigger("")
        texts = [opened.title, opened.question] if opened else []
        services = set(opened.scope.services if opened else ())
        if self.session.recording:
            services |= set(trigger.read_recording(self.session.recording).get("services", []))
        return read(message, services, words_of(texts))

    def _trigger(self, message: str) -> Trigger | None:
        if self.session.recording:
            return trigger.from_recording(self.session.recording, message)
        return trigger.from_question(message) if message else None

    async def _triage(self, message: str) -> None:
        """A new case about a message, then the first answer."""
        opened = self._trigger(message)
        if opened is None:
            raise UsageError(
                "there is nothing to look into: say what is wrong, such as 'checkout is failing'"
            )
        self.printer.note(f"looking into it: {opened.question}")
        await self._tell_what_was_done()
        result = await self.runner.start(opened, interactive=self.interactive)
        self.result = await self._settled(result)
        async with self._answerer() as answerer:
            self.printer.answer(answerer.overview(), self._facts())

    async def _tell_what_was_done(self) -> None:
        """Say so when a recorded incident was acted on before in this home: it goes on from there."""
        access = self.runner.access
        if not self.session.recording:
            return
        async with GatewayClient(access, access.person) as person:
            status = await person.call("actions__status", {})
        done = (
            [] if status.is_error or not isinstance(status.data, dict) else status.data.get("actions") or []
        )
        if done:
            what = ", ".join(f"{a['action']} {a['target']}" for a in done)
            self.printer.note(
                f"this recorded incident was acted on before ({what}) and goes on from there; "
                f"remove {self.session.home / 'tools'} to see it from the start"
            )

    async def _settled(self, result: CaseResult) -> CaseResult:
        """The result once every doubt was put to the person."""
        while doubt := next((w for w in result.waiting if w.kind == "doubt"), None):
            self.printer.note(f"{doubt.text} (Enter: deliver as it is)")
            said = await asyncio.to_thread(sys.stdin.readline) if self.interactive else ""
            result = await self.runner.answer(result.case, doubt, said.strip() or "deliver")
        return result

    async def _answer(self, message: str) -> Answer:
        async with self._answerer() as answerer:
            if answerer.view.intent(message).kind == "show":
                n = answerer.view.intent(message).n
                return Answer(kind="show", sentences=tuple(Sentence(text=t) for t in await self._shown(n)))
            return await answerer.answer(message)

    @asynccontextmanager
    async def _answerer(self) -> AsyncIterator[Answerer]:
        result = self._known()
        assert result.report is not None and result.state is not None
        view = CaseView.of(result.case, result.state, result.report)
        scope = scope_of(result.state)
        async with self.runner.desk(result.case) as desk:
            offered = frozenset(n for n, ok in result.state.get("offered", {}).items() if ok)
            looks = Looks(desk, result.report.since_at or scope.onset, scope.namespace, offered)
            yield Answerer(view, looks, self.index)

    def _known(self) -> CaseResult:
        if self.result is None or self.result.report is None:
            raise UsageError(
                "there is no case yet: say what is wrong, such as 'checkout is failing', or /cases"
            )
        return self.result

    def _facts(self) -> dict[str, Any]:
        """What a program that reads JSON wants beside the words."""
        result = self._known()
        assert result.report is not None
        best = result.report.hypotheses[0] if result.report.hypotheses else None
        return {
            "case": result.case,
            "outcome": result.report.outcome,
            "cause": best.model_dump(mode="json") if best else None,
            "proposals": [p.model_dump(mode="json") for p in result.report.proposals],
            "report": str(self.index.report_path(result.case, "md")),
        }

    async def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        if name == "/show":
            self.printer.lines("show", await self._shown(_number(rest, "/show 3")))
        elif name == "/why":
            self.printer.lines("why", await self._why(rest))
        elif name in ("/approve", "/deny"):
            await self._decide(rest, grant=name == "/approve")
        elif name == "/report":
            self.printer.text("report", markdown(self._report()))
        elif name == "/cases":
            rows = self.index.list(10)
            self.printer.lines(
                "cases",
                [f"{r.id}  {clock(r.opened)}  {r.status:<9}  {r.title}" for r in rows] or ["none yet"],
            )
        elif name == "/new":
            await self._triage(rest)
        elif name == "/help":
            self.printer.lines("help", [*COMMANDS.values(), "Anything else is a question about the case."])
        else:
            raise UsageError(f"no command {name!r}: the commands are {', '.join(COMMANDS)}")

    def _report(self) -> Any:
        return self._known().report

    async def _shown(self, n: int) -> list[str]:
        case = self._known().case
        citation = self.index.citation(case, n)
        if citation is None:
            raise UsageError(
                f"case {case} has no reference [E{n}]: choose one that an answer or the report names"
            )
        async with self._person() as person:
            return await show(citation, person)

    async def _why(self, what: str) -> list[str]:
        proposals = self._report().proposals
        async with self._person() as person:
            if what.upper().startswith("A") or not what:
                return await why_approval(self._proposal(what or "A-1", proposals), person)
            citation = self.index.citation(self._known().case, _number(what, "/why A-1 or /why 3"))
            if citation is None:
                raise UsageError(f"this case has no reference [E{what}]: choose one that an answer names")
            return await why_call(citation, person)

    async def _decide(self, what: str, grant: bool) -> None:
        """Grant or deny with the person's own token, then take the case further."""
        label, _, reason = what.partition(" ")
        proposal = self._proposal(label or "A-1", self._report().proposals)
        if proposal.action.status != "pending":
            raise UsageError(
                f"A-{proposal.n} does not wait for anybody: it is {proposal.action.status}; see /report"
            )
        if not reason.strip():
            word = "/approve" if grant else "/deny"
            raise UsageError(f"say why, the ledger keeps it: {word} A-{proposal.n} because …")
        tool = "gateway__grant_approval" if grant else "gateway__deny_approval"
        case, asked = self._known().case, {"id": proposal.action.approval, "reason": reason}
        self.index.wait(case, ())  # it is this chat that goes on with it, and no engine
        try:
            async with self._person() as person:
                await person.read(tool, asked)
        except BaseException:
            self.index.wait(case, self._known().awaited)
            raise
        self.printer.note(f"A-{proposal.n} {'granted' if grant else 'denied'} by {self.runner.access.login}")
        self.result = await self._settled(await self.runner.resume(case))
        self.printer.answer(_after(self._report(), proposal.n), self._facts())

    def _proposal(self, label: str, proposals: tuple[Proposal, ...]) -> Proposal:
        n = _number(label.upper().removeprefix("A").removeprefix("-"), "A-1")
        found = next((p for p in proposals if p.n == n), None)
        if found is None:
            known = ", ".join(f"A-{p.n}" for p in proposals) or "none is proposed"
            raise UsageError(f"no action A-{n} in this case: {known}")
        return found

    @asynccontextmanager
    async def _person(self) -> AsyncIterator[GatewayClient]:
        """The gateway with the person's own token."""
        access = self.runner.access
        async with GatewayClient(access, access.person, case=self._known().case) as client:
            yield client

    def _greet(self) -> None:
        opened = self._trigger("")
        if self.result and self.result.report:
            self.printer.note(f"case {self.result.case}: {self.result.report.title}")
        elif opened:
            self.printer.note(
                f"{opened.title}. Ask what is going on; /help lists the commands, /quit leaves."
            )
        else:
            self.printer.note("Say what is wrong; /help lists the commands, /quit leaves.")


_OPENING = frozenset({"summary", "cause"})  # the first answer of a case answers these


def _same_trouble(row: CaseRow, recorded: Trigger | None) -> bool:
    """Whether a case is about what this chat looks at: the same recorded incident, or the live system."""
    return row.fingerprint == recorded.fingerprint if recorded else not row.recording


def _without_case(intent: Intent) -> Answer:
    if intent.kind in ("help", "hello", "thanks"):
        text = (
            "Tell me what is wrong, such as “checkout is failing, what is going on?”, and I look into it. "
            "/help lists the commands."
        )
    elif intent.kind == "show":
        text = "There is no case yet, so there is no reference to open. Ask what is going on first."
    else:
        text = (
            "I cannot answer that. I look into incidents: ask what is going on, and I find out what, "
            "since when and why."
        )
    return Answer(kind=intent.kind, sentences=(Sentence(text=text),))


def _after(report: Any, n: int) -> Answer:
    """What came of a decision about action A-n."""
    action = next(p.action for p in report.proposals if p.n == n)
    said = [Sentence(text=f"A-{n} {action.tool}: {action.status}.")]
    said += report.recovery
    if action.status == "done" and not report.recovery:
        said.append(Sentence(text="Whether it helped cannot be seen yet; ask “is it over?” in a while."))
    if action.status == "failed":
        said += [Sentence(text=m) for m in report.missing if action.tool in m]
    used = {c for s in said for c in s.cites}
    return Answer(
        kind="decided", sentences=tuple(said), citations=tuple(c for c in report.citations if c.n in used)
    )


def _number(text: str, example: str) -> int:
    digits = text.strip().lstrip("[").rstrip("]").upper().removeprefix("E")
    if not digits.isdigit():
        raise UsageError(f"{text!r} is not a number: write it as {example}")
    return int(digits)


async def _lines(home: Path, interactive: bool) -> AsyncIterator[str]:
    """The lines a person types; from a pipe, its lines."""
    if not interactive:
        while line := await asyncio.to_thread(sys.stdin.readline):
            yield line.strip()
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory

    prompt: PromptSession[str] = PromptSession(
        history=FileHistory(str(home / "chat_history")),
        completer=WordCompleter(list(COMMANDS), sentence=True),
    )
    while True:
        try:
            yield await prompt.prompt_async("› ")
        except (EOFError, KeyboardInterrupt):
            return
