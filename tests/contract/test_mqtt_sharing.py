"""Readers that share a subscription, and QoS 0: on a real broker, with both clients."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.runtimes.connectors.base import Sink, Source
from fogline.runtimes.connectors.mqtt import Mqtt
from fogline.runtimes.errors import EndOfInput
from fogline.runtimes.message import Item
from fogline.runtimes.poller import Poller
from support.mosquitto import Mosquitto
from support.segments import DEADLINE_S, mqtt_end

pytestmark = pytest.mark.broker


class Readers:
    """Copies of one stage at one broker, and a writer."""

    def __init__(self, broker: Mosquitto, client: str) -> None:
        self.broker, self.client = broker, client
        self.poller = Poller()
        self.made: list[Source | Sink] = []

    def source(self, replica: int = 0, *, shared: bool = True, window: int = 8, **options: object) -> Source:
        end = mqtt_end("q", "reader", self.broker.port, options={"client": self.client} | options)
        end = replace(end, client_id=f"copies.{replica}", group="copies", shared=shared)
        made = Mqtt().source(end, self.poller, window)
        self.made.append(made)
        made.open()
        made.bind()
        return made

    def write(self, payloads: list[bytes], **options: object) -> None:
        end = mqtt_end("q", "writer", self.broker.port, options={"client": self.client} | options)
        sink = Mqtt().sink(end, self.poller)
        sink.open()
        receipt = sink.send([Item(0, str(n), payload) for n, payload in enumerate(payloads)])
        deadline = time.monotonic() + DEADLINE_S
        while not receipt.done and time.monotonic() < deadline:
            self.poller.wait(0.1)
        assert receipt.done
        sink.close()

    def close(self) -> None:
        for each in self.made:
            each.close()
        self.poller.close()


@pytest.fixture(params=["lean", "paho"])
def readers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Readers]:
    with Mosquitto(tmp_path / "broker") as broker:
        made = Readers(broker, request.param)
        yield made
        made.close()


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


def taken(*sources: Source, count: int, ack: bool = True) -> list[list[bytes]]:
    """What each brings until all have brought so many together."""
    found: list[list[bytes]] = [[] for _ in sources]
    deadline = time.monotonic() + DEADLINE_S
    while sum(map(len, found)) < count and time.monotonic() < deadline:
        for source, own in zip(sources, found, strict=True):
            messages = source.take(8, 0.05)
            own += [message.payload for message in messages]
            if ack:
                source.ack(messages)
    return found


def to_the_end(source: Source) -> list[bytes]:
    """What one that leaves still brings."""
    found: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            messages = source.take(8, 0.05)
        except EndOfInput:
            return found
        found += [message.payload for message in messages]
        source.ack(messages)
    raise AssertionError("it never came to an end")


def test_copies_share_what_is_written(readers: Readers) -> None:
    first, second = readers.source(0), readers.source(1)
    readers.write(numbers(0, 100))
    one, other = taken(first, second, count=100)
    assert sorted(one + other) == sorted(numbers(0, 100))
    assert one
    assert other


def test_from_alone_to_sharing_and_back_nothing_is_missed(readers: Readers) -> None:
    readers.source(0, shared=False).close()
    readers.write(numbers(0, 10))
    shared, second = readers.source(0), readers.source(1)
    readers.write(numbers(10, 40))
    one, other = taken(shared, second, count=40)
    assert set(one + other) == set(numbers(0, 40))
    assert len(one + other) == 40, "it does not read plainly any more"
    shared.close()
    second.leave()
    assert to_the_end(second) == []
    alone = readers.source(0, shared=False)
    readers.write(numbers(40, 60))
    assert set(taken(alone, count=20)[0]) == set(numbers(40, 60))


def test_one_that_leaves_reads_what_is_kept_for_it(readers: Readers) -> None:
    first, second = readers.source(0, window=4), readers.source(1, window=4)
    readers.write(numbers(0, 60))
    assert second.leave()
    rest = to_the_end(second)
    assert rest, "the broker had given it a part"
    mine = taken(first, count=60 - len(rest))[0]
    assert sorted(mine + rest) == sorted(numbers(0, 60))
    readers.write(numbers(60, 80))
    assert taken(first, count=20)[0] == numbers(60, 80), "it gets nothing any more"


def test_a_broker_that_forgot_the_shared_subscription_is_told_again(readers: Readers) -> None:
    source = readers.source(0)
    readers.broker.restart()
    for connected in (False, True):
        deadline = time.monotonic() + DEADLINE_S
        while source.connected != connected and time.monotonic() < deadline:
            readers.poller.wait(0.1)
    readers.write(numbers(0, 5))
    assert taken(source, count=5)[0] == numbers(0, 5)


def test_qos_0_is_neither_kept_nor_confirmed(readers: Readers) -> None:
    source = readers.source(0, shared=False, qos=0)
    readers.write(numbers(0, 300), qos=0)
    assert taken(source, count=300)[0] == numbers(0, 300)
    source.close()
    readers.write(numbers(300, 310), qos=0)
    again = readers.source(0, shared=False, qos=0)
    readers.write(numbers(310, 320), qos=0)
    assert taken(again, count=10)[0] == numbers(310, 320)


def test_what_is_written_with_qos_0_while_the_broker_is_away_goes_out_when_it_is_back(readers: Readers) -> None:
    source = readers.source(0, shared=False, qos=0)
    end = mqtt_end("q", "writer", readers.broker.port, options={"client": readers.client, "qos": 0})
    sink = Mqtt().sink(end, readers.poller)
    readers.made.append(sink)
    sink.open()
    readers.broker.stop()
    deadline = time.monotonic() + DEADLINE_S
    while sink.connected and time.monotonic() < deadline:
        readers.poller.wait(0.1)
    receipt = sink.send([Item(0, "id", b"1")])
    assert not receipt.done
    readers.broker.start()
    while not (receipt.done and source.connected) and time.monotonic() < deadline:
        readers.poller.wait(0.1)
    assert receipt.done
