"""The container engine of this node, through its SDK. Every call blocks, and raises FoglineError.

Whether a container lives is the kernel's word and how it ended its shim's, so that the engine is needed only to make
containers and images, to find them again, and to remove them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, TypeVar

import docker
import requests
from docker.errors import DockerException, NotFound

from fogline.runtimes.container import recipe
from fogline.runtimes.container.images import ANSWER_S, EngineError, Images, Tell
from fogline.wire.terms import ErrorKind, FoglineError

STATE_DIR = "fogline.state-dir"
"""Label of everything that the agent of one state folder has made: nothing else is ever touched."""
LOCK = recipe.ENVIRONMENT
PIDS = 512
"""How many processes and threads a container may have."""
_TMP_BYTES = 64 * 1024**2
_THERE_S = 5
_LOG_BYTES = 1024**2
_T = TypeVar("_T")


@dataclass(frozen=True)
class Found:
    """A container as the engine knows it."""

    id: str
    name: str
    running: bool
    pid: int
    """On this machine; 0 when it does not run."""
    code: int
    out_of_memory: bool
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Order:
    """A container that is to be made."""

    name: str
    image: str
    command: tuple[str, ...]
    mounts: tuple[tuple[Path, str, str], ...]
    """A folder here, where it appears there, and `rw` or `ro`."""
    user: str
    working_dir: str
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    memory_bytes: int = 0
    cpus: float = 0.0
    entrypoint: tuple[str, ...] = ()
    """Instead of the image's own."""


class Engine:
    """Made when it is first needed, and found again after the engine was away."""

    def __init__(self) -> None:
        self._images = Images()

    def answers(self) -> bool:
        """Whether there is an engine that takes orders from us."""
        try:
            return bool(self._ask("be reached", lambda client: client.ping(), _THERE_S))
        except FoglineError:
            return False

    def image(self, name: str) -> str:
        """The id of an image that is here; empty when it is not."""
        with _sentences():
            return self._images.image(name)

    def build(
        self,
        context: IO[bytes],
        tag: str,
        labels: Mapping[str, str] = MappingProxyType({}),
        tell: Tell = lambda _: None,
    ) -> str:
        """The id of the image made from a context (tar), without any network; nothing stays of one that fails."""
        with _sentences():
            return self._images.build(context, tag, labels, tell)

    def pull(self, name: str, login: Mapping[str, str], tell: Tell) -> str:
        """The id of the image pulled by its digest (`REPOSITORY@sha256:...`)."""
        with _sentences():
            return self._images.pull(name, login, tell)

    def start(self, order: Order) -> Found:
        """Make a container and start it. What cannot be started is removed."""

        def make(client: docker.DockerClient) -> Found:
            container = client.containers.create(order.image, list(order.command), **_terms(order))
            try:
                container.start()
                container.reload()
            except BaseException:
                with suppress(DockerException, requests.RequestException):
                    container.remove(force=True)
                raise
            return _found(container.attrs)

        return self._ask(f"start the container {order.name}", make)

    def run(self, order: Order, timeout_s: float) -> tuple[int, bytes, bytes]:
        """Run a container to its end and remove it; its exit code, what it printed, and what on standard error.

        Raises TimeoutError when it has not ended by then.
        """

        def go(client: docker.DockerClient) -> tuple[int, bytes, bytes]:
            container = client.containers.create(order.image, list(order.command), **_terms(order))
            try:
                container.start()
                code = int(container.wait(timeout=timeout_s)["StatusCode"])
                return code, container.logs(stderr=False), container.logs(stdout=False)
            except requests.exceptions.ReadTimeout:
                raise TimeoutError from None
            except requests.exceptions.ConnectionError as error:
                if "timed out" in str(error):
                    raise TimeoutError from None
                raise
            finally:
                with suppress(DockerException, requests.RequestException):
                    container.remove(force=True)

        return self._ask(f"run the container {order.name}", go)

    def find(self, name: str) -> Found | None:
        """The container of this name, whatever its state."""

        def look(client: docker.DockerClient) -> Found | None:
            try:
                return _found(client.api.inspect_container(name))
            except NotFound:
                return None

        return self._ask(f"look for the container {name}", look)

    def of(self, state_dir: str) -> list[Found]:
        """Every container that was made for a state folder."""

        def look(client: docker.DockerClient) -> list[Found]:
            chosen = {"label": f"{STATE_DIR}={state_dir}"}
            found = []
            for each in client.api.containers(all=True, filters=chosen):
                with suppress(NotFound):  # it goes while we look
                    found.append(_found(client.api.inspect_container(each["Id"])))
            return found

        return self._ask("list containers", look)

    def remove(self, name: str) -> None:
        """Remove a container, whatever its state; nothing happens when there is none."""

        def go(client: docker.DockerClient) -> None:
            with suppress(NotFound):
                client.api.remove_container(name, force=True)

        self._ask(f"remove the container {name}", go)

    def output(self, name: str) -> bytes:
        """What a container has printed past its shim: why that could not begin."""
        return self._ask(f"read the output of {name}", lambda client: bytes(client.api.logs(name, tail=50)))

    def images(self, repository: str, *labels: str) -> dict[str, tuple[str, str]]:
        """Tag -> id and lock of the images under one name that have these labels (`key=value`)."""

        def look(client: docker.DockerClient) -> dict[str, tuple[str, str]]:
            found = client.api.images(name=repository, filters={"label": list(labels)})
            return {tag: (each["Id"], each["Labels"].get(LOCK, "")) for each in found for tag in each["RepoTags"] or ()}

        return self._ask("list images", look)

    def leftovers(self) -> list[str]:
        """Ids of what building an environment leaves behind: the stage with its wheels."""

        def look(client: docker.DockerClient) -> list[str]:
            return [each["Id"] for each in client.api.images(filters={"label": LOCK, "dangling": True})]

        return self._ask("list images", look)

    def remove_images(self, names: Iterable[str]) -> None:
        """Remove images by tag or id; those that a container uses stay."""
        with _sentences():
            self._images.remove(names)

    def _ask(self, what: str, question: Callable[[docker.DockerClient], _T], timeout_s: int = ANSWER_S) -> _T:
        with _sentences():
            return self._images.ask(what, question, timeout_s)


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        raise FoglineError(ErrorKind.UNREACHABLE if error.away else ErrorKind.FAILED, str(error)) from error


def _terms(order: Order) -> dict[str, Any]:
    """Nothing that is not needed, for any of them; there is no way to ask for more."""
    limits: dict[str, Any] = {"pids_limit": PIDS}
    if order.memory_bytes:  # without room to swap, else the limit would be twice as high
        limits |= {"mem_limit": order.memory_bytes, "memswap_limit": order.memory_bytes}
    if order.cpus:
        limits["nano_cpus"] = int(order.cpus * 1e9)
    return limits | {
        "name": order.name,
        "volumes": [f"{here}:{there}:{mode}" for here, there, mode in order.mounts],
        "user": order.user,
        "working_dir": order.working_dir,
        "environment": dict(order.environment),
        "labels": dict(order.labels),
        "network_mode": "host",
        "entrypoint": list(order.entrypoint) or None,
        "read_only": True,
        "tmpfs": {"/tmp": f"size={_TMP_BYTES},mode=1777,nosuid,nodev"},  # noqa: S108  # its own, in memory
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "restart_policy": {"Name": "no"},  # the agent decides
        "log_config": {"type": "json-file", "config": {"max-size": str(_LOG_BYTES), "max-file": "1"}},
    }


def _found(document: Mapping[str, Any]) -> Found:
    state = document["State"]
    return Found(
        id=document["Id"],
        name=document["Name"].removeprefix("/"),
        running=bool(state["Running"]),
        pid=int(state["Pid"]),
        code=int(state["ExitCode"]),
        out_of_memory=bool(state["OOMKilled"]),
        labels=document["Config"].get("Labels") or {},
    )
