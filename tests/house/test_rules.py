"""The project keeps the house rules, and every rule finds a violation that is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support import house_rules as rules

ROOT = Path(__file__).parents[2]
Rule = Callable[[Path], list[str]]

CORE = "agent/fogline/agent/core"
TEST = "tests/agent/test_it.py"
SPEC = "runtimes/fogline/runtimes/spec.py"

PLANTED: list[tuple[Rule, str, str]] = [
    (rules.long_files, f"{CORE}/big.py", "x = 1\n" * 351),
    (rules.long_files, TEST, "x = 1\n" * 401),
    (rules.long_functions, f"{CORE}/big.py", "def f():\n" + "    x = 1\n" * 60),
    (rules.long_functions, TEST, "async def f():\n" + "    x = 1\n" * 60),
    (rules.nameless_modules, f"{CORE}/utils.py", ""),
    (rules.nameless_modules, "agent/fogline/agent/helpers/fetch.py", ""),
    (rules.closed_namespaces, "agent/fogline/__init__.py", ""),
    (rules.untyped_rooms, "agent/fogline/agent/__init__.py", '"""The agent."""'),
    (rules.busy_doors, f"{CORE}/__init__.py", '"""Core."""\nfrom os import path\n'),
    (rules.busy_doors, f"{CORE}/__init__.py", ""),
    (rules.swallowed_errors, f"{CORE}/a.py", "try:\n    f()\nexcept:\n    raise\n"),
    (rules.swallowed_errors, f"{CORE}/a.py", "try:\n    f()\nexcept OSError:\n    pass\n"),
    (rules.swallowed_errors, f"{CORE}/a.py", "with contextlib.suppress(Exception):\n    f()\n"),
    (rules.lucky_sleeps, TEST, "def test_it():\n    time.sleep(0.5)\n"),
    (rules.lucky_sleeps, TEST, "async def test_it():\n    await sleep(1)\n"),
    (rules.stray_libraries, "runtimes/fogline/runtimes/pump.py", "def f():\n    import paho.mqtt.client\n"),
    (rules.stray_libraries, "coordinator/fogline/coordinator/service/a.py", "from pydantic import BaseModel\n"),
    (rules.unfinished_words, f"{CORE}/a.py", "# TO" + "DO later\n"),
    (rules.unfinished_words, "NOTES.md", "FIX" + "ME\n"),
    (rules.undocumented_names, SPEC, "def f() -> None: ...\n"),
    (rules.undocumented_names, SPEC, 'class A:\n    """A."""\n    def f(self) -> None: ...\n'),
]
RULES = list(dict.fromkeys(rule for rule, _, _ in PLANTED))

KEPT = {
    "agent/fogline/agent/py.typed": "",
    "agent/fogline/agent/__init__.py": '"""The agent."""\n',
    f"{CORE}/fine.py": "x = 1\n" * 350,
    f"{CORE}/named.py": "try:\n    f()\nexcept OSError as error:\n    raise Refused from error\n",
    "runtimes/fogline/runtimes/connectors/mqtt.py": "from paho.mqtt.client import Client\n",
    "proto/fogline/v1/common_pb2.py": "x = 1\n" * 1000,
    "tests/agent/test_turns.py": "async def test_it():\n    await asyncio.sleep(0)\n",
    TEST: "while not done():\n    time.sleep(0.01)\n",
    "tests/support/slow_program.py": 'if __name__ == "__main__":\n    time.sleep(600)\n',
    SPEC: 'def f() -> None:\n    """It."""\ndef _g() -> None: ...\n',
}


def plant(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule: Rule) -> None:
    assert rule(ROOT) == []


@pytest.mark.parametrize(("rule", "name", "text"), PLANTED, ids=[f"{each[0].__name__}-{each[1]}" for each in PLANTED])
def test_a_planted_violation_is_found(rule: Rule, name: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, name, text)
    assert len(found := rule(tmp_path)) == 1
    assert found[0].startswith(name.partition("/fetch")[0].removesuffix("/__init__.py"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_good_code_is_left_alone(rule: Rule, tmp_path: Path) -> None:
    for name, text in KEPT.items():
        plant(tmp_path, name, text)
    assert rule(tmp_path) == []
