"""Limits, the end, and what callers do that are slow, many or not allowed."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from support.segments import RunningSegment, wait_until
from support.served import Reply, calling, code_served, onnx_stage, served, serving

pytestmark = pytest.mark.e2e

REQUEST = b"POST /predict HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"


def background(port: int, *documents: Any) -> list[threading.Thread]:
    """Callers that do not wait for one another; their replies are in `.reply` of the threads."""

    class Asking(threading.Thread):
        reply: Reply

        def __init__(self, document: Any) -> None:
            super().__init__()
            self.document = document

        def run(self) -> None:
            with calling(port) as call:
                self.reply = call.predict(self.document)

    threads = [Asking(each) for each in documents]
    for each in threads:
        each.start()
    return list(threads)


def replies(threads: list[threading.Thread]) -> list[Reply]:
    for each in threads:
        each.join()
    return [each.reply for each in threads]  # type: ignore[attr-defined]


def computing(process: RunningSegment) -> bool:
    return process.counters("code")["in_flight"] > 0


def test_nothing_listens_before_it_is_told_to_bind(tmp_path: Path) -> None:
    spec = served(onnx_stage(tmp_path))
    assert spec.serving is not None
    with RunningSegment(spec, tmp_path / "w", bind=False) as process:
        process.until("loaded")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", spec.serving.port))
        process.ask("bind")
        process.until("ready")
        with calling(spec.serving.port) as call:
            assert call.predict([1, 2, 3]).json == [2, 4, 6]
        assert process.terminate() == 0


def test_an_end_before_it_was_told_to_bind(tmp_path: Path) -> None:
    with RunningSegment(served(onnx_stage(tmp_path)), tmp_path / "w", bind=False) as process:
        process.until("loaded")
        assert process.terminate() == 0


def test_a_port_that_is_taken_is_waited_for(tmp_path: Path) -> None:
    spec = served(onnx_stage(tmp_path))
    assert spec.serving is not None
    with socket.create_server(("127.0.0.1", spec.serving.port)), RunningSegment(spec, tmp_path / "w") as process:
        process.until("binding")
        wait_until(lambda: "cannot listen at 127.0.0.1" in process.ask("status")["reason"], "the reason")
    with RunningSegment(spec, tmp_path / "w") as process:
        process.until("ready")
        assert process.ask("status")["reason"] == ""


def test_a_drain_answers_what_is_under_way_and_takes_nothing_more(tmp_path: Path) -> None:
    with serving(tmp_path / "w", served(code_served(tmp_path))) as running:
        idle = socket.create_connection(("127.0.0.1", running.port))
        threads = background(running.port, {"sleep_s": 0.7}, {"sleep_s": 0})
        wait_until(lambda: computing(running.process), "the request is under way")
        running.process.ask("drain", deadline_s=10)
        assert running.process.ask("status")["state"] == "draining"
        assert [each.status for each in replies(threads)] == [200, 200]
        assert running.process.wait() == 0
        assert idle.recv(1) == b""
        idle.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port))


def test_a_request_that_does_not_end_is_cut_at_the_deadline(tmp_path: Path) -> None:
    with serving(tmp_path / "w", served(code_served(tmp_path))) as running:
        half = socket.create_connection(("127.0.0.1", running.port))
        half.sendall(REQUEST + b"[1")
        with calling(running.port) as call:
            call.get("/health")  # so the half one has been read
        running.process.ask("drain", deadline_s=0.5)
        assert running.process.wait() == 1
        assert running.process.failure()["reason"] == "1 requests were not answered in time"
        half.close()


def test_a_full_queue_answers_503_and_a_late_request_504(tmp_path: Path) -> None:
    spec = served(code_served(tmp_path), queue=20, timeout_s=1.0, batch=1)
    with serving(tmp_path / "w", spec) as running:
        long = background(running.port, [{"sleep_s": 0.03}] * 50)
        wait_until(lambda: running.process.counters("code")["done"] > 0, "the long request is under way")
        with calling(running.port) as call:
            full = call.predict(1)
            assert (full.status, full.headers["retry-after"]) == (503, "1")
            assert "at most 20 may: try again later" in full.error
            (late,) = replies(long)
            assert late.status == 504
            assert call.predict(1).json == {"got": 1}


def test_half_a_request_is_given_up_and_the_others_do_not_wait(tmp_path: Path) -> None:
    with serving(tmp_path / "w", served(onnx_stage(tmp_path), timeout_s=1.0)) as running:
        address = ("127.0.0.1", running.port)
        silent, head, body = (socket.create_connection(address, timeout=20) for _ in range(3))
        head.sendall(REQUEST[:30])
        body.sendall(REQUEST + b"[1,2")
        with calling(running.port) as call:
            assert call.predict([1, 2, 3]).json == [2, 4, 6]
        assert body.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert head.recv(1000) == b""
        assert silent.recv(1000) == b""
        for each in (silent, head, body):
            each.close()


def test_who_has_asked_and_stays_silent_is_parted_from_after_a_while(tmp_path: Path) -> None:
    with serving(tmp_path / "w", served(onnx_stage(tmp_path), timeout_s=1.0)) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as idle:
            for _ in range(2):
                idle.sendall(REQUEST + b"[1,2,3]")
                assert idle.recv(1000).endswith(b"[2.0,4.0,6.0]")
            began = time.monotonic()
            assert idle.recv(1000) == b""
            assert time.monotonic() - began > 4
        with calling(running.port) as call:
            assert call.predict([1, 2, 3]).status == 200


def test_a_thousand_connections_each_get_their_own_answer(tmp_path: Path) -> None:
    with serving(tmp_path / "w", served(onnx_stage(tmp_path))) as running:
        half = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
        for sock in half:
            sock.sendall(REQUEST[:20])
        connections = [http.client.HTTPConnection("127.0.0.1", running.port, timeout=30) for _ in range(1000)]
        for number, connection in enumerate(connections):
            connection.request("POST", "/predict", b"[%d,0,1]" % number, {"Content-Type": "application/json"})
        answers = [connection.getresponse().read() for connection in connections]
        assert answers == [b"[%.1f,0.0,2.0]" % (2 * number) for number in range(1000)]
        with contextlib.ExitStack() as stack:
            for close in [*(sock.close for sock in half), *(connection.close for connection in connections)]:
                stack.callback(close)
        assert running.process.counters("double")["done"] == 1000


def test_the_counters_outlive_the_process(tmp_path: Path) -> None:
    spec = served(onnx_stage(tmp_path))
    for round_ in (1, 2):
        with serving(tmp_path / "w", spec) as running, calling(running.port) as call:
            call.predict([1, 2, 3])
            assert running.process.counters("double")["done"] == round_
            call.close()
            assert running.process.terminate() == 0


def test_a_token_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets").mkdir()
    secret = tmp_path / "secrets" / "api-token"
    secret.write_text("s3cret\n")
    os.chmod(secret, 0o600)
    monkeypatch.setenv("FOGLINE_SECRETS", str(tmp_path / "secrets"))
    spec = served(onnx_stage(tmp_path), token_secret="api-token")
    with serving(tmp_path / "w", spec) as running, calling(running.port) as call:
        for brought in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            reply = call.predict([1, 2, 3], **brought)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert call.predict([1, 2, 3], Authorization="Bearer s3cret").json == [2, 4, 6]
        assert call.get("/metrics").status == call.get("/v2/models/pipeline").status == 401
        assert call.get("/health").status == call.get("/v2/health/ready").status == call.get("/").status == 200
        assert "s3cret" not in running.process.log()


def test_a_secret_that_is_not_there_ends_the_process(tmp_path: Path) -> None:
    with RunningSegment(served(onnx_stage(tmp_path), token_secret="absent"), tmp_path / "w") as process:
        assert process.wait() == 64
        assert "absent" in process.failure()["reason"]


def test_a_queue_of_a_stage_is_no_chain(tmp_path: Path) -> None:
    one = code_served(tmp_path / "a")
    spec = served(one, onnx_stage(tmp_path / "b"))
    with RunningSegment(spec, tmp_path / "w") as process:
        assert process.wait() == 64
        assert "in API mode stages form a chain" in process.failure()["reason"]
