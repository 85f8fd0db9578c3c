"""PADL 1.0 in the terms of the newer form: a stage's `model`, a queue's `path` and `format`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from fogline.coordinator.padl.problems import pointer_to, quoted

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)/?(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"(?:(?P<login>.*)@)?(?P<host>\[[^\[\]@/]+\]|[^:@\[\]/\s]+)(?::(?P<port>\d{1,9}))?")
_CONNECTOR_OF = {
    "mqtt": "mqtt",
    "mqtts": "mqtt",
    "kafka": "kafka",
    "ws": "websocket",
    "websocket": "websocket",
    "file": "file",
}
_PROTECTED: Mapping[str, dict[str, Any]] = {"mqtts": {"port": 8883, "tls": {}}}
"""Scheme -> what it stands for."""
_KIND_OF: Mapping[str, tuple[str, str]] = {
    ".onnx": ("onnx", ""),
    ".joblib": ("sklearn", "joblib"),
    ".pkl": ("sklearn", "pickle"),
    ".pickle": ("sklearn", "pickle"),
    ".h5": ("tensorflow", "h5"),
    ".keras": ("tensorflow", "keras"),
    ".tflite": ("tflite", ""),
}
"""Suffix of a model file -> its framework and serializer."""
_CODE_SUFFIX = ".py"
_FORMATS = {"text", "json"}
SUFFIXES = (*sorted(_KIND_OF), _CODE_SUFFIX)
"""Endings of `model` that say what a stage is."""


@dataclass(frozen=True)
class Address:
    """What a queue's `path` says, or why it says nothing."""

    connector: str = ""
    props: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    hint: str = ""


def address_of(path: str) -> Address:
    """The connector and options of `mqtt://edge:1883/norm`; a path without a scheme is a glob of files."""
    match = _ADDRESS.fullmatch(path)
    if match is None:
        return Address("file", {"path": path}) if path else Address(message="the path is empty", hint=_example("mqtt"))
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    if scheme == "wss":
        message = "transport security ('wss://') is not available yet"
        return Address(message=message, hint="use ws:// inside a network you trust")
    connector = _CONNECTOR_OF.get(scheme)
    if connector is None:
        known = ", ".join(f"{each}://" for each in _CONNECTOR_OF)
        return Address(message=f"no connector is known for '{scheme}://'", hint=f"known: {known}")
    if connector == "file":
        return Address("file", {"path": "/" + rest})
    found = _network(connector, authority, rest)
    if found.message or scheme not in _PROTECTED:
        return found
    return Address(connector, _PROTECTED[scheme] | dict(found.props))


def _network(connector: str, authority: str, topic: str) -> Address:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        message = f"the path names no server between '{connector}://' and the next '/'"
        return Address(message=message, hint=_example(connector))
    if match["login"] is not None:
        # Not shown: it holds a password.
        return Address(message="a login inside the path is not available yet", hint=_example(connector))
    if not topic:
        return Address(
            message=f"the path {quoted(connector + '://' + authority)} names no topic", hint=_example(connector)
        )
    if connector == "websocket" and not match["port"]:
        message = f"the path {quoted(f'{connector}://{authority}/{topic}')} names no port"
        return Address(message=message, hint="ws://HOST:PORT/TOPIC, for example ws://edge:8765/norm")
    port = {"port": int(match["port"])} if match["port"] else {}
    return Address(connector, {"server": match["host"].strip("[]"), **port, "topic": topic})


def _example(connector: str) -> str:
    return f"{connector}://HOST:PORT/TOPIC, for example mqtt://edge/norm"


def stage_of(stage: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a stage's `model` stands for: `type`, `framework` and `props`, as far as it tells."""
    model, props = stage.get("model"), stage.get("props")
    if not isinstance(model, str):
        return {}
    suffix = PurePosixPath(re.split("[?#]", model, maxsplit=1)[0]).suffix.lower()
    is_code = stage.get("type") == "code" or (
        "type" not in stage and "framework" not in stage and suffix == _CODE_SUFFIX
    )
    if is_code:
        if suffix != _CODE_SUFFIX or (isinstance(props, Mapping) and "entrypoint" in props):
            return {"type": "code", "props": {"path": model}}
        folder, _, file = model.rpartition("/")
        folder = folder or ("/" if model.startswith("/") else ".")
        return {"type": "code", "props": {"path": folder, "entrypoint": file}}
    framework, serializer = _KIND_OF.get(suffix, ("", ""))
    fits = serializer and stage.get("framework", framework) in {framework, "scikit-learn", "keras"}
    known = {"framework": framework} if framework and "framework" not in stage else {}
    return {"type": "model", **known, "props": {"path": model, **({"serializer": serializer} if fits else {})}}


def queue_of(queue: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a queue's `path` and `format` stand for: `connector` and `props`."""
    path, format_ = queue.get("path"), queue.get("format")
    address = address_of(path) if isinstance(path, str) else Address()
    props = dict(address.props)
    if format_ in _FORMATS and isinstance(format_, str):
        props["format"] = format_
    return ({"connector": address.connector} if address.connector else {}) | {"props": props}


@dataclass(frozen=True)
class Filled:
    """What an object of a document means once its older keys are read."""

    whole: dict[str, Any]
    origins: Mapping[str, str] = field(default_factory=dict)
    """Pointer of a key that was filled in -> pointer of the older key it came from."""
    clashes: tuple[tuple[str, str], ...] = ()
    """Such pairs where the document gives both, and differently. What it gives in the newer form stays."""

    def completed(self, meant: Mapping[str, Any], origin: str) -> Filled:
        """The same with what is `meant` by the key at `origin` beneath it."""
        whole, origins, clashes = dict(self.whole), dict(self.origins), list(self.clashes)
        props = whole.get("props", {})
        if isinstance(props, Mapping) and meant.get("props"):
            whole["props"] = props = dict(props)
        for pointer, holder, key, value in _members(meant, whole, props):
            if key not in holder:
                holder[key], origins[pointer] = value, origin
            elif holder[key] != value:
                clashes.append((pointer, origin))
        return Filled(whole, origins, tuple(clashes))


def _members(
    meant: Mapping[str, Any], whole: dict[str, Any], props: Any
) -> Iterator[tuple[str, dict[str, Any], str, Any]]:
    """Pointer, holder, key and value of everything that is meant."""
    for key, value in meant.items():
        if key != "props":
            yield pointer_to(key), whole, key, value
        elif isinstance(props, dict):
            yield from ((pointer_to("props", each), props, each, inner) for each, inner in value.items())
