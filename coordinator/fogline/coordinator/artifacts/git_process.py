"""One git command: what it may do and see, how long it may take, and what its complaint means."""

from __future__ import annotations

import base64
import os
import re
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from fogline.coordinator.artifacts.bundle import SIZE_LIMIT_BYTES
from fogline.coordinator.padl.addresses import GitAddress
from fogline.wire.terms import ErrorKind, FoglineError

OUTPUT_LIMIT_BYTES = SIZE_LIMIT_BYTES + 16 * 2**20
"""The contents of a tree that can be bundled, and what git says of each file."""
LOCAL_S = 60.0
FETCH_S = 300.0
"""A repository that takes longer is not code alone."""
_CONFIG = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false")
"""On every command, above the user's own configuration."""
_KEPT = re.compile(
    r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|EXEC_PATH|SSL_\w+|PROXY_SSL_\w+"
    r"|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+))"
)
"""What the user's environment may tell git: who they are. Inside a hook or an alias there is more, such as GIT_DIR."""
_BLOCK_BYTES = 2**16
_COMPLAINT_BYTES = 2**16
_SSH_OPTIONS = "-oBatchMode=yes -oConnectTimeout=20"

_COMPLAINTS: tuple[tuple[str, str], ...] = (
    (
        r"Could not resolve host|Name or service not known|Connection refused|Connection timed out|No route to host"
        r"|Failed to connect|Couldn't connect|Could not connect|Network is unreachable|Connection reset",
        "{url} cannot be reached: {line}",
    ),
    (r"Host key verification failed", "the host key of {url} is not known here: connect once with ssh and confirm it"),
    (
        r"Permission denied \(",
        "{url} accepts no key of yours ({line}): give the host a public key, and load its private one into ssh-agent "
        "where it has a passphrase, for nobody is asked",
    ),
    (
        r"could not read Username|could not read Password|Authentication failed|returned error: 40[13]",
        "{url} asks for a login and takes none that git has: set up a credential helper, or use ssh with a key",
    ),
    (r"certificate|SSL|TLS", "{url} cannot be trusted: {line}"),
    (r"[Pp]rotocol.* (not allowed|disabled|not supported)|transport .* not allowed", "{url} leads elsewhere: {line}"),
    (r"couldn't find remote ref HEAD", "{url} has no default branch, or is empty: commit something, or name a 'ref'"),
    (r"dubious ownership", "{url} belongs to another user: git asks to be told, by safe.directory, that you trust it"),
    (
        r"[Nn]ot found|does not appear to be a git repository|not a git repository|does not exist|No such file",
        "there is no repository {url}, or none that you may read",
    ),
)
"""What git says -> what it means, first match."""


class GitFailure(FoglineError):
    """git ended with an error; the sentence says what it means."""


def git(
    repository: Path,
    argv: Sequence[str],
    *,
    address: GitAddress | None = None,
    given: bytes = b"",
    limit_bytes: int = OUTPUT_LIMIT_BYTES,
) -> bytes:
    """The output of `git ARGV` in a bare repository. `address` is what it may talk to; without one, nothing.

    Raises GitFailure when git fails, FoglineError when there is no git, or it takes too long or says too much.
    """
    command = ["git", f"--git-dir={repository}", *(word for each in _CONFIG for word in ("-c", each)), *argv]
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as complaint:
        asked.write(given)
        asked.seek(0)
        try:
            # A session of its own: what ends it ends ssh and the helpers too, and nothing can ask at the terminal.
            process = subprocess.Popen(
                command,
                env=_environment(repository, address),
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=complaint,
                start_new_session=True,
            )
        except FileNotFoundError as failure:
            raise FoglineError(ErrorKind.NOT_FOUND, "code from git needs the program git: install it") from failure
        with process:
            try:
                output = _output(process, FETCH_S if address else LOCAL_S, limit_bytes)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            complaint.seek(0)
            words = complaint.read(_COMPLAINT_BYTES).decode(errors="replace")
            raise GitFailure(ErrorKind.FAILED, _sentence(words, argv[0], address, repository))
    return output


def _output(process: subprocess.Popen[bytes], deadline_s: float, limit_bytes: int) -> bytes:
    """All that it writes until its end. Raises FoglineError when that is too much or takes too long: a few small
    objects can stand for billions of files."""
    pipe, deadline = process.stdout, time.monotonic() + deadline_s
    assert pipe is not None
    pieces = list[bytes]()
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(pipe.fileno(), _BLOCK_BYTES)
        if not piece:
            break
        pieces.append(piece)
        limit_bytes -= len(piece)
        if limit_bytes < 0:
            raise FoglineError(ErrorKind.INVALID_DOCUMENT, "the repository holds more than the code of a stage")
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as failure:
        raise FoglineError(ErrorKind.DEADLINE, f"git did not finish within {deadline_s:.0f} s") from failure
    return b"".join(pieces)


def _environment(repository: Path, address: GitAddress | None) -> Mapping[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or _KEPT.fullmatch(key)}
    # The user's configuration may turn https into ssh (insteadOf). This variable is above any configuration.
    allowed = "" if address is None else "file" if address.transport == "file" else "https:ssh"
    own = {"GIT_ALLOW_PROTOCOL": allowed, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    if address is None:
        return kept | own
    if address.transport != "file" and "GIT_SSH" not in kept:
        own["GIT_SSH_COMMAND"] = _ssh(kept.get("GIT_SSH_COMMAND") or _configured_ssh(repository))
    return kept | own | _login(address, kept)


def _ssh(command: str) -> str:
    """The user's ssh command, told to ask nothing. Another program than ssh would not know these options."""
    try:
        program = os.path.basename((shlex.split(command) or ["ssh"])[0])
    except ValueError:
        program = ""
    return f"{command or 'ssh'} {_SSH_OPTIONS}" if program == "ssh" else command


def _configured_ssh(repository: Path) -> str:
    try:
        return git(repository, ("config", "--get", "core.sshCommand")).decode().strip()
    except GitFailure:
        return ""


def _login(address: GitAddress, kept: Mapping[str, str]) -> dict[str, str]:
    """A password in the address goes by the environment: what is among the arguments every user can read."""
    if not address.password:
        return {}
    pair = f"{unquote(address.user)}:{unquote(address.password)}".encode()
    number = kept.get("GIT_CONFIG_COUNT") or "0"
    return {
        "GIT_CONFIG_COUNT": str(int(number) + 1) if number.isdecimal() else "1",
        f"GIT_CONFIG_KEY_{number}": f"http.{address.url}.extraHeader",
        f"GIT_CONFIG_VALUE_{number}": f"Authorization: Basic {base64.b64encode(pair).decode()}",
    }


def _sentence(complaint: str, command: str, address: GitAddress | None, repository: Path) -> str:
    """What git's complaint means, for the person who wrote the document."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    if address is None:
        reason = _clean(lines[-1]) if lines else "it says nothing"
        return f"git {command} failed in {repository}, which is a copy and may be removed: {reason}"
    for pattern, meaning in _COMPLAINTS:
        for line in lines:
            if re.search(pattern, line):
                return meaning.format(url=address.url, line=_clean(line))
    said = [line for line in lines if not line.lower().startswith("warning:")]
    return f"{address.url} cannot be fetched: {_clean(said[0]) if said else 'git says nothing'}"


def _clean(line: str) -> str:
    """One line of git's, without its prefix and the address, which the sentence names."""
    line = re.sub(r"^(fatal|error|ssh|remote): ", "", line)
    line = re.sub(r"^unable to access '[^']*': ", "", line)
    return "".join(each for each in line if each.isprintable())[:300]
