"""JSON arguments as Cedar values: the types a tool's pinned schema gives them, and the encoding that fits.

Cedar reads `__entity` and `__extn` keys as its own and skips a `forbid` that errs, so nothing a caller sends
reaches it unencoded: what has no exact Cedar type becomes its canonical JSON text.

| JSON schema says           | Cedar type                       | a value                                   |
|----------------------------|----------------------------------|-------------------------------------------|
| string                     | String                           | as it is                                  |
| integer                    | Long                             | beyond 64 bits: the call is refused       |
| number                     | {text: String, rounded: decimal} | 4 places, held at decimal's limits        |
| boolean                    | Bool                             | as it is                                  |
| array of one type          | Set<that type>                   | order and repetition are lost             |
| object with properties     | record, the unnamed in `*`       | * is the JSON text of what is not named   |
| null, or a type or null    | optional                         | null is absent                            |
| anything else, mixed, none | String                           | canonical JSON text                       |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Literal

from gateway.canonical import canonical

RESERVED = frozenset({"__entity", "__extn", "__expr"})
REST = "*"
DEPTH = 12
LONG = 2**63
_LIMIT = Decimal("922337203685477.5807")
_WIDE = Context(prec=400)

Kind = Literal["string", "long", "number", "bool", "set", "record", "json"]


class Unreadable(ValueError):
    """An argument that cannot be shown to policy, so that the call has to be refused."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The Cedar type of one value."""

    kind: Kind
    item: Shape | None = None
    fields: Mapping[str, tuple[Shape, bool]] = field(default_factory=dict)  # name -> shape, required
    rest: bool = False  # a record with the attribute `*` for what the schema does not name

    def cedar(self) -> dict[str, Any]:
        """The type in Cedar's JSON schema format."""
        if self.kind == "record":
            attributes = {
                name: {**shape.cedar(), "required": need} for name, (shape, need) in self.fields.items()
            }
            if self.rest:
                attributes[REST] = {"type": "String", "required": False}
            return {"type": "Record", "attributes": attributes}
        if self.kind == "number":
            rounded = {"type": "Extension", "name": "decimal"}
            return {"type": "Record", "attributes": {"text": {"type": "String"}, "rounded": rounded}}
        if self.kind == "set" and self.item is not None:
            return {"type": "Set", "element": self.item.cedar()}
        return {"type": {"long": "Long", "bool": "Boolean"}.get(self.kind, "String")}


STRING, LONGS, NUMBER, BOOL, JSON = (Shape(kind) for kind in ("string", "long", "number", "bool", "json"))
UNTYPED = Shape("record", rest=True)


def shape_of(schema: Any) -> Shape:
    """The shape of a tool's arguments, from its input schema."""
    if not isinstance(schema, Mapping):
        return UNTYPED
    found = _record(schema, schema, DEPTH)
    return found if found.kind == "record" else UNTYPED


def _shape(schema: Any, root: Mapping[str, Any], depth: int) -> tuple[Shape, bool]:
    """The shape of values under a schema, and whether null is among them."""
    if depth <= 0 or not isinstance(schema, Mapping):
        return JSON, False
    if "$ref" in schema:
        return _shape(_resolve(schema["$ref"], root), root, depth - 1)
    types = schema.get("type") or _types_of_values(schema)
    if types is None:
        branches = schema.get("anyOf") or schema.get("oneOf")
        return (
            _either([_shape(b, root, depth - 1) for b in branches])
            if isinstance(branches, list)
            else (JSON, False)
        )
    if isinstance(types, list):
        return _either([_plain(one, schema, root, depth) for one in types])
    return _plain(types, schema, root, depth)


def _plain(kind: Any, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> tuple[Shape, bool]:
    simple = {"string": STRING, "integer": LONGS, "number": NUMBER, "boolean": BOOL}
    if kind == "null":
        return JSON, True
    if kind in simple:
        return simple[kind], False
    if kind == "array" and "prefixItems" not in schema:
        item, null = _shape(schema.get("items"), root, depth - 1)
        return (JSON if null or item.kind == "json" else Shape("set", item)), False
    if kind == "object" and schema.get("properties"):
        return _record(schema, root, depth), False
    return JSON, False


def _record(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Shape:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    if REST in properties or RESERVED & properties.keys():
        return JSON
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    fields = {}
    for name, inner in properties.items():
        shape, null = _shape(inner, root, depth - 1)
        fields[name] = (shape, name in required and not null and shape.kind != "json")
    closed = schema.get("additionalProperties", True) is False and "patternProperties" not in schema
    return Shape("record", fields=fields, rest=not closed)


def _either(branches: list[tuple[Shape, bool]]) -> tuple[Shape, bool]:
    null = any(is_null for _, is_null in branches)
    shapes = [shape for shape, is_null in branches if not (is_null and shape.kind == "json")]
    if {shape.kind for shape in shapes} == {"long", "number"}:
        return NUMBER, null
    same = bool(shapes) and all(shape == shapes[0] for shape in shapes)
    return (shapes[0] if same else JSON), null


def _resolve(ref: Any, root: Mapping[str, Any]) -> Any:
    if not isinstance(ref, str) or not ref.startswith("#/"):
        return None
    target: Any = root
    for part in ref[2:].split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        target = target.get(part) if isinstance(target, Mapping) else None
    return target


def _types_of_values(schema: Mapping[str, Any]) -> Any:
    values = schema.get("enum") if isinstance(schema.get("enum"), list) else None
    values = [schema["const"]] if "const" in schema else values
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    kinds = {names.get(type(value), "object") for value in values or ()}
    return sorted(kinds) if kinds and "object" not in kinds else None


def encode(arguments: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """The arguments as Cedar's JSON format has them; raises Unreadable for what policy could not see."""
    _no_reserved(arguments)
    value = _encode(arguments, shape, "arguments")
    return value if isinstance(value, dict) else {REST: value}


def _no_reserved(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict) or (not isinstance(item, list | tuple) and isinstance(item, Mapping)):
            if not RESERVED.isdisjoint(item):
                bad = sorted(RESERVED & item.keys())[0]
                raise Unreadable(
                    f"an argument has the key {bad!r}, which the policy language keeps for itself"
                )
            pending += [one for one in item.values() if type(one) is not str]
        elif isinstance(item, list | tuple):
            pending += [one for one in item if type(one) is not str]


def _encode(value: Any, shape: Shape, where: str) -> Any:
    match shape.kind:
        case "json":
            return canonical(value).decode()
        case "string" if isinstance(value, str):
            return value
        case "bool" if isinstance(value, bool):
            return value
        case "long" if _is_whole(value):
            if not -LONG <= value < LONG:
                raise Unreadable(f"{where} is beyond 64 bits, more than policy can compare")
            return int(value)
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return _number(value)
        case "set" if isinstance(value, list | tuple) and shape.item is not None:
            return [_encode(item, shape.item, f"{where}[{n}]") for n, item in enumerate(value)]
        case "record" if isinstance(value, Mapping):
            return _fields(value, shape, where)
    raise Unreadable(f"{where} is not the {shape.kind} its schema promises")


def _fields(value: Mapping[str, Any], shape: Shape, where: str) -> dict[str, Any]:
    found, rest = {}, {}
    for name, item in value.items():
        known = shape.fields.get(name)
        if known is None:
            rest[name] = item
        elif known[0] is STRING and type(item) is str:
            found[name] = item
        elif item is not None:
            found[name] = _encode(item, known[0], f"{where}.{name}")
    for name, (_, need) in shape.fields.items():
        if need and name not in found:
            raise Unreadable(f"{where}.{name} is missing, which its schema requires")
    if rest:
        if not shape.rest:
            raise Unreadable(f"{where} has {sorted(rest)[0]!r}, which its schema does not name")
        found[REST] = canonical(rest).decode()
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1


def _number(value: float) -> dict[str, Any]:
    if isinstance(value, float) and not math.isfinite(value):
        raise Unreadable("an argument is not a finite number")
    return {"text": canonical(value).decode(), "rounded": decimal(value)}


def decimal(value: float) -> dict[str, Any]:
    """A number as Cedar's decimal: four places, held at its limits."""
    exact = Decimal(value if isinstance(value, int) else repr(value))
    held = max(-_LIMIT, min(_LIMIT, exact))
    text = format(held.quantize(Decimal("0.0001"), rounding=ROUND_HALF_EVEN, context=_WIDE), "f")
    return {"__extn": {"fn": "decimal", "arg": text}}
