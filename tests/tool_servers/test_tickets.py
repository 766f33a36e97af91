"""The tickets server."""

import pytest

from tests.tool_servers.making import a_world, data, refusal

pytestmark = pytest.mark.anyio


async def test_a_ticket_keeps_its_comments_in_order_and_survives_a_restart(tmp_path):
    first = a_world(tmp_path / "state")
    ticket = await data(first, "tickets", "create", title="Slow", body="Orders are slow", severity="high")
    assert (ticket["id"], ticket["status"], ticket["severity"]) == ("T-1", "open", "high")
    for body in ("looking", "fixed"):
        await data(first, "tickets", "comment", id="T-1", body=body)
    again = a_world(tmp_path / "state")
    read = await data(again, "tickets", "get", id="T-1")
    assert [one["body"] for one in read["comments"]] == ["looking", "fixed"]


async def test_tickets_are_listed_newest_first_by_status(tmp_path):
    world = a_world(tmp_path / "state")
    for title in ("one", "two", "three"):
        await data(world, "tickets", "create", title=title, body="-")
    found = await data(world, "tickets", "list_tickets", status="open", limit=2)
    assert [one["title"] for one in found["tickets"]] == ["three", "two"]
    rest = await data(world, "tickets", "list_tickets", status="open", limit=2, cursor=found["next_cursor"])
    assert [one["title"] for one in rest["tickets"]] == ["one"]
    assert (await data(world, "tickets", "list_tickets", status="closed"))["tickets"] == []


async def test_wrong_ids_statuses_and_empty_titles_are_refused_by_field(tmp_path):
    world = a_world(tmp_path / "state")
    assert "'id': no ticket 'T-9'" in await refusal(world, "tickets", "comment", id="T-9", body="x")
    assert "allowed: open, closed" in await refusal(world, "tickets", "list_tickets", status="lost")
    assert "'title'" in await refusal(world, "tickets", "create", title="", body="x")
    assert "missing argument 'body'" in await refusal(world, "tickets", "create", title="x")


async def test_a_key_opens_one_ticket_and_writes_one_comment_and_a_ticket_can_be_closed(tmp_path):
    world = a_world(tmp_path / "state")
    for key in ("a", "a", "b"):
        ticket = await data(world, "tickets", "create", title="Slow", body="-", key=key)
    assert ticket["id"] == "T-2"
    for _ in range(2):
        read = await data(world, "tickets", "comment", id="T-1", body="again", key="c")
    assert [one["body"] for one in read["comments"]] == ["again"]
    assert (await data(world, "tickets", "set_status", id="T-1", status="closed"))["status"] == "closed"
    assert "allowed: open, closed" in await refusal(world, "tickets", "set_status", id="T-1", status="x")
