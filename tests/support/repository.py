"""A git repository to take code from, and its commits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HANDLER = "def handler(data):\n    return {number}\n"
_WHO = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@fogline.test",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@fogline.test",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


class Repository:
    """A work tree at `folder`, and beside it the bare repository `bare` it pushes to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bare = folder, folder.with_name(folder.name + ".git")
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("clone", "--quiet", "--bare", str(folder), str(self.bare))
        self.git("remote", "add", "origin", str(self.bare))

    def git(self, *argv: str) -> str:
        """One git command in the work tree."""
        command = ["git", "-c", "protocol.file.allow=always", *argv]
        done = subprocess.run(
            command, cwd=self.folder, env=os.environ | _WHO, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout.strip()

    def commit(self, files: dict[str, str] | None = None, *push: str) -> str:
        """Write these files, commit everything and push `push` (else the branch); returns the commit's name."""
        for name, text in (files or {}).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "more")
        self.git("push", "--quiet", "--force", "origin", *(push or ("HEAD",)))
        return self.git("rev-parse", "HEAD")
