"""Makes the environment while an image is built: an empty one, and in it the wheels of a lock. Standard library only.

Run as `python -I install.py FOLDER TARGET`; the folder holds `lock.json` and `wheels/`. A wheel is a zip that is made
to be unpacked in place; so neither pip nor uv is needed, which would be of one architecture and weigh more than most
wheels. Programs that packages would put into `bin` are not made: nobody calls them in there.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import sys
import venv
import zipfile
from pathlib import Path

RUNTIME = "/fogline/runtime"
"""Where an image has `fogline.runtimes`."""


def main(folder: Path, target: Path) -> str:
    """Make the environment; returns why it cannot be, or nothing."""
    lock = json.loads((folder / "lock.json").read_bytes())
    wanted, python = lock["target"].split("-")[0], f"{sys.version_info[0]}.{sys.version_info[1]}"
    if wanted != python:
        return f"the base image has Python {python}, and the packages were chosen for Python {wanted}"
    venv.EnvBuilder(symlinks=True).create(target)
    site = target / "lib" / f"python{python}" / "site-packages"
    for wheel in lock["wheels"]:
        file = folder / "wheels" / wheel["file"]
        if hashlib.sha256(file.read_bytes()).hexdigest() != wheel["sha256"]:
            return f"{file.name} is not what the lock says: its SHA-256 is another"
        unpack(file, site, target)
    (site / "_fogline.pth").write_text(f"{RUNTIME}\n")
    compileall.compile_dir(str(site), quiet=2, workers=len(os.sched_getaffinity(0)))
    return ""


def unpack(wheel: Path, site: Path, target: Path) -> None:
    """Put every file of a wheel where it belongs. Raises zipfile.BadZipFile, OSError."""
    data = "-".join(wheel.name.split("-")[:2]) + ".data"
    places = {"purelib": site, "platlib": site, "data": target, "scripts": target / "bin"}
    with zipfile.ZipFile(wheel) as archive:
        for each in archive.infolist():
            home, name = site, each.filename
            top, _, rest = name.partition("/")
            if top == data:
                kind, _, name = rest.partition("/")
                if not name or kind not in places:
                    continue
                home = places[kind]
            mode = each.external_attr >> 16
            each.filename = name
            placed = archive.extract(each, home)  # which never leaves its folder
            if mode & 0o100 and not each.is_dir():
                os.chmod(placed, 0o755)  # noqa: S103  # a program


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])) or 0)
