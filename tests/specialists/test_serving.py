"""A served specialist as an A2A client of somebody else meets it: door, card, states, what is kept."""

import asyncio
import contextlib
import json

import httpx
import pytest
import uvicorn
from a2a.client import ClientConfig, create_client
from a2a.client.client import ClientCallContext
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import UnsupportedOperationError
from google.protobuf.json_format import MessageToJson
from typer.testing import CliRunner

from specialists.cli import app
from specialists.errors import SettingsError
from specialists.remote import door, wire
from specialists.remote.access import AccessRefused, AllowedGateways
from specialists.remote.serving import build
from specialists.types import Card, Claim, Finding, Task
from tests.fakes.small_gateway import SmallGateway

pytestmark = pytest.mark.anyio
TOKEN = "token-of-the-served-specialist"
RUN_TOKEN = "pm_token-of-the-run"
BY_ISSUER = ("--jwt-issuer", "https://login.example.com", "--jwt-jwks", "jwks.json", "--jwt-audience", "us")
HERE = AllowedGateways.named([], only_here=True)


class Looker:
    """Looks once and cites what it saw."""

    card = Card(name="looker", description="Looks once.", tools=("logs__search",))

    async def investigate(self, task, toolbox):
        result = (await toolbox.call("logs__search", {"text": task.question})).required()
        said = (result.quote(result.text),)
        claim = Claim(kind="symptom", text="Seen.", confidence=0.9, evidence=said)
        yield Finding(task=task.id, specialist="looker", status="found", summary="Seen.", claims=(claim,))


@contextlib.asynccontextmanager
async def served(allowed=HERE, token=TOKEN):
    """The looker over HTTP; gives its URL."""
    sock = uvicorn.Config(app=Looker, port=0).bind_socket()
    sock.listen(128)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    config = uvicorn.Config(
        build([Looker()], url, allowed, token), log_level="error", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve(sockets=[sock]))
    try:
        yield url
    finally:
        server.should_exit = True
        await serving


def message(text, task=None, media_type="", **more):
    parts = [a2a.Part(text=text, media_type=media_type)]
    made = a2a.Message(message_id="m", role=a2a.Role.ROLE_USER, parts=parts, **more)
    return a2a.SendMessageRequest(message=made)


class Caller:
    """Somebody else's A2A client, by the SDK."""

    def __init__(self, client, headers):
        self.client, self.context = client, ClientCallContext(service_parameters=headers)
        self.task = a2a.Task()

    async def send(self, request):
        """Send a message and follow it; the states it went through."""
        states = []
        async for event in self.client.send_message(request, context=self.context):
            kind = event.WhichOneof("payload")
            if kind == "task":
                self.task, self.opened = event.task, a2a.TaskState.Name(event.task.status.state)[11:]
            elif kind == "status_update":
                states.append(a2a.TaskState.Name(event.status_update.status.state))
                self.words = wire.said(event.status_update.status.message)
        self.task = await self.client.get_task(a2a.GetTaskRequest(id=self.task.id))
        return [state.removeprefix("TASK_STATE_") for state in states]


@contextlib.asynccontextmanager
async def calling(url, gateway="", **how):
    headers = {wire.GATEWAY_HEADER: gateway, wire.TOKEN_HEADER: RUN_TOKEN} if gateway else {}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as http:
        yield Caller(await create_client(url, ClientConfig(httpx_client=http, **how)), headers)


async def test_a_plain_question_is_a_task_and_no_token_is_kept_with_it():
    gateway = SmallGateway({"logs__search": "pool exhausted"}, token=RUN_TOKEN)
    async with gateway.listening() as there, served() as url, calling(url, there) as caller:
        states = await caller.send(message("why?"))
        assert states == ["COMPLETED"] and caller.opened == "WORKING"
        assert caller.words == "logs__search text=why?"  # what is untold yet is told with the end
        parts = caller.task.artifacts[0].parts
        assert parts[0].text == "Seen."
        finding = Finding.model_validate_json(wire.typed(parts, wire.FINDING_TYPE))
        assert finding.claims[0].evidence[0].quote == "pool exhausted" and finding.calls == 1
        assert gateway.made[0]["arguments"] == {"text": "why?"}
        assert RUN_TOKEN not in MessageToJson(caller.task) and TOKEN not in MessageToJson(caller.task)


async def test_a_task_that_waits_for_a_person_goes_on_when_it_is_spoken_to():
    gateway = SmallGateway({"logs__search": {"approval": "a_7"}})
    async with gateway.listening() as there, served() as url, calling(url, there) as caller:
        assert (await caller.send(message("why?")))[-1] == "INPUT_REQUIRED"
        assert "approval a_7" in caller.words
        gateway.tools["logs__search"] = "pool exhausted"  # a person has agreed
        going_on = message("granted", task_id=caller.task.id, context_id=caller.task.context_id)
        assert (await caller.send(going_on))[-1] == "COMPLETED"
        assert gateway.made[0]["arguments"] == {"text": "why?"}


async def test_a_cancelled_task_makes_no_more_calls():
    reached = asyncio.Event()
    ended = asyncio.Event()

    async def hang(_):
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    gateway = SmallGateway({"logs__search": hang})
    async with gateway.listening() as there, served() as url, calling(url, there) as caller:
        sending = asyncio.create_task(caller.send(message("why?")))
        await asyncio.wait_for(reached.wait(), 30)
        [running] = (await caller.client.list_tasks(a2a.ListTasksRequest())).tasks
        cancelled = await caller.client.cancel_task(a2a.CancelTaskRequest(id=running.id))
        assert cancelled.status.state == a2a.TaskState.TASK_STATE_CANCELED
        await asyncio.wait({sending}, timeout=30)
        assert gateway.made == []
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{url}/health")).json()["specialists"] == {"looker": 0}


async def test_a_task_at_work_can_be_followed_by_a_second_caller_and_takes_no_message_when_it_has_ended():
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_):
        reached.set()
        await go_on.wait()
        return "pool exhausted"

    gateway = SmallGateway({"logs__search": slow})
    async with gateway.listening() as there, served() as url, calling(url, there) as caller:
        sending = asyncio.create_task(caller.send(message("why?")))
        await asyncio.wait_for(reached.wait(), 30)
        [running] = (await caller.client.list_tasks(a2a.ListTasksRequest())).tasks
        heard = []
        async for event in caller.client.subscribe(a2a.SubscribeToTaskRequest(id=running.id)):
            heard.append(event.WhichOneof("payload"))
            go_on.set()
        assert (heard[0], heard[-1], await sending) == ("task", "status_update", ["COMPLETED"])
        assert "artifact_update" in heard and len(gateway.made) == 1
        with pytest.raises(UnsupportedOperationError, match="COMPLETED"):
            await caller.send(message("and?", task_id=running.id))


async def test_a_caller_may_wait_for_the_end_or_come_back_for_it():
    gateway = SmallGateway({"logs__search": "pool exhausted"})
    async with gateway.listening() as there, served() as url:
        for polling, state in ((False, "COMPLETED"), (True, "WORKING")):
            async with calling(url, there, streaming=False, polling=polling) as caller:
                [answer] = [
                    e async for e in caller.client.send_message(message("why?"), context=caller.context)
                ]
                assert a2a.TaskState.Name(answer.task.status.state) == f"TASK_STATE_{state}"


@pytest.mark.parametrize(
    ("allowed", "given", "why"),
    [
        (HERE, "", "no way to tools"),
        (HERE, "http://10.0.0.1:80/mcp", "is not allowed here"),
        (HERE, "http://localhost.evil.example/mcp", "is not allowed here"),
        (HERE, "http://127.0.0.1@evil.example/mcp", "is not allowed here"),
        (HERE, "file:///etc/passwd", "is not allowed here"),
        (AllowedGateways.named(["http://gw:8420/mcp"], only_here=True), "THERE", "is not allowed here"),
    ],
)
async def test_a_gateway_that_the_operator_did_not_allow_is_never_called(allowed, given, why):
    gateway = SmallGateway({"logs__search": "x"})
    async with gateway.listening() as there, served(allowed) as url:
        given = there if given == "THERE" else given
        async with calling(url, given) as caller:
            assert await caller.send(message("why?")) == ["REJECTED"]
            assert why in caller.words
    assert gateway.keys == []


def test_an_allowed_gateway_is_known_in_any_spelling_of_it():
    allowed = AllowedGateways.named(["http://GW.internal:80/mcp/"], only_here=False)
    names = ("A", "B", "C")
    assert allowed.access({"a": "http://gw.internal/mcp", "b": "t", "c": "r"}, names).run == "r"
    for other in ("https://gw.internal/mcp", "http://gw.internal/mcp?x=1", "http://gw.internal:81/mcp"):
        with pytest.raises(AccessRefused):
            allowed.access({"a": other, "b": "t"}, names)
    assert "t-secret" not in repr(allowed.access({"a": "http://gw.internal/mcp", "b": "t-secret"}, names))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "the task cannot be read"),
        (Task(id="t", case="c", specialist="logs", question="?").model_dump_json(), "the task is for 'logs'"),
    ],
)
async def test_a_task_that_is_not_for_it_is_rejected(text, why):
    async with served() as url, calling(url, "http://127.0.0.1:9/mcp") as caller:
        assert await caller.send(message(text, media_type=wire.TASK_TYPE)) == ["REJECTED"]
        assert why in caller.words


async def test_nothing_but_card_and_health_is_answered_without_the_token():
    async with served() as url, httpx.AsyncClient() as http:
        for path in ("/.well-known/agent-card.json", "/looker/.well-known/agent-card.json", "/health"):
            assert (await http.get(url + path)).status_code == 200
        card = (await http.get(f"{url}/.well-known/agent-card.json")).json()
        assert card["securitySchemes"] == {"bearer": {"httpAuthSecurityScheme": {"scheme": "bearer"}}}
        assert card["skills"][0]["id"] == "looker"
        for given in ("", "Bearer", f"Bearer {TOKEN}x", TOKEN, "Basic " + TOKEN):
            answer = await http.post(f"{url}/looker", json={}, headers={"Authorization": given})
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"


async def test_a_body_that_is_too_long_or_too_slow_is_not_read(monkeypatch):
    monkeypatch.setattr(door, "BODY_SECONDS", 0.3)
    megabyte = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"

    async def answered(url, more, *pieces):
        """The status of the answer to a request whose body is sent by hand and never ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST /looker HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n{more}\r\n\r\n"
        writer.writelines([head.encode(), *pieces])
        status = (await asyncio.wait_for(reader.readline(), 30)).split()[1]
        writer.close()
        return int(status)

    async with served() as url:
        assert await answered(url, f"Content-Length: {door.MOST_BODY + 1}") == 413
        assert await answered(url, "Transfer-Encoding: chunked", *[megabyte] * 5) == 413
        assert await answered(url, "Content-Length: 10", b"{") == 408
        assert await answered(url, "Content-Length: -1") == 400


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "no token in the environment variable POINTSMAN_SPECIALIST_TOKEN"),
        (("--host", "0.0.0.0", "--no-token"), "--no-token: only for a loopback address"),
        (("--token-env", "SHORT"), "16 or more visible characters"),
        (("--token-file", "absent"), "the token cannot be read"),
        (("--host", "0.0.0.0", "--token-env", "GOOD"), "say which gateway"),
        (("--no-token", "--gateway", "gw:8420"), "--gateway"),
        (("--jwt-issuer", "https://login.example.com"), "belong together"),
        (("--jwt-scope", "ask"), "belong together"),
        ((*BY_ISSUER, "--host", "0.0.0.0"), "say which gateway"),  # needs no token of its own
    ],
)
def test_serve_does_not_start_unsafely(monkeypatch, tmp_path, words, why):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POINTSMAN_SPECIALIST_TOKEN", raising=False)
    (tmp_path / "jwks.json").write_text("{}")
    monkeypatch.setenv("SHORT", "short")
    monkeypatch.setenv("GOOD", "x" * 32)
    done = CliRunner().invoke(app, ["serve", "logs", *words])
    assert isinstance(done.exception, SettingsError) and why in str(done.exception)


def test_a_port_that_is_taken_is_said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sock = uvicorn.Config(app=Looker, port=0).bind_socket()
    sock.listen()
    port = str(sock.getsockname()[1])
    done = CliRunner().invoke(app, ["serve", "logs", "--no-token", "--port", port])
    sock.close()
    assert isinstance(done.exception, SettingsError) and f"port {port}" in str(done.exception)


def test_the_card_and_the_task_survive_the_wire():
    job = Task(id="t", case="c", specialist="looker", question="?", seconds=5)
    assert Task.model_validate_json(wire.task_part(job).text) == job
    assert json.loads(
        wire.finding_parts(Finding(task="t", specialist="s", status="found", summary="x"))[1].text
    )
