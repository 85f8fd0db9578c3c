"""Foreign peers: plain frames in and out, as a browser speaks them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from websockets.sync.client import ClientConnection
from websockets.sync.server import Server, ServerConnection, serve

from fogline.runtimes.connectors.websocket_sink import READER_BYTES
from support.segments import RunningSegment, code_stage, segment, wait_until, websocket_end, write_code
from support.websocket_ends import WINDOW, Ends, confirmed, items, link, numbers, payloads, said, taken

__all__ = ["link"]

LISTEN, CONNECT = {"role": "listen"}, {"role": "connect"}


def heard(peer: ClientConnection, count: int) -> list[str | bytes]:
    return [peer.recv(5) for _ in range(count)]


def test_each_frame_is_a_message_text_or_binary(link: Ends) -> None:
    source = link.source()
    browser = link.foreign()
    link.beside(lambda: said(browser, '{"n":1}', b"\x00\xff", ["a", "b", "", "c"]))
    messages = taken(source, 3)
    assert payloads(messages) == [b'{"n":1}', b"\x00\xff", b"abc"]
    assert not any(message.redelivered for message in messages)
    source.ack(messages)
    link.beside(lambda: browser.send('{"n":1}'))
    assert taken(source, 1)[0].id == messages[0].id
    link.beside(browser.close)


def test_a_foreign_writer_is_slowed_down_and_nothing_of_it_is_lost(link: Ends) -> None:
    source = link.source()
    browser = link.foreign()
    large = [payload + b" " * 20_000 for payload in numbers(0, 2000)]
    flood = threading.Thread(target=said, args=(browser, *large))
    flood.start()
    link.serve(1.0)
    assert 2 * WINDOW <= len(source._arrived) < 4 * WINDOW
    assert flood.is_alive()
    assert payloads(taken(source, len(large))) == large
    flood.join()
    link.beside(browser.close)


def test_what_came_before_bind_waits_in_the_socket(link: Ends) -> None:
    source = link.source(bind=False)
    browser = link.foreign()
    link.beside(lambda: browser.send("early"))
    assert source.take(10, 0.2) == []
    source.bind()
    assert payloads(taken(source, 1)) == [b"early"]
    link.beside(browser.close)


def test_foreign_readers_of_a_listening_writer_each_get_every_record_as_text(link: Ends) -> None:
    sink = link.listening_writer()
    browsers = [link.foreign(), link.foreign()]
    receipt = confirmed(link, sink.send(items(*numbers(0, 100))))
    assert receipt.unrouted == 0
    for browser in browsers:
        assert link.beside(partial(heard, browser, 100)) == [payload.decode() for payload in numbers(0, 100)]
        link.beside(browser.close)


def test_bytes_and_what_is_no_text_go_in_binary_frames(link: Ends) -> None:
    sink = link.listening_writer()
    browser = link.foreign()
    confirmed(link, sink.send(items(b"\xff\xfe", "\u2603".encode())))
    assert link.beside(lambda: [browser.recv(5), browser.recv(5)]) == [b"\xff\xfe", "\u2603"]
    link.beside(browser.close)


def test_a_queue_of_bytes_has_binary_frames(link: Ends) -> None:
    sink = link.listening_writer(format="bytes")
    browser = link.foreign()
    confirmed(link, sink.send(items(b"plain")))
    assert link.beside(lambda: browser.recv(5)) == b"plain"
    link.beside(browser.close)


def test_without_a_foreign_reader_records_are_gone_and_counted(link: Ends) -> None:
    sink = link.listening_writer()
    receipt = sink.send(items(*numbers(0, 3)))
    assert (receipt.done, receipt.unrouted) == (True, 3)
    browser = link.foreign()
    assert confirmed(link, sink.send(items(b"4"))).unrouted == 0
    assert link.beside(lambda: browser.recv(5)) == "4"
    link.beside(browser.close)


def test_a_slow_foreign_reader_holds_the_writer(link: Ends) -> None:
    sink = link.listening_writer()
    browser = link.foreign(max_queue=1)
    payload = b"x" * 100_000
    receipt = sink.send(items(*[payload] * 400))
    link.serve(0.5)
    held = sum(reader.unsent_bytes for reader in sink._readers)
    assert READER_BYTES <= held < 8 * READER_BYTES
    assert 0 < receipt.left < 400
    assert link.beside(lambda: sum(len(browser.recv(5)) for _ in range(400))) == 400 * len(payload)
    assert confirmed(link, receipt).unrouted == 0
    link.beside(browser.close)


def test_a_foreign_reader_that_goes_holds_nobody(link: Ends) -> None:
    sink = link.listening_writer()
    browser = link.foreign(max_queue=1)
    receipt = sink.send(items(*[b"x" * 100_000] * 400))
    link.serve(0.3)
    left = receipt.left
    assert left > 0
    browser.socket.close()
    assert confirmed(link, receipt).unrouted > 0


def test_what_no_frame_can_hold_is_not_sent_and_holds_nothing(link: Ends) -> None:
    sink = link.listening_writer()
    browser = link.foreign()
    receipt = confirmed(link, sink.send(items(b"x" * (1024 * 1024 + 1), b"1")))
    assert receipt.unrouted == 1
    assert link.beside(lambda: browser.recv(5)) == "1"
    link.beside(browser.close)


@contextmanager
def foreign_server(port: int, handler: Any) -> Iterator[Server]:
    """A server that is not of Fogline."""
    with serve(handler, "127.0.0.1", port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Recorder:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.came: list[str | bytes] = []
        self.open: list[ServerConnection] = []

    def __call__(self, connection: ServerConnection) -> None:
        self.open.append(connection)
        self.came.extend(connection)


def test_a_writer_dials_a_foreign_reader_and_waits_for_it_when_it_is_away(link: Ends) -> None:
    recorder = Recorder()
    with foreign_server(link.port, recorder):
        sink = link.sink(read_by_stage=False)
        confirmed(link, sink.send(items(b"1")))
        link.until(lambda: recorder.came == ["1"], "it came")
        link.beside(recorder.open[0].close)
        link.until(lambda: not sink.connected, "the loss is seen")
    receipt = sink.send(items(b"2", b"3"))
    link.serve(0.3)
    assert receipt.left == 2
    with foreign_server(link.port, recorder):
        confirmed(link, receipt)
        link.until(lambda: recorder.came == ["1", "2", "3"], "what waited came")
        sink.close()


def test_a_reader_dials_a_foreign_writer(link: Ends) -> None:
    hang_up = threading.Event()

    def feed(connection: ServerConnection) -> None:
        said(connection, "1", "2")
        hang_up.wait(5)

    with foreign_server(link.port, feed):
        source = link.source(options=CONNECT)
        assert payloads(taken(source, 2)) == [b"1", b"2"]
        hang_up.set()
        assert payloads(taken(source, 2)) == [b"1", b"2"], "the reader dials again"
        source.close()


def test_a_browser_is_at_both_ends_of_a_segment(tmp_path: Any, link: Ends) -> None:
    other = Ends()
    code = write_code(tmp_path / "code", "def handler(data):\n    return {'twice': 2 * data['n']}\n")
    stage = code_stage("s", code, "in", "out")
    source = websocket_end("q", "s", link.port)
    sink = websocket_end("q", "s", other.port, options=LISTEN)
    object.__setattr__(source, "queue", "in")
    object.__setattr__(sink, "queue", "out")
    with RunningSegment(segment(stage, sources=(source,), sinks=(sink,)), tmp_path / "run") as process:
        process.until("ready")
        writer, reader = link.foreign(), other.foreign()
        for number in (1, 2):
            writer.send(json.dumps({"n": number}))
            assert reader.recv(5) == f'{{"twice":{2 * number}}}'
        writer.send("no JSON")
        wait_until(lambda: process.counters("s")["dead_lettered"] == 1, "it is a dead letter")
        reader.close()
        wait_until(lambda: _went_nowhere(process, writer), "a record that nobody reads")
        assert process.terminate() == 0
        writer.close()
    other.close()


def _went_nowhere(process: RunningSegment, writer: ClientConnection) -> bool:
    writer.send('{"n": 0}')
    return process.counters("s")["unrouted"] > 0
