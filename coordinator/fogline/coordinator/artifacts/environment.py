"""An environment on the submitter's own machine, for trying a pipeline that needs what is not installed beside coord.

Made once from a lock and kept in the user's cache; Fogline's runtime reaches it by a path file that names a folder
with the runtime alone, so that nothing else of coord's environment does.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from fogline.coordinator.artifacts.lock import Lock
from fogline.coordinator.artifacts.locking import lock_for
from fogline.coordinator.artifacts.programs import cache_folder, run_uv
from fogline.coordinator.artifacts.targets import this_machine
from fogline.coordinator.core.needs import Need
from fogline.runtimes import spec
from fogline.wire.terms import ErrorKind, FoglineError


def interpreter(needs: Sequence[Need], tell: Callable[[str], None], *, upgrade: bool = False) -> Path:
    """The Python of an environment that holds what is needed, and Fogline's runtime.

    `upgrade`: choose versions anew. Raises FoglineError when they cannot be had.
    """
    lock = lock_for(needs, this_machine(), tell, anew=upgrade)
    runtime = _runtime()
    folder = cache_folder("environments") / f"{lock.digest[:32]}-{runtime.name}"
    if not folder.exists():
        tell(f"making an environment of {len(lock.wheels)} packages in {folder}")
        _make(folder, lock, runtime)
    return folder / "bin" / "python"


def _runtime() -> Path:
    """A folder in which `fogline` has the runtime and nothing else; named after where the runtime is."""
    package = Path(spec.__file__).resolve().parent
    folder = cache_folder("runtime") / hashlib.sha256(str(package).encode()).hexdigest()[:16]
    link = folder / "fogline" / package.name
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(package)
    return folder


def _make(folder: Path, lock: Lock, runtime: Path) -> None:
    """Whole or not at all."""
    making = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        _run("venv", "--quiet", "--allow-existing", "--relocatable", "--python", sys.executable, str(making))
        python, wheels = str(making / "bin" / "python"), str(cache_folder("wheels"))
        offline = ("--offline", "--no-index", "--find-links", wheels, "--require-hashes")
        listed = making / "lock.txt"
        listed.write_text(lock.as_requirements())
        _run("pip", "sync", "--quiet", "--python", python, *offline, str(listed))
        [packages] = making.glob("lib/python*/site-packages")
        (packages / "_fogline.pth").write_text(f"{runtime}\n")
        os.rename(making, folder)
    except FileExistsError:  # another coord was faster
        return
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _run(*arguments: str) -> None:
    done = run_uv(*arguments)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise FoglineError(ErrorKind.FAILED, f"the environment could not be made (uv {arguments[0]}): {reason}")
