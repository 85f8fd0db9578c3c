"""Models from a real https server: verified, taken up again where they broke off, never from anywhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fogline.coordinator.artifacts import download as module
from fogline.coordinator.artifacts.download import download
from fogline.coordinator.artifacts.resolve import Resolved, resolve
from fogline.coordinator.padl.addresses import model_address
from fogline.coordinator.padl.parse import load
from fogline.coordinator.padl.verdict import judge
from fogline.wire.terms import FoglineError
from support.certificates import Certificates, issued
from support.https_files import FileServer, serving
from support.mosquitto import free_port
from support.padl_files import a_document, with_value, without, written

MODEL = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return issued(tmp_path / "certificates")


@pytest.fixture
def https(tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "judge.onnx").write_bytes(MODEL)
    with serving(tmp_path / "models", certificates) as server:
        yield server


def fetched(https: FileServer, digest: str = DIGEST, name: str = "judge.onnx", login: str = "") -> bytes:
    return download(model_address(f"https://{login}{https.host}/{name}#sha256={digest}")).read_bytes()


def refused(https: FileServer, digest: str = DIGEST, name: str = "judge.onnx", login: str = "") -> str:
    with pytest.raises(FoglineError) as caught:
        fetched(https, digest, name, login)
    return caught.value.sentence


def partly(tmp_path: Path) -> list[int]:
    return [path.stat().st_size for path in (tmp_path / "cache").rglob("*.part")]


def test_a_model_is_fetched_once_and_stands_for_its_stage(https: FileServer, tmp_path: Path) -> None:
    document = with_value(a_document(), "pipeline/judge/props/path", f"{https.url}/judge.onnx#sha256={DIGEST.upper()}")
    for name in ("scale", "alarm"):
        document = without(document, f"pipeline/{name}")
    document["pipeline"]["judge"]["queues"]["output"] = "alarms"
    loaded = load([written(tmp_path, document)])
    assert [each for each in judge(loaded) if each.severity == "error"] == []
    assert resolve(loaded, missing="warning") == Resolved()
    assert https.asked == []
    for _ in range(2):
        found = resolve(loaded)
        assert found.problems == []
        assert found.artifacts == {"judge": DIGEST}
        assert found.paths["judge"].read_bytes() == MODEL
    assert https.asked == [("/judge.onnx", "")]
    found.paths["judge"].write_bytes(b"spoilt")
    assert resolve(loaded).paths["judge"].read_bytes() == MODEL


def test_other_bytes_are_told_by_both_digests_and_not_kept(https: FileServer, tmp_path: Path) -> None:
    said = refused(https, "0" * 64)
    assert f"their SHA-256 is {DIGEST}" in said
    assert f"the document says {'0' * 64}" in said
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["lock"]


def test_what_broke_off_goes_on_where_it_was(https: FileServer, tmp_path: Path) -> None:
    https.breaks_after = [300_000, 200_000]
    assert fetched(https) == MODEL
    assert [asked[1] for asked in https.asked] == ["", "bytes=300000-", "bytes=500000-"]
    assert partly(tmp_path) == []


def test_a_later_command_goes_on_too(https: FileServer, tmp_path: Path) -> None:
    https.breaks_after = [1000, 1000, 1000]
    assert "breaks off" in refused(https)
    assert partly(tmp_path) == [3000]
    assert fetched(https) == MODEL
    assert https.asked[-1][1] == "bytes=3000-"


def test_a_server_that_only_begins_at_the_beginning(https: FileServer) -> None:
    https.ranges, https.breaks_after = False, [300_000]
    assert fetched(https) == MODEL


@pytest.mark.parametrize("begun", [b"x" * 5000, MODEL + b"more", MODEL], ids=["other", "longer", "whole"])
def test_a_beginning_that_is_none_is_thrown_away(https: FileServer, tmp_path: Path, begun: bytes) -> None:
    part = tmp_path / "cache" / "fogline" / "models" / f"{DIGEST}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(begun)
    assert fetched(https) == MODEL


def test_redirects_are_followed_to_https_alone_and_not_for_ever(https: FileServer) -> None:
    https.moved = {
        "/3": f"{https.url}/2",
        "/2": f"{https.url}/1",
        "/1": f"{https.url}/judge.onnx",
        "/4": f"{https.url}/3",
        "/plain": f"http://{https.host}/judge.onnx",
        "/here": "file:///etc/passwd",
        "/round": f"{https.url}/round",
    }
    assert fetched(https, name="3") == MODEL
    assert "it sends on to an address that is not https" in refused(https, "1" * 64, "plain")
    assert "Redirection to url 'file:///etc/passwd' is not allowed" in refused(https, "1" * 64, "here")
    for name in ("4", "round"):
        assert "cannot be fetched" in refused(https, "1" * 64, name)


def test_a_login_goes_to_its_own_server(https: FileServer) -> None:
    https.login = "ada:s3cr@t"
    assert "asks for a login (401)" in refused(https)
    assert "wr0ng" not in refused(https, login="ada:wr0ng@")
    assert fetched(https, login="ada:s3cr%40t@") == MODEL


def test_a_login_is_not_shown_to_whom_its_server_sends_on(
    https: FileServer, tmp_path: Path, certificates: Certificates
) -> None:
    with serving(tmp_path / "models", certificates) as first:
        first.moved = {"/judge.onnx": f"{https.url}/judge.onnx"}
        assert fetched(first, login="ada:s3cr%40t@") == MODEL
    assert (bool(first.logins[0]), https.logins) == (True, [""])


def test_what_is_not_there_or_too_large(https: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(https, name="nowhere.onnx") == f"{https.url}/nowhere.onnx is not there (404)"
    with pytest.raises(FoglineError, match="cannot be reached: Connection refused"):
        download(model_address(f"https://localhost:{free_port()}/x#sha256={DIGEST}"))
    monkeypatch.setattr(module, "SIZE_LIMIT_BYTES", 2**19)
    assert "is larger than" in refused(https)
    assert not partly(tmp_path)
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate verify failed" in refused(https)


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("https://forge.test/a.onnx", "must end in #sha256= and 64 hexadecimal digits", "curl -L https://forge.test/a"),
        ("https://forge.test/a.onnx#sha256=12", "must end in #sha256=", "sha256sum"),
        ("https://forge.test/a.onnx#md5=" + "1" * 64, "must end in #sha256=", "sha256sum"),
        ("https://ada:s3cret@forge.test/a.onnx", "must end in #sha256=", "curl -L https://forge.test/a.onnx |"),
        ("http://forge.test/a.onnx#sha256=" + "1" * 64, "models are fetched by https alone", "https://HOST/PATH"),
        ("https:///a.onnx#sha256=" + "1" * 64, "is not the address of a file", "https://HOST/PATH"),
        ("https://forge.test/a b.onnx#sha256=" + "1" * 64, "is not the address of a file", "https://HOST/PATH"),
        ("https://forge.test/a\n.onnx#sha256=" + "1" * 64, "is not the address of a file", "https://HOST/PATH"),
        ("https://-x/a.onnx#sha256=" + "1" * 64, "is not the address of a file", "https://HOST/PATH"),
    ],
)
def test_an_address_is_judged_by_its_form(tmp_path: Path, path: str, message: str, hint: str) -> None:
    found = judge(load([written(tmp_path, with_value(a_document(), "pipeline/judge/props/path", path))]))
    assert [(each.severity, each.pointer) for each in found] == [("error", "/pipeline/judge/props/path")]
    assert message in found[0].message
    assert hint in found[0].hint
    assert "s3cret" not in found[0].message + found[0].hint
