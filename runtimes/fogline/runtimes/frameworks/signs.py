"""What kind of model a file is, by its first bytes: so that a mistaken `framework` is told apart from a broken file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple


class _Kind(NamedTuple):
    words: str
    framework: str = ""
    serializer: str = ""


_PICKLE = _Kind("a pickle", "sklearn")
_COMPRESSED = _Kind("a compressed joblib file", "sklearn")
_BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": _Kind("a Keras h5 file", "tensorflow", "h5"),
    **dict.fromkeys((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), _PICKLE),
    **dict.fromkeys((b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"), _COMPRESSED),
    b"\x1f\x8b": _Kind("a file packed by gzip"),
}
_KERAS = _Kind("a Keras archive", "tensorflow", "keras")
_TFLITE = _Kind("a TFLite model", "tflite")
_SAVED = _Kind("a SavedModel", "tensorflow", "savedmodel")
_ONNX = _Kind("an ONNX model", "onnx")
_NOTHING = _Kind("")


def mistaken(path: Path, framework: str = "", serializer: str = "") -> str:
    """What the file is instead and what to set, for the middle of a sentence; empty when nobody knows it, or when it
    is of this framework and serializer after all."""
    kind = _kind(path)
    if not kind.words or (kind.framework, kind.serializer) == (framework, kind.serializer and serializer):
        return ""
    wanted = [f"framework to {kind.framework}"] if kind.framework not in ("", framework) else []
    wanted += [f"serializer to {kind.serializer}"] if kind.serializer else []
    return f"it looks like {kind.words}" + (f": set {' and '.join(wanted)}" if wanted else "")


def _kind(path: Path) -> _Kind:
    if path.is_dir():
        return _SAVED if (path / "saved_model.pb").is_file() else _NOTHING
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"TFL3":
        return _TFLITE
    if zipfile.is_zipfile(path):
        return _KERAS if "config.json" in _members(path) else _Kind("a zip archive")
    # A protobuf has no signature. An ONNX model begins with its version, then its producer or its graph.
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b":"):
        return _ONNX
    return next((found for start, found in _BEGINNINGS.items() if head.startswith(start)), _NOTHING)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []
