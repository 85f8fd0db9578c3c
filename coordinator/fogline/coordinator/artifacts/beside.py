"""Whether what is installed beside coord has what stages need."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement

from fogline.coordinator.core.needs import Need


def unmet(needs: Iterable[Need]) -> str:
    """The first need that this environment does not meet, in words; empty when it meets them all.

    Extras are followed, markers respected; what the found packages need themselves is their installer's business.
    """
    for need in needs:
        if why := _why_not(Requirement(need.line), frozenset()):
            return f"{need.line} ({need.by}), {why}"
    return ""


def _why_not(wanted: Requirement, seen: frozenset[str]) -> str:
    if wanted.marker and not wanted.marker.evaluate():
        return ""
    try:
        found = metadata.distribution(wanted.name)
    except metadata.PackageNotFoundError:
        return (
            "which is not installed beside coord" if not seen else f"whose {wanted.name} is not installed beside coord"
        )
    if not wanted.specifier.contains(found.version, prereleases=True):
        return f"and beside coord there is {wanted.name} {found.version}"
    for extra in sorted(wanted.extras):
        mark = f"{wanted.name}[{extra}]"
        if mark in seen:
            continue
        for each in map(Requirement, found.requires or ()):
            asked = each.marker and each.marker.evaluate({"extra": extra}) and not each.marker.evaluate({"extra": ""})
            each.marker = None
            if asked and (why := _why_not(each, seen | {mark})):
                return why
    return ""
