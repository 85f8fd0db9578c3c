"""Whatever a user writes, nothing raises and every problem has a place."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fogline.coordinator.padl.available import unavailable
from fogline.coordinator.padl.check import check
from fogline.coordinator.padl.parse import load, parse, without_passwords
from fogline.coordinator.padl.schema import schema
from fogline.coordinator.padl.source import read_source
from fogline.coordinator.padl.tree import plain
from fogline.coordinator.padl.verdict import judge
from support.padl_files import a_document

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALIDATOR = jsonschema.Draft202012Validator(schema())

WORDS = st.sampled_from(
    ["raw", "scale", "judge", "mqtt", "kafka", "onnx", "code", "model", "always", "1.0", "", "a/b", "~", "x" * 80]
)
SCALARS = st.none() | st.booleans() | st.integers(-5, 70_000) | st.floats(allow_nan=False, allow_infinity=False) | WORDS
KEYS = st.sampled_from(
    ["version", "id", "pipeline", "queues", "infra", "type", "props", "input", "output", "path", "sshConfig", "pass"]
) | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in members for place in places(each, (*path, key)))]


def mutate(document: dict[str, Any], how: tuple[float, int, Any, str]) -> None:
    """Replace, delete, rename or copy what stands at one place of the document."""
    chance, kind, value, key = how
    options = places(document)[1:]
    if not options:
        return
    *path, last = options[int(chance * len(options))]
    holder: Any = document
    for each in path:
        holder = holder[each]
    if kind == 0:
        holder[last] = value
    elif kind == 1:
        del holder[last]
    elif isinstance(holder, dict):
        holder[key] = holder.pop(last) if kind == 2 else holder[last]


MUTATIONS = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 3), VALUES, KEYS | WORDS), max_size=6)


def survives(raw: Any, folder: Path) -> None:
    path = folder / "plant.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    loaded = load([path])
    found = judge(loaded)
    assert all(each.file and each.message for each in found)
    assert all(each.pointer == "" or each.pointer.startswith("/") for each in found)
    assert loaded.document is not None or any(each.severity == "error" for each in found)
    if isinstance(raw, dict):
        document, problems = parse(raw)
        assert (document is None) == bool(problems)
        without_passwords(raw)
        if document is not None:
            unavailable(document)
            if not any(each.severity == "error" for each in check(document)):
                assert list(VALIDATOR.iter_errors(raw)) == []


@QUICK
@given(raw=VALUES)
def test_any_json(raw: Any, tmp_path: Path) -> None:
    survives(raw, tmp_path)


@QUICK
@given(mutations=MUTATIONS)
def test_any_mutation_of_a_sound_document(mutations: list[tuple[float, int, Any, str]], tmp_path: Path) -> None:
    document = a_document()
    for each in mutations:
        mutate(document, each)
    survives(json.loads(json.dumps(document)), tmp_path)


@QUICK
@given(text=st.text(alphabet=st.sampled_from(list("{}[]:,\"\\ \n\t-&*!<>|?%@`#'abn0.1e~u\x07")), max_size=40))
@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_any_text(text: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    root, problems = read_source(path)
    assert root is not None or len(problems) == 1
    assert all(each.file == str(path) for each in problems)


@QUICK
@given(raw=st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_json_is_read_as_the_standard_decoder_reads_it(raw: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(raw, indent=random.Random(len(raw)).choice([None, 2, "\t"])), encoding="utf-8")
    root, problems = read_source(path)
    if root is not None:
        assert (plain(root), problems) == (raw, [])
    else:
        assert "NUL" in problems[0].message


@QUICK
@given(raw=st.dictionaries(st.text("abc-_", min_size=1, max_size=5), VALUES, min_size=1, max_size=4))
def test_yaml_reads_back_what_yaml_wrote(raw: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(raw, default_style='"'), encoding="utf-8", newline="")
    root, problems = read_source(path)
    if root is not None:
        assert (plain(root), problems) == (raw, [])
    else:
        assert any(word in problems[0].message for word in ("NUL", "not allowed", "aliases"))
