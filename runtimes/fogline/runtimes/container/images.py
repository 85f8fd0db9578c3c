"""Images in a container engine, through its SDK: looked for, built, pushed, pulled, removed. Every call blocks.

For whoever talks to an engine, agents and submitters. Nothing that a failed build made stays behind.
"""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import IO, Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound

Tell = Callable[[str], None]
"""Takes what is going on, in a few words."""
ANSWER_S = 60
LONG_S = 900
"""How long the engine may be silent while it builds, pushes or pulls."""

_UNIX, _USUAL = "unix://", "unix:///var/run/docker.sock"
_THERE_S = 5
_SHOWN, _LAST_LINES = 600, 10
_PERCENT = 5
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_LAYER = re.compile(r" ---> ([0-9a-f]{12})")
_CODE = re.compile(r"returned a non-zero code: (\d+)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HOUSEKEEPING = (" ---> ", "Removing intermediate container")
_FULL = ("no space left on device", "disk quota exceeded")
_DENIED = ("unauthorized", "authentication required", "no basic auth", "access denied", "incorrect username")
_UNKNOWN = ("manifest unknown", "name unknown", "not found", "not known to registry")
_AWAY = ("connection refused", "no such host", "i/o timeout", "dial tcp", "no route to host", "deadline exceeded")
_TAKEN_AWAY = ("failed to get digest", "no such image", "unknown parent image", "layer does not exist")
"""Whoever else removes images on this machine has removed what a build had just come to, since no image named it."""
_ANEW = 4
_PLAIN = ("server gave http response to https client",)
_T = TypeVar("_T")


class EngineError(Exception):
    """What the engine could not do, and why: a sentence."""

    def __init__(self, sentence: str, *, away: bool = False) -> None:
        """`away`: whoever was to answer did not; it may be there later."""
        super().__init__(sentence)
        self.away = away


class Images:
    """Those of one engine, which is found when it is first needed, and again after it was away."""

    def __init__(self) -> None:
        self._clients: dict[int, docker.DockerClient] = {}
        """By how long they wait for an answer."""

    def ask(self, what: str, question: Callable[[docker.DockerClient], _T], timeout_s: int = ANSWER_S) -> _T:
        """The answer to a question that the engine is asked; `what` it is to do. Raises EngineError."""
        if not _there():
            raise EngineError(f"the container engine cannot {what}: it does not answer", away=True)
        try:
            if timeout_s not in self._clients:
                self._clients[timeout_s] = docker.DockerClient.from_env(timeout=timeout_s)
            return question(self._clients[timeout_s])
        except (DockerException, requests.RequestException) as error:
            away = not isinstance(error, APIError) and _is_away(error)
            said = "the engine does not answer" if away else _words(error)
            raise EngineError(f"the container engine cannot {what}: {said}", away=away) from error

    def image(self, name: str) -> str:
        """The id of an image that is here; empty when it is not."""

        def look(client: docker.DockerClient) -> str:
            try:
                return str(client.images.get(name).id)
            except ImageNotFound:
                return ""

        return str(self.ask(f"look for the image {name}", look))

    def build(
        self,
        context: IO[bytes],
        tag: str,
        labels: Mapping[str, str] = MappingProxyType({}),
        tell: Tell = lambda _: None,
    ) -> str:
        """The id of the image made from a context (tar), without any network. What it passes stays as its cache."""

        def make(client: docker.DockerClient) -> str:
            told = client.api.build(
                fileobj=context,
                labels=dict(labels),
                custom_context=True,
                tag=tag,
                network_mode="none",
                rm=True,
                forcerm=True,
                decode=True,
            )
            layers: list[str] = []
            try:
                return _built(told, layers, tell)
            except BaseException:
                _sweep(client, layers)
                raise

        for _ in range(_ANEW):
            try:
                return str(self.ask("build the image", make, LONG_S))
            except EngineError as error:
                if not any(sign in str(error).lower() for sign in _TAKEN_AWAY):
                    raise
            context.seek(0)
        return str(self.ask("build the image", make, LONG_S))

    def size_bytes(self, image: str) -> int:
        """How much it holds, layers that it shares with others included."""
        return int(self.ask("look at an image", lambda client: client.images.get(image).attrs["Size"]))

    def push(self, repository: str, tag: str, login: Mapping[str, str], tell: Tell) -> str:
        """Push an image, and return its digest there: `sha256:...`.

        `login`: `username` and `password`; empty: whatever the user has told the engine's own client.
        """

        def go(client: docker.DockerClient) -> str:
            told = client.api.push(repository, tag, stream=True, decode=True, auth_config=dict(login) or None)
            said = list(_moved(told, "pushing", tell))
            return str(next(each["aux"]["Digest"] for each in reversed(said) if "Digest" in each.get("aux", {})))

        return self._moving(f"push {repository}", go)

    def pull(self, name: str, login: Mapping[str, str], tell: Tell) -> str:
        """Pull an image by its digest (`REPOSITORY@sha256:...`), and return its id."""

        def go(client: docker.DockerClient) -> str:
            told = client.api.pull(name, stream=True, decode=True, auth_config=dict(login) or None)
            for _ in _moved(told, "pulling its image", tell):
                pass
            return str(client.images.get(name).id)

        return self._moving(f"pull {name}", go)

    def remove(self, names: Iterable[str]) -> None:
        """Remove images by tag or id; those that a container uses stay."""

        def go(client: docker.DockerClient) -> None:
            for name in names:
                with suppress(APIError):
                    client.images.remove(name)

        self.ask("remove images", go)

    def _moving(self, what: str, go: Callable[[docker.DockerClient], str]) -> str:
        try:
            return self.ask(what, go, LONG_S)
        except EngineError as error:
            if error.away:
                raise
            why, away = _of_registry(str(error))
            raise EngineError(f"the container engine cannot {what}: {why}", away=away) from error


def _built(told: Iterable[Mapping[str, Any]], layers: list[str], tell: Tell) -> str:
    """The id at the end of a build; the images it passes on its way go into `layers`."""
    image, step, error, last = "", "", "", deque[str](maxlen=_LAST_LINES)
    for each in told:
        error = str(each.get("error", error))  # and on to the end: else the connection would stay open
        image = each.get("aux", {}).get("ID", image)
        line = _COLOUR.sub("", str(each.get("stream", ""))).rstrip()
        if found := _STEP.match(line):
            step = found[3]
            last.clear()
            tell(f"building its image, step {found[1]} of {found[2]}")
        elif found := _LAYER.match(line):
            layers.append(found[1])
        elif line and not line.startswith(_HOUSEKEEPING):
            last.extend(line.splitlines())
    if error:
        raise DockerException(_failure(error, step, last))
    return image


def _failure(error: str, step: str, last: Iterable[str]) -> str:
    said = "\n".join(last)
    if any(sign in f"{error}\n{said}".lower() for sign in _FULL):
        return f"its disk is full, at {step}"
    found = _CODE.search(error)
    what = f"it ended with code {found[1]}" if found else error.strip()
    return f"at {step}: {what}" + (f"; it said last:\n{said}" if said else "")


def _sweep(client: docker.DockerClient, layers: Iterable[str]) -> None:
    """Remove what no name needs of the images that a build has passed before it failed."""
    for layer in reversed(list(layers)):
        with suppress(DockerException, requests.RequestException):
            found = client.api.inspect_image(layer)
            if not found.get("RepoTags") and not found.get("RepoDigests"):
                client.api.remove_image(layer)


def _moved(told: Iterable[Mapping[str, Any]], doing: str, tell: Tell) -> Iterator[Mapping[str, Any]]:
    """What is said while layers move, told in steps of percents. Raises DockerException for what goes wrong."""
    layers: dict[str, tuple[int, int]] = {}
    shown, error = -1, ""
    for each in told:
        error = str(each.get("error", error))  # and on to the end: else the connection would stay open
        yield each
        detail = each.get("progressDetail") or {}
        if detail.get("total"):
            layers[str(each.get("id"))] = int(detail.get("current", 0)), int(detail["total"])
        total = sum(size for _, size in layers.values())
        percent = 100 * sum(done for done, _ in layers.values()) // total if total else 0
        if percent - percent % _PERCENT != shown:
            shown = percent - percent % _PERCENT
            tell(f"{doing} {min(shown, 100)} %")
    if error:
        raise DockerException(error)


def _of_registry(said: str) -> tuple[str, bool]:
    """Why an image does not move, for people, and whether it may be otherwise later."""
    low = said.lower()
    words = said.partition(": ")[2] or said
    if any(sign in low for sign in _FULL):
        return f"its disk is full ({words})", False
    if any(sign in low for sign in _PLAIN):
        return f"the registry speaks plain HTTP, which engines accept from loopback alone ({words})", False
    if any(sign in low for sign in _DENIED):
        return f"the registry does not accept the credentials, or asks for some ({words})", False
    if any(sign in low for sign in _UNKNOWN):
        return f"the registry has no such image ({words})", False
    if any(sign in low for sign in _AWAY):
        return f"the registry does not answer ({words})", True
    return words, False


def _there() -> bool:
    """Whether anybody listens; asked by ourselves, since the library leaves its socket open when nobody does."""
    host = os.environ.get("DOCKER_HOST") or _USUAL
    if not host.startswith(_UNIX):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_THERE_S)
        try:
            probe.connect(host.removeprefix(_UNIX))
        except OSError:
            return False
    return True


def _is_away(error: Exception) -> bool:
    """Of what the library raises when it was not answered; an answer that is an error is both kinds at once."""
    return isinstance(error, requests.RequestException) or "Error while fetching server API" in str(error)


def _words(error: Exception) -> str:
    said = getattr(error, "explanation", None) or str(error)
    return str(said).strip()[-_SHOWN:]
