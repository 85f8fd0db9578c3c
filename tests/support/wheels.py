"""A package as a wheel, made from its pyproject.toml without a build backend or a network, and installed by pip."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path


def installed(project: Path, scratch: Path) -> Path:
    """The folder into which pip has put the package of `project`; on PYTHONPATH it is found like any other."""
    settings = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    sources = {path.name: path.read_text() for path in project.glob("*.py")}
    return install(scratch, settings["name"], settings["version"], settings["entry-points"], sources)


def install(
    scratch: Path, name: str, version: str, entry_points: dict[str, dict[str, str]], sources: dict[str, str]
) -> Path:
    """The same of a package whose modules are given as text."""
    stem = f"{name.replace('-', '_')}-{version}"
    wheel, target = scratch / f"{stem}-py3-none-any.whl", scratch / "installed"
    points = "\n".join(
        f"[{group}]\n" + "\n".join(f"{key} = {value}" for key, value in named.items())
        for group, named in entry_points.items()
    )
    info = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": points,
        "RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**sources, **{f"{stem}.dist-info/{key}": text for key, text in info.items()}}.items():
            archive.writestr(path, text)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    subprocess.run([*command, "--no-deps", "--target", str(target), str(wheel)], check=True, timeout=50)
    return target
