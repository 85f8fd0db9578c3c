"""The JSON Schema of a document (draft 2020-12), so that editors complete and check what users write.

It is never stricter than `coord validate`: what that accepts, an editor accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fogline.coordinator.padl.model import CODE, Document
from fogline.coordinator.padl.props import phrase
from fogline.runtimes.options import CONNECTORS, ENDPOINT, FRAMEWORK_ALIASES, FRAMEWORKS, Option

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema of a whole document; an overlay is checked only once it is laid over its base."""
    generated = Document.model_json_schema(by_alias=True)
    generated["required"] = [key for key in generated["required"] if key != "id"]
    parts = generated["$defs"]
    queue, stage = parts["Queue"], parts["Stage"]
    queue["properties"]["connector"]["enum"] = sorted(CONNECTORS)
    queue["anyOf"] = [{"required": ["connector"]}, {"required": ["path"]}]
    queue["allOf"] = list(_per_connector())
    models = (set(FRAMEWORKS) | set(FRAMEWORK_ALIASES)) - {CODE}
    framework = stage["properties"]["framework"]
    stage["properties"]["framework"] = {"enum": [*sorted(models), None], "description": framework["description"]}
    stage["required"] = []
    stage["anyOf"] = [{"required": ["type"]}, {"required": ["model"]}]
    stage["allOf"] = list(_per_framework())  # a folder of MLflow's names its framework itself
    return {"$schema": DIALECT, "title": "PADL document"} | {
        key: value for key, value in generated.items() if key != "title"
    }


def _per_connector() -> Iterator[dict[str, Any]]:
    for name, table in CONNECTORS.items():
        yield _when({"connector": {"const": name}}, table)


def _per_framework() -> Iterator[dict[str, Any]]:
    for name, table in FRAMEWORKS.items():
        names = [name, *(alias for alias, meant in FRAMEWORK_ALIASES.items() if meant == name)]
        of_stage = {"type": {"const": CODE}} if name == CODE else {"framework": {"enum": names}}
        own = {option.name for option in table}
        yield _when(of_stage, (*table, *(option for option in ENDPOINT if option.name not in own)))


def _when(properties: Mapping[str, Any], table: tuple[Option, ...]) -> dict[str, Any]:
    """The options of one plugin. Those that an older key may stand for are not required here."""
    props: dict[str, Any] = {"properties": {option.name: _described(option) for option in table}}
    props["additionalProperties"] = False
    newer = {"anyOf": [{"required": ["path"]}, {"required": ["model"]}]}
    required = {"properties": {"props": {"required": [each.name for each in table if each.required]}}}
    return {
        "if": {"properties": properties, "required": list(properties)},
        "then": {
            "properties": {"props": props},
            "if": {"not": newer},
            "then": required | {"required": ["props"]},
        },
    }


_FILE: Mapping[str, Any] = {
    "anyOf": [{"type": "string", "pattern": "^/"}, {"type": "object", "required": ["secret"], "maxProperties": 1}]
}
_KINDS: Mapping[str, dict[str, Any]] = {
    "names": {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1}]},
    "object": {"type": "object"},
    "tls": {
        "type": "object",
        "properties": dict.fromkeys(("ca", "cert", "key"), _FILE),
        "additionalProperties": False,
    },
    "secret": {"type": "object", "required": ["secret"], "maxProperties": 1},
}


def _described(option: Option) -> dict[str, Any]:
    needed = "Required. " if option.required else ""
    later = "" if option.available else " Not available yet."
    entry: dict[str, Any] = {"description": f"{needed}{option.sentence} Must be {phrase(option)}.{later}"}
    entry["examples"] = list(option.choices) or [option.example]
    if option.default is not None:
        entry["default"] = option.default
    kind = dict(_KINDS.get(option.kind, {"type": option.kind}))
    bounds = {"minimum": option.minimum, "maximum": option.maximum, "enum": list(option.choices) or None}
    kind |= {key: value for key, value in bounds.items() if value is not None}
    if option.required:
        kind["minLength"] = 1
    if option.kind in {"secret", "tls"}:
        return entry | kind
    return entry | {"anyOf": [kind, {"type": "object", "required": ["secret"], "maxProperties": 1}]}
