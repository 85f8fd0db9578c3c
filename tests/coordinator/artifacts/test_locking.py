"""From requirements to a lock, and every way that fails in words; the index is a folder, uv and pip are real."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fogline.coordinator.artifacts.lock import lock_of, read_lock
from fogline.coordinator.artifacts.pinning import Unresolvable, pins
from fogline.coordinator.artifacts.programs import configured, index_settings, is_set
from fogline.coordinator.artifacts.targets import read_target
from fogline.coordinator.artifacts.wheels import download, path_of
from fogline.coordinator.core.needs import Need
from fogline.wire.terms import ErrorKind, FoglineError
from support.package_index import make_wheel, only_index

EDGE = read_target("3.11-aarch64-glibc-2.36")
OLD = read_target("3.11-aarch64-glibc-2.17")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with only_index(monkeypatch, tmp_path) as folder:
        for version in ("1.0", "2.0"):
            make_wheel(folder, "alpha", version)
        make_wheel(folder, "beta", "1.0", ["alpha<2"])
        for tag in ("cp311-cp311-manylinux_2_28_aarch64", "cp311-cp311-manylinux_2_17_aarch64"):
            make_wheel(folder, "gamma", "1.0", tag=tag)
        make_wheel(folder, "gamma", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
        make_wheel(folder, "delta", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
        yield folder


def needs(*lines: str) -> list[Need]:
    return [Need(line, f"stage {name}", name) for name, line in zip("abc", lines, strict=False)]


def test_a_lock_holds_the_wheels_of_its_target_and_nothing_else(index: Path) -> None:
    lock = download(pins(needs("beta", "gamma"), EDGE), EDGE, print)
    assert [(wheel.name, wheel.version) for wheel in lock.wheels] == [
        ("alpha", "1.0"),
        ("beta", "1.0"),
        ("gamma", "1.0"),
    ]
    assert lock.wheels[2].file == "gamma-1.0-cp311-cp311-manylinux_2_28_aarch64.whl"
    for wheel in lock.wheels:
        content = path_of(wheel).read_bytes()
        assert content == (index / wheel.file).read_bytes()
        assert (wheel.sha256, wheel.size) == (hashlib.sha256(content).hexdigest(), len(content))
    older = download(pins(needs("gamma"), OLD), OLD, print)
    assert [wheel.file for wheel in older.wheels] == ["gamma-1.0-cp311-cp311-manylinux_2_17_aarch64.whl"]


def test_equal_wheels_are_one_lock_whatever_was_asked_for(index: Path) -> None:
    one = download(pins(needs("beta"), EDGE), EDGE, print)
    other = download(pins(needs("alpha==1.0", "beta>=1"), EDGE), EDGE, print)
    assert one.digest == other.digest == hashlib.sha256(one.to_bytes()).hexdigest()
    assert read_lock(one.to_bytes()) == one
    assert list(json.loads(one.to_bytes())) == ["fogline-lock", "target", "wheels"]
    with pytest.raises(FoglineError, match="should be a lock is none"):
        read_lock(b"{}")


def test_what_is_in_the_cache_is_not_downloaded_again(index: Path) -> None:
    pinned = pins(needs("beta"), EDGE)
    lock = download(pinned, EDGE, print)
    for wheel in lock.wheels:
        (index / wheel.file).unlink()
        make_wheel(index, wheel.name, wheel.version, source="# another file of the same name\n")
    assert download(pinned, EDGE, print) == lock


def test_a_damaged_file_in_the_cache_is_downloaded_again(index: Path) -> None:
    lock = download(pins(needs("beta"), EDGE), EDGE, print)
    path_of(lock.wheels[0]).write_bytes(b"damaged")
    assert download(pins(needs("beta"), EDGE), EDGE, print) == lock
    assert lock_of(EDGE.text, map(path_of, lock.wheels)) == lock


def refused(*lines: str) -> str:
    with pytest.raises(Unresolvable) as found:
        pins(needs(*lines), EDGE)
    assert "\n" not in found.value.sentence
    return found.value.sentence


def test_what_cannot_be_resolved_is_told_in_words(index: Path) -> None:
    assert refused("alpha", "nosuch>=1") == (
        "there is no package nosuch in the index (stage b asks for nosuch>=1): is it spelt right?"
    )
    assert refused("alpha<2", "alpha>=2").startswith(
        "alpha<2 (stage a) and alpha>=2 (stage b) cannot be had together: Because you require"
    )
    assert refused("beta", "alpha>=2").startswith("beta (stage a) and alpha>=2 (stage b) cannot be had together")
    assert "no version of alpha is what is wanted (stage a asks for alpha>=9): the index has alpha<=2.0" in refused(
        "alpha>=9"
    )
    assert refused("alpha", "delta==1.0").startswith(
        "no wheel of delta 1.0 for aarch64, glibc 2.36, Python 3.11 (stage b asks for delta==1.0)"
    )
    make_wheel(index, "epsilon", "1.0", ["delta"])
    assert "no wheel of delta" in refused("epsilon")
    assert "which another package needs" in refused("epsilon")


def test_an_index_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(FoglineError, match="no package index could be reached") as found:
        pins(needs("zeta"), EDGE)
    assert found.value.kind is ErrorKind.UNREACHABLE


class _Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


def test_an_index_that_refuses_the_login_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, index: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_port}/simple"
        monkeypatch.setenv("PIP_NO_INDEX", "0")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:pa55word@{place}")
        with pytest.raises(FoglineError, match="refuses this login") as found:
            pins(needs("zeta"), EDGE)
        server.shutdown()
    assert f"http://{place} refuses this login (401 Unauthorized)" in found.value.sentence
    assert "pa55word" not in found.value.sentence


def test_uv_asks_where_pip_asks() -> None:
    listed = [
        "global.index-url='https://old/simple'",
        "global.cert='/ca.pem'",
        "download.extra-index-url='https://a/simple https://b/simple'",
        ":env:.index-url='https://user:word@new/simple'",
        ":env:.find-links='/wheels /more'",
        "install.index-url='https://not/for/us'",
    ]
    settings = configured(listed)
    assert index_settings(settings) == {
        "UV_INDEX_URL": "https://user:word@new/simple",
        "UV_EXTRA_INDEX_URL": "https://a/simple https://b/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/ca.pem",
    }
    assert is_set(configured(["global.no-index='true'"]), "no-index")
    assert not is_set(settings, "no-index")
