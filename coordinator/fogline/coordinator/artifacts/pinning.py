"""From what an environment must hold to exact versions with hashes for one kind of node; uv chooses them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fogline.coordinator.artifacts.programs import run_uv
from fogline.coordinator.artifacts.targets import Target
from fogline.coordinator.core.needs import Need, lines_of
from fogline.wire.terms import ErrorKind, FoglineError

_UNREACHABLE = ("Failed to fetch", "error sending request", "the network was disabled", "Failed to download")
_LOGIN = re.compile(r"An index(?: URL)? \((\S+)\) .*?(40[13] \w+)")
_ABSENT = re.compile(r"(\S+) was not found in the (?:package registry|provided package locations)")
_NO_WHEELS = ("no usable wheels", "no wheels with")
_WHEELLESS = re.compile(r"(?:because|and) (\S+) has (?:no usable wheels|no wheels with)", re.IGNORECASE)
_NO_SUCH = re.compile(r"(?:only (\S+) is available|there (?:is|are) no versions? of (\S+))")
_OFFERED = re.compile(r"Wheels are available for .*? on the following platforms: (.*)")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST = 600


class Unresolvable(FoglineError):
    """No set of versions has everything that is asked for."""

    def __init__(self, sentence: str, needs: Sequence[Need]) -> None:
        super().__init__(ErrorKind.UNPLACEABLE, sentence)
        self.needs = tuple(needs)
        """Those it is about."""


def pins(needs: Sequence[Need], target: Target) -> str:
    """Lines `name==version --hash=...` for pip, those of dependencies included.

    Raises Unresolvable, with who asked for what, and FoglineError (unreachable) when no index answered.
    """
    arguments = ("--generate-hashes", "--no-header", "--no-annotate", "--only-binary", ":all:", "--quiet")
    where = ("--python-version", target.python, "--python-platform", target.uv_platform)
    done = run_uv("pip", "compile", *arguments, *where, "-", given="\n".join(lines_of(needs)) + "\n", index=True)
    if done.returncode:
        raise refusal(done.stderr, needs, target)
    return done.stdout


def refusal(said: str, needs: Sequence[Need], target: Target) -> FoglineError:
    """What uv said, in words for who wrote the requirements."""
    text = " ".join(said.split())
    if any(sign in text for sign in _UNREACHABLE):
        return unreachable(said.strip().splitlines()[-1].replace("cause:", "").strip())
    if found := _LOGIN.search(text):
        sentence = f"the package index {found[1]} refuses this login ({found[2]}); give pip another"
        return FoglineError(ErrorKind.UNREACHABLE, f"{sentence}: `pip config list` shows the one it has")
    if found := _ABSENT.search(text):
        about = _about(found[1], needs)
        sentence = f"there is no package {_name(found[1])} in the index{_asked(about)}: is it spelt right?"
        return Unresolvable(sentence, about)
    if any(sign in text for sign in _NO_WHEELS) and (refused := _wheelless(text, said, needs, target)):
        return refused
    if (found := _NO_SUCH.search(text)) and len(_asking(text, needs)) < 2:
        known = found[1] or found[2]
        about = _about(known, needs)
        have = f"the index has {found[1]}" if found[1] else f"the index has no {found[2]}"
        return Unresolvable(f"no version of {_name(known)} is what is wanted{_asked(about)}: {have}", about)
    return _conflict(text, needs)


def unreachable(detail: str) -> FoglineError:
    """No index answered."""
    return FoglineError(
        ErrorKind.UNREACHABLE,
        f"no package index could be reached ({detail}); check the network, and the index in `pip config list`",
    )


def _wheelless(text: str, said: str, needs: Sequence[Need], target: Target) -> Unresolvable | None:
    """None where more than wheels is missing."""
    found = _WHEELLESS.search(text)
    about = _about(found[1], needs) if found else _asking(text, needs)
    if len(about) > 1 or not (found or about):
        return None
    name = about[0].line if about else found[1] if found else ""
    offered = _OFFERED.search(said)
    kinds = [kind for kind in re.findall(r"[^`, ]+", offered[1]) if "linux" in kind] if offered else []
    there = f"; there are some for {', '.join(kinds)}" if kinds else ""
    sentence = f"no wheel of {name.replace('==', ' ')} for {target}{_asked(about)}{there}"
    return Unresolvable(f"{sentence}; choose another version, or another package", about)


def _conflict(text: str, needs: Sequence[Need]) -> Unresolvable:
    about = _asking(text, needs)
    because = text.partition("cause: ")[2] or text
    because = because.partition("hint:")[0].replace(", we can conclude that your requirements are unsatisfiable.", "")
    because = because.strip()
    short = because if len(because) <= _LONGEST else because[:_LONGEST] + " ..."
    asked = " and ".join(f"{need.line} ({need.by})" for need in about)
    return Unresolvable(f"{asked or 'these requirements'} cannot be had together: {short}", about)


def _asking(text: str, needs: Sequence[Need]) -> list[Need]:
    """The needs of whose packages uv speaks."""
    told = {canonicalize_name(word.rstrip(".-_")) for word in _WORD.findall(text)}
    return [need for need in needs if _name(need.line) in told]


def _about(named: str, needs: Sequence[Need]) -> list[Need]:
    return [need for need in needs if _name(need.line) == _name(named)]


def _name(line: str) -> str:
    found = _WORD.match(line)
    return canonicalize_name(Requirement(found[0]).name) if found else line


def _asked(about: Sequence[Need]) -> str:
    if not about:
        return ", which another package needs"
    return f" ({'; '.join(f'{need.by} asks for {need.line}' for need in about)})"
