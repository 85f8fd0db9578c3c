"""The JSON Schema of a document (draft 2020-12), so that editors complete and check what users write.

It is never stricter than `load`: options of connectors and frameworks are described for completion, and
judged by `check` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fogline.coordinator.padl.model import CODE, Document
from fogline.coordinator.padl.props import phrase
from fogline.runtimes.options import CONNECTORS, FRAMEWORK_ALIASES, FRAMEWORKS, Option

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema of a whole document; an overlay is checked only once it is laid over its base."""
    generated = Document.model_json_schema(by_alias=True)
    generated["required"] = [key for key in generated["required"] if key != "id"]
    parts = generated["$defs"]
    queue, stage = parts["Queue"], parts["Stage"]
    queue["properties"]["connector"]["examples"] = sorted(CONNECTORS)
    queue["allOf"] = list(_per_connector())
    models = (set(FRAMEWORKS) | set(FRAMEWORK_ALIASES)) - {CODE}
    stage["properties"]["framework"]["examples"] = sorted(models)
    stage["required"] = []
    stage["anyOf"] = [{"required": ["type"]}, {"required": ["model"]}]
    stage["allOf"] = list(_per_framework())
    return {"$schema": DIALECT, "title": "PADL document"} | {
        key: value for key, value in generated.items() if key != "title"
    }


def _per_connector() -> Iterator[dict[str, Any]]:
    for name, table in CONNECTORS.items():
        if table is not None:
            yield _when({"connector": {"const": name}}, table)


def _per_framework() -> Iterator[dict[str, Any]]:
    for name, table in FRAMEWORKS.items():
        if table is None:
            continue
        names = [name, *(alias for alias, meant in FRAMEWORK_ALIASES.items() if meant == name)]
        yield _when({"type": {"const": CODE}} if name == CODE else {"framework": {"enum": names}}, table)


def _when(properties: Mapping[str, Any], table: tuple[Option, ...]) -> dict[str, Any]:
    described = {option.name: _described(option) for option in table if option.available}
    return {
        "if": {"properties": properties, "required": list(properties)},
        "then": {"properties": {"props": {"properties": described}}},
    }


def _described(option: Option) -> dict[str, Any]:
    needed = "Required. " if option.required else ""
    entry: dict[str, Any] = {"description": f"{needed}{option.sentence} Must be {phrase(option)}."}
    entry["examples"] = list(option.choices) or [option.example]
    if option.default is not None:
        entry["default"] = option.default
    return entry
