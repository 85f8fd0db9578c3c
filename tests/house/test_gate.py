"""The gate itself: what happens when a real part is missing, here and on the build server."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import containers, kafka, mosquitto

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SUITE = """
import pytest

@pytest.mark.broker
def test_with_a_broker():
    assert True

@pytest.mark.e2e
def test_that_skips_itself():
    pytest.skip("no way here")

def test_fast():
    assert True
"""
IN_A_CONTAINER = """
import pytest

@pytest.mark.containers
def test_in_a_container(engine):
    assert True

def test_fast():
    assert True
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with one fast test and two that need real parts, under the project's own conftest."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nmarkers =\n    broker\n    e2e\n    containers\n")
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(test_suite=SUITE)
    return pytester


@pytest.fixture
def no_mosquitto(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mosquitto, "BINARY", str(tmp_path / "absent"))


@pytest.mark.usefixtures("no_mosquitto")
def test_without_mosquitto_the_rest_is_tested(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["*install-real-parts.sh*"])


@pytest.mark.usefixtures("no_mosquitto")
def test_on_the_build_server_a_missing_mosquitto_is_refused(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = suite.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*mosquitto is missing*"])


@pytest.mark.usefixtures("no_mosquitto")
def test_on_the_build_server_the_fast_tests_need_no_mosquitto(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    suite.runpytest_inprocess("-m", "not broker and not e2e").assert_outcomes(passed=1, deselected=2)


@pytest.mark.parametrize(("server", "outcomes"), [("true", {"failed": 1}), ("", {"skipped": 1})])
def test_only_on_the_build_server_a_skip_is_a_failure(
    server: str, outcomes: dict[str, int], suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosquitto, "BINARY", __file__)
    monkeypatch.setattr(kafka, "missing", lambda: "")
    monkeypatch.setenv("CI", server)
    suite.runpytest_inprocess().assert_outcomes(passed=2, **outcomes)


@pytest.mark.parametrize("server", ["true", ""])
def test_an_engine_is_a_real_part(server: str, suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto, "BINARY", __file__)
    monkeypatch.setattr(kafka, "missing", lambda: "")
    monkeypatch.setattr(containers, "missing", lambda: "root and dockerd")
    monkeypatch.setenv("CI", server)
    suite.makepyfile(test_suite=IN_A_CONTAINER)
    result = suite.runpytest_inprocess()
    if server:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*root and dockerd is missing*"])
    else:
        result.assert_outcomes(passed=1, skipped=1)
