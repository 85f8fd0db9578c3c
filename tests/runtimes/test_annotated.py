"""`props.metadata` over a queue in memory: what the field holds, and which payloads get it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fogline.runtimes.codecs import decode_json
from fogline.runtimes.connectors.annotated import AnnotatedSource, annotated, metadata
from fogline.runtimes.connectors.memory import MemoryQueue, MemorySource
from fogline.runtimes.message import LATEST_MS, About, Carried
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

END = EndpointSpec("q", "s", "memory", {"metadata": "_meta"}, "")
ABOUT = About("plant/oven", (("unit", "K"), ("fogline-id", "a"), ("fogline-later", "b"), ("traceparent", "00-")))
CARRIED = Carried(b"oven", 1_700_000_000_003, "00-")
FOUND = {
    "topic": "plant/oven",
    "key": "oven",
    "time": "2023-11-14T22:13:20.003Z",
    "headers": {"unit": "K", "traceparent": "00-"},
}


class Wire:
    def __init__(self) -> None:
        self.poller, self.queue = Poller(), MemoryQueue()
        self.inner = MemorySource(END, self.poller, 8, self.queue)
        self.source = AnnotatedSource(self.inner, "_meta")
        self.source.open()
        self.source.bind()

    def taken(self, *payloads: bytes) -> list[bytes]:
        for payload in payloads:
            self.queue.put(payload, CARRIED, ABOUT)
        return [message.payload for message in self.source.take(8, 0.0)]


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.source.close()
    made.poller.close()


def test_a_record_says_where_it_came_by_when_and_with_which_headers(wire: Wire) -> None:
    (payload,) = wire.taken(b'{"n": 1}')
    assert orjson.loads(payload) == {"n": 1, "_meta": FOUND}


def test_a_field_of_that_name_is_replaced(wire: Wire) -> None:
    (payload,) = wire.taken(b'{"_meta": {"topic": "forged"}, "n": 1}')
    assert orjson.loads(payload) == {"n": 1, "_meta": FOUND}


@pytest.mark.parametrize("payload", [b"5", b'"text"', b"[{}]", b"null", b"", b"{bad}", b"\xff"])
def test_what_is_no_object_passes_as_it_is(wire: Wire, payload: bytes) -> None:
    assert wire.taken(payload) == [payload]


@pytest.mark.parametrize("before", ["", '"_meta":1,'])
def test_a_record_that_is_nested_too_deep_to_be_written_gets_it_too(wire: Wire, before: str) -> None:
    (payload,) = wire.taken(f'{{{before}"n":{"[" * 500}{"]" * 500}}}\n'.encode())
    assert orjson.loads(payload)["_meta"] == FOUND


def test_numbers_stay_as_they_are_written(wire: Wire) -> None:
    (payload,) = wire.taken(b' {"n": 1.10000000000000000001} \n')
    assert payload.startswith(b' {"n": 1.10000000000000000001,"_meta":{')


def test_it_is_the_same_when_it_comes_again(wire: Wire) -> None:
    first = wire.taken(b"{}")
    wire.inner.lose_connection()
    assert wire.taken() == first


def test_acknowledgements_and_the_end_of_intake_reach_the_source(wire: Wire) -> None:
    wire.queue.put(b"{}", CARRIED, ABOUT)
    wire.source.ack(wire.source.take(8, 0.0))
    assert wire.queue.unacknowledged == {}
    wire.source.stop_intake()
    assert wire.taken(b"{}") == []


def test_a_reader_that_leaves_does_so_through_it(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is kept for a copy that goes would be left behind."""
    monkeypatch.setattr(wire.inner, "leave", lambda: True)
    assert wire.source.leave()


def test_what_is_not_known_is_null() -> None:
    assert metadata(About("t", ()), Carried()) == {"topic": "t", "key": None, "time": None, "headers": {}}


carried = st.builds(Carried, st.none() | st.binary(max_size=20), st.integers(0, LATEST_MS), st.text(max_size=5))
abouts = st.builds(About, st.text(max_size=20), st.lists(st.tuples(st.text(), st.text())).map(tuple))
objects: Any = st.dictionaries(st.text(max_size=5), st.none() | st.integers(-(2**53), 2**53) | st.text(max_size=9))


@given(record=objects, about=abouts, known=carried)
def test_no_metadata_makes_a_payload_that_cannot_be_read(record: dict[str, Any], about: About, known: Carried) -> None:
    found = metadata(about, known)
    assert decode_json(annotated(orjson.dumps(record), "_meta", found)) == record | {"_meta": found}
