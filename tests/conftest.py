"""Real parts: tests marked `broker` or `e2e` talk to a real mosquitto and a real Apache Kafka, those marked
`containers` to a real container engine.

Without one they are skipped with the reason; under CI=true a missing part, and any skip of such a test,
is a failure: a gate that silently tests less is none.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from support import containers, mosquitto
from support import kafka as kafka_server

pytest_plugins = ["pytester"]

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports onnxruntime

REMEDY = "{} is missing: run tests/install-real-parts.sh"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka_server.Kafka]:
    """One for the whole run, which never goes away: it takes seconds to start. Use topics of your own."""
    with kafka_server.Kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container engine for the whole run, which never goes away; whoever is started finds it as the usual one.

    It is this machine's where there is one, with other people's containers.
    """
    with containers.an_engine(tmp_path_factory.getbasetemp() / "engine") as host, pytest.MonkeyPatch.context() as patch:
        if host:
            patch.setenv("DOCKER_HOST", host)
        yield host


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """The tests of a file run in one process, and so do all that need the engine."""
    group = "engine" if any(item.iter_markers("containers")) else item.nodeid.partition("::")[0]
    item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here, after `-m` has taken away what is not asked for."""
    real = [item for item in items if _needs_real_parts(item)]
    if real:
        _lay_aside(real, ("" if Path(mosquitto.BINARY).exists() else "mosquitto") or kafka_server.missing())
    boxed = [item for item in items if any(item.iter_markers("containers"))]
    if boxed:
        _lay_aside(boxed, containers.missing())


def _lay_aside(real: list[pytest.Item], missing: str) -> None:
    if not missing:
        return
    remedy = REMEDY.format(missing)
    if _on_build_server():
        raise pytest.UsageError(f"{remedy} (under CI=true a real part must be there)")
    for item in real:
        item.add_marker(pytest.mark.skip(reason=remedy))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI=true a skipped test of a real part is a failed one."""
    report = yield
    if report.skipped and _needs_real_parts(item) and _on_build_server() and not _may_be_skipped(item):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"under CI=true a test of a real part must run: {reason}"
    return report


def _may_be_skipped(item: pytest.Item) -> bool:
    return any(item.iter_markers("network"))


def _needs_real_parts(item: pytest.Item) -> bool:
    return any(item.iter_markers("broker")) or any(item.iter_markers("e2e"))


def _on_build_server() -> bool:
    return os.environ.get("CI") == "true"
