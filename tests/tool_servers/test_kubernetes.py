"""The kubernetes server over recorded answers and over a kubectl program."""

import pytest

from tests.tool_servers.making import a_world, ask, data, refusal, text_of

pytestmark = pytest.mark.anyio


async def test_a_recorded_call_is_answered_as_recorded(world):
    result = await ask(world, "kubernetes", "get", resource_type="pods", namespace="prod")
    assert text_of(result) == "NAME READY\norders 1/1"


async def test_arguments_that_are_defaults_make_no_difference(world):
    result = await ask(
        world, "kubernetes", "get", resource_type="pods", namespace="prod", name="", wide=False, selector=""
    )
    assert not result.is_error


async def test_a_call_that_was_not_recorded_says_so(world):
    text = await refusal(world, "kubernetes", "get", resource_type="pods", namespace="prod", wide=True)
    assert text.startswith("not recorded: get ") and '"wide": true' in text


async def test_a_later_answer_is_given_once_the_clock_is_there(world):
    assert text_of(await ask(world, "kubernetes", "alerts")) == "OrdersSlow firing"
    await data(world, "actions", "rollback", service="orders")
    assert text_of(await ask(world, "kubernetes", "alerts")) == "no alerts"


async def test_a_port_is_a_number_in_range(world):
    ok = await ask(world, "kubernetes", "connectivity", namespace="prod", service="orders", port=80)
    assert text_of(ok) == "orders:80 answers"
    text = await refusal(world, "kubernetes", "connectivity", namespace="prod", service="orders", port=0)
    assert text == "invalid argument 'port': got 0; allowed: greater than or equal to 1"


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """A program named kubectl that prints its arguments, one a line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "kubectl"
    program.write_text(
        '#!/bin/sh\nif [ "$5" = broken ]; then echo "no such object" >&2; exit 1; fi\n'
        'for argument in "$@"; do echo "$argument"; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return a_world(tmp_path / "state", kubectl=True, kube_context="test")


async def test_a_real_cluster_is_asked_through_kubectl_without_a_shell(kubectl):
    result = await ask(
        kubectl,
        "kubernetes",
        "get",
        resource_type="pods",
        namespace="prod",
        wide=True,
        selector="app in (a, b)",
    )
    assert text_of(result).splitlines() == [
        *("--context", "test", "--request-timeout=20s", "get", "pods", "-o", "wide"),
        *("--selector=app in (a, b)", "--namespace", "prod"),
    ]


@pytest.mark.parametrize("name", ["--all-namespaces", "a b", "$(id)", "x;id", "-f/etc/passwd", "x\ny"])
async def test_no_argument_can_become_an_option_or_a_command(kubectl, name):
    text = await refusal(kubectl, "kubernetes", "describe", resource_type="pod", name=name)
    assert text.startswith("invalid argument 'name'")


async def test_what_kubectl_refuses_is_passed_on(kubectl):
    text = await refusal(kubectl, "kubernetes", "describe", resource_type="broken", name="x")
    assert text == "kubectl refused: no such object"


async def test_a_missing_kubectl_is_said_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    world = a_world(tmp_path / "state", kubectl=True)
    text = await refusal(world, "kubernetes", "cluster")
    assert "kubectl: not installed" in text and "--recording DIR" in text


async def test_what_a_cluster_cannot_answer_is_said(kubectl):
    assert "kubectl does not know this" in await refusal(kubectl, "kubernetes", "alerts")
