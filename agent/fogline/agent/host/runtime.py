"""The runtime as stages in environments of their own see it: `fogline.runtimes` in a folder that holds nothing else.

::

    runtime/<release>-<8 hex of its content>/fogline/runtimes/...
    environments/<lock>/lib/python3.11/site-packages/_fogline.pth    one line: the folder above

Never the agent's own site-packages: a stage would see gRPC and whatever else is in there. An agent of another
release lays out its own and points the environments to it; a process that runs keeps the one it began with.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from fogline.agent.host.workspace import sync_disk, sync_folder, write_durably
from fogline.runtimes import spec

PTH = "_fogline.pth"
DRAFT = ".draft-"
"""How the names of folders begin that are not whole yet."""


def folder(state_dir: Path) -> Path:
    """Where this release's runtime is, or would be."""
    return state_dir / "runtime" / f"{version('fogline')}-{_content()}"


def lay_out(state_dir: Path) -> Path:
    """The folder with this release's runtime; made when it is not there. Raises OSError."""
    target = folder(state_dir)
    if target.is_dir():
        return target
    source, home = _source(), target.parent
    home.mkdir(mode=0o700, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=home))
    try:
        for file in _files():
            copy = draft / "fogline" / "runtimes" / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        sync_disk(draft)
        draft.rename(target)
        sync_folder(home)
    except OSError:
        if not target.is_dir():  # else somebody was quicker
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def point(environment: Path, runtime: Path) -> None:
    """Have what starts in this environment from now on read `runtime`. Raises OSError."""
    line = f"{runtime}\n".encode()
    pth = site_packages(environment) / PTH
    if not pth.exists() or pth.read_bytes() != line:
        write_durably(pth, line)


def pointed(environment: Path) -> Path:
    """What starts in this environment reads this runtime; an empty path when there is no such environment."""
    try:
        return Path((site_packages(environment) / PTH).read_text().strip())
    except FileNotFoundError:
        return Path()


def site_packages(environment: Path) -> Path:
    """Where the packages of an environment of this Python lie."""
    return environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def _source() -> Path:
    return Path(spec.__file__).parent


def _files() -> list[Path]:
    return sorted(_source().rglob("*.py"))


def _content() -> str:
    total = hashlib.sha256()
    for file in _files():
        data = file.read_bytes()
        total.update(f"{file.relative_to(_source())}\0{len(data)}\0".encode() + data)
    return total.hexdigest()[:8]
