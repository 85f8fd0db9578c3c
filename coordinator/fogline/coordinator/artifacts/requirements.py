"""`requirements.txt` of a code folder: which packages a stage asks for, or why a line cannot be taken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from fogline.coordinator.padl.problems import quoted

FILE_NAME = "requirements.txt"

_COMMENT = re.compile(r"(^|\s)#.*$")
_HASHES = re.compile(r"\s--hash(=|\s+)\S+")
_LINE = "write one package a line, such as: numpy>=1.26"
_OPTIONS = {
    "-e": "an editable install, which only this machine has",
    "--editable": "an editable install, which only this machine has",
    "-r": "another file",
    "--requirement": "another file",
    "-c": "a file of constraints",
    "--constraint": "a file of constraints",
}
_INDEX = frozenset({"-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host"})


def read_requirements(folder: Path) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """The PEP 508 lines of the folder's requirements.txt, and a message with a hint for each line that is none.

    Without the file there are neither. Comments, continued lines and `--hash` are understood; hashes are dropped,
    since the lock has its own. Raises OSError when the file cannot be read.
    """
    file = folder / FILE_NAME
    if not file.is_file():
        return (), []
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        return (), [(f"{file} is not UTF-8", "save it as UTF-8")]
    lines, problems = [], []
    for number, line in _logical_lines(text):
        message, hint = _wrong(line)
        if message:
            problems.append((f"{file}:{number}: {message}", hint))
        else:
            lines.append(str(Requirement(line)))
    return tuple(lines), problems


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line that says something, with the number of its first part; continued lines are one."""
    kept, started = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        started = started or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            kept += raw[:-1] + " "
            continue
        line = _HASHES.sub("", _COMMENT.sub("", kept + raw)).strip()
        if line:
            yield started, line
        kept, started = "", 0
    if rest := _HASHES.sub("", _COMMENT.sub("", kept)).strip():
        yield started, rest


def _wrong(line: str) -> tuple[str, str]:
    """What keeps the line from being a requirement, and what to do; two empty strings when nothing does."""
    if line.startswith("-"):
        return _wrong_option(re.split(r"[\s=]", line)[0])
    try:
        found = Requirement(line)
    except InvalidRequirement as problem:
        if "://" in line or line.startswith((".", "/")):
            return f"{quoted(line)} is an address, not a package of an index", _LINE
        if " -" in line:
            option = line[line.index(" -") :].split()[0]
            return f"{quoted(option)} after a package is not understood", f"only --hash may stand there; {_LINE}"
        reason = str(problem).splitlines()[0]
        return f"{quoted(line)} is not a requirement: {reason}", _LINE
    if found.url:
        hint = "put the package into an index, or its source into the stage's folder"
        return f"{found.name} is named by an address, which a node could not check", hint
    return "", ""


def _wrong_option(option: str) -> tuple[str, str]:
    if option in _INDEX:
        hint = "remove the line; set the index for pip on this machine instead: `pip config set global.index-url URL`"
        return f"{option} is not taken from here", hint
    if option in _OPTIONS:
        hint = "write its packages into this file, or put its source into the stage's folder"
        return f"{option} names {_OPTIONS[option]}", hint
    return f"{option} is not understood", f"remove it; {_LINE}"
