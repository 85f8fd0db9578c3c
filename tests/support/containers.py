"""The container engine of a test run, and images made by hand for the tests of the driver."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from fogline.agent.drivers.base import Container, Launch
from fogline.agent.drivers.docker import DockerDriver, DockerHandle
from fogline.agent.drivers.docker_engine import STATE_DIR, Engine
from fogline.runtimes.container import inside, shim
from support import own_engine
from support.own_engine import BASE, BASE_TAR, OwnEngine, import_base

needs_engine = pytest.mark.usefixtures("engine")
IN_CONTAINERS = [pytest.mark.e2e, pytest.mark.containers, needs_engine]
"""What a test is marked with that needs an engine: this machine's, or that of the run."""

_BY_HAND = f"""\
FROM {BASE}
COPY inside.py shim.py /fogline/
ENTRYPOINT ["python3", "-I", "-S", "/fogline/inside.py"]
"""


def missing() -> str:
    """What there is not; empty: tests with containers can run."""
    engine = Engine()
    if not engine.answers():
        return own_engine.missing()
    return "" if engine.image(BASE) or BASE_TAR.exists() else str(BASE_TAR)


@contextmanager
def an_engine(folder: Path) -> Iterator[str]:
    """The address of an engine with the base image: this machine's where there is one, else one in `folder`.

    This machine's is left without the images that were made for agents in the parent of `folder`.
    """
    there = Engine()
    if not there.answers():
        with OwnEngine(folder, live_restore=False) as own:
            yield own.host
        return
    if not there.image(BASE):
        subprocess.run(import_base(), check=True, stdout=subprocess.DEVNULL)
    yield os.environ.get("DOCKER_HOST", "")
    _leave_nothing_of(folder.parent)


def _leave_nothing_of(run: Path) -> None:
    """Remove the images of agents that kept their state below `run`."""
    listing = ["docker", "images", "--filter", f"label={STATE_DIR}", "--format", "{{.ID}}"]
    for image in dict.fromkeys(subprocess.check_output(listing, text=True).split()):
        label = ["docker", "inspect", "--format", f'{{{{index .Config.Labels "{STATE_DIR}"}}}}', image]
        if subprocess.run(label, capture_output=True, text=True, check=False).stdout.startswith(f"{run}/"):
            subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)


def a_launch(path: Path) -> Launch:
    """Of a spec that nobody reads."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "spec.json").write_text("{}")
    return Launch((), path, path / "artifacts", path / "letters.db", bind=False)


def tar_of(files: dict[str, bytes]) -> bytes:
    """A build context."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(data), 0o644
            tar.addfile(about, io.BytesIO(data))
    return out.getvalue()


@cache
def image_by_hand() -> str:
    """The id of an image with Python and the shim."""
    files = {Path(str(module.__file__)).name: Path(str(module.__file__)).read_bytes() for module in (inside, shim)}
    return Engine().build(io.BytesIO(tar_of({"Dockerfile": _BY_HAND.encode()} | files)), "fogline/by-hand:test")


def remove_images(*names: str) -> None:
    """Remove images that were built from a context, and what was needed only to build them."""
    label = '{{index .Config.Labels "fogline.environment"}}'
    locks = {subprocess.check_output(["docker", "inspect", "--format", label, name], text=True) for name in names}
    subprocess.run(["docker", "rmi", *names], check=True, stdout=subprocess.DEVNULL)
    for lock in locks:
        left = f"label=fogline.environment={lock.strip()}"
        subprocess.run(["docker", "image", "prune", "--force", "--filter", left], check=True, stdout=subprocess.DEVNULL)


class InContainer(DockerDriver):
    """Starts a command of the test's own in the image made by hand."""

    def __init__(
        self,
        *command: str,
        memory_bytes: int = 0,
        cpus: float = 0.0,
        secrets: tuple[str, ...] = (),
        tls: bool = False,
    ) -> None:
        super().__init__(Engine())
        self._command = command
        self._container = Container("", memory_bytes, cpus, secrets, tls=tls)

    async def start(self, launch: Launch) -> DockerHandle:
        container = replace(self._container, image=image_by_hand())
        return await super().start(replace(launch, runtime=self._command, container=container))
