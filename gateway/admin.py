"""The gateway's own server, `gateway`: administration as tools, decided and recorded like any other call."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from gateway import hosted, servers_file
from gateway.approvals import EDITABLE, REASON, as_dict
from gateway.caller import Caller
from gateway.canonical import digest
from gateway.catalogue import OPERATOR
from gateway.errors import GatewayError, InvalidParams, MethodNotFound, UsageError
from gateway.governance import BY_KIND, ROLES, check_approver, explained, shown
from gateway.ledger import Written, append_record
from gateway.pins import difference
from gateway.servers_file import ServerEntry
from gateway.tokens import Wish, within
from gateway.types import Decision, Subject, Tool
from gateway.writing import Writing

if TYPE_CHECKING:
    from gateway.app import App

TEXT = {"type": "string"}
NAMES = {"type": "array", "items": TEXT}
NUMBER = {"type": "integer"}
FLAG = {"type": "boolean"}
REASON_GIVEN = {"type": "string", "minLength": 1, "maxLength": REASON}
STEPS = (
    "trigger",
    "plan",
    "gate",
    "finding",
    "step",
    "report",
    "closed",
    "alert",
    "hook",
    "delivery",
    "condition",
    "wish",
    "reminder",
    "escalation",
)


def _schema(required: str = "", **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": required.split()} if required else schema


# name: (what it does, reads only, schema)
TOOLS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "issue_token": (
        "Issue a bearer token; shown this once. The caller stands behind it in the chain.",
        False,
        _schema(
            "subject",
            subject=TEXT,
            roles=NAMES,
            expires_seconds={"type": "number", "exclusiveMinimum": 0},
            case=TEXT,
            run=TEXT,
            task=TEXT,
        ),
    ),
    "revoke_token": ("End a token at once.", False, _schema("id", id=TEXT)),
    "list_tokens": ("The valid tokens, without the tokens.", True, _schema()),
    "list_servers": ("Every registered tool server and how it stands.", True, _schema()),
    "test_server": (
        "Connect to a server and list its tools; names the stage that fails.",
        False,
        _schema("name", name=TEXT),
    ),
    "diff_server": ("What a server offers against what was approved.", True, _schema("name", name=TEXT)),
    "approve_server": (
        "Pin what a server offers now: the named tools, the unflagged ones, or all.",
        False,
        _schema("name", name=TEXT, tools=NAMES, unflagged=FLAG, all=FLAG),
    ),
    "add_server": (
        "Register a server by its URL; it is quarantined until approved.",
        False,
        _schema(
            "name url",
            name=TEXT,
            url=TEXT,
            headers={"type": "object", "additionalProperties": TEXT},
            open=NAMES,
        ),
    ),
    "remove_server": (
        "Remove a server and forget what was approved of it.",
        False,
        _schema("name", name=TEXT),
    ),
    "list_approvals": (
        "Approvals, newest first, at most a thousand; `brief`: the ids of all of them, and nothing else.",
        True,
        _schema(status=TEXT, case=TEXT, brief=FLAG),
    ),
    "show_approval": (
        "One approval, with the exact arguments, what the tool does, and what the requester claims.",
        True,
        _schema("id", id=TEXT),
    ),
    "grant_approval": (
        "Agree to one exact call of somebody else; at a checkpoint, with the fields that are changed.",
        False,
        _schema("id reason", id=TEXT, reason=REASON_GIVEN, edit={"type": "object"}),
    ),
    "deny_approval": (
        "Say no to one exact call.",
        False,
        _schema("id reason", id=TEXT, reason=REASON_GIVEN),
    ),
    "search_ledger": (
        "Records of the ledger, oldest first, a page at a time.",
        True,
        _schema(
            case=TEXT,
            subject=TEXT,
            tool=TEXT,
            kind=TEXT,
            verdict=TEXT,
            code=TEXT,
            status=TEXT,
            control=TEXT,
            about=TEXT,
            since=TEXT,
            until=TEXT,
            after=NUMBER,
            limit=NUMBER,
            newest=FLAG,
        ),
    ),
    "show_call": (
        "One call: its records, arguments, and the result as released.",
        True,
        _schema("call", call=TEXT),
    ),
    "prune_ledger": (
        "Remove arguments and results older than this many seconds; records and proof stay.",
        False,
        _schema("older_than_seconds", older_than_seconds={"type": "number", "exclusiveMinimum": 0}),
    ),
    "verify_ledger": ("Whether every record is as it was written.", True, _schema()),
    "record_step": (
        "Write a step of a case into the ledger; `closed` withdraws the approvals that wait in it.",
        False,
        _schema("kind case body", kind={"enum": list(STEPS)}, case=TEXT, body={"type": "object"}, about=TEXT),
    ),
    "pass_checkpoint": (
        "Go past a checkpoint of a workflow, once a person has looked at what is at stake and agreed.",
        False,
        _schema(
            "step question shows",
            step=TEXT,
            question=TEXT,
            shows={"type": "object"},
            by=TEXT,
            edit={"type": "object", "additionalProperties": {"enum": sorted(EDITABLE)}},
            expires_seconds={"type": "number", "exclusiveMinimum": 0},
            escalate=TEXT,
            escalate_seconds={"type": "integer", "minimum": 0},
        ),
    ),
    "record_model": (
        "Write what a hosted model answered: tokens, version, and the provider's own calls it reports.",
        False,
        hosted.RECORD_MODEL,
    ),
    "explain_policy": (
        "What policy says about a call, and why.",
        True,
        _schema("subject tool", subject=TEXT, roles=NAMES, tool=TEXT, arguments={"type": "object"}),
    ),
}


def builtin_tools() -> list[Tool]:
    """The admin tools, and what hosted models may use, as the catalogue has them."""
    return [*(_tool(name, *about) for name, about in TOOLS.items()), *hosted.hosted_tools()]


# They tell what other tools have told.
TELLING = {name: ("private", "untrusted") for name in ("show_call", "search_ledger", "show_approval")}
# Cut off by a crash, it may be made again: a step is written with its outcome or not at all, and what a model
# answered misleads nobody if it stands twice.
REPEATABLE = frozenset(("record_step", "record_model"))


DESTRUCTIVE = frozenset(("remove_server", "revoke_token", "prune_ledger"))


def _tool(name: str, description: str, reads: bool, schema: dict[str, Any]) -> Tool:
    definition = {
        "name": name,
        "description": description,
        "inputSchema": schema,
        "annotations": {
            "readOnlyHint": reads,
            "destructiveHint": name in DESTRUCTIVE,
            "idempotentHint": reads or name in REPEATABLE,
            "openWorldHint": False,
        },
    }
    return Tool(
        server="gateway",
        name=name,
        public=f"gateway__{name}",
        definition=definition,
        digest=digest({"server": "gateway", "tool": definition}),
        read_only=reads,
        destructive=name in DESTRUCTIVE,
        idempotent=reads or name in REPEATABLE,
        open_world=False,
        labels=TELLING.get(name, ()),
    )


class Admin:
    """Answers the admin tools."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.entry = ServerEntry("gateway")
        self.info: dict[str, Any] = {"capabilities": {"tools": {}}}
        self.modern: bool | None = True
        self.on_changed: Callable[[str], None] = lambda method: None

    async def connect(self) -> None:
        """It is always here."""

    async def request(self, method: str, params: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """Run one admin tool."""
        work: Callable[..., Awaitable[dict[str, Any]]] | None = getattr(self, f"_{params.get('name')}", None)
        if method != "tools/call":
            raise MethodNotFound(f"{method} is not served by the gateway itself")
        if work is None or params["name"] not in TOOLS:
            raise InvalidParams(f"Unknown tool: {params.get('name')}")
        try:
            told = await work(caller, **(params.get("arguments") or {}))
        except GatewayError as error:
            text = f"{error.code}: {error}"
            return {"content": [{"type": "text", "text": text}], "isError": True}
        if isinstance(told, Written):
            return Written(lambda connection: _result(told.make(connection)))
        return _result(told)

    async def open_session(self, caller: Caller) -> dict[str, Any] | None:
        """It has no sessions."""
        return None

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        """It needs no notifications."""

    async def close_session(self, key: str) -> None:
        """It has no sessions."""

    async def close(self) -> None:
        """It ends with the process."""

    # -- tokens ------------------------------------------------------------------------------------

    async def _issue_token(
        self,
        caller: Caller,
        subject: str,
        roles: list[str] | None = None,
        expires_seconds: float | None = None,
        case: str = "",
        run: str = "",
        task: str = "",
    ) -> dict[str, Any]:
        by = caller.subject
        asked = Wish(subject, tuple(roles or ()), expires_seconds, case, run, task)
        wish = within(by, asked)
        issued = await self._app.tokens.issue(
            wish.subject,
            wish.roles,
            wish.expires_seconds,
            chain=(*by.chain, by.id),
            case=wish.case,
            run=wish.run,
            task=wish.task,
            under="" if by.id == OPERATOR.id else by.token,
        )
        facts = {name: issued[name] for name in ("id", "hash", "expires")}
        bound = {name: value for name in ("run", "task") if (value := getattr(wish, name))}
        body = {**facts, "for": subject, "roles_given": list(wish.roles), **bound}
        await self._app.ledger.append("token", by, status="issued", case=wish.case, body=body)
        return {name: issued[name] for name in ("token", "id", "subject", "expires")}

    async def _revoke_token(self, caller: Caller, id: str) -> dict[str, Any]:
        gone = await self._app.tokens.revoke(id)
        body = {"id": id, "for": gone["subject"], "with": gone["with"]}
        await self._app.ledger.append("token", caller.subject, status="revoked", body=body)
        return gone

    async def _list_tokens(self, caller: Caller) -> dict[str, Any]:
        return {"tokens": await self._app.tokens.list()}

    # -- servers -----------------------------------------------------------------------------------

    async def _list_servers(self, caller: Caller) -> dict[str, Any]:
        await self._app.reader.read(strict=False)
        servers = [server.summary() for _, server in sorted(self._app.catalogue.servers.items())]
        return {
            "servers": servers,
            "file": str(self._app.reader.path),
            "children": dict(self._app.children.trouble),
        }

    async def _test_server(self, caller: Caller, name: str) -> dict[str, Any]:
        await self._app.reader.read()
        catalogue = self._app.catalogue
        server = catalogue.get(name)
        await catalogue.refresh(server)
        told = server.summary()
        if server.state != "ready":
            return {**told, "ok": False, "tools": []}
        denied = [
            t["name"]
            for t in self._app.catalogue.offered_tools(server)
            if t["standing"] == "approved" and self._nobody_may(name, t)
        ]
        tools = self._app.catalogue.offered_tools(server)
        if not tools:
            told["warning"] = "it offers no tools"
        return {**told, "ok": True, "stage": "", "tools": tools, "no_rule_permits": denied}

    def _nobody_may(self, server: str, tool: dict[str, Any]) -> bool:
        known = self._app.catalogue.by_server.get(server, {}).get(tool["name"])
        return known is None or not self._app.gateway.policy.permits(known)

    async def _diff_server(self, caller: Caller, name: str) -> dict[str, Any]:
        await self._app.reader.read(strict=False)
        server = self._app.catalogue.get(name)
        await self._app.catalogue.refresh(server)  # what it offers now, not when it was last looked at
        tools = []
        for tool in self._app.catalogue.offered_tools(server):
            if tool["standing"] != "approved":
                tools.append({**tool, "diff": self._difference(server, tool["name"])})
        return {"name": name, "state": server.summary()["state"], "error": server.error, "tools": tools}

    def _difference(self, server: Any, name: str) -> list[str]:
        pin = server.pins.get(name)
        return difference(pin.definition if pin else {}, (server.offers or {}).get(name, {}))

    async def _approve_server(
        self,
        caller: Caller,
        name: str,
        tools: list[str] | None = None,
        unflagged: bool = False,
        all: bool = False,
    ) -> dict[str, Any]:
        await self._app.reader.read()
        catalogue = self._app.catalogue
        server = catalogue.get(name)
        if server.offers is None and not await catalogue.refresh(server):
            raise GatewayError(
                f"server {name!r} cannot be listed: {server.stage}: {server.error}; test it first"
            )
        chosen = tools or catalogue.candidates(server, unflagged=unflagged and not all)
        if not tools and not unflagged and not all:
            flagged = [
                t["name"]
                for t in self._app.catalogue.offered_tools(server)
                if t["flags"] and t["name"] in chosen
            ]
            if flagged:
                raise GatewayError(
                    f"{', '.join(flagged)} were flagged: look at `pointsman servers diff {name}`, "
                    "then name each with --tool, or take --unflagged or --all"
                )
        approved = await catalogue.approve(server, chosen, caller.subject) if chosen else []
        return {"name": name, "approved": approved, "waiting": catalogue.candidates(server, unflagged=False)}

    async def _add_server(
        self,
        caller: Caller,
        name: str,
        url: str,
        headers: dict[str, str] | None = None,
        open: list[str] | None = None,
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"type": "http", "url": url}
        if headers:
            body["headers"] = headers
        if open:
            body["pointsman"] = {"open": open}
        add_entry(self._app.reader.own_path, name, body)
        servers_file.check_name(name)
        await self._app.reader.read(by=caller.subject)
        server = self._app.catalogue.get(name)
        await self._app.catalogue.refresh(server)
        return {**server.summary(), "tools": self._app.catalogue.offered_tools(server)}

    async def _remove_server(self, caller: Caller, name: str) -> dict[str, Any]:
        self._app.catalogue.get(name)
        servers_file.edit(self._app.reader.own_path, lambda servers, _: servers.pop(name, None))
        await self._app.reader.read(by=caller.subject)
        await self._app.catalogue.forget(name)
        return {"name": name, "removed": True}

    # -- approvals ---------------------------------------------------------------------------------

    async def _list_approvals(
        self, caller: Caller, status: str = "", case: str = "", brief: bool = False
    ) -> dict[str, Any]:
        if brief:
            return {"ids": await self._app.approvals.ids(status, case)}
        return {"approvals": [as_dict(a) for a in await self._app.approvals.list(status, case)]}

    async def _show_approval(self, caller: Caller, id: str) -> dict[str, Any]:
        asked = await self._app.approvals.show(id)
        return await shown(asked, self._tool(asked.tool), self._app.ledger)

    async def _grant_approval(
        self, caller: Caller, id: str, reason: str, edit: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        allowed = await self._check_approver(caller, id, "grant")
        return as_dict(await self._app.approvals.grant(id, caller.subject, reason, edit, allowed))

    async def _pass_checkpoint(self, caller: Caller, step: str, **_: Any) -> dict[str, Any]:
        return {"passed": step, "by": caller.subject.id}

    async def _deny_approval(self, caller: Caller, id: str, reason: str) -> dict[str, Any]:
        allowed = await self._check_approver(caller, id, "deny")
        return as_dict(await self._app.approvals.deny(id, caller.subject, reason, allowed))

    async def _check_approver(self, caller: Caller, id: str, verb: str) -> Decision:
        asked = await self._app.approvals.show(id)
        policy, environment = self._app.gateway.policy, self._app.settings.environment
        return check_approver(policy, caller.subject, verb, asked, self._tool(asked.tool), environment)

    def _tool(self, public: str) -> Tool | None:
        return next((t for t in self._app.catalogue.approved() if t.public == public), None)

    # -- ledger and policy -------------------------------------------------------------------------

    async def _search_ledger(self, caller: Caller, **wanted: Any) -> dict[str, Any]:
        return await self._app.ledger.search(**wanted)

    async def _show_call(self, caller: Caller, call: str) -> dict[str, Any]:
        found = await self._app.ledger.show(call)
        if found is None:
            raise GatewayError(f"no call {call!r} in the ledger: see `pointsman audit search`")
        return found

    async def _prune_ledger(self, caller: Caller, older_than_seconds: float) -> dict[str, Any]:
        return await self._app.ledger.prune(older_than_seconds, caller.subject)

    async def _verify_ledger(self, caller: Caller) -> dict[str, Any]:
        return await self._app.ledger.verify()

    async def _record_step(
        self, caller: Caller, kind: str, case: str, body: dict[str, Any], about: str = ""
    ) -> dict[str, Any]:
        named, by = {"about": about} if about else {}, caller.subject
        step = self._app.ledger.shaped(by, step=kind, case=case, body=body, **named)

        def make(connection: Writing) -> dict[str, Any]:
            told: dict[str, Any] = {"seq": append_record(connection, "step", step)}
            if kind == "closed":
                told["withdrawn"] = self._app.approvals.withdraw(connection, case, by)
            return told

        return Written(make)

    async def _record_model(self, caller: Caller, **told: Any) -> dict[str, Any]:
        return await hosted.record(self._app.ledger, caller.subject, told)

    async def _explain_policy(
        self,
        caller: Caller,
        subject: str,
        tool: str,
        roles: list[str] | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        known = self._tool(tool)
        if known is None:
            raise UsageError(f"no approved tool {tool!r}: see `pointsman servers list`")
        who = Subject(
            subject, tuple(roles or ()) or ROLES.get(subject) or BY_KIND.get(subject.partition(":")[0], ())
        )
        context = {"environment": self._app.settings.environment}
        return {
            "subject": who.id,
            "tool": tool,
            **explained(self._app.gateway.policy, who, known, arguments or {}, context),
        }


def _result(told: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(told, indent=1, ensure_ascii=False)
    return {"content": [{"type": "text", "text": text}], "structuredContent": told}


def add_entry(path: Any, name: str, body: dict[str, Any]) -> None:
    """Write a new entry into an mcp.json; refuses a name that is taken or bad."""
    servers_file.check_name(name)
    servers_file.parse_entry(name, body)

    def change(servers: dict[str, Any], _: Any) -> None:
        if name in servers:
            raise UsageError(f"there is a server {name!r} already: remove it first, or choose another name")
        servers[name] = body

    servers_file.edit(path, change)
