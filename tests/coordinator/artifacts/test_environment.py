"""Whether coord's own environment will do, and one that is made where it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from fogline.coordinator.artifacts.beside import unmet
from fogline.coordinator.artifacts.environment import interpreter
from fogline.coordinator.core.needs import Need
from support.package_index import make_wheel, only_index

PYTEST = metadata.version("pytest")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("pytest", ""),
        (f"pytest=={PYTEST}", ""),
        ("PyTest>=3", ""),
        ("pytest>=99", f"and beside coord there is pytest {PYTEST}"),
        ("no-such-thing", "which is not installed beside coord"),
        ("no-such-thing; python_version < '3'", ""),
        ("no-such-thing; python_version >= '3'", "which is not installed beside coord"),
        ("fogline[coordinator]", ""),
        ("sqlalchemy[aiomysql]", "whose aiomysql is not installed beside coord"),
    ],
)
def test_every_need_is_compared_with_what_is_installed(line: str, why: str) -> None:
    expected = f"{line} (stage a), {why}" if why else ""
    assert unmet([Need("orjson>=3.9", "Fogline"), Need(line, "stage a", "a")]) == expected


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with only_index(monkeypatch, tmp_path) as folder:
        make_wheel(folder, "alpha", "1.0", ["beta"])
        make_wheel(folder, "beta", "1.0")
        yield folder


def run_in(python: Path, source: str) -> str:
    done = subprocess.run([str(python), "-I", "-c", source], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_an_environment_holds_what_is_locked_and_the_runtime_alone(index: Path) -> None:
    told: list[str] = []
    python = interpreter([Need("alpha", "stage a", "a"), Need("orjson", "Fogline")], told.append)
    assert [line.split()[0] for line in told] == ["resolving", "making"]
    assert run_in(python, "import alpha, beta, orjson; print(alpha.__version__, orjson.__version__)") == "1.0 3.10.0"
    assert run_in(python, "import fogline.runtimes.spec as s; print(s.SPEC_VERSION)") == "1"
    assert "No module named 'fogline.coordinator'" in run_in(python, "import fogline.coordinator")
    assert "No module named 'pytest'" in run_in(python, "import pytest")
    for file in index.iterdir():
        file.unlink()
    told.clear()
    assert interpreter([Need("alpha", "stage b", "b"), Need("orjson", "Fogline")], told.append) == python
    assert told == [], "it is found by what is asked for, not by who asks"


def test_newer_versions_come_when_they_are_asked_for(index: Path) -> None:
    needs = [Need("beta", "stage a", "a")]
    first = interpreter(needs, print)
    make_wheel(index, "beta", "1.1")
    assert interpreter(needs, print) == first
    second = interpreter(needs, print, upgrade=True)
    assert [run_in(each, "import beta; print(beta.__version__)") for each in (first, second)] == ["1.0", "1.1"]
    assert interpreter(needs, print) == second
