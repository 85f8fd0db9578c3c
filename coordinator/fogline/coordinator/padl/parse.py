"""From files to a document: read, lay over one another, complete, give every problem its place."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fogline.coordinator.padl.addresses import without_password
from fogline.coordinator.padl.json_text import fit, read_json
from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.problems import Problem, error, listed, near_miss, pointer_to, quoted
from fogline.coordinator.padl.sentences import problems_of
from fogline.coordinator.padl.source import merged, read_source
from fogline.coordinator.padl.tree import NESTING_LIMIT, Node, Unreadable, find, plain

SETTING = "--set"
"""The file name of values that come from the command line; their line is the setting's number."""
_PARTS = {"pipeline": "stage", "queues": "queue", "infra": "machine"}


@dataclass(frozen=True)
class Loaded:
    """What became of the user's files. Safe to send only when no problem is an error."""

    document: Document | None
    """The pipeline; None when its shape is wrong."""
    raw: dict[str, Any]
    """The merged document as plain data, `id` filled in; still holds clear-text passwords."""
    problems: list[Problem]
    """What is wrong with the text and shape. Meaning and availability are judged by `verdict.judge`."""
    root: Node
    """The merged document with places."""
    files: tuple[str, ...]
    """The files in the order given."""

    def locate(self, pointer: str) -> tuple[str, int]:
        """File and line (1-based) of the value at `pointer`, or of its nearest ancestor that exists."""
        node = find(self.root, pointer)
        return node.file, node.line

    def folder_of(self, pointer: str) -> Path:
        """Absolute folder that relative paths in the value at `pointer` start from: that of its file."""
        file, _ = self.locate(pointer)
        return Path.cwd() if file == SETTING else Path(file).absolute().parent

    def placed(self, problems: Iterable[Problem]) -> list[Problem]:
        """The problems with file and line filled in where they lack them."""
        return [problem if problem.file else self._placed(problem) for problem in problems]

    def _placed(self, problem: Problem) -> Problem:
        file, line = self.locate(problem.pointer)
        return dataclasses.replace(problem, file=file, line=line)


def load(paths: Sequence[Path], settings: Sequence[str] = ()) -> Loaded:
    """Read the files, lay later ones over earlier ones, then each `KEY.KEY=VALUE` of `settings`.

    A value is read as JSON and, where it is none, taken as a string. Never raises for what a user can get
    wrong: every such thing is a problem of the result.
    """
    paths = [Path(path) for path in paths]
    sources = [read_source(path) for path in paths]
    files = tuple(map(str, paths))
    problems = [problem for _, found in sources for problem in found]
    layers = [root for root, _ in sources if root is not None]
    for number, setting in enumerate(settings, start=1):
        layer, refused = _layer_of(setting, number)
        if layer is not None and layers:
            problems.extend(_nobody(setting, merged(layers), number))
        layers.extend([layer] if layer else [])
        problems.extend([refused] if refused else [])
    if not paths:
        problems.append(error("", "no document is given", "name at least one PADL file"))
    if not paths or len(layers) < len(paths) + len(settings):
        return Loaded(None, {}, problems, Node({}, files[0] if files else "", 0), files)
    root = merged(layers)
    raw = plain(root)
    raw.setdefault("id", paths[0].stem)
    document, wrong = parse(raw)
    loaded = Loaded(None if problems else document, raw, problems, root, files)
    return dataclasses.replace(loaded, problems=problems + loaded.placed(wrong))


def parse(raw: Mapping[str, Any]) -> tuple[Document | None, list[Problem]]:
    """The document behind plain data, or everything that is wrong with its shape. Never raises."""
    try:
        return Document.model_validate(raw), []
    except ValidationError as failure:
        return None, problems_of(failure)


def without_passwords(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of plain document data that may leave this machine: no `infra.*.sshConfig.pass`, no
    password in the address of code or a model."""
    clean = copy.deepcopy(dict(raw))
    machines = clean.get("infra")
    for machine in machines.values() if isinstance(machines, dict) else ():
        access = machine.get("sshConfig") if isinstance(machine, dict) else None
        if isinstance(access, dict):
            access.pop("pass", None)
    stages = clean.get("pipeline")
    for stage in stages.values() if isinstance(stages, dict) else ():
        props = stage.get("props") if isinstance(stage, dict) else None
        for holder, key in ((stage, "model"), (props, "path")):
            if isinstance(holder, dict) and isinstance(holder.get(key), str):
                holder[key] = without_password(holder[key])
    return clean


def _layer_of(setting: str, number: int) -> tuple[Node | None, Problem | None]:
    """The overlay that one `KEY.KEY=VALUE` stands for."""
    path, equals, text = setting.partition("=")
    keys = path.split(".")
    if not equals or not all(keys) or len(keys) > NESTING_LIMIT:
        message = f"{quoted(path)} does not say what to set"
        return None, Problem("error", "", message, "for example queues.q1.props.port=18831", SETTING, number)
    if unfit := fit(setting):
        return None, Problem("error", "", f"setting {number}: {unfit}", "", SETTING, number)
    try:
        value = plain(read_json(text, SETTING)[0])
    except Unreadable:
        value = text
    node = _noded(value, number)
    for key in reversed(keys):
        node = Node({key: node}, SETTING, number)
    return node, None


def _nobody(setting: str, root: Node, number: int) -> Iterator[Problem]:
    """A value set inside a stage, queue or machine that the document does not have."""
    keys = setting.partition("=")[0].split(".")
    part = find(root, pointer_to(keys[0])).value if keys[0] in _PARTS and len(keys) > 2 else None
    if isinstance(part, dict) and keys[1] not in part:
        message = f"the document has no {_PARTS[keys[0]]} {quoted(keys[1])}{near_miss(keys[1], part)}"
        yield Problem("error", pointer_to(*keys), message, f"known: {listed(part) or 'none'}", SETTING, number)


def _noded(value: Any, number: int) -> Node:
    if isinstance(value, dict):
        return Node({key: _noded(each, number) for key, each in value.items()}, SETTING, number)
    if isinstance(value, list):
        return Node([_noded(each, number) for each in value], SETTING, number)
    return Node(value, SETTING, number)
