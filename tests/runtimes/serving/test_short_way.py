"""A request that comes whole is answered without a task of its own: the same answers, whatever way they took."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pytest

from support.served import Served

pytestmark = pytest.mark.e2e

JSON = {"Content-Type": "application/json"}
TENSOR = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
BINARY = json.dumps({"inputs": [{**TENSOR, "parameters": {"binary_data_size": 12}}]}).replace(', "data": [1, 2, 3]', "")


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


@contextmanager
def connected(server: Served) -> Iterator[tuple[socket.socket, BinaryIO]]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock, sock.makefile("rb") as replies:
        yield sock, replies


def wait_until_read(sock: socket.socket) -> None:
    """Until the server has taken what was sent, so that what follows reaches it alone."""
    own, there = (f":{port:04X}" for _, port in (sock.getsockname(), sock.getpeername()))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        columns = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        (queues,) = [each[4] for each in columns if each[1].endswith(there) and each[2].endswith(own)]
        if queues.endswith(":00000000"):
            return
        time.sleep(0.0002)
    raise AssertionError("the server does not read")


def request(path: str, headers: dict[str, str], body: bytes, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: h", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def in_chunks(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Of unknown length: this goes the long way."""
    whole = request(path, {**headers, "Transfer-Encoding": "chunked"}, b"").replace(b"Content-Length: 0\r\n", b"")
    return whole + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


def answer(replies: BinaryIO) -> Answer:
    status = int(replies.readline().split()[1])
    headers = {}
    while line := replies.readline().strip():
        name, _, value = line.partition(b": ")
        headers[name.lower()] = value
    body = replies.read(int(headers.get(b"content-length", 0)))
    assert len(headers.pop(b"date")) == 29
    return Answer(status, headers, body)


@pytest.mark.parametrize(
    ("server", "path", "headers", "body", "status"),
    [
        ("onnx", "/predict", JSON, b"[1,2,3]", 200),
        ("onnx", "/predict", {}, b"[[1,2,3],[4,5,6]]", 200),
        ("onnx", "/predict", JSON, b"[]", 200),
        ("onnx", "/predict", JSON, b"", 400),
        ("onnx", "/predict", JSON, b"[1,2", 400),
        ("onnx", "/predict", JSON, b"[1,2]", 400),
        ("onnx", "/predict", {"Content-Type": "text/csv"}, b"1,2,3", 415),
        ("onnx", "/predict", {**JSON, "Content-Encoding": "gzip"}, b"[1,2,3]", 415),
        ("onnx", "/v2/models/pipeline/infer", JSON, json.dumps({"inputs": [TENSOR]}).encode(), 200),
        ("onnx", "/v2/models/pipeline/infer", JSON, json.dumps({"id": "7", "inputs": [TENSOR]}).encode(), 200),
        ("onnx", "/v2/models/pipeline/infer", JSON, b'{"inputs":[]}', 400),
        ("onnx", "/v2/models/pipeline/infer", {"Inference-Header-Content-Length": "x"}, b"", 400),
        (
            "onnx",
            "/v2/models/pipeline/infer",
            {"Inference-Header-Content-Length": str(len(BINARY))},
            BINARY.encode() + bytes(12),
            200,
        ),
        ("code", "/predict", JSON, b'"none"', 204),
        ("code", "/predict", JSON, b'"broken"', 500),
        ("code", "/predict", JSON, b'"many"', 200),
    ],
)
def test_both_ways_answer_the_same(
    running: dict[str, Served], server: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    with connected(running[server]) as (sock, replies):
        sock.sendall(request(path, headers, body))
        short = answer(replies)
        sock.sendall(in_chunks(path, headers, body))
        assert answer(replies) == short
        assert short.status == status, short
        for byte in request(path, headers, body):
            sock.sendall(bytes([byte]))
        assert answer(replies) == short


def test_answers_come_in_the_order_of_the_requests(running: dict[str, Served]) -> None:
    asked = [b"[%d,0,1]" % number for number in range(50)]
    with connected(running["onnx"]) as (sock, replies):
        for number, body in enumerate(asked):
            sock.sendall((in_chunks if number % 3 == 1 else request)("/predict", JSON, body))
            if number % 5 == 2:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
        for number in range(50):
            assert json.loads(answer(replies).body) == [2 * number, 0, 2]
            if number % 5 == 2:
                assert json.loads(answer(replies).body) == {"state": "ready"}


def test_a_head_that_came_before_means_the_same_however_its_body_is_cut(running: dict[str, Served]) -> None:
    """The bodies are of two lengths, and some hold what ends a head."""
    bodies = [b"[%d,0,%d]" % (number, number % 2) for number in (1, 2, 3, 10, 4, 11, 5, 6)]
    bodies += [b"[7,\r\n\r\n0,1]", b"[8,\r\n\r\n0,1]", b"[1,\r\n\r\n2]"]
    asked = b"".join(request("/predict", JSON, body) for body in bodies * 3)
    whole = len(request("/predict", JSON, bodies[0]))
    with connected(running["onnx"]) as (sock, replies):
        for size in (1, whole - 3, whole, whole + 1, 2 * whole, len(asked)):
            for start in range(0, len(asked), size):
                sock.sendall(asked[start : start + size])
                wait_until_read(sock)
            for body in bodies * 3:
                found, row = answer(replies), json.loads(body)
                if len(row) == 3:
                    assert (found.status, json.loads(found.body)) == (200, [2 * each for each in row])
                else:
                    assert found.status == 400


@pytest.mark.parametrize("cut", [-2, 1])
def test_what_came_with_a_head_is_not_taken_for_its_body(running: dict[str, Served], cut: int) -> None:
    """A part of it, or more than it: always in the same way."""
    asked = request("/predict", JSON, b"[1,2,3]")
    two, place = asked * 2, len(asked) + cut
    with connected(running["onnx"]) as (sock, replies):
        for _ in range(3):
            for part in (two[:place], two[place:]):
                sock.sendall(part)
                wait_until_read(sock)
            assert [json.loads(answer(replies).body) for _ in range(2)] == [[2, 4, 6]] * 2


def test_a_head_that_came_before_is_nothing_behind_half_a_request(running: dict[str, Served]) -> None:
    asked = request("/predict", JSON, b"[1,2,3]")
    with connected(running["onnx"]) as (sock, replies):
        for _ in range(3):
            sock.sendall(asked)
            assert answer(replies).status == 200
        sock.sendall(b"P")
        wait_until_read(sock)
        sock.sendall(asked)
        assert b"400 Bad Request" in replies.readline()


@pytest.mark.parametrize(("version", "headers"), [("1.1", {**JSON, "Connection": "close"}), ("1.0", JSON)])
def test_a_connection_is_closed_where_the_caller_wants_it(
    running: dict[str, Served], version: str, headers: dict[str, str]
) -> None:
    with connected(running["onnx"]) as (sock, replies):
        sock.sendall(request("/predict", headers, b"[1,2,3]", version))
        found = answer(replies)
        assert found.status == 200
        assert version == "1.0" or found.headers[b"connection"] == b"close"
        assert replies.read() == b""


def test_who_is_to_be_told_to_go_on_is_told(running: dict[str, Served]) -> None:
    with connected(running["onnx"]) as (sock, replies):
        asked = request("/predict", {**JSON, "Expect": "100-continue"}, b"[1,2,3]")
        sock.sendall(asked[:-7])
        assert replies.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert replies.readline() == b"\r\n"
        sock.sendall(asked[-7:])
        assert json.loads(answer(replies).body) == [2, 4, 6]


def test_who_reads_no_answers_is_read_no_further(running: dict[str, Served]) -> None:
    """Its answers would fill the memory."""
    asked = request("/predict", JSON, json.dumps([[1, 2, 3]] * 1000).encode()) * 20
    with connected(running["onnx"]) as (sock, replies):
        sent = flooded(sock, asked)
        assert sent < 150
        for _ in range(20 * sent):
            assert json.loads(answer(replies).body) == [[2, 4, 6]] * 1000


def flooded(sock: socket.socket, data: bytes) -> int:
    """How often it was sent as a whole before the other side took no more for a second; at most 200 times."""
    sock.settimeout(1.0)
    for sent in range(200):
        try:
            sock.sendall(data)
        except TimeoutError:
            sock.settimeout(20)
            return sent
    return 200
