"""The acknowledged link between two ends of Fogline: numbers, credit, resume, and what a peer that is wrong gets."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from fogline.runtimes.connectors.websocket import WebSocket
from fogline.runtimes.connectors.websocket_frames import CREDIT_BYTES
from fogline.runtimes.connectors.websocket_greeting import Patience
from fogline.runtimes.errors import NotConnected
from fogline.runtimes.release import release
from fogline.runtimes.spec import SpecError
from support.mosquitto import free_port
from support.segments import RunningSegment, code_stage, segment, wait_until, websocket_end, write_code
from support.websocket_ends import WINDOW, Ends, confirmed, ends, items, link, numbers, payloads, taken

__all__ = ["link"]

CONNECT = {"role": "connect"}
MEGABYTE = b"x" * 1024 * 1024


def test_several_writers_are_read_as_one_each_in_order(link: Ends) -> None:
    source = link.source()
    sinks = [link.sink(name) for name in ("a", "b", "c")]
    receipts = [sink.send(items(*(b"%d-%d" % (place, n) for n in range(20)))) for place, sink in enumerate(sinks)]
    came: list[bytes] = []
    while len(came) < 60:
        messages = taken(source, 5)
        source.ack(messages)
        came += payloads(messages)
    for place, receipt in enumerate(receipts):
        assert [each for each in came if each.startswith(b"%d-" % place)] == [b"%d-%d" % (place, n) for n in range(20)]
        confirmed(link, receipt)


def test_a_restarted_writer_numbers_anew(link: Ends) -> None:
    source = link.source()
    for start in (0, 3):
        sink = link.sink()
        receipt = sink.send(items(*numbers(start, start + 3)))
        messages = taken(source, 3)
        source.ack(messages)
        confirmed(link, receipt)
        sink.close()
        assert payloads(messages) == numbers(start, start + 3)
        assert not any(message.redelivered for message in messages)


def test_a_reader_that_remembers_nothing_goes_on_where_the_writer_is(link: Ends) -> None:
    former, sink = link.source(), link.sink()
    first = sink.send(items(*numbers(0, 5)))
    former.ack(taken(former, 3))
    link.until(lambda: first.left == 2, "three are confirmed")
    former.close()
    messages = taken(successor := link.source(), 2)
    assert payloads(messages) == numbers(3, 5)
    assert all(message.redelivered for message in messages)
    second = sink.send(items(*numbers(5, 7)))
    successor.ack([*messages, *taken(successor, 2)])
    confirmed(link, first)
    confirmed(link, second)


def test_an_acknowledgement_that_was_lost_on_its_way_is_made_up_for(link: Ends) -> None:
    source, sink = link.source(), link.sink()
    receipt = sink.send(items(*numbers(0, 3)))
    messages = taken(source, 3)
    (writer,) = source._writers.values()
    writer.connection.sock.shutdown(socket.SHUT_WR)
    source.ack(messages)
    assert not receipt.done
    confirmed(link, receipt)
    assert source.take(10, 0.3) == []


def test_a_close_acknowledges_nothing(link: Ends) -> None:
    source, sink = link.source(), link.sink()
    receipt = sink.send(items(*numbers(0, 3)))
    taken(source, 3)
    source.close()
    link.until(lambda: not sink.connected, "the writer saw it")
    assert receipt.left == 3
    assert sink.error == f"ws://127.0.0.1:{link.port}/t/q: closed the connection: 1000"


def test_megabytes_are_under_way_up_to_the_credit(link: Ends) -> None:
    source, sink = link.source(), link.sink()
    receipt = sink.send(items(*[MEGABYTE] * 6))
    first = taken(source, 4)
    assert len(first) * len(MEGABYTE) == CREDIT_BYTES
    assert source.take(10, 0.3) == []
    source.ack(first)
    source.ack(taken(source, 2))
    confirmed(link, receipt)


@pytest.mark.parametrize("role", [{}, CONNECT])
def test_a_reader_that_is_not_bound_is_sent_nothing(link: Ends, role: dict[str, str]) -> None:
    if role:
        sink = link.sink(options=role)
    source = link.source(bind=False, options=role)
    if not role:
        sink = link.sink()
    receipt = sink.send(items(*numbers(0, 3)))
    assert source.take(10, 0.2) == []
    assert sink._sent_through == 0
    source.bind()
    source.ack(taken(source, 3))
    confirmed(link, receipt)


def test_a_writer_says_when_it_waits_for_a_reader_to_connect(link: Ends) -> None:
    sink = link.sink(options=CONNECT)
    assert (sink.connected, sink.error) == (True, "")
    receipt = sink.send(items(b"1"))
    assert sink.error.endswith("/t/q: no reader is connected")
    source = link.source(options=CONNECT)
    source.ack(taken(source, 1))
    confirmed(link, receipt)
    assert sink.error == ""


def test_a_reader_that_came_again_replaces_its_lost_connection(link: Ends) -> None:
    sink, former = link.sink(options=CONNECT), link.source(options=CONNECT)
    receipt = sink.send(items(*numbers(0, 2)))
    taken(former, 2)
    source = link.source(options=CONNECT)
    messages = taken(source, 2)
    source.ack(messages)
    assert payloads(messages) == numbers(0, 2)
    confirmed(link, receipt)


def test_another_pipelines_end_is_turned_away(link: Ends) -> None:
    strange = websocket_end("other", "reader", link.port, written_by_stage=True, options=CONNECT | {"topic": "t/q"})
    link.sink(options=CONNECT)
    with pytest.raises(NotConnected, match="HTTP 403: Only the stages of its pipeline"):
        WebSocket().source(strange, link.poller, WINDOW).open()


def test_a_writer_does_not_hand_its_records_to_another_pipeline(link: Ends) -> None:
    link.source()
    strange = websocket_end("other", "writer", link.port, read_by_stage=True, options={"topic": "t/q"})
    with pytest.raises(
        NotConnected, match=r"not answer as the other end of this queue: it is fogline\.test\.p\.reader"
    ):
        WebSocket().sink(strange, link.poller).open()


def test_an_end_that_is_not_there_is_told_with_its_address(link: Ends) -> None:
    with pytest.raises(NotConnected, match=rf"^ws://127\.0\.0\.1:{link.port}/t/q: Connection refused$"):
        link.sink()


def test_a_port_that_is_taken_is_told(link: Ends) -> None:
    taken_port = pytest.raises(NotConnected, match=f"port {link.port} of this machine is taken")
    with socket.create_server(("127.0.0.1", link.port)), taken_port:
        link.source()
    link.source()


def silent(port: int) -> socket.socket:
    """Accepts and says nothing."""
    return socket.create_server(("127.0.0.1", port))


def test_a_server_that_never_answers_is_given_up() -> None:
    with (
        ends(Patience(open_s=0.2)) as made,
        silent(made.port),
        pytest.raises(NotConnected, match="no handshake within"),
    ):
        made.sink()


def test_a_hung_peer_is_dropped_and_others_stay() -> None:
    with ends(Patience(ping_s=0.4)) as made:
        source, sink = made.source(), made.sink()
        hung = socket.create_connection(("127.0.0.1", made.port))
        hung.sendall(
            b"GET /t/q HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        made.until(lambda: len(source._writers) == 2, "both are there")
        made.until(lambda: len(source._writers) == 1, "the hung one is gone")
        made.serve(1.0)
        receipt = sink.send(items(b"1"))
        (message,) = taken(source, 1)
        source.ack([message])
        confirmed(made, receipt)
        assert message.connection == 1
        hung.close()


# Before a start, and after the end -------------------------------------------------------------------


def reader(port: int, stage: str = "reader", **options: Any) -> Any:
    return websocket_end("q", stage, port, group="g", written_by_stage=True, options=options)


def test_the_check_of_a_listening_end_asks_for_its_port(link: Ends) -> None:
    WebSocket().check(reader(link.port))
    taken_port = pytest.raises(NotConnected, match="another process has it")
    with socket.create_server(("127.0.0.1", link.port)), taken_port:
        WebSocket(Patience(open_s=0.2)).check(reader(link.port))
    WebSocket().check(reader(link.port))


def test_the_check_passes_while_the_process_that_will_be_replaced_has_the_port(link: Ends) -> None:
    link.source()
    for topic in ("t/q", "elsewhere"):
        link.beside(partial(WebSocket().check, reader(link.port, "renamed", topic=topic)))
    strange = websocket_end("q", "reader", link.port, group="g")
    object.__setattr__(strange, "client_id", "fogline.test.other.reader.q.0")
    with pytest.raises(NotConnected, match=r"fogline\.test\.p\.reader\.q\.0 has it"):
        link.beside(lambda: WebSocket().check(strange))


def test_the_check_of_a_dialing_end_waits_for_no_stage_but_for_everybody_else(link: Ends) -> None:
    WebSocket().check(websocket_end("q", "writer", link.port, read_by_stage=True))
    WebSocket().check(reader(link.port, role="connect"))
    with pytest.raises(NotConnected, match="Connection refused"):
        WebSocket().check(websocket_end("q", "writer", link.port))
    unknown = websocket_end("q", "writer", link.port, read_by_stage=True, options={"server": "no-such-host.invalid"})
    with pytest.raises(NotConnected, match=r"no-such-host\.invalid"):
        WebSocket().check(unknown)


def test_a_reader_leaves_nothing_to_release(link: Ends, tmp_path: Any) -> None:
    stage = code_stage("reader", write_code(tmp_path, ""), "q")
    link.source()
    assert release(segment(stage, sources=(reader(link.port),)), [], None) == 0  # type: ignore[arg-type]


def test_nothing_can_be_sent_to_a_reader_that_dials(link: Ends) -> None:
    with pytest.raises(SpecError, match=f"its reader dials ws://127.0.0.1:{link.port}/t/q: only what listens there"):
        WebSocket().sink(reader(link.port, role="connect"), link.poller)


def test_what_listens_is_opened_before_what_dials(link: Ends, tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", "def handler(data):\n    return data\n")
    stages = (code_stage("a", code, "in", "q"), code_stage("b", code, "q"))
    entry = free_port()
    sources = (
        websocket_end("in", "a", entry, group="g"),
        websocket_end("q", "b", link.port, group="g", written_by_stage=True),
    )
    sinks = (websocket_end("q", "a", link.port, read_by_stage=True),)
    with RunningSegment(segment(*stages, sources=sources, sinks=sinks), tmp_path / "run") as process:
        process.until("ready")
        with connect(f"ws://127.0.0.1:{entry}/t/in", proxy=None) as foreign:
            foreign.send("1")
            wait_until(lambda: process.counters("b")["done"] == 1, "it went through")
        assert process.terminate() == 0
