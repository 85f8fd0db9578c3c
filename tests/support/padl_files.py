"""A sound PADL document to spoil in tests, and files made of text."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

_SOUND: dict[str, Any] = {
    "version": "1.0",
    "id": "plant",
    "pipeline": {
        "scale": {
            "type": "code",
            "language": "python",
            "props": {"path": "./scale"},
            "queues": {"input": "raw", "output": "scaled"},
            "infra": "gateway",
        },
        "judge": {
            "type": "model",
            "framework": "onnx",
            "props": {"path": "./judge.onnx", "input": ["cpu", "net"], "output": "score"},
            "queues": {"input": "scaled", "output": "alarm"},
        },
        "alarm": {
            "type": "code",
            "props": {"path": "./alarm", "entrypoint": "main.py", "function": "handler"},
            "queues": {"input": "judge", "output": "alarms"},
        },
    },
    "queues": {
        "raw": {"connector": "mqtt", "props": {"server": "edge.local", "port": 1883, "topic": "plant/raw"}},
        "scaled": {"connector": "mqtt", "props": {"server": "edge.local", "topic": "plant/scaled"}},
        "alarms": {"connector": "mqtt", "props": {"server": "edge.local", "topic": "plant/alarms"}},
    },
    "infra": {"gateway": {"hostname": "edge-1"}},
}


def a_document() -> dict[str, Any]:
    """Three stages, one of them a model, one direct link, three MQTT queues; nothing to complain about."""
    return copy.deepcopy(_SOUND)


def with_value(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The document with `value` at `a/b/c`, objects made on the way."""
    *keys, last = path.split("/")
    holder = document
    for key in keys:
        holder = holder.setdefault(key, {})
    holder[last] = value
    return document


def without(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The document without what stands at `a/b/c`."""
    *keys, last = path.split("/")
    holder = document
    for key in keys:
        holder = holder[key]
    del holder[last]
    return document


def written(folder: Path, content: Any, name: str = "plant.json") -> Path:
    """A file of this text, these bytes or this JSON value."""
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")
    return path
