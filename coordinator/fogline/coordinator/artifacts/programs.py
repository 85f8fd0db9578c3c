"""uv and pip, run as programs, asking the same package index: the one that pip is configured for."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from fogline.wire.terms import ErrorKind, FoglineError

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")

_KEPT = ("UV_CACHE_DIR", "UV_HTTP_", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_OFFLINE", "UV_LINK_MODE", "UV_CONCURRENT_")
"""Settings of uv's own that do not change what it finds."""
_INDEX = {"index-url": "UV_INDEX_URL", "extra-index-url": "UV_EXTRA_INDEX_URL", "find-links": "UV_FIND_LINKS"}
_OTHER = {"cert": "SSL_CERT_FILE", "trusted-host": "UV_INSECURE_HOST", "proxy": "ALL_PROXY"}


def cache_folder(*names: str) -> Path:
    """A folder of this user's cache, made if it is not there."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base.joinpath("fogline", *names)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_uv(*arguments: str, given: str = "", index: bool = False) -> subprocess.CompletedProcess[str]:
    """uv to its end, `given` on its standard input. Raises FoglineError when it is not installed.

    `index`: it is a command that asks one, and asks what pip is configured for.
    """
    command = [_uv(), "--no-config", "--no-python-downloads", "--color", "never", "--no-progress", *arguments]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("UV_") or key.startswith(_KEPT)
    }
    if index:
        # By environment variables, not arguments: an address may hold a password, and everybody sees arguments.
        environment |= index_settings(pip_configuration())
        command += ["--no-index"] if is_set(pip_configuration(), "no-index") else []
    return subprocess.run(command, input=given, env=environment, capture_output=True, text=True, check=False)


def run_pip(*arguments: str, heard: Callable[[str], None]) -> tuple[int, str]:
    """pip to its end, `heard` called with each line it prints; returns its exit code and what it complained about."""
    with subprocess.Popen(
        [*PIP, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        complaints = []
        for line in process.stdout:
            heard(line.rstrip("\n"))
            if line.startswith(("ERROR:", "WARNING:")):
                complaints.append(line.strip())
    return process.returncode, "\n".join(complaints)


@cache
def pip_configuration() -> Mapping[str, str]:
    """pip's settings for `download` by their plain names, from its files and PIP_* variables."""
    done = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False)
    if done.returncode:
        sentence = f"pip cannot read its settings: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}"
        raise FoglineError(ErrorKind.FAILED, f"{sentence}; see `pip config debug`")
    return configured(done.stdout.splitlines())


def configured(lines: Sequence[str]) -> dict[str, str]:
    """`pip config list` as settings: variables before those of the command, those before the ones of all commands."""
    found: dict[str, dict[str, str]] = {section: {} for section in ("global", "download", ":env:")}
    for line in lines:
        name, equals, value = line.partition("=")
        section, _, key = name.partition(".")
        if equals and section in found:
            found[section][key] = str(ast.literal_eval(value))
    return found["global"] | found["download"] | found[":env:"]


def index_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """pip's settings about where packages are, as uv's environment variables."""
    given = {key: " ".join(value.split()) for key, value in settings.items()}
    found = {variable: given[key] for key, variable in (_INDEX | _OTHER).items() if given.get(key)}
    if "find-links" in given:
        found["UV_FIND_LINKS"] = given["find-links"].replace(" ", ",")
    return found


def is_set(settings: Mapping[str, str], name: str) -> bool:
    """Whether a setting of pip's is switched on."""
    return settings.get(name, "").lower() in {"1", "true", "yes", "on"}


@cache
def _uv() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        sentence = "uv is not installed beside coord: pip install 'fogline[coordinator]'"
        raise FoglineError(ErrorKind.FAILED, sentence) from None
