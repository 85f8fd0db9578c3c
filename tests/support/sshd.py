"""A real OpenSSH server on the loopback, with one key that it takes and one that it does not."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.mosquitto import free_port
from support.segments import wait_until

PROGRAM = shutil.which("sshd", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))


class SshServer:
    """`command(...)` is an ssh that knows it as the host `forge.test`, whatever the user's own files say."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        for name, phrase in (("host", ""), ("friend", ""), ("stranger", ""), ("locked", "secret")):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-f", str(folder / name)]
            subprocess.run(argv, check=True)
        keys = [(folder / f"{name}.pub").read_text() for name in ("friend", "locked")]
        (folder / "authorized").write_text("".join(keys))
        kind, key, *_ = (folder / "host.pub").read_text().split()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        for name in ("nobody", "log"):
            (folder / name).touch()
        lines = [f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host", f"PidFile {folder}/pid"]
        lines += [f"AuthorizedKeysFile {folder}/authorized", "StrictModes no", "UsePAM no", "PermitRootLogin yes"]
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")

    def command(self, key: str = "friend", known: str = "known", port: int = 0) -> str:
        """What GIT_SSH_COMMAND is to be."""
        lines = ["Host forge.test", "HostName 127.0.0.1", f"Port {port or self.port}", f"User {getpass.getuser()}"]
        lines += [f"IdentityFile {self.folder}/{key}", "IdentitiesOnly yes", "IdentityAgent none"]
        lines += [f"UserKnownHostsFile {self.folder}/{known}", "GlobalKnownHostsFile none", "StrictHostKeyChecking yes"]
        config = self.folder / f"config-{key}-{known}-{port}"
        config.write_text("\n".join(lines) + "\n")
        return f"ssh -F {config}"


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """A server that answers, gone afterwards."""
    server = SshServer(folder)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it shuts its unprivileged half away
    argv = [str(PROGRAM), "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")]
    process = subprocess.Popen(argv)
    try:
        wait_until(lambda: "Server listening" in (folder / "log").read_text(), "sshd listens")
        yield server
    finally:
        process.terminate()
        process.wait(20)
