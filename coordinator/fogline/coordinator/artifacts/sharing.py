"""Which code stages cannot share a process: their folders hold a module of the same name.

Entry points are loaded under names of their own; everything else a folder holds is imported by its plain
name, and one process has one module of each name.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from fogline.coordinator.padl.model import CODE, Document


def incompatible(document: Document, paths: Mapping[str, Path]) -> dict[tuple[str, str], str]:
    """Pairs of stages (by name, sorted) that cannot share a process, with the reason.

    `paths` holds the folder of each code stage. Two stages with the same folder share their modules too.
    """
    modules = {
        name: _modules(paths[name], str(stage.props.get("entrypoint", "main.py")))
        for name, stage in sorted(document.pipeline.items())
        if stage.type == CODE and name in paths
    }
    found = {}
    for a, b in combinations(modules, 2):
        shared = sorted(modules[a] & modules[b])
        if shared and paths[a] != paths[b]:
            found[a, b] = f"the folders of {a} and {b} both hold a module {shared[0]}"
    return found


def _modules(folder: Path, entrypoint: str) -> set[str]:
    """Names that can be imported from the folder, and from that of the entry point, which is one to start from too."""
    entry = folder / entrypoint
    names = set[str]()
    for place in {folder, entry.parent}:
        if place.is_dir():
            files = {path.stem for path in place.glob("*.py") if path != entry}
            names |= files | {path.name for path in place.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    return names - {"__init__"}
