"""The roster: who is on it, own specialists, and errors for those who cannot be loaded."""

import sys

import pytest

from specialists.errors import SettingsError, SpecialistUnavailable, UnknownSpecialist
from specialists.roster import BUILT_IN, Roster
from specialists.settings import SpecialistsSettings

OWN = """
from specialists.types import Card

class Mine:
    card = Card(name="{name}", description="my own", tools=("logs__*",))
    async def investigate(self, task, toolbox):
        yield None
"""


@pytest.fixture
def roster(tmp_path, monkeypatch):
    """A roster from a settings text, in a folder that may hold own specialists."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def from_text(text):
        (tmp_path / "pointsman.toml").write_text(text)
        return Roster.from_settings(SpecialistsSettings.load(tmp_path / "pointsman.toml"))

    return from_text


def test_the_shipped_specialists_are_on_it_and_run_here(roster):
    shipped = roster("")
    assert shipped.names() == tuple(BUILT_IN)
    for name in shipped.names():
        assert shipped.mode(name) == "local"
        assert shipped.card(name).name == name and shipped.card(name).tools
        assert shipped.specialist(name) is shipped.specialist(name)


def test_only_the_settings_decide_where_a_specialist_runs(roster):
    text = '[specialists.logs]\nmode = "cloud"\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "small"\n'
    switched, shipped = roster(text), roster("")
    assert switched.mode("logs") == "cloud" and switched.where("logs") == "small at http://127.0.0.1:1/v1"
    assert switched.card("logs") == shipped.card("logs")
    assert switched.mode("metrics") == "local"


def test_an_own_specialist_is_one_file_beside_the_settings(roster, tmp_path):
    (tmp_path / "my_own_one.py").write_text(OWN.format(name="mine"))
    mine = roster('[specialists.mine]\nclass = "my_own_one:Mine"\n')
    assert mine.names()[-1] == "mine" and mine.card("mine").description == "my own"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no_such_module:Mine", "No module named"),
        ("my_own_two:Absent", "Absent"),
        ("my_own_two", "my_own_two"),
        ("json:JSONDecoder", "no card"),
        ("my_own_two:Mine", "its card says 'other'"),
    ],
)
def test_an_own_specialist_that_cannot_be_used_is_named_with_the_reason(roster, tmp_path, path, why):
    (tmp_path / "my_own_two.py").write_text(OWN.format(name="other"))
    mine = roster(f'[specialists.mine]\nclass = "{path}"\n')
    with pytest.raises(SpecialistUnavailable, match=why):
        mine.specialist("mine")


def test_a_table_for_nobody_is_an_error_that_names_the_nearest(roster):
    with pytest.raises(SettingsError, match=r"\[specialists.lgos\].*did you mean 'logs'"):
        roster('[specialists.lgos]\nmode = "local"\n')


def test_asking_for_nobody_is_an_error_that_names_the_nearest(roster):
    with pytest.raises(UnknownSpecialist, match="did you mean 'metrics'"):
        roster("").specialist("metric")


def test_research_is_on_the_roster_in_cloud_mode_only(tmp_path):
    cloud = '[specialists.research]\nmode = "cloud"\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n'
    file = tmp_path / "pointsman.toml"
    file.write_text(cloud)
    assert "research" in Roster.from_settings(SpecialistsSettings.load(file)).names()
    file.write_text(cloud.replace('"cloud"', '"local"'))
    roster = Roster.from_settings(SpecialistsSettings.load(file))
    assert "research" not in roster.names()
    with pytest.raises(UnknownSpecialist, match="cloud mode only"):
        roster.card("research")
