"""What an entry point offers is read without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fogline.coordinator.artifacts.entrypoint import entrypoint_problem


def judged(tmp_path: Path, source: str | bytes, function: str = "handler") -> tuple[str, str]:
    file = tmp_path / "main.py"
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    message, hint = entrypoint_problem(file, function)
    return message.replace(str(tmp_path), ""), hint


@pytest.mark.parametrize(
    "source",
    [
        "def handler(data): return data",
        "@cache\ndef handler(data): return data",
        "class handler:\n def __call__(self, data): return data",
        "class handler(Base): ...",
        "handler = print",
        "a = b, handler = 1, print",
        "handler: object = print",
        "from lib import handler",
        "from lib import run as handler",
        "import handler.core",
        "from lib import *",
        "try:\n from fast import handler\nexcept ImportError:\n def handler(data): return data",
        "if True:\n pass\nelse:\n with x:\n  def handler(data): return data",
        "async def handler(data): ...\ndef handler(data): return data",
        "raise SystemExit\ndef handler(data): return '\\d'",
        b"# -*- coding: latin-1 -*-\nname = '\xe4'\ndef handler(data): return data",
        "match 1:\n case 1:\n  def handler(data): return data",
    ],
)
def test_it_offers_the_function(tmp_path: Path, source: str | bytes) -> None:
    assert judged(tmp_path, source) == ("", "")


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("def handle(data): ...", "/main.py has no function or class 'handler'; did you mean 'handle'?", "handle"),
        ("", "/main.py has no function or class 'handler'", "it defines: nothing"),
        ("class A:\n def handler(self): ...", "/main.py has no function or class 'handler'", "it defines: A"),
        ("handler: object", "/main.py has no function or class 'handler'", ""),
        ("\ndef handler(:\n", "/main.py:2 is not valid Python: ", ""),
        ("x = '\0'", "is not valid Python", ""),
        (b"x = '\xff'", "is not valid Python", ""),
        ("x = " + "(" * 5000, "is not valid Python", ""),
        ("x = " + "-" * 100_000 + "1", "is not valid Python", ""),
        ("\nasync def handler(data): ...", "/main.py:2 defines 'handler' with 'async def'", "write 'def'"),
        ("class handler:\n async def __call__(self, data): ...", "/main.py:2 defines 'handler' with 'async", ""),
    ],
    ids=range(11),
)
def test_it_does_not(tmp_path: Path, source: str | bytes, message: str, hint: str) -> None:
    found = judged(tmp_path, source)
    assert message in found[0]
    assert hint in found[1]
