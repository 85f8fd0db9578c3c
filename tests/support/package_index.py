"""A folder of small wheels made by hand: a package index that no network is needed for."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest

from fogline.coordinator.artifacts.programs import pip_configuration

ANYWHERE = "py3-none-any"


def make_wheel(
    folder: Path, name: str, version: str, requires: Sequence[str] = (), tag: str = ANYWHERE, source: str = ""
) -> Path:
    """A wheel with one module; `source` is what it holds besides its version."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in {
            f"{name}.py": f"__version__ = {version!r}\n{source}",
            f"{info}/METADATA": metadata,
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: {tag}\n",
            f"{info}/RECORD": f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        }.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return file


def wheel_of_installed(folder: Path, name: str) -> Path:
    """A wheel of a package that is installed here, for environments in which it is really used."""
    found = metadata.distribution(name)
    tags = [line.removeprefix("Tag: ") for line in (found.read_text("WHEEL") or "").splitlines() if "Tag: " in line]
    file = folder / f"{name}-{found.version}-{tags[0]}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path in found.files or ():
            if ".." not in path.parts and path.suffix != ".pyc":
                archive.write(path.locate(), str(path))
    return file


@contextmanager
def only_index(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[Path]:
    """Packages come from `folder/index` and from nowhere else, and are kept in `folder/cache`; yields the index.

    It holds what every environment needs.
    """
    index = folder / "index"
    make_wheel(index, "orjson", "3.10.0")
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(index))
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    pip_configuration.cache_clear()
    yield index
    pip_configuration.cache_clear()
