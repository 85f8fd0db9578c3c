"""Envelopes over queues in memory: what is in one, and when it counts as acknowledged."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogline.runtimes.connectors.envelopes import FULL_BYTES, MARK, EnvelopeSink, EnvelopeSource, pack, unpack
from fogline.runtimes.connectors.memory import MemoryQueue, MemorySink, MemorySource
from fogline.runtimes.message import LATEST_MS, NOTHING, Carried, Item, Message
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
END = EndpointSpec("a..b", "b", "memory", {}, "", envelopes=True)


class Wire:
    """Both ends of an automatic queue, and the queue."""

    def __init__(self) -> None:
        self.poller, self.queue = Poller(), MemoryQueue()
        self.inner = MemorySource(END, self.poller, 8, self.queue)
        self.source = EnvelopeSource(self.inner)
        self.sink = EnvelopeSink(MemorySink(END, self.poller, self.queue))
        for end in (self.source, self.sink):
            end.open()
        self.source.bind()

    def send(self, *payloads: bytes) -> None:
        self.sink.send([Item(0, f"id-{payload.decode()[:9]}", payload) for payload in payloads])

    @property
    def envelopes(self) -> int:
        return len(self.queue.payloads)


@pytest.fixture
def wire() -> Any:
    made = Wire()
    yield made
    made.source.close()
    made.sink.close()
    made.poller.close()


def payloads(messages: list[Message]) -> list[bytes]:
    return [message.payload for message in messages]


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=30))
def test_what_is_packed_is_unpacked(records: list[tuple[str, bytes]]) -> None:
    records = [(ident.encode(errors="ignore").decode(), payload) for ident, payload in records]
    assert unpack(pack([Item(0, *record) for record in records])) == [(*record, NOTHING) for record in records]


carried = st.builds(
    Carried,
    st.none() | st.binary(max_size=10),
    st.integers(0, LATEST_MS),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
)


@given(st.lists(carried, max_size=10))
def test_what_records_carry_is_in_the_head(given_: list[Carried]) -> None:
    assert [along for _, _, along in unpack(pack([Item(0, "a", b"1", each) for each in given_]))] == given_


def test_a_head_says_nothing_of_what_no_record_carries() -> None:
    """Half a hundred bytes for each record are not for nothing."""
    assert pack([Item(0, "a", b"1")]) == MARK + b"\0\0\0\x19" + b'{"ids":["a"],"sizes":[1]}' + b"1"


def test_a_time_that_cannot_be_is_none() -> None:
    for time_ms in (LATEST_MS + 1, -1, 1.5, "1", None, True):
        head = orjson.dumps({"ids": ["a"], "sizes": [1], "times": [time_ms]})
        assert unpack(MARK + len(head).to_bytes(4, "big") + head + b"1") == [("a", b"1", NOTHING)]


def test_a_record_without_a_time_has_that_of_its_envelope() -> None:
    mixed = pack([Item(0, "a", b"1"), Item(0, "b", b"2", Carried(None, 5))])
    assert [along.time_ms for _, _, along in unpack(mixed, time_ms=7)] == [7, 5]
    assert [along.time_ms for _, _, along in unpack(pack([Item(0, "a", b"1")]), time_ms=7)] == [7]


HEADS: list[Any] = [
    {},
    [],
    5,
    {"ids": ["a"], "sizes": [1, 1]},
    {"ids": ["a"], "sizes": [-1]},
    {"ids": ["a"], "sizes": [99]},
    {"ids": ["a"], "sizes": ["x"]},
    {"ids": None, "sizes": None},
    {"ids": ["a"]},
    {"ids": ["a"], "sizes": [1], "times": [1, 2]},
    {"ids": ["a"], "sizes": [1], "traces": [5]},
    {"ids": ["a"], "sizes": [1], "keys": ["\u0100"]},
    {"ids": ["a"], "sizes": [1], "keys": 5},
]


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_a_head_that_is_none_is_refused(head: Any) -> None:
    data = orjson.dumps(head)
    with pytest.raises(ValueError, match=r"envelope|invalid literal|codec"):
        unpack(MARK + len(data).to_bytes(4, "big") + data + b"1")


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda rest: MARK + rest)))
def test_anything_else_is_refused_without_a_surprise(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        unpack(payload)
        assert payload.startswith(MARK)


def test_records_arrive_in_order_with_their_ids_in_one_message(wire: Wire) -> None:
    wire.send(*numbers(0, 5))
    assert wire.envelopes == 1
    messages = wire.source.take(10, 0.0)
    assert payloads(messages) == numbers(0, 5)
    assert [message.id for message in messages] == [f"id-{n}" for n in range(5)]


def test_records_carry_their_own_and_the_time_of_an_older_writers_envelope(wire: Wire) -> None:
    given_ = [Carried(b"oven", 1_700_000_000_123, TRACE), Carried(None, 1_700_000_000_456)]
    wire.sink.send([Item(0, "a", b"1", each) for each in given_])
    assert [message.carried for message in wire.source.take(10, 0.0)] == given_
    wire.queue.put(pack([Item(0, "a", b"1")]), Carried(None, 1_700_000_000_789))
    assert [message.carried.time_ms for message in wire.source.take(10, 0.0)] == [1_700_000_000_789]


def test_an_envelope_is_acknowledged_with_its_last_record(wire: Wire) -> None:
    wire.send(*numbers(0, 5))
    wire.send(*numbers(5, 7))
    first = wire.source.take(3, 0.0)
    wire.source.ack(first)
    second = wire.source.take(10, 0.0)
    assert payloads(second) == numbers(3, 7)
    wire.source.ack(second[:3])  # the first envelope is through, the other half
    wire.inner.lose_connection()
    again = wire.source.take(10, 0.0)
    assert payloads(again) == numbers(5, 7)
    assert all(message.redelivered for message in again)
    wire.source.ack(again)
    wire.inner.lose_connection()
    assert wire.source.take(10, 0.0) == []


def test_what_is_not_taken_yet_waits_while_the_subscription_is_unconfirmed(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog comes before the confirmation, on the same connection: its envelope would not come again."""
    wire.send(*numbers(0, 4))
    monkeypatch.setattr(wire.inner, "connected", False)
    taken = wire.source.take(3, 0.0)
    taken += wire.source.take(3, 0.0)
    assert payloads(taken) == numbers(0, 4)


def test_what_was_not_taken_on_an_earlier_connection_comes_once(wire: Wire) -> None:
    wire.send(*numbers(0, 4))
    first = wire.source.take(1, 0.0)
    wire.inner.lose_connection()
    messages = wire.source.take(10, 0.0)
    assert payloads(first + messages) == [b"0", *numbers(0, 4)]
    wire.source.ack(messages)
    wire.inner.lose_connection()
    assert wire.source.take(10, 0.0) == []


def test_what_is_stopped_in_the_middle_stays_with_the_broker(wire: Wire) -> None:
    wire.send(*numbers(0, 4))
    taken = wire.source.take(2, 0.0)
    wire.source.stop_intake()
    wire.source.ack(taken)
    assert wire.source.take(10, 0.0) == []
    wire.source.close()
    successor = EnvelopeSource(MemorySource(END, wire.poller, 4, wire.queue))
    wire.inner.lose_connection()
    successor.open()
    successor.bind()
    assert payloads(successor.take(10, 0.0)) == numbers(0, 4)
    successor.close()


def test_what_is_no_envelope_comes_as_one_record(wire: Wire) -> None:
    wire.queue.put(b"hello")
    (message,) = wire.source.take(10, 0.0)
    assert message.payload == b"hello"
    wire.source.ack([message])
    wire.inner.lose_connection()
    assert wire.source.take(10, 0.0) == []


def test_an_envelope_of_nothing_is_acknowledged_at_once(wire: Wire) -> None:
    wire.queue.put(pack([]))
    assert wire.source.take(10, 0.0) == []
    wire.inner.lose_connection()
    assert wire.inner.take(10, 0.0) == []


def test_large_records_do_not_share_an_envelope(wire: Wire) -> None:
    large = b"x" * FULL_BYTES
    wire.send(b"1", large, b"2", large, large)
    assert wire.envelopes == 5
    assert payloads(wire.source.take(10, 0.0)) == [b"1", large, b"2", large, large]
