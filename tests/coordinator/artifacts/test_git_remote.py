"""Code from a real ssh server and from https: with the user's keys and trust, and what is said without them."""

from __future__ import annotations

import getpass
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fogline.coordinator.artifacts.git import check_out
from fogline.coordinator.padl.addresses import git_address
from fogline.wire.terms import FoglineError
from support.certificates import Certificates, issued
from support.https_files import FileServer, serving
from support.mosquitto import free_port
from support.repository import HANDLER, Repository
from support.sshd import PROGRAM, SshServer, ssh_server

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")]
needs_sshd = pytest.mark.skipif(PROGRAM is None, reason="sshd is missing: run tests/install-real-parts.sh")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    found = Repository(tmp_path_factory.mktemp("git") / "plant")
    found.commit({"main.py": HANDLER.format(number=1)})
    found.git("--git-dir", str(found.bare), "update-server-info")  # https without a program at the other end
    return found


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh") / "server") as server:
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issued(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def https(plant: Repository, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificates.ca))
    with serving(plant.folder.parent, certificates) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refused(address: str) -> str:
    with pytest.raises(FoglineError) as caught:
        check_out(git_address(address))
    return caught.value.sentence


@needs_sshd
def test_ssh_in_both_spellings(plant: Repository, sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", sshd.command())
    expected = plant.git("rev-parse", "HEAD")
    user = getpass.getuser()
    for address in (f"{user}@forge.test:{plant.bare}", f"forge.test:{plant.bare}", f"ssh://forge.test{plant.bare}"):
        found = check_out(git_address(address), "main")
        assert found.commit == expected
        assert (found.folder / "main.py").read_text() == HANDLER.format(number=1)


@needs_sshd
def test_the_ssh_command_of_the_users_configuration_is_theirs(
    plant: Repository, sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    plant.git("config", "--file", str(tmp_path / "gitconfig"), "core.sshCommand", sshd.command())
    plant.git("config", "--file", str(tmp_path / "gitconfig"), "url.forge.test:.insteadOf", "https://forge.test")
    assert check_out(git_address(f"https://forge.test{plant.bare}")).commit == plant.git("rev-parse", "HEAD")


@needs_sshd
def test_what_ssh_refuses(plant: Repository, sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"forge.test:{plant.bare}"
    said = {}
    for name, command in {
        "stranger": sshd.command("stranger"),
        "locked": sshd.command("locked"),  # a passphrase is asked for, and nobody is there to answer
        "unknown": sshd.command(known="nobody"),
        "closed": sshd.command(port=free_port()),
    }.items():
        monkeypatch.setenv("GIT_SSH_COMMAND", command)
        said[name] = refused(address)
    assert f"{address} accepts no key of yours" in said["stranger"]
    assert "ssh-agent" in said["locked"]
    assert "the host key of " in said["unknown"]
    assert "cannot be reached: connect to host 127.0.0.1 port" in said["closed"]
    monkeypatch.setenv("GIT_SSH_COMMAND", sshd.command())
    assert (
        refused("forge.test:nowhere.git") == "there is no repository forge.test:nowhere.git, or none that you may read"
    )
    assert "nowhere.invalid:x.git cannot be reached: Could not resolve hostname" in refused("nowhere.invalid:x.git")


def test_https_with_an_authority_of_ones_own(plant: Repository, https: FileServer) -> None:
    found = check_out(git_address(f"{https.url}/plant.git"), "main")
    assert found.commit == plant.git("rev-parse", "HEAD")
    assert (found.folder / "main.py").read_text() == HANDLER.format(number=1)


def test_a_password_goes_to_the_server_and_nowhere_else(
    https: FileServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    https.login = "ada:s3cr@t"
    said = refused(f"{https.url}/plant.git")
    assert "asks for a login and takes none that git has" in said
    said = refused(f"https://ada:wr0ng@{https.host}/plant.git")
    assert f"https://ada@{https.host}/plant.git asks for a login" in said
    assert "wr0ng" not in said
    shutil.rmtree(cache)
    found = check_out(git_address(f"https://ada:s3cr%40t@{https.host}/plant.git"), "main")
    assert (found.folder / "main.py").is_file()
    kept = [path for path in cache.rglob("*") if path.is_file() and b"s3cr" in path.read_bytes()]
    assert kept == []


def test_the_users_credential_helper_is_asked(
    plant: Repository, https: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    https.login = "ada:s3cr@t"
    (tmp_path / "logins").write_text(f"https://ada:s3cr%40t@{https.host}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    helper = f"store --file={tmp_path}/logins"
    plant.git("config", "--file", str(tmp_path / "gitconfig"), "credential.helper", helper)
    assert check_out(git_address(f"{https.url}/plant.git"), "main").commit == plant.git("rev-parse", "HEAD")


def test_nobody_is_trusted_or_followed_elsewhere(
    plant: Repository, https: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    https.moved = {
        "/moved": f"{https.url}/plant.git",
        "/plain": f"http://{https.host}/plant.git",
        "/here": f"file://{plant.bare}",
    }
    assert check_out(git_address(f"{https.url}/moved")).commit
    for name in ("plain", "here"):
        said = refused(f"{https.url}/{name}")
        assert f"/{name} leads elsewhere" in said or f"/{name} cannot be" in said, said
    assert refused(f"{https.url}/nowhere.git") == (
        f"there is no repository {https.url}/nowhere.git, or none that you may read"
    )
    assert "cannot be reached: Failed to connect" in refused(f"https://localhost:{free_port()}/x.git")
    monkeypatch.delenv("GIT_SSL_CAINFO")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert f"{https.url}/plant.git cannot be trusted: " in refused(f"{https.url}/plant.git")
