"""Settings: what an app's containers are told through their environment, wherever it is written down."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specialists.local.kubernetes.cluster import Look


@dataclass(frozen=True)
class Setting:
    """One variable: its value, and how the manifest writes it (a Secret is written in base64)."""

    value: str
    written: str


Environment = dict[str, Setting]


def environments(look: Look) -> Iterator[Environment]:
    """The environment of each container, with the ConfigMaps and Secrets of the same manifest it takes."""
    held = {kind: _held(look, kind) for kind in ("ConfigMap", "Secret")}
    for document in look.documents:
        inner = pod_spec(document)
        for container in [*(inner.get("containers") or []), *(inner.get("initContainers") or [])]:
            if isinstance(container, dict):
                yield _environment(container, held)


def pod_spec(document: dict[str, Any]) -> dict[str, Any]:
    """The pod's spec in a workload's document; nothing in any other."""
    spec = document.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    inner = template.get("spec") if isinstance(template, dict) else None
    return inner if isinstance(inner, dict) else {}


def name_of(document: dict[str, Any]) -> str:
    """The name of a document's object."""
    return str((document.get("metadata") or {}).get("name", ""))


def _held(look: Look, kind: str) -> dict[str, Environment]:
    """What the ConfigMaps or Secrets of a manifest hold, by their names."""
    found: dict[str, Environment] = {}
    for document in look.documents:
        if document.get("kind") == kind:
            plain = {
                **_mapping(document, "stringData"),
                **(_mapping(document, "data") if kind != "Secret" else {}),
            }
            coded = _mapping(document, "data") if kind == "Secret" else {}
            found[name_of(document)] = {k: Setting(v, v) for k, v in plain.items()} | {
                k: Setting(_decoded(v), v) for k, v in coded.items()
            }
    return found


def _mapping(document: dict[str, Any], key: str) -> dict[str, str]:
    held = document.get(key)
    return {str(k): str(v) for k, v in held.items()} if isinstance(held, dict) else {}


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8").strip()
    except (binascii.Error, UnicodeDecodeError):
        return text


def _environment(container: dict[str, Any], held: dict[str, dict[str, Environment]]) -> Environment:
    variables: Environment = {}
    for source in container.get("envFrom") or []:
        for reference, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            named = str((source.get(reference) or {}).get("name"))
            variables |= held[kind].get(named, {})
    for one in container.get("env") or []:
        key = str(one.get("name"))
        if "value" in one:
            variables[key] = Setting(str(one["value"]), str(one["value"]))
            continue
        for reference, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            asked = (one.get("valueFrom") or {}).get(reference) or {}
            if found := held[kind].get(str(asked.get("name")), {}).get(str(asked.get("key"))):
                variables[key] = found
    return variables
