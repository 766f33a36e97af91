"""The changes server over a recording and over a real repository."""

import subprocess

import pytest

from tests.tool_servers.making import a_world, ask, at, data, refusal, text_of

pytestmark = pytest.mark.anyio


async def test_commits_come_newest_first_without_those_of_the_future(world):
    found = await data(world, "changes", "commits")
    assert [commit["author"] for commit in found["commits"]] == ["ben", "ana"]
    assert not any(commit["diff"] for commit in found["commits"])


async def test_commits_are_found_by_folder(world):
    found = await data(world, "changes", "commits", path="shop/")
    assert [commit["author"] for commit in found["commits"]] == ["ana"]


async def test_a_commit_is_found_by_the_beginning_of_its_id_and_has_its_diff(world):
    text = text_of(await ask(world, "changes", "commit", sha="b2c3"))
    assert "Load items one by one" in text and "+    [load(id) for id in ids]" in text


async def test_a_commit_of_the_future_is_unknown(world):
    assert "no commit 'c3d4'" in await refusal(world, "changes", "commit", sha="c3d4")


async def test_a_commit_id_that_is_none_is_refused(world):
    text = await refusal(world, "changes", "commit", sha="--all")
    assert text.startswith("invalid argument 'sha': got '--all'")


async def test_deploys_say_what_went_live_and_what_before(world):
    text = text_of(await ask(world, "changes", "deploys", service="orders"))
    assert f"{at(40)} orders 1.1 (before: 1.0) commit b2c3d4e5" in text.splitlines()


async def test_flags_say_who_changed_what(world):
    found = await data(world, "changes", "flags", start=at(15))
    assert found["flags"][0]["flag"] == "new_basket" and found["flags"][0]["actor"] == "ana"


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    root.mkdir()

    def git(*arguments: str, when: str = at(0)) -> str:
        who = {"NAME": "ana", "EMAIL": "ana@example.org", "DATE": when}
        roles = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
        quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": "/usr/bin:/bin"}
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(
            command, env=roles | quiet, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    for minute, name in ((0, "one.py"), (10, "two.py")):
        (root / name).write_text(name)
        git("add", name)
        git("commit", "-qm", f"Add {name}", when=at(minute))
        git("tag", f"orders/v{minute}", when=at(minute))
    return root


async def test_a_real_repository_is_read(repository, tmp_path):
    world = a_world(tmp_path / "state", git=str(repository))
    commits = (await data(world, "changes", "commits", path="two.py"))["commits"]
    assert [(one["message"], one["files"], one["timestamp"]) for one in commits] == [
        ("Add two.py", ["two.py"], at(10))
    ]
    shown = await data(world, "changes", "commit", sha=commits[0]["sha"][:8])
    assert "+two.py" in shown["diff"]
    deploys = (await data(world, "changes", "deploys"))["deploys"]
    assert [(one["service"], one["version"], one["previous"]) for one in deploys] == [
        ("orders", "v10", "v0"),
        ("orders", "v0", ""),
    ]
    assert deploys[0]["commit"] == commits[0]["sha"]


async def test_a_window_bounds_the_commits_of_a_repository(repository, tmp_path):
    world = a_world(tmp_path / "state", git=str(repository))
    found = await data(world, "changes", "commits", end=at(5))
    assert [one["message"] for one in found["commits"]] == ["Add one.py"]


async def test_a_repository_says_that_it_has_no_flags_and_which_commits_it_has(repository, tmp_path):
    world = a_world(tmp_path / "state", git=str(repository))
    assert "a git repository records none" in await refusal(world, "changes", "flags")
    assert "no commit 'ffffff'" in await refusal(world, "changes", "commit", sha="ffffff")


async def test_a_directory_that_is_no_repository_is_said(tmp_path):
    world = a_world(tmp_path / "state", git=str(tmp_path))
    assert "not a git repository" in await refusal(world, "changes", "commits")


async def test_a_recording_comes_before_a_live_source_that_is_set(recording, repository, tmp_path):
    world = a_world(tmp_path / "state", recording=str(recording), git=str(repository))
    found = await data(world, "changes", "commits")
    assert [commit["author"] for commit in found["commits"]] == ["ben", "ana"]
