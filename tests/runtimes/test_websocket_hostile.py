"""Peers that are broken or mean it: each is turned away or dropped, and whoever behaves is served as before."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.typing import Subprotocol

from fogline.runtimes.connectors import websocket_frames as frames
from fogline.runtimes.connectors.websocket_frames import LINK, Ack, Bye, Data, Hello, Malformed, Resume
from fogline.runtimes.connectors.websocket_peers import MAX_CONNECTIONS
from fogline.runtimes.connectors.websocket_source import WebSocketSource
from fogline.runtimes.message import LATEST_MS, Carried
from support.websocket_ends import WINDOW, Ends, confirmed, items, link, numbers, payloads, said, taken

__all__ = ["link"]

HANDSHAKE = (
    b"GET /t/q HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HELLO = frames.hello("w", "e", 1).decode()


def still_serves(made: Ends, source: WebSocketSource) -> None:
    """A good writer gets its records through."""
    sink = made.sink()
    receipt = sink.send(items(*numbers(0, 3)))
    messages = taken(source, 3)
    assert payloads(messages) == numbers(0, 3)
    source.ack(messages)
    confirmed(made, receipt)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /t/other HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (HANDSHAKE.replace(b"/t/q", b"/t/q/"), b"404"),
        (b"GET /t/q HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
        (HANDSHAKE.replace(b"dGhl", b"?"), b"400"),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 8"), b"400"),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 13\r\nSec-WebSocket-Protocol: \xff,,"), b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500 + b"\r\n", b""),
        (b"A" * 100_000, b""),
        (b"POST /t/q HTTP/1.1\r\n\r\n", b""),
        (b"GET /t/q HTTP/1.1\r\n" + b"X: y\r\n" * 1000, b""),
        (HANDSHAKE + b"\x81\x02hi", b"101"),
        (HANDSHAKE + b"\xff\xff\xff\xff", b"101"),
    ],
)
def test_a_bad_greeting_is_refused(link: Ends, sent: bytes, status: bytes) -> None:
    source = link.source()

    def greet() -> bytes:
        with socket.create_connection(("127.0.0.1", link.port)) as sock:
            sock.settimeout(5)
            try:
                sock.sendall(sent)
                answer = b"".join(iter(lambda: sock.recv(65536), b""))
            except ConnectionError:
                return b""
        return answer

    answer = link.beside(greet)
    assert (answer.split() or [b"", b""])[1 if answer else 0] == status
    assert source._writers == {}
    still_serves(link, source)


def test_a_path_that_is_not_the_queues_is_not_found(link: Ends) -> None:
    link.source()
    with pytest.raises(InvalidStatus, match="404"):
        link.foreign("/elsewhere")


def test_half_a_request_and_gone(link: Ends) -> None:
    source = link.source()
    for part in (b"", HANDSHAKE[:40], HANDSHAKE, HANDSHAKE + b"\x81\xfe"):
        with socket.create_connection(("127.0.0.1", link.port)) as sock:
            sock.sendall(part)
            link.serve(0.05)
    link.until(lambda: not source.peers._connections, "all are gone")
    still_serves(link, source)


def as_link(made: Ends, **headers: str) -> ClientConnection:
    return made.foreign(subprotocols=[Subprotocol(LINK)], additional_headers=headers)


def ended(made: Ends, peer: ClientConnection) -> tuple[int, str]:
    """Close code and reason, after whatever came before."""

    def read() -> tuple[int, str]:
        try:
            while True:
                peer.recv(5)
        except ConnectionClosed as error:
            return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (0, "no close frame")

    return made.beside(read)


def test_a_frame_that_is_too_large_ends_its_connection_alone(link: Ends) -> None:
    source = link.source()
    peer, good = link.foreign(), link.foreign()

    def send() -> None:
        try:
            peer.send(b"x" * (2 * 1024 * 1024))
        except ConnectionClosed:
            return

    link.beside(send)
    assert ended(link, peer)[0] == 1009
    link.beside(lambda: good.send("1"))
    assert payloads(taken(source, 1)) == [b"1"]
    link.beside(good.close)
    still_serves(link, source)


def _data(number: int) -> bytes:
    return frames.data(number, "i", b"%d" % number, redelivered=False)


BAD_WRITERS: list[tuple[str, list[str | bytes]]] = [
    ("something before HELLO", [frames.bye().decode()]),
    ("and none was to come", [_data(1)]),
    ("not JSON", ["}{"]),
    ("no part of the link", ["[1]"]),
    ("no part of the link", ['{"type": "what"}']),
    ("whose link is not a name", ['{"type": "hello", "link": 1}']),
    ("whose next is not", ['{"type": "hello", "link": "w", "epoch": "e", "next": -1}']),
    ("shorter than the head", [b"D"]),
    ("that is no message", [b"X" * 50]),
    ("only a reader sends", [HELLO, frames.ack(1, 1).decode()]),
    ("only a reader sends", [HELLO, HELLO]),
    ("message 2, and 1", [HELLO, _data(2)]),
    ("more than it was", [HELLO, *map(_data, range(1, 30))]),
]


def greet_and_say(peer: ClientConnection, frames_: list[str | bytes]) -> None:
    """After HELLO comes the answer to it."""
    said(peer, frames_[0])
    if frames_[0] == HELLO:
        peer.recv(5)
    said(peer, *frames_[1:])


@pytest.mark.parametrize(("words", "sent"), BAD_WRITERS, ids=range(len(BAD_WRITERS)))
def test_a_writer_that_breaks_the_link_is_dropped_with_the_reason(
    link: Ends, words: str, sent: list[str | bytes]
) -> None:
    source = link.source()
    peer = as_link(link)
    link.beside(lambda: greet_and_say(peer, sent))
    code, reason = ended(link, peer)
    assert code == 1008
    assert words in reason
    assert source.take(2 * WINDOW, 0.1) == []
    still_serves(link, source)


BAD_READERS: list[list[bytes]] = [
    [frames.ack(1, 1)],
    [frames.resume(5, 1)],
    [frames.resume(1, 8), frames.ack(2, 1)],
    [frames.resume(1, 1), frames.resume(1, 1)],
    [HELLO.encode()],
]


@pytest.mark.parametrize("sent", BAD_READERS, ids=range(len(BAD_READERS)))
def test_a_reader_that_breaks_the_link_confirms_nothing(link: Ends, sent: list[bytes]) -> None:
    sink = link.sink(options={"role": "connect"})
    receipt = sink.send(items(b"1"))
    peer = as_link(link, **{"Fogline-Name": "fogline.test.p.reader.q.0"})
    link.beside(lambda: said(peer, *(each.decode() for each in sent)))
    assert ended(link, peer)[0] == 1008
    assert receipt.left == 1
    source = link.source(options={"role": "connect"})
    source.ack(taken(source, 1))
    confirmed(link, receipt)


def test_a_foreign_reader_of_a_stages_queue_is_refused(link: Ends) -> None:
    link.sink(options={"role": "connect"})
    with pytest.raises(InvalidStatus, match="403"):
        link.foreign()
    with pytest.raises(InvalidStatus, match="403"):
        as_link(link)


def test_any_number_of_empty_fragments_takes_no_memory(link: Ends) -> None:
    source = link.source()
    with socket.create_connection(("127.0.0.1", link.port)) as sock:
        sock.sendall(HANDSHAKE + b"\x01\x80abcd" + b"\x00\x80abcd" * 50_000)
        link.until(lambda: source._writers, "it is in")
        (writer,) = source._writers.values()
        link.serve(0.5)
        assert writer.connection._fragments == []


def test_one_connection_too_many_is_turned_away(link: Ends) -> None:
    source = link.source()
    socks = [socket.create_connection(("127.0.0.1", link.port)) for _ in range(MAX_CONNECTIONS + 5)]
    link.until(lambda: len(source.peers._connections) == MAX_CONNECTIONS, "all places are taken")
    link.serve(0.2)
    assert len(source.peers._connections) == MAX_CONNECTIONS
    for sock in socks:
        sock.close()
    link.until(lambda: not source.peers._connections, "all are gone")
    still_serves(link, source)


carried = st.builds(
    Carried,
    st.none() | st.binary(max_size=10),
    st.integers(0, LATEST_MS),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
)


@pytest.mark.parametrize("along", [b"{", b"5", b"[]", b'{"time":"1"}', b'{"trace":5}', b'{"key":"\\u0100"}'])
def test_what_is_carried_and_cannot_be_read_is_malformed(along: bytes) -> None:
    head = frames._HEAD.pack(b"D", 1, False, 1, len(along))
    with pytest.raises(Malformed):
        frames.parse(head + b"i" + along + b"1", text=False)


def test_a_key_that_is_too_long_for_a_frame_stays_behind() -> None:
    said = frames.data(1, "i", b"1", redelivered=False, carried=Carried(b"k" * 10_000, 5))
    assert frames.parse(said, text=False) == Data(1, False, "i", Carried(None, 5), b"1")


@given(st.binary(max_size=200), st.booleans())
def test_nothing_but_malformed_comes_of_any_frame(payload: bytes, text: bool) -> None:
    for each in (payload, b"D" + payload):
        try:
            frames.parse(each, text=text)
        except Malformed:
            continue


@given(st.integers(1, 2**62), st.text(max_size=50), st.binary(max_size=100), st.booleans(), carried)
def test_frames_are_read_as_they_were_written(
    number: int, name: str, payload: bytes, again: bool, along: Carried
) -> None:
    said = frames.data(number, name, payload, redelivered=again, carried=along)
    assert frames.parse(said, text=False) == Data(number, again, name, along, payload)
    assert frames.parse(frames.hello("l" + name, "e", number), text=True) == Hello("l" + name, "e", number)
    assert frames.parse(frames.resume(number, 1), text=True) == Resume(number, 1)
    assert frames.parse(frames.ack(number, 0), text=True) == Ack(number, 0)
    assert frames.parse(frames.bye(), text=True) == Bye()
