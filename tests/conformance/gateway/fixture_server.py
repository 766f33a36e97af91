"""Fixture server for the MCP conformance suite and for gateway tests .

Offers every tool, prompt and resource the suite's server scenarios ask for, on the
low-level `mcp.server.Server`, in both protocol eras:

    python fixture_server.py --http 4200            # http://127.0.0.1:4200/mcp; 0 takes a free port
    python fixture_server.py --stdio

Over HTTP the address is printed as one JSON line.
Extra tools beyond the suite (prefix `x_`) are for gateway tests: echo of arguments,
of _meta, of HTTP headers, slow calls that record cancellation, era-portable asks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from mcp import MCPError
from mcp import types as t
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import NotificationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPDeprecationWarning

warnings.simplefilter("ignore", MCPDeprecationWarning)

MODERN = "2026-07-28"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="

Ctx = ServerRequestContext[Any, Any]
ToolFn = Callable[[Ctx, t.CallToolRequestParams, dict[str, Any]], Awaitable[Any]]


class Mem(EventStore):
    """Replay store for resumable SSE (2025-11-25 server-sse-polling)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, t.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: t.JSONRPCMessage | None) -> str:
        self.rows.append((stream_id, message))
        return str(len(self.rows))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        at = int(last_event_id)
        if not 0 < at <= len(self.rows):
            return None
        stream = self.rows[at - 1][0]
        for n, (sid, msg) in enumerate(list(self.rows), 1):
            if n > at and sid == stream and msg is not None:
                await send_callback(EventMessage(msg, str(n)))
        return stream


# ---------------------------------------------------------------- helpers
def text(s: str, **kw: Any) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(type="text", text=s)], **kw)


def obj(props: dict[str, Any] | None = None, required: list[str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": props or {}}
    if required:
        schema["required"] = required
    return schema


def form(message: str, **props: Any) -> t.ElicitRequest:
    return t.ElicitRequest(
        params=t.ElicitRequestFormParams(message=message, requested_schema=obj(props, list(props)))
    )


def sample(prompt: str, n: int) -> t.CreateMessageRequest:
    msg = t.SamplingMessage(role="user", content=t.TextContent(type="text", text=prompt))
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=[msg], max_tokens=n))


STR = {"type": "string"}
NAME = {"name": STR}


def need(state: str | None = None, **requests: Any) -> t.InputRequiredResult:
    return t.InputRequiredResult(input_requests=requests or None, request_state=state)


def got(p: Any, key: str, kind: type) -> Any:
    answer = (p.input_responses or {}).get(key)
    return answer if isinstance(answer, kind) else None


async def ask(ctx: Ctx, p: Any, key: str, request: Any, result: type) -> Any:
    """Era-portable question: a live request on legacy, an InputRequiredResult on modern."""
    if ctx.protocol_version == MODERN:
        return got(p, key, result) or need(**{key: request})
    from mcp.shared.message import ServerMessageMetadata

    return await ctx.session.send_request(
        request, result, metadata=ServerMessageMetadata(related_request_id=ctx.request_id)
    )


TOOLS: dict[str, tuple[t.Tool, ToolFn]] = {}


def tool(
    name: str, description: str, schema: dict[str, Any] | None = None, **kw: Any
) -> Callable[[ToolFn], ToolFn]:
    def deco(fn: ToolFn) -> ToolFn:
        TOOLS[name] = (t.Tool(name=name, description=description, input_schema=schema or obj(), **kw), fn)
        return fn

    return deco


# ---------------------------------------------------------------- plain results
@tool("test_simple_text", "Returns one text block")
async def _(ctx, p, a):
    return text("This is a simple text response for testing.")


@tool("test_image_content", "Returns one image block")
async def _(ctx, p, a):
    return t.CallToolResult(content=[t.ImageContent(type="image", data=PNG, mime_type="image/png")])


@tool("test_audio_content", "Returns one audio block")
async def _(ctx, p, a):
    return t.CallToolResult(content=[t.AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


def embedded(uri: str, body: str, mime: str = "text/plain") -> t.EmbeddedResource:
    return t.EmbeddedResource(
        type="resource", resource=t.TextResourceContents(uri=uri, mime_type=mime, text=body)
    )


@tool("test_embedded_resource", "Returns one embedded resource")
async def _(ctx, p, a):
    return t.CallToolResult(
        content=[embedded("test://embedded-resource", "This is an embedded resource content.")]
    )


@tool("test_multiple_content_types", "Returns text, image and resource together")
async def _(ctx, p, a):
    return t.CallToolResult(
        content=[
            t.TextContent(type="text", text="Multiple content types test:"),
            t.ImageContent(type="image", data=PNG, mime_type="image/png"),
            embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
        ]
    )


@tool("test_error_handling", "Always fails, as a tool error")
async def _(ctx, p, a):
    return text("This tool intentionally returns an error for testing", is_error=True)


@tool(
    "json_schema_2020_12_tool",
    "Carries JSON Schema 2020-12 keywords",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": STR, "city": STR},
            }
        },
        "properties": {
            "name": STR,
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": STR,
            "email": STR,
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def _(ctx, p, a):
    return text(json.dumps(a, sort_keys=True))


@tool(
    "test_x_mcp_header",
    "Has a parameter mirrored into Mcp-Param-Region",
    obj({"region": {"type": "string", "x-mcp-header": "Region"}}),
)
async def _(ctx, p, a):
    return text(f"region={a.get('region')}")


# ---------------------------------------------------------------- notifications
async def say(ctx: Ctx, line: str) -> None:
    await ctx.session.send_log_message("info", line, logger="fixture", related_request_id=ctx.request_id)


@tool("test_tool_with_logging", "Sends three log messages while it runs")
async def _(ctx, p, a):
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await say(ctx, line)
        await asyncio.sleep(0.05)
    return text("Tool with logging executed successfully")


@tool("test_logging_tool", "Logs once; silent unless the request opted in (modern era)")
async def _(ctx, p, a):
    await say(ctx, "test_logging_tool ran")
    return text("logged")


@tool("test_tool_with_progress", "Reports progress 0, 50, 100")
async def _(ctx, p, a):
    for n in (0, 50, 100):
        await ctx.session.report_progress(n, 100, f"Completed step {n} of 100")
        await asyncio.sleep(0.05)
    return text(str((ctx.meta or {}).get("progress_token")))


@tool("test_reconnection", "Closes its own SSE stream mid-call (2025-11-25 polling)")
async def _(ctx, p, a):
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
        await asyncio.sleep(0.2)
    return text("Reconnection test completed successfully")


BUS = InMemorySubscriptionBus()


@tool("test_trigger_tool_change", "Announces a changed tool list, in both eras")
async def _(ctx, p, a):
    await BUS.publish(ToolsListChanged())
    if ctx.protocol_version != MODERN:
        await ctx.session.send_tool_list_changed()
    return text("tool list changed")


@tool("test_trigger_prompt_change", "Announces a changed prompt list, in both eras")
async def _(ctx, p, a):
    await BUS.publish(PromptsListChanged())
    if ctx.protocol_version != MODERN:
        await ctx.session.send_prompt_list_changed()
    return text("prompt list changed")


@tool("x_touch_resource", "Announces an update of test://watched-resource", obj({"uri": STR}))
async def _(ctx, p, a):
    uri = a.get("uri", "test://watched-resource")
    await BUS.publish(ResourceUpdated(uri=uri))
    await BUS.publish(ResourcesListChanged())
    if ctx.protocol_version != MODERN:
        await ctx.session.send_resource_updated(uri)
    return text("touched")


# ---------------------------------------------------------------- asking the client
@tool("test_sampling", "Asks the client's model", obj({"prompt": STR}, ["prompt"]))
async def _(ctx, p, a):
    r = await ask(ctx, p, "sample", sample(a["prompt"], 100), t.CreateMessageResult)
    if isinstance(r, t.InputRequiredResult):
        return r
    return text(f"LLM response: {r.content.text if r.content.type == 'text' else r.content.type}")


async def elicited(ctx: Ctx, p: Any, request: t.ElicitRequest, label: str) -> Any:
    r = await ask(ctx, p, "answer", request, t.ElicitResult)
    if isinstance(r, t.InputRequiredResult):
        return r
    return text(f"{label}: action={r.action}, content={json.dumps(r.content or {}, sort_keys=True)}")


@tool("test_elicitation", "Asks the user one thing", obj({"message": STR}, ["message"]))
async def _(ctx, p, a):
    return await elicited(ctx, p, form(a["message"], response=STR), "User response")


@tool("test_elicitation_sep1034_defaults", "Elicitation whose schema has defaults")
async def _(ctx, p, a):
    schema = obj(
        {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
    )
    request = t.ElicitRequest(
        params=t.ElicitRequestFormParams(message="Please review", requested_schema=schema)
    )
    return await elicited(ctx, p, request, "Elicitation completed")


def titled(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"const": c, "title": title} for c, title in pairs]


@tool("test_elicitation_sep1330_enums", "Elicitation with every enum form")
async def _(ctx, p, a):
    schema = obj(
        {
            "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
            "titledSingle": {
                "type": "string",
                "oneOf": titled(
                    ("value1", "First Option"), ("value2", "Second Option"), ("value3", "Third Option")
                ),
            },
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {
                "type": "array",
                "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
            },
            "titledMulti": {
                "type": "array",
                "items": {
                    "anyOf": titled(
                        ("value1", "First Choice"), ("value2", "Second Choice"), ("value3", "Third Choice")
                    )
                },
            },
        }
    )
    request = t.ElicitRequest(
        params=t.ElicitRequestFormParams(message="Please choose", requested_schema=schema)
    )
    return await elicited(ctx, p, request, "Elicitation completed")


@tool("test_missing_capability", "Requires the client's sampling capability")
async def _(ctx, p, a):
    caps = ctx.session.client_capabilities
    if caps is None or caps.sampling is None:
        raise MCPError(
            t.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool requires the client capability 'sampling'",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return text("sampling declared")


# ---------------------------------------------------------------- input_required rounds (modern)
@tool("test_streaming_elicitation", "Progress first, then asks for input")
async def _(ctx, p, a):
    await ctx.session.report_progress(0, 1, "about to ask")
    return (
        text("done")
        if got(p, "user_name", t.ElicitResult)
        else need(user_name=form("What is your name?", **NAME))
    )


@tool("test_input_required_result_elicitation", "One elicitation round")
async def _(ctx, p, a):
    r = got(p, "user_name", t.ElicitResult)
    if r is None:
        return need(user_name=form("What is your name?", **NAME))
    return text(f"Hello, {(r.content or {}).get('name')}!")


@tool("test_input_required_result_sampling", "One sampling round")
async def _(ctx, p, a):
    r = got(p, "capital_question", t.CreateMessageResult)
    if r is None:
        return need(capital_question=sample("What is the capital of France?", 100))
    return text(f"Model said: {r.content.text}")


@tool("test_input_required_result_list_roots", "One roots round")
async def _(ctx, p, a):
    r = got(p, "client_roots", t.ListRootsResult)
    if r is None:
        return need(client_roots=t.ListRootsRequest())
    return text("roots: " + ", ".join(str(x.uri) for x in r.roots))


OK = {"ok": {"type": "boolean"}}


@tool("test_input_required_result_request_state", "Round trip with requestState")
async def _(ctx, p, a):
    if p.request_state == "minted" and got(p, "confirm", t.ElicitResult):
        return text("state-ok")
    return need("minted", confirm=form("Please confirm", **OK))


@tool("test_input_required_result_tampered_state", "Rejects a forged requestState")
async def _(ctx, p, a):
    if p.request_state is None:
        return need("untouched", confirm=form("Please confirm", **OK))
    return text("state-ok")


@tool("test_input_required_result_multiple_inputs", "Three kinds of input at once")
async def _(ctx, p, a):
    if {"user_name", "greeting", "client_roots"} <= set(p.input_responses or {}):
        return text("all three received")
    return need(
        "three",
        user_name=form("What is your name?", **NAME),
        greeting=sample("Generate a greeting", 50),
        client_roots=t.ListRootsRequest(),
    )


@tool("test_input_required_result_multi_round", "Two rounds, state carries the first answer")
async def _(ctx, p, a):
    state = json.loads(p.request_state) if p.request_state else {}
    if state.get("at") == 1 and (one := got(p, "step1", t.ElicitResult)):
        return need(
            json.dumps({"at": 2, "name": (one.content or {}).get("name")}),
            step2=form("Step 2: What is your favorite color?", color=STR),
        )
    if state.get("at") == 2 and (two := got(p, "step2", t.ElicitResult)):
        return text(f"{state['name']} likes {(two.content or {}).get('color')}")
    return need(json.dumps({"at": 1}), step1=form("Step 1: What is your name?", **NAME))


@tool("test_input_required_result_capabilities", "Asks only for what the client declared")
async def _(ctx, p, a):
    caps = ctx.session.client_capabilities or t.ClientCapabilities()
    wanted: dict[str, Any] = {}
    if caps.sampling is not None:
        wanted["sample"] = sample("Say hello", 50)
    if caps.elicitation is not None:
        wanted["ask"] = form("What is your name?", **NAME)
    return need("gated", **wanted)


# ---------------------------------------------------------------- for gateway tests
CANCELLED: list[str] = []


@tool("x_echo", "Returns its arguments as structured content", obj(), output_schema={"type": "object"})
async def _(ctx, p, a):
    return t.CallToolResult(
        content=[t.TextContent(type="text", text=json.dumps(a, sort_keys=True))], structured_content=a
    )


@tool("x_whoami", "Returns what this server saw of the request: era, _meta, client info, HTTP headers")
async def _(ctx, p, a):
    info = ctx.session.client_params
    seen = {
        "protocolVersion": ctx.protocol_version,
        "meta": {k: v for k, v in (ctx.meta or {}).items()},
        "clientInfo": info.client_info.model_dump(exclude_none=True, by_alias=True) if info else None,
        "capabilities": ctx.session.client_capabilities.model_dump(exclude_none=True, by_alias=True)
        if ctx.session.client_capabilities
        else None,
        "headers": dict(ctx.request.headers) if ctx.request is not None else None,
    }
    return t.CallToolResult(
        content=[t.TextContent(type="text", text=json.dumps(seen, default=str))],
        structured_content=json.loads(json.dumps(seen, default=str)),
        _meta={"fixture/result-meta": 1},
    )


@tool(
    "x_slow",
    "Sleeps `seconds`, progress every 0.1 s; remembers being cancelled",
    obj({"seconds": {"type": "number"}, "tag": STR}),
)
async def _(ctx, p, a):
    n = int(float(a.get("seconds", 1)) * 10)
    try:
        for i in range(n):
            await ctx.session.report_progress(i, n)
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        CANCELLED.append(str(a.get("tag")))
        raise
    return text("slept")


@tool("x_cancelled", "Tags of x_slow calls that were cancelled")
async def _(ctx, p, a):
    return t.CallToolResult(
        content=[t.TextContent(type="text", text=json.dumps(CANCELLED))],
        structured_content={"tags": list(CANCELLED)},
    )


# ---------------------------------------------------------------- handlers
async def list_tools(ctx: Ctx, p: t.PaginatedRequestParams | None) -> t.ListToolsResult:
    return t.ListToolsResult(tools=[x[0] for x in TOOLS.values()])


async def call_tool(ctx: Ctx, p: t.CallToolRequestParams) -> Any:
    if p.name not in TOOLS:
        raise MCPError(t.INVALID_PARAMS, f"Unknown tool: {p.name}")
    return await TOOLS[p.name][1](ctx, p, p.arguments or {})


RESOURCES = {
    "test://static-text": ("Static Text Resource", "text/plain"),
    "test://static-binary": ("Static Binary Resource", "image/png"),
    "test://watched-resource": ("Watched Resource", "text/plain"),
}


async def list_resources(ctx: Ctx, p: Any) -> t.ListResourcesResult:
    return t.ListResourcesResult(
        resources=[
            t.Resource(uri=u, name=n, description=n + " for testing", mime_type=m)
            for u, (n, m) in RESOURCES.items()
        ]
    )


async def list_templates(ctx: Ctx, p: Any) -> t.ListResourceTemplatesResult:
    return t.ListResourceTemplatesResult(
        resource_templates=[
            t.ResourceTemplate(
                uri_template="test://template/{id}/data",
                name="Test Template",
                description="A template with one parameter",
                mime_type="application/json",
            )
        ]
    )


async def read_resource(ctx: Ctx, p: t.ReadResourceRequestParams) -> t.ReadResourceResult:
    uri = str(p.uri)
    if uri == "test://static-binary":
        return t.ReadResourceResult(
            contents=[t.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)]
        )
    if uri.startswith("test://template/") and uri.endswith("/data"):
        ident = uri[len("test://template/") : -len("/data")]
        body = json.dumps({"id": ident, "templateTest": True, "data": f"Data for ID: {ident}"})
        return t.ReadResourceResult(
            contents=[t.TextResourceContents(uri=uri, mime_type="application/json", text=body)]
        )
    if uri in RESOURCES:
        body = (
            "This is the content of the static text resource."
            if "static" in uri
            else "Watched resource content"
        )
        return t.ReadResourceResult(
            contents=[t.TextResourceContents(uri=uri, mime_type="text/plain", text=body)]
        )
    raise MCPError(t.INVALID_PARAMS, f"Resource not found: {uri}", {"uri": uri})


def arg(name: str) -> t.PromptArgument:
    return t.PromptArgument(name=name, description=f"Test argument {name}", required=True)


PROMPTS = [
    t.Prompt(name="test_simple_prompt", description="No arguments"),
    t.Prompt(
        name="test_prompt_with_arguments", description="Two arguments", arguments=[arg("arg1"), arg("arg2")]
    ),
    t.Prompt(
        name="test_prompt_with_embedded_resource",
        description="Embeds a resource",
        arguments=[arg("resourceUri")],
    ),
    t.Prompt(name="test_prompt_with_image", description="Has an image"),
    t.Prompt(name="test_input_required_result_prompt", description="Needs input first (modern)"),
]


async def list_prompts(ctx: Ctx, p: Any) -> t.ListPromptsResult:
    return t.ListPromptsResult(prompts=PROMPTS)


def user(content: Any) -> t.PromptMessage:
    return t.PromptMessage(
        role="user", content=t.TextContent(type="text", text=content) if isinstance(content, str) else content
    )


async def get_prompt(ctx: Ctx, p: t.GetPromptRequestParams) -> Any:
    a = p.arguments or {}
    match p.name:
        case "test_simple_prompt":
            messages = [user("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            messages = [user(f"Prompt with arguments: arg1='{a.get('arg1')}', arg2='{a.get('arg2')}'")]
        case "test_prompt_with_embedded_resource":
            messages = [
                user(embedded(a["resourceUri"], "Embedded resource content for testing.")),
                user("Please process the embedded resource above."),
            ]
        case "test_prompt_with_image":
            messages = [
                user(t.ImageContent(type="image", data=PNG, mime_type="image/png")),
                user("Please analyze the image above."),
            ]
        case "test_input_required_result_prompt":
            r = got(p, "user_context", t.ElicitResult)
            if r is None:
                return need(user_context=form("What context should the prompt use?", context=STR))
            messages = [user(f"Use this context: {(r.content or {}).get('context')}")]
        case _:
            raise MCPError(t.INVALID_PARAMS, f"Unknown prompt: {p.name}")
    return t.GetPromptResult(messages=messages)


async def complete(ctx: Ctx, p: t.CompleteRequestParams) -> t.CompleteResult:
    values = [v for v in ("paris", "park", "party") if v.startswith(p.argument.value)]
    return t.CompleteResult(completion=t.Completion(values=values, total=len(values), has_more=False))


async def nothing(ctx: Ctx, p: Any) -> t.EmptyResult:
    return t.EmptyResult()


LISTS = (
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "server/discover",
)


def build() -> Server[Any]:
    server: Server[Any] = Server(
        "fixture",
        version="1.0.0",
        instructions="Fixture for conformance runs.",
        cache_hints={m: CacheHint(ttl_ms=1000, scope="public") for m in LISTS},
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=nothing,
        on_unsubscribe_resource=nothing,
        on_subscriptions_listen=ListenHandler(BUS),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=nothing,
    )
    # requestState leaves this server sealed and is verified when it comes back
    server.middleware.append(
        RequestStateBoundary(
            RequestStateSecurity(keys=[b"fixture-key-not-a-secret-32-bytes"]), default_audience=server.name
        )
    )
    return server


async def stdio(server: Server[Any]) -> None:
    from mcp.server.stdio import stdio_server

    changed = NotificationOptions(tools_changed=True, prompts_changed=True, resources_changed=True)
    async with stdio_server() as (r, w):
        await server.run(r, w, server.create_initialization_options(changed))


def main() -> None:
    ap = argparse.ArgumentParser()
    ap.add_argument("--http", type=int, metavar="PORT")
    ap.add_argument("--stdio", action="store_true")
    args = ap.parse_args()
    server = build()
    if args.stdio or args.http is None:
        asyncio.run(stdio(server))
        return
    import uvicorn

    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", args.http or 0))
    sock.listen(128)
    print(json.dumps({"url": f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"}), flush=True)
    app = server.streamable_http_app(event_store=Mem(), retry_interval=100)
    config = uvicorn.Config(app, http="h11", ws="none", log_level="error")
    asyncio.run(uvicorn.Server(config).serve(sockets=[sock]))


if __name__ == "__main__":
    main()
