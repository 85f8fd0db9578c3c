"""API mode: what the first stage may say of the endpoint, and what says nothing where there are no queues. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fogline.coordinator.padl.model import Document, Stage
from fogline.coordinator.padl.problems import Problem, error, pointer_to, quoted, warning
from fogline.coordinator.padl.props import prop_problems
from fogline.runtimes.options import ENDPOINT, FRAMEWORKS

API = "api"
_NAMES = frozenset(option.name for option in ENDPOINT)


def is_api(document: Document) -> bool:
    """Whether its stages answer requests instead of reading queues."""
    return document.package_mode == API


def first_stage(document: Document) -> str:
    """The stage that gets the requests in API mode; empty where none or several stand at the beginning."""
    first = [name for name, stage in document.pipeline.items() if not stage.inputs]
    return first[0] if len(first) == 1 else ""


def endpoint_props(stage: Stage) -> dict[str, Any]:
    """Those of its props that are about the endpoint: what its framework has an option for is the framework's."""
    own = {option.name for option in FRAMEWORKS.get(stage.framework, ())}
    return {key: value for key, value in stage.props.items() if key in _NAMES - own}


def other_props(stage: Stage) -> dict[str, Any]:
    """The rest of them, which the framework reads."""
    about = endpoint_props(stage)
    return {key: value for key, value in stage.props.items() if key not in about}


def endpoint_problems(document: Document) -> Iterator[Problem]:
    """Options of the endpoint in the wrong place or wrong, and in API mode all that would do nothing."""
    first = first_stage(document)
    for name, stage in document.pipeline.items():
        given = endpoint_props(stage)
        if is_api(document) and name == first:
            yield from _first(given, pointer_to("pipeline", name, "props"))
        elif first or not is_api(document):
            yield from _misplaced(document, name, given, first)
        if is_api(document):
            yield from _idle(name, stage)
    for name, queue in document.queues.items():
        if is_api(document) and "guarantee" in queue.model_fields_set:
            message = "a guarantee is a promise of queues, and in API mode there are none"
            yield error(
                pointer_to("queues", name, "guarantee"), message, "the caller keeps a record until it is answered"
            )


def _first(given: Mapping[str, Any], place: str) -> Iterator[Problem]:
    yield from prop_problems(ENDPOINT, given, place, "the endpoint")
    if "token" in given and "auth" not in given:
        yield error(place + "/token", "a token says nothing without a login", 'add "auth": "token"')
    if "auth" in given and "token" not in given:
        yield error(place + "/auth", "the login needs the token that callers bring", 'add "token": {"secret": NAME}')


def _misplaced(document: Document, name: str, given: Mapping[str, Any], first: str) -> Iterator[Problem]:
    for key in given:
        place = pointer_to("pipeline", name, "props", key)
        if is_api(document):
            message = f"{quoted(key)} is about the endpoint, and the requests come to the first stage, {quoted(first)}"
            yield error(place, message, f"move it to the props of {quoted(first)}")
        else:
            message = f"{quoted(key)} is about the endpoint of API mode, and in stream mode there is none"
            yield error(place, message, 'remove it, or set "package-mode": "api"')


def _idle(name: str, stage: Stage) -> Iterator[Problem]:
    place = pointer_to("pipeline", name)
    if stage.replicas != 1:
        message = "in API mode a stage has one copy: nothing stands in front of several that would share the requests"
        yield error(place + "/replicas", message, "leave it out")
    if stage.route is not None:
        message = "in API mode stages form a chain, so there is nothing to choose among"
        yield error(place + "/route", message, "leave it out")
    if stage.on_error is not None and stage.on_error.queue is not None:
        message = "in API mode the caller gets the error, and there are no queues"
        yield error(place + "/on-error/queue", message, "leave it out")
    elif stage.on_error is not None:
        message = "in API mode the caller gets the error at once, and decides whether to try again"
        yield warning(place + "/on-error", message, "the key is not used: remove it")
