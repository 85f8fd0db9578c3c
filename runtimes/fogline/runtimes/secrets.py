"""Secrets: values that a document only names (`{"secret": NAME}`), read on the node that needs them.

Each is a file of that name in one folder, readable by its owner alone. Nothing but the connector it is for sees the
value: not the spec on the disk, not the status, not the log.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from pathlib import Path
from typing import Any

from fogline.runtimes.spec import SECRETS_VARIABLE, EndpointSpec, SegmentSpec, SpecError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def resolved(spec: SegmentSpec) -> SegmentSpec:
    """The spec with the values of all secrets that its connectors' options name.

    Raises SpecError, with the file and what to do about it, for one that cannot be read.
    """
    return dataclasses.replace(
        spec, sources=tuple(map(_endpoint, spec.sources)), sinks=tuple(map(_endpoint, spec.sinks))
    )


def named(name: str) -> str:
    """The value of one secret. Raises SpecError as `resolved` does."""
    return _read(*_path({"secret": name}))


def _endpoint(endpoint: EndpointSpec) -> EndpointSpec:
    options = {key: _value(value) for key, value in endpoint.options.items()}
    return dataclasses.replace(endpoint, options=options)


def _value(value: Any) -> Any:
    """A secret's value; inside an object, whose parts are files, the path of it."""
    if not isinstance(value, dict):
        return value
    if _is_secret(value):
        return _read(*_path(value))
    return {key: str(_checked(*_path(each))) if _is_secret(each) else each for key, each in value.items()}


def _is_secret(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"secret"}


def _path(secret: dict[str, Any]) -> tuple[Path, str]:
    name = str(secret["secret"])
    folder = os.environ.get(SECRETS_VARIABLE, "")
    if not _NAME.fullmatch(name) or not folder:
        raise SpecError(f"the secret {name!r} cannot be looked up: no such name, or no folder in {SECRETS_VARIABLE}")
    return Path(folder) / name, name


def _checked(path: Path, name: str) -> Path:
    """The path of a file that its owner alone may read."""
    _read(path, name)
    return path


def _read(path: Path, name: str) -> str:
    try:
        mode, text = path.stat().st_mode, path.read_text()
    except FileNotFoundError:
        sentence = f"the secret {name!r} is not on this node: write it to {path}, with mode 0600"
        raise SpecError(sentence) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the secret {path} cannot be read: {getattr(error, 'strerror', 'not UTF-8')}") from None
    if mode & _OTHERS:
        raise SpecError(f"the secret {path} is open to others: chmod 600 {path}")
    return text.removesuffix("\n")
