"""Code from git: a mirror of the repository in the user's cache, and the tree of one commit written out of it.

git is called directly and as the user, with the user's keys, credential helpers and proxies, and does two things
for us: `fetch`, and handing out objects. Nothing is checked out, so neither hooks nor filters (LFS, line endings,
export-subst) have a say, and the same commit gives the same files on every machine.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fogline.coordinator.artifacts.bundle import ENTRY_LIMIT
from fogline.coordinator.artifacts.cache import alone_in, cache_folder
from fogline.coordinator.artifacts.git_process import GitFailure, git
from fogline.coordinator.artifacts.git_tree import Tree, is_whole, parsed, pointers, write_out
from fogline.coordinator.padl.addresses import GitAddress
from fogline.coordinator.padl.problems import listed, near_miss, quoted
from fogline.wire.terms import ErrorKind, FoglineError

_FULL_NAME = re.compile(r"[0-9a-f]{40}")
_SHORT_NAME = re.compile(r"[0-9a-f]{7,40}")
_ROW_BYTES = 512
"""For the name of a file and what there is to say of it, on the average."""
_ALL = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_HEAD = "refs/fogline/head"
"""Where the mirror keeps what the repository itself names as its default."""


@dataclass(frozen=True)
class Checkout:
    """The files of one commit."""

    folder: Path
    commit: str
    """Its full name."""
    submodules: tuple[str, ...] = ()
    """Paths whose contents another repository has; they are not fetched."""
    pointers: tuple[str, ...] = ()
    """Files that are in Git LFS: here are only references to them."""


def check_out(address: GitAddress, ref: str = "", commit: str = "") -> Checkout:
    """The tree of `commit`, or of what `ref` (a branch, tag or commit; empty: the default) names by now.

    Nothing is fetched for a commit that is in the cache already. Raises FoglineError with a sentence for what is
    not there, not reachable or not allowed, and OSError when the cache cannot be written.
    """
    cache = cache_folder("git", hashlib.sha256(address.url.encode()).hexdigest()[:32])
    with alone_in(cache):
        mirror = _Mirror(address, cache / "mirror.git")
        found = mirror.find(ref, commit)
        tree = parsed(mirror.list_files(found))
        folder = cache / "trees" / found
        # Code that ran here, as `coord test` does, may have left something among its files.
        if not is_whole(folder, tree):
            write_out(folder, tree, mirror.contents(tree))
        return Checkout(folder, found, tree.submodules, pointers(folder, tree))


class _Mirror:
    """A bare copy of everything in a repository, made when absent."""

    def __init__(self, address: GitAddress, folder: Path) -> None:
        self._address, self._folder = address, folder
        try:
            self.ask("rev-parse", "--is-bare-repository")
        except GitFailure:  # there is none, or what is left of one
            shutil.rmtree(folder, ignore_errors=True)
            self.ask("init", "--quiet", "--bare", "--template=", "--", str(folder))

    def ask(self, *argv: str) -> bytes:
        """The output of a git command that needs no network."""
        return git(self._folder, argv)

    def find(self, ref: str, commit: str) -> str:
        """The full name of the commit that is meant, fetched where it is not here."""
        exact = commit or (ref if _FULL_NAME.fullmatch(ref) else "")
        if exact:
            return self._named(exact)
        self._fetch(*_ALL, *(() if ref else (f"+HEAD:{_HEAD}",)))
        names = (f"refs/heads/{ref}", f"refs/tags/{ref}", ref if _SHORT_NAME.fullmatch(ref) else "")
        for name in names if ref else (_HEAD,):
            if name and (found := self._commit(name)):
                return found
        known = self.ask("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags").decode().split()
        sentence = (
            f"{self._address.url} has no branch, tag or commit {quoted(ref)}{near_miss(ref, known)}; "
            f"it has {listed(known) or 'none'}"
        )
        raise FoglineError(ErrorKind.NOT_FOUND, sentence)

    def list_files(self, commit: str) -> bytes:
        """What `git ls-tree` says of everything in a commit."""
        argv = ("ls-tree", "-r", "-z", "--long", "--full-tree", commit)
        return git(self._folder, argv, limit_bytes=ENTRY_LIMIT * _ROW_BYTES)

    def contents(self, tree: Tree) -> bytes:
        """What `git cat-file --batch` says of the files of a tree, one after the other."""
        asked = "".join(f"{each.blob}\n" for each in tree.files)
        return git(self._folder, ("cat-file", "--batch"), given=asked.encode())

    def _named(self, commit: str) -> str:
        if self._commit(commit):
            return commit
        self._fetch(*_ALL)
        if self._commit(commit):
            return commit
        try:
            # On no branch any more, since somebody forced one to another place; many servers still have it.
            self._fetch(commit)
        except FoglineError as refusal:
            sentence = f"{self._address.url} has no commit {commit}; 'ref' names a branch or tag instead"
            raise FoglineError(ErrorKind.NOT_FOUND, sentence) from refusal
        return commit

    def _commit(self, name: str) -> str:
        """The full name of the commit behind a name; empty when there is none."""
        argv = ("rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
        try:
            return self.ask(*argv).decode().strip()
        except GitFailure:
            return ""

    def _fetch(self, *refs: str) -> None:
        options = (
            "--quiet",
            "--prune",
            "--force",
            "--no-tags",
            "--update-shallow",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        )
        git(self._folder, ("fetch", *options, "--", self._address.url, *refs), address=self._address)
