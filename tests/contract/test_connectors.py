"""What every connector must do, run over all of them, against a real broker where there is one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fogline.runtimes.connectors.base import Receipt, Sink, Source
from fogline.runtimes.message import Carried, Item, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import POSITIONS_VARIABLE
from support.connector_kits import WINDOW, FileKit, KafkaKit, Kit, MemoryKit, MqttKit, WebSocketKit
from support.segments import DEADLINE_S

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

BROKERLESS = ("memory", "file", "listen", "connect")
REAL = ("lean", "paho", "confluent", "python")


@pytest.fixture(params=[*BROKERLESS, *(pytest.param(client, marks=pytest.mark.broker) for client in REAL)])
def kit(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    poller = Poller()
    monkeypatch.setenv(POSITIONS_VARIABLE, str(tmp_path / "positions"))
    made: Kit
    match request.param:
        case "memory":
            made = MemoryKit(poller)
        case "file":
            made = FileKit(poller, tmp_path)
        case "listen" | "connect":
            made = WebSocketKit(poller, request.param)
        case "lean" | "paho":
            made = MqttKit(poller, tmp_path, request.param)
        case client:
            made = KafkaKit(poller, request.getfixturevalue("kafka"), client)
    yield made
    for each in made.made:
        each.close()
    poller.close()
    if isinstance(made, MqttKit):
        made.broker.stop()


def bound(kit: Kit) -> Source:
    source = opened_source(kit)
    source.bind()
    return source


def opened_source(kit: Kit) -> Source:
    source = kit.source()
    kit.made.append(source)
    source.open()
    return source


def opened(kit: Kit) -> Sink:
    sink = kit.sink()
    kit.made.append(sink)
    sink.open()
    return sink


def items(*payloads: bytes) -> list[Item]:
    return [Item(0, f"id-{number}", payload) for number, payload in enumerate(payloads)]


def numbers(start: int, stop: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(start, stop)]


def taken(source: Source, count: int) -> list[Message]:
    messages: list[Message] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(messages) < count and time.monotonic() < deadline:
        messages += source.take(count - len(messages), 0.2)
    return messages


def confirmed(kit: Kit, receipt: Receipt) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not receipt.done and time.monotonic() < deadline:
        kit.poller.wait(0.1)
    assert receipt.done


def test_what_is_sent_arrives_in_order(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sent = numbers(0, WINDOW)
    receipt = sink.send(items(*sent))
    messages = taken(source, len(sent))
    assert [message.payload for message in messages] == sent
    assert not any(message.redelivered for message in messages)
    source.ack(messages)
    confirmed(kit, receipt)


def test_what_is_sent_before_the_reader_opens_again_waits_for_it(kit: Kit) -> None:
    former, sink = bound(kit), opened(kit)
    former.close()
    receipt = sink.send(items(*numbers(0, 3)))
    if kit.broker_between:
        confirmed(kit, receipt)
    source = bound(kit)
    messages = taken(source, 3)
    assert [message.payload for message in messages] == numbers(0, 3)
    source.ack(messages)
    confirmed(kit, receipt)


def test_nothing_is_brought_before_bind(kit: Kit) -> None:
    source = opened_source(kit)
    assert source.take(10, 0.05) == []


def test_bind_twice_is_bind_once(kit: Kit) -> None:
    source = bound(kit)
    source.bind()
    opened(kit).send(items(b"1"))
    assert len(taken(source, 1)) == 1
    assert source.take(10, 0.2) == []


def test_at_most_the_window_is_out_unacknowledged(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, 3 * WINDOW)))
    first = taken(source, WINDOW)
    assert len(first) == WINDOW
    assert source.take(3 * WINDOW, 0.3) == []
    source.ack(first)
    assert [message.payload for message in taken(source, WINDOW)] == numbers(WINDOW, 2 * WINDOW)


def test_take_gives_no_more_than_asked(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, WINDOW)))
    assert len(taken(source, 3)) == 3
    assert [message.payload for message in taken(source, 2)] == numbers(3, 5)


def test_unacknowledged_messages_come_again_and_are_marked(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, 4)))
    first = taken(source, 4)
    source.ack(first[:2])
    kit.break_connection(source)
    again = taken(source, 2)
    assert [message.payload for message in again] == numbers(2, 4)
    assert all(message.redelivered for message in again)


def test_an_acknowledgement_of_an_earlier_connection_is_passed_over(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, 2)))
    first = taken(source, 2)
    kit.break_connection(source)
    source.ack(first)
    kit.break_connection(source)
    again = taken(source, 2)
    assert [message.payload for message in again] == numbers(0, 2)
    source.ack(again)
    assert source.take(10, 0.2) == []


def test_after_stop_intake_only_acknowledgements_flow(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(*numbers(0, 4)))
    first = taken(source, 2)
    source.stop_intake()
    assert source.take(10, 0.2) == []
    source.ack(first)
    source.close()
    assert [message.payload for message in taken(bound(kit), 2)] == numbers(2, 4)


def test_the_same_foreign_message_has_the_same_id(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sink.send(items(b"1"))
    (first,) = taken(source, 1)
    kit.break_connection(source)
    (again,) = taken(source, 1)
    assert again.id == first.id


def test_a_payload_of_a_megabyte_passes(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    large = b'"' + b"x" * 1_000_000 + b'"'
    receipt = sink.send(items(large, b"1"))
    messages = taken(source, 2)
    assert [message.payload for message in messages] == [large, b"1"]
    source.ack(messages)
    confirmed(kit, receipt)


def test_what_a_record_carries_travels_with_it(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    first, second = Carried(b"oven", 1_700_000_000_123, TRACE), Carried(None, 1_700_000_000_456)
    sink.send([Item(0, "a", b"1", first), Item(0, "b", b"2", second)])
    found = {message.payload: message.carried for message in taken(source, 2)}
    if kit.carries:
        assert found == {b"1": first if kit.keyed else first._replace(key=None), b"2": second}
    else:
        assert [(each.key, each.traceparent) for each in found.values()] == [(None, "")] * 2


def test_a_record_that_carries_nothing_has_the_time_of_its_entry(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    earliest_ms = time.time_ns() // 1_000_000
    sink.send(items(b"1"))
    (message,) = taken(source, 1)
    assert earliest_ms <= message.carried.time_ms <= time.time_ns() // 1_000_000
    assert message.carried[::2] == (None, "")


def test_topic_and_headers_are_told_when_they_are_asked_for(kit: Kit) -> None:
    if kit.topic is None:
        return
    plain = bound(kit)
    opened(kit).send(items(b"1"))
    assert [message.about for message in taken(plain, 1)] == [None]
    plain.close()
    kit.more["metadata"] = "_meta"
    asked = bound(kit)
    opened(kit).send(items(b"2"))
    about = taken(asked, 1)[-1].about
    assert about is not None
    assert about.topic == kit.topic
    assert dict(about.headers).get("fogline-id", "id-0") == "id-0"


def test_empty_and_binary_payloads_pass_as_they_are(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sent = [b"", bytes(range(256)), b"\r\n\0\n"] if kit.any_bytes else [b'"\\u0000"', b'"\xc3\xa9"']
    receipt = sink.send(items(*sent))
    messages = taken(source, len(sent))
    assert [message.payload for message in messages] == sent
    source.ack(messages)
    confirmed(kit, receipt)


def test_batches_of_any_size_keep_their_order(kit: Kit) -> None:
    source, sink = bound(kit), opened(kit)
    sizes = [1, 2, WINDOW, 3, 5 * WINDOW, 1]
    receipts, found, number = [], list[bytes](), 0
    for size in sizes:
        receipts.append(sink.send(items(*numbers(number, number + size))))
        number += size
    while len(found) < number:
        messages = taken(source, min(WINDOW, number - len(found)))
        assert messages, f"{len(found)} of {number} came"
        source.ack(messages)
        found += [message.payload for message in messages]
    assert found == numbers(0, number)
    for receipt in receipts:
        confirmed(kit, receipt)
