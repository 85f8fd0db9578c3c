"""A chain that goes on in another process: an HTTP hop, with the caller's deadline and trace."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.spec import SegmentSpec
from support.segments import RunningSegment, wait_until
from support.served import Served, calling, code_served, onnx_stage, served, serving, serving_all

pytestmark = pytest.mark.e2e

SPREAD = """
def handler(data):
    if data == "none":
        return None
    if isinstance(data, dict):
        return spread(data["many"])
    return data

def spread(rows):
    yield from rows
"""


def in_front_of(folder: Path, port: int, **more: Any) -> SegmentSpec:
    """A segment of code that goes on there."""
    return served(code_served(folder, SPREAD), forward=f"http://127.0.0.1:{port}", **more)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """`front` goes on in `back`."""
    folder = tmp_path_factory.mktemp("forward")
    back = served(onnx_stage(folder / "model"))
    assert back.serving is not None
    front = in_front_of(folder / "code", back.serving.port)
    with serving_all(folder / "work", {"back": back, "front": front}) as running:
        yield running


def test_the_answer_comes_from_the_end_of_the_chain(two: dict[str, Served]) -> None:
    with calling(two["front"].port) as call:
        before = two["back"].process.counters("double")["done"]
        assert call.predict({"many": [[1, 2, 3]]}).json == [2, 4, 6]
        assert call.predict([[1, 2, 3], "none", {"many": [[1, 1, 1], [2, 2, 2]]}]).json == [
            [2, 4, 6],
            None,
            [[2, 2, 2], [4, 4, 4]],
        ]
        assert call.predict("none").status == 204
        assert two["back"].process.counters("double")["done"] == before + 4


def test_a_failure_names_the_stage_and_where_it_is(two: dict[str, Served]) -> None:
    with calling(two["front"].port) as call:
        reply = call.predict([[1, 2, 3], [1, 2]])
        assert reply.status == 400
        assert reply.error.startswith(f"record 1: stage double on 127.0.0.1:{two['back'].port}: input 'x': expected")


def test_many_callers_get_their_own_answers(two: dict[str, Served]) -> None:
    wrong = list[int]()

    def work(number: int) -> None:
        with calling(two["front"].port) as call:
            for turn in range(20):
                if call.predict({"many": [[number, turn, 0]]}).json != [2 * number, 2 * turn, 0]:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


def test_a_next_segment_that_is_away_is_named_and_the_caller_told_to_come_again(tmp_path: Path) -> None:
    back = served(onnx_stage(tmp_path / "model"))
    assert back.serving is not None
    front = in_front_of(tmp_path / "code", back.serving.port, onward="segment double on cloud_1")
    with serving(tmp_path / "front", front) as running, calling(running.port) as call:
        away = call.predict([1, 2, 3])
        assert (away.status, away.headers["retry-after"]) == (503, "1")
        place = f"127.0.0.1:{back.serving.port}"
        assert away.error == f"segment double on cloud_1 at {place} cannot be reached: Connection refused"
        for _ in range(2):  # the second one replaces a connection that was kept
            with RunningSegment(back, tmp_path / "back") as process:
                process.until("ready")
                assert call.predict([[1, 2, 3]]).json == [[2, 4, 6]]
                assert process.terminate() == 0


def test_what_was_under_way_when_it_broke_off_is_not_sent_twice(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    source = f"""
import time

def handler(data):
    with open({str(seen)!r}, "a") as file:
        file.write("x")
    if data == "slow" and len(open({str(seen)!r}).read()) < 3:
        time.sleep(60)
    return data
"""
    back = served(code_served(tmp_path / "late", source))
    assert back.serving is not None
    front = in_front_of(tmp_path / "code", back.serving.port)
    with serving(tmp_path / "front", front) as running, calling(running.port) as call:
        with RunningSegment(back, tmp_path / "back") as process, ThreadPoolExecutor() as pool:
            process.until("ready")
            assert call.predict("quick").json == "quick"  # its connection is kept
            under_way = pool.submit(call.predict, "slow")
            wait_until(lambda: seen.read_text() == "xx", "it is in the middle")
            process.kill()
            reply = under_way.result()
        assert reply.status == 503
        assert "broke off" in reply.error
        assert seen.read_text() == "xx"


def test_deadline_and_trace_go_along(tmp_path: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        front = in_front_of(tmp_path / "code", listener.getsockname()[1], timeout_s=30.0)
        with serving(tmp_path / "front", front) as running, calling(running.port) as call:
            got = list[bytes]()

            def answer() -> None:
                connection, _ = listener.accept()
                with connection:
                    got.append(connection.recv(10_000))
                    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n[{"results":[7]}]')

            thread = threading.Thread(target=answer)
            thread.start()
            assert call.predict("x", traceparent=trace).json == 7
            thread.join()
            head, body = got[0].split(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            assert lines[0] == "POST /internal/records HTTP/1.1"
            assert f"traceparent: {trace}" in lines
            (left,) = [int(line.split()[1]) for line in lines if line.startswith("fogline-deadline-ms")]
            assert 20_000 < left <= 30_000
            assert body == b'["x"]'


def test_nonsense_from_the_next_segment_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        front = in_front_of(tmp_path / "code", listener.getsockname()[1])
        with serving(tmp_path / "front", front) as running, calling(running.port) as call:
            for sent, words in (
                (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "gave 0 answers for 1 records"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[7]", "makes no sense"),
                (b"", "broke off: the connection ended without an answer"),
                (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "status 503"),
            ):

                def answer(sent: bytes = sent) -> None:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(10_000)
                        connection.sendall(sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

                thread = threading.Thread(target=answer)
                thread.start()
                reply = call.predict("x")
                thread.join()
                assert reply.status == (502 if "answers" in words or "sense" in words else 503)
                assert words in reply.error


def test_a_spec_without_serving_keeps_its_digest(tmp_path: Path) -> None:
    spec = in_front_of(tmp_path / "code", 1)
    assert b'"serving":' in spec.to_bytes()
    assert b'"serving":' not in dataclasses.replace(spec, serving=None).to_bytes()
