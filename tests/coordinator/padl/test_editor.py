"""An editor's validator accepts the schema, every example, and refuses what the command refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fogline.coordinator.padl.parse import load
from fogline.coordinator.padl.schema import schema
from fogline.coordinator.padl.verdict import judge
from support.example import EXAMPLE
from support.padl_files import a_document, with_value, without, written

EXAMPLES = EXAMPLE.parent
MADE = {"work", "models"}
"""Folders of an example that its own commands make."""
COMMAND = [sys.executable, "-m", "check_jsonschema"]


def documents() -> list[Path]:
    found = sorted(each for suffix in ("json", "yaml", "yml") for each in EXAMPLES.rglob(f"*.{suffix}"))
    # The framework of the plugin is known only where its package is: tests/e2e/test_plugins.py.
    others = {"framework-plugin", *MADE}
    return [each for each in found if not others & set(each.relative_to(EXAMPLES).parts)]


def whole(path: Path) -> Any:
    """The document, or that of its folder with this overlay laid over it."""
    raw = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    if "version" in raw:
        return raw
    base = next(each for each in sorted(path.parent.glob("*.json")) if '"version"' in each.read_text())
    return load([base, path]).raw


@pytest.fixture(scope="module")
def schema_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("schema"), schema(), "padl.schema.json")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.e2e
def test_the_schema_is_one(schema_file: Path) -> None:
    done = run("--check-metaschema", schema_file)
    assert done.returncode == 0, done.stdout


@pytest.mark.e2e
def test_every_example_is_valid(schema_file: Path, tmp_path: Path) -> None:
    found = documents()
    assert {each.suffix for each in found} == {".json", ".yaml"}
    merged = [written(tmp_path, whole(each), f"{each.stem}.json") for each in found]
    alone = [each for each in found if "version" in each.read_text()]
    done = run("--schemafile", schema_file, *merged, *alone)
    assert done.returncode == 0, done.stdout


BAD: list[Any] = [
    with_value(a_document(), "pipeline/scale/contraints", {}),
    with_value(a_document(), "pipeline/scale/restart", "never"),
    with_value(a_document(), "pipeline/scale/props/pth", "x"),
    with_value(a_document(), "pipeline/judge/framework", "onxx"),
    with_value(a_document(), "pipeline/judge/deploy/update/on_failure", "rolback"),
    with_value(a_document(), "queues/raw/connector", "mqqt"),
    with_value(a_document(), "queues/raw/props/port", "1883"),
    with_value(a_document(), "queues/raw/props/qos", 2),
    with_value(a_document(), "queues/raw/props/format", "jsn"),
    with_value(a_document(), "queues/raw", {"props": {}}),
    without(a_document(), "queues/raw/props/topic"),
    without(a_document(), "version"),
    without(a_document(), "pipeline/scale/type"),
    with_value(yaml.safe_load((EXAMPLE / "padl-1.0.yaml").read_text()), "queues/raw/format", "mqtt"),
    with_value(yaml.safe_load((EXAMPLE / "padl-1.0.yaml").read_text()), "pipeline/detector/model", 5),
]


@pytest.mark.e2e
def test_bad_documents_are_refused_by_both(schema_file: Path, tmp_path: Path) -> None:
    files = [written(tmp_path, each, f"bad-{number}.json") for number, each in enumerate(BAD)]
    files.append(written(tmp_path, yaml.safe_dump(BAD[-2]), "bad.yaml"))
    accepted = [each.name for each in files if not any(p.severity == "error" for p in judge(load([each])))]
    assert accepted == []
    done = run("--schemafile", schema_file, *files)
    assert done.returncode == 1
    assert [each.name for each in files if f"{each}::" not in done.stdout] == []
