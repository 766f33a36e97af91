"""Settings: the file, the environment over it, and errors that name the place and the nearest key."""

import pytest
from pydantic_settings import SettingsConfigDict

from specialists.errors import SettingsError
from specialists.settings import Cloud, Local, SpecialistsSettings, TableSettings, nearest

CLOUD = '[specialists.logs]\nmode = "cloud"\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "small"\n'


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load settings from a text, with nothing of the real environment."""
    monkeypatch.delenv("POINTSMAN_CONFIG", raising=False)

    def from_text(text):
        (tmp_path / "pointsman.toml").write_text(text)
        return SpecialistsSettings.load(tmp_path / "pointsman.toml")

    return from_text


def test_nothing_set_is_everybody_here(load):
    assert load("").specialists == {} and load("").of("logs") == Local()


def test_one_line_switches_and_the_rest_of_the_table_may_stay(load):
    assert isinstance(load(CLOUD).of("logs"), Cloud)
    assert isinstance(load(CLOUD.replace('"cloud"', '"local"')).of("logs"), Local)


def test_the_environment_wins_over_the_file(load, monkeypatch):
    monkeypatch.setenv("POINTSMAN_SPECIALISTS__LOGS__MODEL", "large")
    assert load(CLOUD).of("logs").model == "large"
    monkeypatch.setenv("POINTSMAN_SPECIALISTS__LOGS__MODE", "local")
    assert isinstance(load(CLOUD).of("logs"), Local)


def test_the_environment_alone_switches_when_the_defaults_say_where(load, monkeypatch):
    monkeypatch.setenv("POINTSMAN_SPECIALISTS__LOGS__MODE", "cloud")
    shared = '[specialists.defaults]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "small"\n'
    assert load(shared).of("logs").model == "small"
    assert isinstance(load(shared).of("metrics"), Local)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CLOUD + 'base_ulr = "x"', ("[specialists.logs] base_ulr", "did you mean 'base_url'?")),
        (
            '[specialists.logs]\nmode = "cloud"',
            ("[specialists.logs] base_url: is missing", "model: is missing"),
        ),
        (CLOUD.replace("cloud", "elsewhere"), ("mode 'elsewhere' is not known; use local, remote or",)),
        (CLOUD + "timeout = 0", ("[specialists.logs] timeout", "greater than 0", "not 0")),
        (CLOUD + 'api_key = "sk-1"', ("[specialists.logs] api_key", "did you mean 'api_key_env'?")),
        ("[specialists.defaults]\ntimout = 3", ("[specialists.defaults] timout", "did you mean 'timeout'?")),
        ("[specialist.logs]", ("unknown table [specialist]", "did you mean 'specialists'?")),
        ("specialists = 3", ("specialists is not a table",)),
        ("[specialists.logs", ("cannot be read as TOML",)),
    ],
)
def test_a_mistake_is_named_with_its_file_and_the_nearest_key(load, text, words):
    with pytest.raises(SettingsError) as caught:
        load(text)
    said = str(caught.value)
    assert "pointsman.toml" in said and "\n" not in said and caught.value.exit_code == 2
    for word in words:
        assert word in said


def test_a_settings_file_that_is_not_there_is_an_error_only_when_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POINTSMAN_CONFIG", raising=False)
    assert SpecialistsSettings.load().source is None
    with pytest.raises(SettingsError, match="no such file"):
        SpecialistsSettings.load(tmp_path / "absent.toml")
    monkeypatch.setenv("POINTSMAN_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match="no such file"):
        SpecialistsSettings.load()


def test_the_key_comes_from_the_environment_and_shows_nowhere(load, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    cloud = load(CLOUD + 'api_key_env = "MY_KEY"').of("logs")
    assert cloud.key().get_secret_value() == "sk-secret"
    assert "sk-secret" not in repr(cloud) + str(cloud.model_dump()) + repr(cloud.key())


def test_another_package_reads_its_table_the_same_way(tmp_path, monkeypatch):
    class Mine(TableSettings):
        model_config = SettingsConfigDict(env_prefix="POINTSMAN_COORDINATOR__")
        table = "coordinator"
        deadline: float = 60
        home: str = "x"

    file = tmp_path / "pointsman.toml"
    file.write_text("[coordinator]\ndeadline = 5\n[gateway]\nport = 1\n")
    monkeypatch.setenv("POINTSMAN_COORDINATOR__HOME", "y")
    assert (Mine.load(file).deadline, Mine.load(file).home) == (5, "y")
    monkeypatch.setenv("POINTSMAN_COORDINATOR__DEDLINE", "y")
    with pytest.raises(SettingsError, match=r"POINTSMAN_COORDINATOR__DEDLINE.*did you mean 'deadline'"):
        Mine.load(file)
    monkeypatch.delenv("POINTSMAN_COORDINATOR__DEDLINE")
    file.write_text("[coordinator]\ndedline = 5\n")
    with pytest.raises(SettingsError, match=r"\[coordinator\] dedline: unknown key; did you mean 'deadline'"):
        Mine.load(file)


def test_advice_names_the_nearest_or_all():
    assert nearest("lgos", ["logs", "metrics"]) == "did you mean 'logs'?"
    assert nearest("zzz", ["logs", "metrics"]) == "known are logs, metrics"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("POINTSMAN_SPECIALISTS__LOGS__TIMEOUT", "soon", "should be a valid number"),
        ("POINTSMAN_SPECIALISTS__LOGS__MODE", "clowd", "mode 'clowd' is not known"),
        ("POINTSMAN_SPECIALISTS__LOGS__TIMEOU", "3", "unknown key; did you mean 'timeout'?"),
        ("POINTSMAN_SPECIALISTS__DEFAULTS__RETRIES", "99", "less than or equal to 10"),
        ("POINTSMAN_SPECIALISTS__DEFAULTS__RETRYS", "1", "unknown key; did you mean 'retries'?"),
        ("POINTSMAN_SPECIALIST__LOGS__MODE", "cloud", "did you mean 'POINTSMAN_SPECIALISTS__'?"),
    ],
)
def test_a_mistake_in_the_environment_is_not_blamed_on_the_file(load, monkeypatch, variable, value, words):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(CLOUD)
    assert str(caught.value).startswith(f"environment {variable}: ")
    assert words in str(caught.value) and "pointsman.toml" not in str(caught.value)


def test_mistakes_of_both_are_told_apart(load, monkeypatch):
    monkeypatch.setenv("POINTSMAN_SPECIALISTS__LOGS__TIMEOUT", "soon")
    with pytest.raises(SettingsError) as caught:
        load(CLOUD + "retries = 99")
    said = str(caught.value)
    assert "environment POINTSMAN_SPECIALISTS__LOGS__TIMEOUT: " in said
    assert "pointsman.toml: [specialists.logs] retries: " in said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('hosted = ["web_search"]', "provider 'compatible' has no hosted tool 'web_search': only openai"),
        ('provider = "openai"\nhosted = ["bing"]', "'openai' has no hosted tool 'bing': it has web_search"),
        ('provider = "foundry"\nhosted = ["bing"]', "needs bing_connection"),
        ('provider = "openai"\nhosted = ["mcp"]', "`pointsman servers add`, and the model gets"),
        ("token_budget = -1", "token_budget"),
    ],
)
def test_hosted_tools_fit_their_provider(load, more, words):
    with pytest.raises(SettingsError) as caught:
        load(CLOUD + more)
    assert words in str(caught.value).replace("] 0", ".0") and "base_url" not in str(caught.value)
