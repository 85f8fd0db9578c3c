"""Segments with their build contexts in folders: what `coord package` writes, and whoever else wants images made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fogline.coordinator.artifacts.contexts import Written, base_image, lay_out, write_down
from fogline.coordinator.artifacts.lock import Lock
from fogline.coordinator.artifacts.locking import lock_for
from fogline.coordinator.artifacts.resolve import Resolved
from fogline.coordinator.core.imagined import Imagined
from fogline.coordinator.core.needs import segment_needs
from fogline.coordinator.core.split import Segment


@dataclass(frozen=True)
class Kind:
    """What images are for, and what they begin with."""

    target: str
    """Kind of node, as in `targets.py`."""
    base: str = ""
    """Empty: `fogline/python:MINOR`."""

    @property
    def begins_with(self) -> str:
        """The base image."""
        return self.base or base_image(self.target)


@dataclass(frozen=True)
class Package:
    """A segment whose build context is in a folder."""

    segment: Segment
    folder: Path
    written: Written
    lock: Lock


def write_packages(
    parts: Imagined,
    resolved: Resolved,
    out: Path,
    kind: Kind,
    tell: Callable[[str], None],
    *,
    anew: bool = False,
) -> list[Package]:
    """Write the build context of each segment to `out/SEGMENT`, a new folder that a plain `docker build` takes.

    Packages that this machine has not resolved before are, or all of them `anew`. Raises FoglineError when they
    cannot be had or a folder cannot be written; then none of these folders stays.
    """
    document, made = parts.document, list[Package]()
    try:
        for segment in parts.segments:
            needs = segment_needs(document, segment.stages, resolved.requirements, parts.automatic)
            lock = lock_for(needs, kind.target, tell, anew=anew, what=segment.name)
            artifacts = resolved.artifacts
            written = write_down(document, segment, parts.automatic, artifacts, lock.digest, kind.begins_with)
            lay_out(written, lock, resolved.blobs, out / segment.name)
            made.append(Package(segment, out / segment.name, written, lock))
    except BaseException:
        for each in made:
            shutil.rmtree(each.folder, ignore_errors=True)
        raise
    return made
