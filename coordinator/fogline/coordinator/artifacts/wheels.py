"""The wheel files of pinned versions, in a cache of this user's, so that nothing is downloaded twice."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from fogline.coordinator.artifacts.lock import Lock, Wheel, lock_of
from fogline.coordinator.artifacts.pinning import unreachable
from fogline.coordinator.artifacts.programs import cache_folder, run_pip
from fogline.coordinator.artifacts.targets import Target
from fogline.wire.terms import ErrorKind, FoglineError

PROGRESS_S = 2.0
"""How often is told how far something is that takes long."""

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s\\;]+)", re.MULTILINE)
_LARGE = re.compile(r"Downloading (\S+\.whl)\S* \(([\d.]+ [MG]B)\)")
_RAW = re.compile(r"Progress (\d+) of (\d+)")
_CHOSEN = re.compile(r"(?:Saved|File was already downloaded) .*?([^/]+\.whl)$")
_UNREACHABLE = ("Connection", "timed out", "NewConnectionError", "Name or service not known", "HTTPError")


def download(pins: str, target: Target, say: Callable[[str], None]) -> Lock:
    """The wheels of these pins, each verified against one of its hashes; afterwards every one is in the cache.

    Raises FoglineError when one cannot be had.
    """
    cache = cache_folder("wheels")
    with tempfile.TemporaryDirectory(dir=cache, prefix=".incoming-") as folder:
        incoming = Path(folder)
        _lay_out(cache, pins, incoming)
        chosen = [incoming / name for name in _chosen(pins, target, incoming, say)]
        lock = lock_of(target.text, chosen)
        for file in chosen:
            os.replace(file, cache / file.name)
    return lock


def path_of(wheel: Wheel) -> Path:
    """Where the cache has the file of a wheel that was downloaded."""
    return cache_folder("wheels") / wheel.file


def _lay_out(cache: Path, pins: str, incoming: Path) -> None:
    """Put what the cache has of the pinned versions where pip looks first; it checks the hashes."""
    wanted = {(canonicalize_name(name), version) for name, version in _PIN.findall(pins)}
    for file in cache.glob("*.whl"):
        try:
            name, version, _, _ = parse_wheel_filename(file.name)
        except InvalidWheelFilename:
            continue
        if (name, str(version)) in wanted:
            os.link(file, incoming / file.name)


def _chosen(pins: str, target: Target, incoming: Path, say: Callable[[str], None]) -> list[str]:
    """The names of the files that pip took."""
    listed = incoming / "pins.txt"
    listed.write_text(pins)
    platforms = [word for platform in target.pip_platforms for word in ("--platform", platform)]
    hearing = _Hearing(say)
    code, complaints = run_pip(
        *("download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--progress-bar", "raw"),
        "--ignore-requires-python",  # uv has judged that already, and does not heed upper bounds
        *("--python-version", target.python, *platforms, "--dest", str(incoming), "--requirement", str(listed)),
        heard=hearing,
    )
    if code:
        raise _refusal(complaints, target)
    return sorted(hearing.chosen)


class _Hearing:
    """Listens to pip: which files it takes, and how far it is with large ones."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.chosen: set[str] = set()
        self._say = say
        self._file = ""
        self._told_at_s = 0.0

    def __call__(self, line: str) -> None:
        if found := _CHOSEN.match(line.strip()):
            self.chosen.add(found[1])
        elif found := _LARGE.search(line):
            self._file, self._told_at_s = found[1], time.monotonic()
            self._say(f"downloading {found[1]} ({found[2]})")
        elif (found := _RAW.match(line)) and time.monotonic() - self._told_at_s >= PROGRESS_S:
            self._told_at_s = time.monotonic()
            self._say(f"downloading {self._file}: {100 * int(found[1]) // max(1, int(found[2]))} %")


def _refusal(complaints: str, target: Target) -> FoglineError:
    if found := re.search(r"No matching distribution found for (\S+)", complaints):
        name, _, version = found[1].partition("==")
        return FoglineError(ErrorKind.UNPLACEABLE, f"no wheel of {name} {version} for {target}")
    last = complaints.splitlines()[-1] if complaints else "it gave no reason"
    if any(sign in complaints for sign in _UNREACHABLE):
        return unreachable(last.removeprefix("ERROR: ").removeprefix("WARNING: "))
    return FoglineError(ErrorKind.FAILED, f"pip could not download the wheels for {target}: {last}")
