"""The roster: who the specialists are, and the only code that knows where each of them runs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from specialists.errors import SettingsError, SpecialistUnavailable, UnknownSpecialist
from specialists.settings import Cloud, Remote, SpecialistsSettings, nearest
from specialists.types import Card, Specialist

BUILT_IN = {
    "kubernetes": "specialists.local.kubernetes:KubernetesSpecialist",
    "metrics": "specialists.local.metrics:MetricsSpecialist",
    "logs": "specialists.local.logs:LogsSpecialist",
    "traces": "specialists.local.traces:TracesSpecialist",
    "changes": "specialists.local.changes:ChangesSpecialist",
    "runbooks": "specialists.local.runbooks:RunbooksSpecialist",
    "remediation": "specialists.local.remediation:RemediationSpecialist",
}
# Only on the roster while it is set to cloud mode: it has no rules to work by here.
CLOUD_ONLY = {"research": "specialists.research:ResearchSpecialist"}


class Roster:
    """The specialists by name; each is imported when first asked for."""

    def __init__(self, settings: SpecialistsSettings) -> None:
        self._settings = settings
        self._paths = BUILT_IN | {n: s.class_ for n, s in settings.specialists.items() if s.class_}
        for name, chosen in settings.specialists.items():
            if name in self._paths:
                continue
            if name in CLOUD_ONLY and not isinstance(chosen, Remote):
                if isinstance(chosen, Cloud):
                    self._paths[name] = CLOUD_ONLY[name]
                continue
            if not isinstance(chosen, Remote):
                known = [*self._paths, *CLOUD_ONLY]
                raise SettingsError(
                    f"{settings.source or 'environment'}: [specialists.{name}]: nobody of that name; "
                    f'{nearest(name, known)} An own specialist needs class = "module:NAME", '
                    'one served elsewhere mode = "remote" and a url.'
                )
            self._paths[name] = ""  # all there is of it here is its address
        self._made: dict[str, Specialist] = {}

    @classmethod
    def from_settings(cls, settings: SpecialistsSettings) -> Roster:
        """The shipped specialists and those the settings add."""
        return cls(settings)

    def names(self) -> tuple[str, ...]:
        """Everybody, the shipped ones first."""
        return tuple(self._paths)

    def card(self, name: str) -> Card:
        """What a specialist says of itself."""
        return self.specialist(name).card

    def mode(self, name: str) -> str:
        """How a specialist runs, for people to read; nothing may depend on it."""
        self._path(name)
        return self._settings.of(name).mode

    def where(self, name: str) -> str:
        """Where a specialist runs, for people to read."""
        chosen = self._settings.of(name)
        if isinstance(chosen, Cloud):
            return f"{chosen.model} at {chosen.base_url}"
        if isinstance(chosen, Remote):
            return chosen.url
        return self._path(name)

    def endpoint(self, name: str) -> tuple[str, str, str] | None:
        """The model endpoint to test, with its key and the key's variable; None when no model reasons."""
        chosen = self._settings.of(name)
        if not isinstance(chosen, Cloud):
            return None
        key = chosen.key().get_secret_value()
        if chosen.provider == "foundry":
            named = (
                "api_key_env" in chosen.model_fields_set
            )  # else the machine's own identity, asked for then
            return (f"{chosen.base_url.rstrip('/')}/openai/v1", key, chosen.api_key_env) if named else None
        return chosen.base_url, key, chosen.api_key_env

    def agent(self, name: str) -> Remote | None:
        """The A2A agent to test; None when the specialist is not remote."""
        self._path(name)
        chosen = self._settings.of(name)
        return chosen if isinstance(chosen, Remote) else None

    def here(self, name: str) -> Specialist:
        """The specialist as it runs in this process, whatever the settings say; what `serve` serves."""
        if not self._path(name):
            raise SpecialistUnavailable(
                f"specialist {name!r}: there is no class of it here, only its address; "
                'give class = "module:NAME" in its table'
            )
        return self._load(name)

    def specialist(self, name: str) -> Specialist:
        """The specialist, in the mode that the settings chose."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Specialist:
        chosen = self._settings.of(name)
        if isinstance(chosen, Remote):
            from specialists.remote.specialist import RemoteSpecialist

            return RemoteSpecialist(self._card_from_afar(name, chosen), chosen)
        local: Specialist = self._load(name)
        if isinstance(chosen, Cloud):
            from specialists.cloud import CloudSpecialist

            return CloudSpecialist(local.card, chosen, instead=local)
        return local

    def _card_from_afar(self, name: str, chosen: Remote) -> Card:
        """The card of a remote specialist: that of its class, or a bare one if its code is only there."""
        try:
            return self.here(name).card
        except SpecialistUnavailable:
            return Card(name=name, description=f"Served at {chosen.url}.", tools=())

    def _path(self, name: str) -> str:
        if name not in self._paths:
            if name in CLOUD_ONLY:
                raise UnknownSpecialist(
                    f"specialist {name!r}: works in cloud mode only; "
                    f"`pointsman specialists set {name} --mode cloud --base-url URL --model NAME`"
                )
            raise UnknownSpecialist(f"specialist {name!r}: not on the roster; {nearest(name, self._paths)}")
        return self._paths[name]

    def _load(self, name: str) -> Any:
        """An instance of the class that the dotted path names."""
        path = self._path(name)
        module, _, attribute = path.partition(":")
        self._see_own_modules(path)
        try:
            made = getattr(importlib.import_module(module), attribute)()
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise SpecialistUnavailable(
                f"specialist {name!r}: cannot load {path}: {error}; "
                'give class = "module:NAME" of a class without arguments that Python can import'
            ) from error
        card = getattr(made, "card", None)
        if not isinstance(card, Card) or card.name != name:
            says = f"its card says {card.name!r}" if isinstance(card, Card) else "it has no card"
            raise SpecialistUnavailable(
                f"specialist {name!r}: {path}: {says}; its card must name it {name!r}"
            )
        return made

    def _see_own_modules(self, path: str) -> None:
        """Modules named in a settings file are also looked for beside that file."""
        source = self._settings.source
        if source and path not in BUILT_IN.values():
            folder = str(source.resolve().parent)
            if folder not in sys.path:
                sys.path.append(folder)
