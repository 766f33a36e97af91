"""The delivery server: named destinations only, signed, each key once, hostile text inert."""

import base64
import hashlib
import hmac
import json
import threading

import pytest

from tests.fakes.receivers import mail_server, receiver
from tests.tool_servers.making import a_world, ask, data, refusal, text_of
from tool_servers.errors import BadSettings
from tool_servers.settings import load

pytestmark = pytest.mark.anyio
HOSTILE = (
    "# Report\n\n<script>fetch('//evil')</script> <img src=x onerror=alert(1)> [look](javascript:alert(1)) "
    "![](http://evil/pixel) [fine](https://example.org)\n\n| a | b |\n|---|---|\n| 1 | <b onclick=x>2</b> |\n"
)


def toml(tmp_path, text):
    """A settings file of these lines; its path."""
    path = tmp_path / "pointsman.toml"
    path.write_text(text)
    return str(path)


def world_of(tmp_path, **destinations):
    """A world with these destinations."""
    tables = "".join(
        f"[tool_servers.delivery.{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in table.items())
        for name, table in destinations.items()
    )
    settings = load(toml(tmp_path, tables))
    return a_world(tmp_path / "state", delivery=settings.delivery)


async def test_a_report_is_written_in_each_format_and_hostile_text_stays_text(tmp_path):
    world = world_of(
        tmp_path, out={"kind": "files", "directory": "reports", "formats": ["md", "html", "pdf"]}
    )
    told = await data(
        world, "delivery", "write_report", to="out", key="k", name="INC-1", title="<x>", markdown=HOSTILE
    )
    folder = tmp_path / "reports"
    assert sorted(p.name for p in folder.iterdir()) == ["INC-1.html", "INC-1.md", "INC-1.pdf"]
    for path, digest in told["files"].items():
        assert hashlib.sha256((folder / path.rpartition("/")[2]).read_bytes()).hexdigest() == digest
    page = (folder / "INC-1.html").read_text()
    for evil in ("<script", "<img", 'javascript:alert(1)"', "<b ", "<x>"):
        assert evil not in page, evil
    assert "&lt;script&gt;" in page and "<td>1</td>" in page and 'href="https://example.org"' in page
    assert (folder / "INC-1.pdf").read_bytes().startswith(b"%PDF")
    again = await data(
        world, "delivery", "write_report", to="out", key="k", name="INC-1", title="<x>", markdown=HOSTILE
    )
    assert again["again"] and again["files"] == told["files"]


async def test_a_webhook_is_signed_and_sent_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK_KEY", "k" * 24)
    with receiver() as there:
        world = world_of(tmp_path, desk={"kind": "webhook", "url": there.url, "secret": "${env:HOOK_KEY}"})
        for again in (False, True):
            told = await data(
                world, "delivery", "send_webhook", to="desk", key="INC-1 1", body={"ü": [1, None]}
            )
            assert told["again"] is again
    [got] = there.got
    assert got.body == {"ü": [1, None]}
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.raw
    proof = base64.b64encode(hmac.new(b"k" * 24, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{proof}"
    assert "k" * 24 not in json.dumps(told)


async def test_a_message_to_a_chat_calls_nobody(tmp_path, monkeypatch):
    with receiver() as there:
        (tmp_path / "url").write_text(there.url + "/hook\n")
        world = world_of(tmp_path, team={"kind": "chat", "url": f"${{file:{tmp_path / 'url'}}}"})
        await data(world, "delivery", "post_message", to="team", key="1", text="<!channel> a & b")
    assert (there.got[0].path, there.got[0].body) == ("/hook", {"text": "&lt;!channel&gt; a &amp; b"})


async def test_a_mail_has_text_and_html_and_an_id_of_its_own(tmp_path):
    with mail_server() as (url, messages):
        mail = {
            "kind": "email",
            "url": url,
            "sender": "p@example.org",
            "to": ["a@example.org", "b@example.org"],
        }
        world = world_of(tmp_path, owners=mail)
        asked = {"to": "owners", "key": "1", "title": "Cause found", "markdown": HOSTILE}
        told = await data(world, "delivery", "send_email", **asked)
        assert (await data(world, "delivery", "send_email", **asked))["again"]
        assert "'title'" in await refusal(world, "delivery", "send_email", **asked | {"title": "x\nBcc: e@e"})
    [message] = messages
    assert (message["Subject"], message["To"]) == ("Cause found", "a@example.org, b@example.org")
    assert told["reference"] == message["Message-ID"]
    html = message.get_body(("html",)).get_content()
    assert "<script" not in html and message.get_body(("plain",)).get_content().startswith("# Report")


async def test_what_may_have_arrived_is_not_sent_again_and_what_was_refused_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr("tool_servers.delivery.SECONDS", 0.3)
    with receiver() as there:
        (tmp_path / "url").write_text(there.url)
        world = world_of(tmp_path, team={"kind": "chat", "url": f"${{file:{tmp_path / 'url'}}}"})
        there.answers.clear()
        asked = {"to": "team", "text": "hello"}
        assert "may have arrived" in await refusal(world, "delivery", "post_message", key="1", **asked)
        assert "not sent again" in await refusal(world, "delivery", "post_message", key="1", **asked)
        assert len(there.got) == 1
        there.answers.set()
        for status in (500, 302):
            there.status = status
            assert f"HTTP {status}" in await refusal(world, "delivery", "post_message", key="2", **asked)
        there.status = 200
        assert not (await data(world, "delivery", "post_message", key="2", **asked))["again"]
        other = await refusal(world, "delivery", "post_message", key="2", to="team", text="other")
        assert "used for something else" in other
    gone = await refusal(world, "delivery", "post_message", key="3", **asked)
    assert "cannot be reached" in gone


async def test_one_key_at_the_same_time_is_one_delivery(tmp_path):
    import anyio

    with receiver() as there:
        (tmp_path / "url").write_text(there.url)
        world = world_of(tmp_path, team={"kind": "chat", "url": f"${{file:{tmp_path / 'url'}}}"})
        there.answers.clear()
        threading.Timer(0.3, there.answers.set).start()
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(
                    lambda: ask(world, "delivery", "post_message", to="team", key="1", text="hello")
                )
    assert len(there.got) == 1


async def test_only_what_the_operator_named_can_be_reached_and_secrets_stay_out_of_the_file(
    tmp_path, monkeypatch
):
    world = world_of(
        tmp_path,
        team={"kind": "chat", "url": "${env:NOT_SET_HERE}"},
        out={"kind": "files", "directory": "reports"},
    )
    listed = await ask(world, "delivery", "destinations")
    assert "team chat: url: NOT_SET_HERE is not set" in text_of(listed) and "out files" in text_of(listed)
    told = await refusal(world, "delivery", "post_message", to="out", key="1", text="x")
    assert "no destination of kind chat 'out'" in told and "known: team" in told
    assert "'to'" in await refusal(world, "delivery", "post_message", to="https://evil", key="1", text="x")
    with pytest.raises(BadSettings, match=r"team\.url is a secret and stands in the file"):
        world_of(tmp_path, team={"kind": "chat", "url": "https://hooks.example.org/T/B"})
    with pytest.raises(BadSettings, match="kind webhook needs secret"):
        world_of(tmp_path, desk={"kind": "webhook", "url": "https://example.org"})
    monkeypatch.setenv("POINTSMAN_TOOL_SERVERS__DELIVERY__DESK__SECRET", "from the environment")
    settings = load(str(tmp_path / "pointsman.toml"))
    assert settings.delivery["desk"].secret == "from the environment"
    monkeypatch.delenv("POINTSMAN_TOOL_SERVERS__DELIVERY__DESK__SECRET")
    monkeypatch.setenv("POINTSMAN_TOOL_SERVERS__DELIVERY__NOBODY__SECRET", "a secret")
    with pytest.raises(BadSettings, match="kind: Field required") as wrong:
        load("")
    assert "a secret" not in str(wrong.value)
