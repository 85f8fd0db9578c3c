"""Images that cannot be made or had: a sentence that says why, and nothing left behind."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fogline.agent.drivers.docker_engine import Engine
from fogline.wire.terms import ErrorKind, FoglineError
from support import own_engine
from support.containers import needs_engine, tar_of
from support.image_registry import PASSWORD, USER, Registry, missing
from support.own_engine import BASE, OwnEngine

pytestmark = [pytest.mark.e2e, pytest.mark.containers]
needs_registry = pytest.mark.skipif(bool(missing()), reason=missing())
LOGIN = {"username": USER, "password": PASSWORD}
NOWHERE = "plant/line@sha256:" + "a" * 64

FAILS = f"""\
FROM {BASE}
LABEL fogline.test=fails
COPY part /part
RUN ["python3", "-c", "for n in range(31): print('line', n)\\nraise SystemExit(3)"]
"""
FILLS = f"""\
FROM {BASE} AS wheels
COPY part /part
RUN ["python3", "-c", "open('/big', 'wb').write(bytes(400 << 20))"]
FROM {BASE}
COPY --from=wheels /big /big
"""


def everything(*chosen: str) -> tuple[set[str], set[str]]:
    """The ids of all images, those without a name too, and of all containers; others may use the same engine."""

    def ids(what: str) -> set[str]:
        return set(subprocess.check_output(["docker", what, "-aq", "--no-trunc", *chosen], text=True).split())

    return ids("images"), ids("ps")


def build(engine: Engine, dockerfile: str) -> str:
    files = {"Dockerfile": dockerfile.encode(), "part": b"x"}
    return engine.build(io.BytesIO(tar_of(files)), "fogline/test:images")


def refused(call: object) -> FoglineError:
    with pytest.raises(FoglineError) as caught:
        call()  # type: ignore[operator]
    return caught.value


@needs_engine
def test_a_build_that_fails_shows_its_last_lines() -> None:
    why = refused(lambda: build(Engine(), FAILS))
    assert why.kind is ErrorKind.FAILED
    lines = why.sentence.splitlines()
    assert lines[0].startswith("the container engine cannot build the image: at RUN [")
    assert lines[0].endswith(": it ended with code 3; it said last:")
    assert lines[-10:] == [f"line {number}" for number in range(21, 31)]
    assert everything("--filter", "label=fogline.test=fails") == (set(), set())


@needs_engine
def test_progress_is_told() -> None:
    told: list[str] = []
    files = {"Dockerfile": f"FROM {BASE}\nLABEL a=1\n".encode()}
    Engine().build(io.BytesIO(tar_of(files)), "fogline/test:progress", tell=told.append)
    Engine().remove_images(["fogline/test:progress"])
    assert told == ["building its image, step 1 of 2", "building its image, step 2 of 2"]


@pytest.mark.skipif(bool(own_engine.missing()), reason=own_engine.missing())
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OwnEngine(tmp_path / "e", room_mb=500) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        before = everything()
        why = refused(lambda: build(Engine(), FILLS))
        assert "the container engine cannot build the image: its disk is full, at RUN [" in why.sentence
        assert everything() == before


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry") / "r", asks=True) as running:
        yield running


@needs_engine
@needs_registry
@pytest.mark.parametrize(
    ("login", "words"),
    [
        (LOGIN, "the registry has no such image"),
        (LOGIN | {"password": "wrong"}, "the registry does not accept the credentials, or asks for some"),
        ({}, "the registry does not accept the credentials, or asks for some"),
    ],
)
def test_an_image_that_cannot_be_pulled(login: dict[str, str], words: str, registry: Registry) -> None:
    why = refused(lambda: Engine().pull(f"{registry.address}/{NOWHERE}", login, print))
    assert why.kind is ErrorKind.FAILED
    assert f"cannot pull {registry.address}/plant/line" in why.sentence
    assert words in why.sentence
    assert Engine().image(f"{registry.address}/{NOWHERE}") == ""


@needs_engine
@needs_registry
def test_a_registry_that_is_away(tmp_path: Path) -> None:
    absent = Registry(tmp_path / "r").address
    why = refused(lambda: Engine().pull(f"{absent}/{NOWHERE}", {}, print))
    assert why.kind is ErrorKind.UNREACHABLE
    assert "the registry does not answer" in why.sentence
