"""Endpoints with a certificate: who is answered, what is refused before anything starts, and renewal."""

from __future__ import annotations

import dataclasses
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import trustme

from fogline.runtimes.serving.certificate import Certificate, check
from fogline.runtimes.spec import TLS_VARIABLE, Exit, SegmentSpec, ServingSpec, SpecError, digest, parse
from support.certificates import certify
from support.segments import COMMAND, wait_until
from support.served import Served, calling, code_served, served, serving, serving_all

NAME = "127.0.0.1"
SERVING = ServingSpec("127.0.0.1", 1, "p", tls_name=NAME)
NUMBER = "def handler(data):\n    return data + 1\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's, with a good certificate."""
    monkeypatch.setenv(TLS_VARIABLE, str(tmp_path / "tls"))
    return certify(tmp_path / "tls", authority, NAME)


def asked(port: int, authority: trustme.CA, data: Any) -> tuple[int, Any, dict[str, Any]]:
    """Status and answer of a caller that trusts this authority alone, and the certificate it was shown."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    connection = HTTPSConnection(NAME, port, timeout=20, context=context)
    try:
        connection.request("POST", "/predict", json.dumps(data), {"Content-Type": "application/json"})
        shown: Any = connection.sock.getpeercert()
        response = connection.getresponse()
        return response.status, json.loads(response.read()), shown
    finally:
        connection.close()


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        check(dataclasses.replace(SERVING, **changes))
    return str(caught.value)


def test_a_good_one_passes_the_check(folder: Path) -> None:
    check(SERVING)
    (folder / "ca.pem").unlink()
    check(dataclasses.replace(SERVING, forward="https://127.0.0.1:2"))


def test_the_check_says_what_is_wrong_with_the_files(folder: Path, authority: trustme.CA) -> None:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    key.chmod(0o640)
    assert refusal() == f"the key {key} is open to others: chmod 600 {key}"
    key.chmod(0o600)
    trustme.CA().issue_cert(NAME).private_key_pem.write_to_path(key)
    assert refusal() == f"{certificate} and {key} cannot be used: the key is not the certificate's"
    key.unlink()
    assert refusal().startswith(f"there is no {key}, and this node had a certificate when")
    key.touch(mode=0o600)
    key.write_text("nonsense")
    assert refusal().startswith(f"{certificate} and {key} cannot be used: ")
    encrypted = ["openssl", "genrsa", "-aes256", "-passout", "pass:x", "-out", str(key), "2048"]
    subprocess.run(encrypted, check=True, capture_output=True)
    assert "the key is encrypted" in refusal()
    key.unlink()
    key.symlink_to(key)
    assert refusal() == f"{key} cannot be read: Too many levels of symbolic links"
    (folder / "ca.pem").write_text("nonsense")
    said = refusal(tls_name="", forward="https://127.0.0.1:2")
    assert said.startswith(f"the authority {folder / 'ca.pem'} cannot be used: ")


def test_the_check_says_what_callers_would_find_wrong(folder: Path, authority: trustme.CA) -> None:
    certificate = folder / "certificate.pem"
    assert refusal(tls_name="10.0.0.7") == (
        f"the certificate {certificate} cannot be used: IP address mismatch, certificate is not valid for '10.0.0.7': "
        "have it issued for that, or start the agent with --address, the name it is for"
    )
    assert "not valid for 'edge.plant'" in refusal(tls_name="edge.plant")
    certify(folder, authority, NAME, until=datetime.now(UTC) - timedelta(hours=1))
    assert refusal() == f"the certificate {certificate} cannot be used: certificate has expired: renew it"


def test_one_that_has_run_out_meanwhile_stops_no_start(
    folder: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    certify(folder, authority, NAME, until=datetime.now(UTC) - timedelta(hours=1))
    with caplog.at_level("WARNING", "fogline.runtimes"):
        Certificate(NAME)
    assert "certificate has expired" in caplog.text


def test_without_the_key_a_spec_is_what_it_was() -> None:
    plain = SegmentSpec("p", "s", "0", "a", "c", (), serving=ServingSpec("", 1, "p"))
    assert b"tls_name" not in plain.to_bytes()
    secured = dataclasses.replace(plain, serving=SERVING)
    assert parse(secured.to_bytes()) == secured
    assert digest(secured.to_bytes()) != digest(plain.to_bytes())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[tuple[dict[str, Served], Path]]:
    """`front` goes on in `back`, both with the certificate of one node; and its folder."""
    folder = certify(tmp_path_factory.mktemp("tls"), authority, NAME)
    work = tmp_path_factory.mktemp("work")
    back = served(code_served(work / "back-code", NUMBER), tls_name=NAME, limit_bytes=4096, timeout_s=2.0)
    assert back.serving is not None
    on = f"https://{NAME}:{back.serving.port}"
    front = served(code_served(work / "front-code", NUMBER), tls_name=NAME, forward=on)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TLS_VARIABLE, str(folder))
        with serving_all(work, {"back": back, "front": front}) as running:
            yield running, folder


Two = tuple[dict[str, Served], Path]


@pytest.mark.e2e
def test_callers_are_answered_and_so_is_the_segment_in_front(two: Two, authority: trustme.CA) -> None:
    running, _ = two
    for port, answer in ((running["back"].port, 2), (running["front"].port, 3)):
        assert asked(port, authority, 1)[:2] == (200, answer)
    assert asked(running["front"].port, authority, list(range(1000)))[1] == list(range(2, 1002))


@pytest.mark.e2e
def test_nobody_is_answered_without_tls_or_trust(two: Two) -> None:
    running, _ = two
    with pytest.raises(ssl.SSLCertVerificationError):
        asked(running["back"].port, trustme.CA(), 1)
    with calling(running["back"].port) as call, pytest.raises(OSError, match=r"reset|closed|Remote end"):
        call.predict(1)
    assert "Traceback" not in running["back"].process.log()


@pytest.mark.e2e
def test_limits_hold_under_tls(two: Two, authority: trustme.CA) -> None:
    """A refused caller gets to read the refusal, and half a request is given up."""
    running, _ = two
    status, answer, _ = asked(running["back"].port, authority, ["x" * 5_000_000])
    assert (status, "larger than 4096 bytes" in answer["error"]) == (413, True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection((NAME, running["back"].port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as half,
    ):
        half.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n[1,")
        assert half.recv(100).startswith(b"HTTP/1.1 408")
    assert "Traceback" not in running["back"].process.log()


@pytest.mark.e2e
def test_a_segment_in_front_that_does_not_trust_the_next_says_so(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = two
    on = f"https://{NAME}:{running['back'].port}"
    monkeypatch.setenv(TLS_VARIABLE, str(certify(tmp_path / "other", trustme.CA(), NAME)))
    spec = served(code_served(tmp_path / "code", NUMBER), forward=on, onward="segment back on cloud_1")
    with serving(tmp_path / "work", spec) as front, calling(front.port) as call:
        before = running["back"].process.counters("code")["in"]
        reply = call.predict(1)
        assert reply.status == 502
        assert reply.error.startswith(
            f"segment back on cloud_1 at {NAME}:{running['back'].port} cannot be asked: this node does not trust its "
            "certificate: "
        )
        assert running["back"].process.counters("code")["in"] == before


@pytest.mark.e2e
def test_a_caller_that_is_idle_does_not_hold_up_the_end(folder: Path, authority: trustme.CA, tmp_path: Path) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    spec = served(code_served(tmp_path / "code", NUMBER), tls_name=NAME)
    with serving(tmp_path / "work", spec) as running:
        connection = HTTPSConnection(NAME, running.port, timeout=20, context=context)
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        began = time.monotonic()
        assert running.process.terminate() == 0
        assert time.monotonic() - began < 10
        connection.close()


@pytest.mark.e2e
def test_a_renewed_certificate_is_shown_without_a_restart(two: Two, authority: trustme.CA) -> None:
    running, folder = two
    port = running["front"].port

    def shown() -> Any:
        return asked(port, authority, 1)[2]["serialNumber"]

    former = shown()
    spoilt = (folder / "key.pem").read_text()
    (folder / "key.pem").write_text("half of a key")
    wait_until(lambda: "the certificate that was renewed is not used" in running["front"].process.log(), "it is told")
    assert shown() == former
    (folder / "key.pem").write_text(spoilt)
    certify(folder, authority, NAME)
    wait_until(lambda: shown() != former, "the new one is shown")
    assert asked(port, authority, 1)[:2] == (200, 3)


@pytest.mark.e2e
def test_what_the_check_finds_it_tells_the_agent(folder: Path, tmp_path: Path) -> None:
    (folder / "key.pem").chmod(0o644)
    path = tmp_path / "spec.json"
    path.write_bytes(served(code_served(tmp_path / "code", NUMBER), tls_name=NAME).to_bytes())
    command = [*COMMAND, "check", str(path), "--artifacts", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False)
    said = f"the key {folder}/key.pem is open to others: chmod 600 {folder}/key.pem"
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (Exit.BAD_SPEC, said)
