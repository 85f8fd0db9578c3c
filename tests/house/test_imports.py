"""Who may import whom (the contracts in pyproject.toml), and what an import may pull in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.house_rules import ROOMS

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).parent / "lint-imports"

BROKERS = {"amqtt", "confluent_kafka", "kafka", "paho", "websockets"}
MODELS = {
    "ai_edge_litert",
    "joblib",
    "numpy",
    "onnx",
    "onnxruntime",
    "scipy",
    "sklearn",
    "tensorflow",
    "tflite_runtime",
}
CONTROL = {"docker", "pydantic", "rich", "sqlalchemy", "typer", "uvicorn", "yaml"}
HEAVY = BROKERS | MODELS | CONTROL | {"psutil"}
"""What must never be in the agent's memory."""

PLANTED = {
    "agent/fogline/agent/stray.py": "import fogline.coordinator.core\n",
    "coordinator/fogline/coordinator/service/stray.py": "import fogline.runtimes.connectors\n",
    "runtimes/fogline/runtimes/stray.py": "import grpc\n",
    "runtimes/fogline/runtimes/connectors/stray.py": "import fogline.runtimes.frameworks\n",
    "agent/fogline/agent/core/stray.py": "import asyncio\n",
    "proto/fogline/wire/stray.py": "import fogline.agent\n",
    "agent/fogline/agent/host/stray.py": "import psutil\n",
}
"""One violation for each contract, in the order of pyproject.toml."""


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of the project copied or living at `root`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(root / room) for room in ROOMS)}
    command = [str(LINTER), "--no-cache"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def contracts() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]


def loaded_by(statement: str, *folders: Path) -> set[str]:
    """The modules that a fresh interpreter holds after `statement`, without those it starts with."""
    script = (
        f"import sys, json; before = set(sys.modules); {statement}; print(json.dumps([*set(sys.modules) - before]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def heavy(modules: set[str]) -> set[str]:
    return {module for module in modules if module.partition(".")[0] in HEAVY}


def foreign(modules: set[str]) -> set[str]:
    """Modules that neither Python nor the namespace brings."""
    return {module for module in modules if module.partition(".")[0] not in {*sys.stdlib_module_names, "fogline"}}


def test_every_contract_is_kept() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_contract_can_be_broken(tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, text in PLANTED.items():
        (tmp_path / name).write_text(text)
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stderr
    for contract in contracts():
        assert f"{contract} BROKEN" in done.stdout


def test_the_agent_is_light() -> None:
    assert heavy(loaded_by("import fogline.agent.daemon")) == set()


def test_the_spec_needs_only_the_standard_library() -> None:
    modules = loaded_by("import fogline.runtimes.spec")
    assert foreign(modules) == set()
    assert {module for module in modules if module.startswith("fogline")} == {
        "fogline",
        "fogline.runtimes",
        "fogline.runtimes.spec",
    }


@pytest.mark.parametrize("library", ["yaml", "psutil"])
def test_a_heavy_import_is_noticed(library: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(f"import {library}\n")
    modules = loaded_by("import planted", tmp_path)
    assert library in heavy(modules)
    assert {"planted", library} <= foreign(modules)


def test_the_contract_names_every_module_of_the_runtimes_that_is_not_open_to_others() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = {
        module
        for contract in settings["tool"]["importlinter"]["contracts"]
        for module in contract["forbidden_modules" if contract["type"] == "forbidden" else "modules"]
    }
    folder = ROOT / "runtimes/fogline/runtimes"
    found = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    closed = {f"fogline.runtimes.{name}" for name in found - {"__init__", "spec", "options", "plugins", "container"}}
    assert closed - named == set()
