"""Addresses that try to be more than an address: none runs anything, and none reaches another transport."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fogline.coordinator.artifacts.git import check_out
from fogline.coordinator.artifacts.resolve import resolve
from fogline.coordinator.padl.addresses import GitAddress, Unfit, git_address, is_address
from fogline.coordinator.padl.parse import load, without_passwords
from fogline.coordinator.padl.verdict import judge
from fogline.wire.terms import FoglineError
from support.padl_files import a_document, with_value, written
from support.repository import HANDLER, Repository

HOSTILE = [
    "ext::sh -c touch% CANARY",
    "EXT::sh -c touch% CANARY",
    "ext::CANARY",
    "fd::3/x",
    "transport-helper::x",
    "https::https://forge.invalid/x",
    "ssh::git@forge.invalid:x",
    "ext://CANARY",
    "file:///etc",
    "FILE:///etc",
    "file://localhost/etc",
    "file:/etc",
    "git://forge.invalid/x.git",
    "http://forge.invalid/x.git",
    "HTTP://forge.invalid/x.git",
    "git+https://forge.invalid/x.git",
    "ftp://forge.invalid/x.git",
    "ftps://forge.invalid/x.git",
    "rsync://forge.invalid/x.git",
    "svn+ssh://forge.invalid/x.git",
    "--upload-pack=touch CANARY:x",
    "--upload-pac=touch CANARY:x",
    "-u:touch CANARY",
    "-utouch CANARY:x",
    "--config=core.sshCommand=touch CANARY:x",
    "-oProxyCommand=touch CANARY:x",
    "-oProxyCommand=touch@forge.invalid:x",
    "ssh://-oProxyCommand=touch%20CANARY/x",
    "ssh://-oProxyCommand=CANARY@forge.invalid/x",
    "ssh://git@-oProxyCommand=CANARY/x",
    "git@-oProxyCommand=CANARY:x",
    "git@forge.invalid:-oProxyCommand=CANARY",
    "git@forge.invalid:--upload-pack=CANARY",
    "ssh://forge.invalid:22:33/x",
    "ssh://forge.invalid:99999/x",
    "ssh://forge.invalid:0/x",
    "https://forge.invalid:-1/x",
    "https://forge.invalid/$HOME/x",
    "https://$HOST/x",
    "$HOST:x",
    "git@forge.invalid:$(touch CANARY)",
    "git@forge.invalid:`touch CANARY`",
    "git@forge.invalid:x;touch CANARY",
    "git@forge.invalid:x|touch CANARY",
    "git@forge.invalid:x&touch CANARY",
    "git@forge.invalid:x\ntouch CANARY",
    "git@forge.invalid:x' touch 'CANARY",
    'git@forge.invalid:x" touch "CANARY',
    "https://forge.invalid/x\r\nHost: other",
    "https://user:pass\nword@forge.invalid/x",
    "https://user:pass word@forge.invalid/x",
    "https://forge.invalid\\@other.invalid/x",
    "https://forge.invalid@@other.invalid/x",
    "https://forge.invalid/x\x1b[2J",
    "https://forge.invalid/x\u202eevil\u2028",
    "https://forge.invalid/x#--upload-pack=CANARY",
    "https://forge.invalid/x?service=CANARY",
    "https:///x",
    "https://forge.invalid",
    "https://forge.invalid/",
    "https:forge.invalid/x",
    "ssh://git:secret@forge.invalid/x",
    "git:secret@forge.invalid:x",
    "[-oProxyCommand=CANARY]:x",
    "[forge.invalid:22]:x",
    ":x",
    "forge.invalid:",
    " git@forge.invalid:x",
    "git@forge.invalid:x ",
    "git@forge.invalid:../../x y",
]
SOUND = {
    "git@git.code.tecnalia.com:packer/code/preparation.git": ("ssh", ""),
    "forge.local:x.git": ("ssh", ""),
    "git@forge.local:/srv/git/x.git": ("ssh", ""),
    "git@forge.local:~ada/x.git": ("ssh", ""),
    "git@[::1]:x.git": ("ssh", ""),
    "ssh://git@forge.local/x.git": ("ssh", ""),
    "SSH://git@forge.local:2222/~ada/x.git": ("ssh", ""),
    "https://forge.local/team/x": ("https", ""),
    "HTTPS://forge.local:8443/x.git": ("https", ""),
    "https://[::1]:8443/x.git": ("https", ""),
    "https://ada@forge.local/x.git": ("https", ""),
    "https://ada:s3cr%40t@forge.local/x.git": ("https", "s3cr%40t"),
    "https://forge.local/größe/x.git": ("https", ""),
}


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that must not come to be. Whatever is started as ssh, or over the network, makes it."""
    canary = tmp_path / "canary"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\necho $0 $* >> {canary}\nexit 1\n")
    trap.chmod(0o755)
    for name in ("GIT_SSH_COMMAND", "GIT_SSH", "GIT_ASKPASS", "GIT_PROXY_COMMAND", "GIT_EXTERNAL_DIFF"):
        monkeypatch.setenv(name, str(trap))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return canary


@pytest.mark.parametrize("form", HOSTILE, ids=range(len(HOSTILE)))
def test_it_is_refused_before_anything_is_started(form: str, canary: Path, tmp_path: Path) -> None:
    address = form.replace("CANARY", "canary")
    assert is_address(address)
    with pytest.raises(Unfit) as unfit:
        git_address(address)
    assert (unfit.value.message + unfit.value.hint).isprintable()
    assert "secret" not in unfit.value.message
    loaded = load([written(tmp_path, with_value(a_document(), "pipeline/scale/props/path", address))])
    assert [each.pointer for each in judge(loaded) if each.severity == "error"] == ["/pipeline/scale/props/path"]
    for missing in ("error", "warning"):
        found = resolve(loaded, missing)
        assert [each for each in found.problems if "/scale" in each.pointer] == [], "told once"
        assert "scale" not in found.paths
    assert not canary.exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("form", HOSTILE, ids=range(len(HOSTILE)))
def test_git_itself_is_kept_from_what_the_parser_would_let_through(form: str, canary: Path, tmp_path: Path) -> None:
    """The second line: were the parser wrong, git still gets an operand and one allowed transport."""
    address = form.replace("CANARY", str(canary))
    with pytest.raises(FoglineError):
        check_out(GitAddress(address, "file"))
    assert {each.name for each in tmp_path.iterdir()} == {"trap", "cache"}  # not even canary:x


@pytest.mark.parametrize(("form", "expected"), SOUND.items(), ids=range(len(SOUND)))
def test_what_people_write_is_taken(form: str, expected: tuple[str, str]) -> None:
    found = git_address(form)
    assert (found.transport, found.password) == expected
    assert ":s3cr" not in found.url
    scheme, colon, rest = form.partition("://")
    assert found.url == (scheme.lower() + colon + rest).replace(":s3cr%40t", "")


@pytest.mark.parametrize(
    "ref", ["-u", "--upload-pack=x", "a..b", "a b", "a:b", "main^{x}", "a~1", "@{1}", "x.lock", ""]
)
def test_a_ref_is_a_name(ref: str, tmp_path: Path) -> None:
    document = with_value(a_document(), "pipeline/scale/props/ref", ref)
    found = judge(load([written(tmp_path, document)]))
    assert [(each.severity, each.pointer) for each in found] == [("error", "/pipeline/scale/props/ref")]


@pytest.mark.parametrize("commit", ["main", "abc1234", "-" * 40, "G" * 40, "A" * 40, "1" * 41])
def test_a_commit_is_named_in_full(commit: str, tmp_path: Path) -> None:
    document = with_value(a_document(), "pipeline/scale/props/commit", commit)
    found = judge(load([written(tmp_path, document)]))
    assert [(each.severity, each.pointer) for each in found] == [("error", "/pipeline/scale/props/commit")]
    assert "40 hexadecimal digits" in found[0].hint


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_what_a_repository_brings_with_it_is_never_run(canary: Path, tmp_path: Path) -> None:
    hostile = Repository(tmp_path / "hostile")
    trap = tmp_path / "trap"
    for folder in (hostile.bare / "hooks", tmp_path / "template" / "hooks", tmp_path / "hooks"):
        folder.mkdir(parents=True, exist_ok=True)
        for hook in ("post-checkout", "reference-transaction", "pre-auto-gc", "post-merge", "update"):
            shutil.copy(trap, folder / hook)
    hostile.git("config", "--file", str(hostile.bare / "config"), "core.fsmonitor", str(trap))
    hostile.git("config", "--file", str(hostile.bare / "config"), "uploadpack.packObjectsHook", str(trap))
    home = tmp_path / "home.gitconfig"
    for key, value in {
        "core.hooksPath": str(tmp_path / "hooks"),
        "init.templateDir": str(tmp_path / "template"),
        "filter.x.smudge": str(trap),
        "protocol.ext.allow": "always",
        "protocol.file.allow": "always",
    }.items():
        subprocess.run(["git", "config", "--file", str(home), key, value], check=True)
    files = {".gitattributes": "* filter=x diff=x\n", "main.py": HANDLER.format(number=1)}
    shutil.rmtree(hostile.bare / "hooks")
    hostile.commit(files)
    shutil.copytree(tmp_path / "hooks", hostile.bare / "hooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(home))
        found = check_out(GitAddress(str(hostile.bare), "file"))
        assert (found.folder / "main.py").is_file()
        with pytest.raises(FoglineError):
            check_out(GitAddress(f"ext::touch% {canary}", "https"))
    assert not canary.exists()


def test_a_password_does_not_leave_this_machine() -> None:
    path = "https://ada:s3cr%40t@forge.test/x.git"
    raw = {
        "pipeline": {"a": {"props": {"path": path}}, "b": {"model": path + "#sha256=1"}, "c": {"props": {"path": 1}}}
    }
    assert without_passwords(raw) == {
        "pipeline": {
            "a": {"props": {"path": "https://ada@forge.test/x.git"}},
            "b": {"model": "https://ada@forge.test/x.git#sha256=1"},
            "c": {"props": {"path": 1}},
        }
    }
