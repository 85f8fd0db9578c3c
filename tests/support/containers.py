"""A container engine, where there is one, and images made by hand for the tests of the driver."""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from fogline.agent.drivers.base import Container, Launch
from fogline.agent.drivers.docker import DockerDriver, DockerHandle
from fogline.agent.drivers.docker_engine import Engine
from fogline.runtimes.container import inside, shim

BASE = "fogline/python:3.11"
BASE_TAR = Path(__file__).parents[2] / "build" / "python-3.11.tar"
"""Made by `tests/support/base_image.sh`, once."""

_BY_HAND = f"""\
FROM {BASE}
COPY inside.py shim.py /fogline/
ENTRYPOINT ["python3", "-I", "-S", "/fogline/inside.py"]
"""


@cache
def base_is_there() -> bool:
    """Whether an engine answers and has the base image."""
    engine = Engine()
    return engine.answers() and bool(engine.image(BASE))


needs_engine = pytest.mark.skipif("not __import__('support.containers').containers.base_is_there()", reason="no engine")


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

    def __init__(self, *command: str, memory_bytes: int = 0, cpus: float = 0.0, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(Engine())
        self._command = command
        self._container = Container("", memory_bytes, cpus, secrets)

    async def start(self, launch: Launch) -> DockerHandle:
        container = replace(self._container, image=image_by_hand())
        return await super().start(replace(launch, runtime=self._command, container=container))
