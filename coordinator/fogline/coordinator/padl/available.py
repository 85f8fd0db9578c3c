"""What PADL knows and this release does not run yet: refused by name, never silently treated as another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fogline.coordinator.padl.files import relative_paths
from fogline.coordinator.padl.model import CODE, Document, Queue, Stage
from fogline.coordinator.padl.problems import Problem, error, pointer_to
from fogline.coordinator.padl.props import is_secret
from fogline.runtimes.options import CONNECTORS, ENDPOINT, FRAMEWORKS, Option

_REMOTE = re.compile(r"([a-z][a-z0-9+.-]*)://|(models|mlflow):|(?:[^/\s@:]+@[^/\s:]+:)", re.IGNORECASE)


def unavailable(document: Document) -> list[Problem]:
    """One error for each key, mode or value that is known but not built yet."""
    found = [
        *_document(document),
        *(problem for name, stage in document.pipeline.items() for problem in _stage(name, stage)),
        *(problem for name, queue in document.queues.items() for problem in _queue(name, queue)),
        *relative_paths(document),
    ]
    return document.as_written(found)


def is_remote(path: str) -> bool:
    """True for addresses of models that are fetched (https, a model registry) instead of read from this machine."""
    return _REMOTE.match(path) is not None


def _not_yet(pointer: str, what: str, hint: str = "") -> Problem:
    return error(pointer, f"{what} is not available yet", hint)


def _document(document: Document) -> Iterator[Problem]:
    for key in ("rollout", "monitoring", "notifications"):
        if getattr(document, key) is not None:
            yield _not_yet(pointer_to(key), f"the key {key!r}", "leave it out")


def _stage(name: str, stage: Stage) -> Iterator[Problem]:
    place = pointer_to("pipeline", name)
    if stage.type != CODE and stage.args:
        yield _not_yet(place + "/args", "passing args to a model")
    yield from _keys(place, stage)
    yield from _on_failure(place, stage)
    yield from _framework(place, stage)


def _keys(place: str, stage: Stage) -> Iterator[Problem]:
    """Keys that do nothing yet wherever they stand."""
    given = {
        "secrets": stage.secrets,
        "resources/gpus": stage.resources.gpus or None,
        "resources/disk": stage.resources.disk,
        "resources/network": stage.resources.network,
    }
    for key, value in given.items():
        if value is not None:
            yield _not_yet(f"{place}/{key}", f"the key {key.replace('/', '.')!r}", "leave it out")


def _on_failure(place: str, stage: Stage) -> Iterator[Problem]:
    if stage.deploy.update.on_failure == "retry":
        what = "deploy.update.on_failure 'retry'"
        yield _not_yet(place + "/deploy/update/on_failure", what, "use rollback or stop")
    if stage.deploy.rollback.on_failure == "retry":
        what = "deploy.rollback.on_failure 'retry'"
        yield _not_yet(place + "/deploy/rollback/on_failure", what, "use stop, or leave it out")


def _framework(place: str, stage: Stage) -> Iterator[Problem]:
    table = (*FRAMEWORKS.get(stage.framework, ()), *ENDPOINT)
    yield from _options(table, stage.props, place + "/props", f"{stage.framework} option")
    path = stage.props.get("path")
    if stage.type != CODE and isinstance(path, str) and (match := _REMOTE.match(path)):
        kind = f"{match[1] or match[2]}:" if match[1] or match[2] else "git@"
        if kind.lower() not in {"http:", "https:"}:
            hint = "give a file on this machine, or https://…#sha256=…"
            yield _not_yet(place + "/props/path", f"fetching from {kind!r} addresses", hint)


def _queue(name: str, queue: Queue) -> Iterator[Problem]:
    place = pointer_to("queues", name)
    if queue.format == "avro":
        yield _not_yet(place + "/format", "format 'avro'", "use json or text")
    yield from _options(CONNECTORS.get(queue.connector, ()), queue.props, place + "/props", f"{queue.connector} option")


def _options(table: tuple[Option, ...], props: Mapping[str, Any], place: str, what: str) -> Iterator[Problem]:
    withheld = {option.name for option in table if not option.available}
    secret = {option.name for option in table if option.kind == "secret"}
    for key, value in props.items():
        if key in withheld:
            yield _not_yet(place + pointer_to(key), f"the {what} {key!r}", "leave it out")
        elif is_secret(value) and key not in secret:
            yield _not_yet(place + pointer_to(key), "a secret as a value")
