"""Which code stages have their code in a git repository, and what they get of it."""

from __future__ import annotations

import ast
import copy
import dataclasses
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fogline.coordinator.artifacts.git import Checkout, check_out
from fogline.coordinator.padl.addresses import GitAddress, git_address, is_address
from fogline.coordinator.padl.model import Stage
from fogline.coordinator.padl.parse import Loaded, parse
from fogline.coordinator.padl.problems import listed, near_miss, quoted
from fogline.wire.terms import ErrorKind, FoglineError

_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Origin:
    """A repository at one commit, written out."""

    url: str
    checkout: Checkout

    @property
    def left_behind(self) -> list[str]:
        """What the repository refers to and does not hold, in sentences."""
        submodule = "is a submodule, which is not fetched: its folder is missing"
        lfs = "is in Git LFS, which is not fetched: the stage gets the reference to it, not the file"
        return [
            *(f"{quoted(each)} {submodule}" for each in self.checkout.submodules),
            *(f"{quoted(each)} {lfs}" for each in self.checkout.pointers),
        ]

    def without(self, entrypoint: PurePosixPath) -> str:
        """Why the entry point cannot be had; empty when it can, as far as the names of files tell."""
        submodules = self.checkout.submodules
        for each in submodules:
            if entrypoint.is_relative_to(each):
                return f"{entrypoint} is in the submodule {quoted(each)} of {self.url}, and submodules are not fetched"
        file = self.checkout.folder / entrypoint
        if file.is_file():
            used = [each for each in submodules if PurePosixPath(each).name in _imported(file)]
            reason = "commit the code itself, or name the other repository in a stage of its own"
            return (
                f"{entrypoint} imports the submodule {quoted(used[0])}, which is not fetched: {reason}" if used else ""
            )
        folder = file.parent if file.parent.is_dir() else self.checkout.folder
        names, commit = (
            [each.name for each in folder.iterdir() if each.name.isprintable()],
            self.checkout.commit[:_SHOWN_DIGITS],
        )
        missing = f"commit {commit} of {self.url} has no file {entrypoint}{near_miss(file.name, names)}"
        return f"{missing}; it has {listed(names) or 'none'}"


def repository_of(stage: Stage, path: Path) -> GitAddress | None:
    """The repository that a code stage's `props.path` names; None for a folder, which is taken as it is.

    `path` is where it leads on this machine, were it one. Raises Unfit for an address that is not allowed, and
    FoglineError for a folder without versions of which one is asked for.
    """
    given, version = str(stage.props["path"]), [key for key in ("ref", "commit") if stage.props.get(key)]
    if is_address(given):
        return git_address(given)
    if _is_bare(path) or (version and _is_bare(path / ".git")) or (version and (path / ".git").is_file()):
        return GitAddress(str(path), "file")
    if version and path.is_dir():
        sentence = f"{path} is no git repository, so it has no {quoted(version[0])}: leave that out to take the folder"
        raise FoglineError(ErrorKind.INVALID_DOCUMENT, sentence)
    return None


def from_repository(address: GitAddress, stage: Stage, known: MutableMapping[tuple[str, str, str], Origin]) -> Origin:
    """The code of the stage at its commit, or at what its `ref` names by now. Raises FoglineError.

    What is `known` is not asked for again: a branch may move while a document is read.
    """
    ref, commit = (str(stage.props.get(key) or "") for key in ("ref", "commit"))
    wanted = (address.url, ref, commit)
    if wanted not in known:
        known[wanted] = Origin(address.url, check_out(address, ref, commit))
    return known[wanted]


def pinned(loaded: Loaded, commits: Mapping[str, str]) -> Loaded:
    """The same with the commit that each of these stages got: what is submitted names it for good."""
    if not commits:
        return loaded
    raw = copy.deepcopy(loaded.raw)
    for stage, commit in commits.items():
        raw["pipeline"][stage].setdefault("props", {})["commit"] = commit
    return dataclasses.replace(loaded, document=parse(raw)[0], raw=raw)


def _is_bare(path: Path) -> bool:
    """Whether this is what git keeps of a repository, and no work tree."""
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def _imported(file: Path) -> set[str]:
    """First names of the modules that a Python file imports anywhere; none where it is not Python."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    plain |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in plain}
