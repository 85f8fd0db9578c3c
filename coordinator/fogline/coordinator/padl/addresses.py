"""Addresses of code and of models: which forms are allowed, and what of them may be shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fogline.coordinator.padl.model import CODE, Stage
from fogline.coordinator.padl.problems import Problem, error, quoted, warning

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_USER = r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.+%~-]*)(?::(?P<password>[^@/\s]*))?@)?"
_HOST = r"(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])"
_PLACE = r"(?!-)[\w.~%+,=@:/-]+"
_URL = re.compile(rf"(?P<scheme>https|ssh)://{_USER}{_HOST}(?::(?P<port>[0-9]{{1,5}}))?/(?P<place>{_PLACE})")
_SCP = re.compile(rf"{_USER}{_HOST}:(?P<place>(?!:){_PLACE})")
_MODEL = re.compile(rf"(?P<url>https://{_USER}{_HOST}(?::[0-9]{{1,5}})?/[!-~]*?)(?:#(?P<fragment>[!-~]*))?")
_SHA256 = re.compile(r"sha256=([0-9A-Fa-f]{64})")
_REF = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|/\.|/$|\.$|\.lock$))[\w./+@#%=,-]{1,250}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ALLOWED = "allowed: https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH, or a path on this machine"
_OTHERS = {
    "file": "give the path alone, without file://",
    "http": "nothing protects what comes by http: use https:// or ssh://",
    "git": "nothing protects what comes by git://: use https:// or ssh://",
}
"""Scheme of git that is refused -> why, and what to write."""


class Unfit(ValueError):
    """An address that is refused: what is wrong with it, and what would be right."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


@dataclass(frozen=True)
class GitAddress:
    """A repository. `url` begins with `https://`, `ssh://`, a host or `/`: it is never an option of git's."""

    url: str
    """Without the password, so that it may be shown."""
    transport: str
    """`https`, `ssh` or `file`."""
    user: str = ""
    password: str = ""
    """As written in an https address, percent-encoded."""


@dataclass(frozen=True)
class ModelAddress:
    """A model file to be fetched by https."""

    url: str
    """Without a login."""
    sha256: str
    user: str = ""
    password: str = ""


def is_address(path: str) -> bool:
    """Whether a code stage's path is an address, by git's own rule: a colon before the first slash."""
    return ":" in path.partition("/")[0]


def git_address(text: str) -> GitAddress:
    """The repository that a code stage's path names. Raises Unfit for every form that is not allowed."""
    scheme, kind = _SCHEME.match(text), text.partition(":")[0].lower()
    # git knows addresses of the form HELPER::ANYTHING, and one of these helpers runs any command.
    is_helper = "::" in text.partition("/")[0].partition("[")[0]
    if is_helper or (kind not in {"https", "ssh"} if scheme else kind in {"https", "ssh", *_OTHERS}):
        hint = f"leave out 'git+'; {_ALLOWED}" if kind.startswith("git+") else _OTHERS.get(kind, _ALLOWED)
        raise Unfit(f"code is not fetched from {quoted(text[: len(kind) + (3 if scheme else 1)])} addresses", hint)
    if scheme:
        text = scheme[1].lower() + text[scheme.end(1) :]
    match = (_URL if scheme else _SCP).fullmatch(text)
    if match is None or not match["place"].strip("/"):
        raise Unfit(f"{quoted(masked(text))} is not the address of a repository", _advice(text))
    transport = match["scheme"] if scheme else "ssh"
    if match["password"] is not None and transport == "ssh":
        raise Unfit(f"{quoted(masked(text))} holds a password, which ssh does not take", "use a key: USER@HOST:PATH")
    if scheme and match["port"] and not 1 <= int(match["port"]) <= 65535:
        raise Unfit(f"{quoted(masked(text))} has no possible port", "between 1 and 65535, or none")
    return GitAddress(without_password(text), transport, match["user"] or "", match["password"] or "")


def model_address(text: str) -> ModelAddress:
    """The file that a model stage's https path names. Raises Unfit, also where no digest says which bytes it is."""
    scheme = _SCHEME.match(text)
    if scheme is None or scheme[1].lower() != "https":
        raise Unfit("models are fetched by https alone", "https://HOST/PATH#sha256=DIGEST, or a file on this machine")
    text = scheme[1].lower() + text[scheme.end(1) :]
    match = _MODEL.fullmatch(text)
    if match is None:
        raise Unfit(f"{quoted(masked(text))} is not the address of a file", "https://HOST/PATH#sha256=DIGEST")
    login = f"{match['user']}:{match['password']}" if match["password"] is not None else match["user"]
    url = match["url"].replace(f"{login}@", "", 1) if login else match["url"]
    digest = _SHA256.fullmatch(match["fragment"] or "")
    if digest is None:
        message = "nothing says which bytes are meant: the address must end in #sha256= and 64 hexadecimal digits"
        raise Unfit(message, f"curl -L {url} | sha256sum prints them, once you trust what is there")
    return ModelAddress(url, digest[1].lower(), match["user"] or "", match["password"] or "")


def address_problems(place: str, stage: Stage) -> Iterator[Problem]:
    """What is wrong with the path of the stage at pointer `place`, and with what names the version of its code."""
    path, where = stage.props.get("path"), f"{place}/props/path"
    if stage.type == CODE:
        yield from _version_problems(place, stage)
    if not isinstance(path, str) or not (is_address(path) if stage.type == CODE else _by_http(path)):
        return
    try:
        found = git_address(path) if stage.type == CODE else model_address(path)
    except Unfit as unfit:
        yield error(where, unfit.message, unfit.hint)
        return
    if found.password:
        message = "the address has its password in clear text"
        yield warning(where, message, "use a credential helper or a key; the password is never stored, sent or shown")


def without_password(path: str) -> str:
    """An address that may be stored: the user stays, the password goes."""
    return re.sub(r"^([A-Za-z]+://[^:/@]*):[^/@]*@", r"\1@", path)


def masked(text: str) -> str:
    """Anything that is meant as an address, to be shown: what may be a password is `***`."""
    return re.sub(r"(://|^)([^:/@]*):.*@", r"\1\2:***@", text, flags=re.DOTALL)


def _version_problems(place: str, stage: Stage) -> Iterator[Problem]:
    ref, commit = _given(stage, "ref"), _given(stage, "commit")
    if ref is not None and not _REF.fullmatch(ref):
        yield error(f"{place}/props/ref", f"{quoted(ref)} cannot be a branch, a tag or a commit", "for example main")
    if commit is not None and not _COMMIT.fullmatch(commit):
        hint = "40 hexadecimal digits, as submit fills them in; a branch, a tag or a shorter form is a 'ref'"
        yield error(f"{place}/props/commit", f"{quoted(commit)} is not the full name of a commit", hint)


def _given(stage: Stage, key: str) -> str | None:
    value: Any = stage.props.get(key)
    return value if isinstance(value, str) else None


def _by_http(path: str) -> bool:
    return path.lower().startswith(("http:", "https:"))


def _advice(text: str) -> str:
    if "#" in text or "?" in text:
        return f'a branch, tag or commit is named by "ref"; {_ALLOWED}'
    return _ALLOWED
