"""Kafka through kafka-python, where confluent-kafka has no wheel: 30 times the processor time for a record."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import FencedInstanceIdError, KafkaError
from kafka.structs import OffsetAndMetadata

from fogline.runtimes.connectors.kafka_admin import find_topic, said_of, settings, words
from fogline.runtimes.connectors.kafka_client import (
    MAX_MESSAGE_BYTES,
    NOWHERE,
    SESSION_TIMEOUT_MS,
    Delivery,
    Fetched,
    Place,
    Reader,
    ReaderUser,
    Wish,
    Writer,
    headers_of,
    place_of,
)

_NO_LIMIT_MS = 2**31 - 1
_CALL_TIMEOUT_MS = 5000
_IDLE_WAIT_MS, _JOIN_WAIT_MS = 5, 1000
"""The library gets nowhere in calls that do not wait at all; a group that it joined between two calls it joins anew."""
_FETCH_BYTES = 8 * 1024 * 1024
"""Of every partition at once; the library keeps them as objects of the interpreter."""


class PythonReader:
    def __init__(self, wish: Wish, user: ReaderUser) -> None:
        self.wish = wish
        self.lag: int | None = None
        self.error = ""
        self._user = user
        self._consumer: Any = None
        self._told: collections.deque[tuple[Callable[[Sequence[int]], None] | None, Sequence[Any]]] = (
            collections.deque()
        )
        """Rebalances, from the library's thread: whom to tell, None for an assignment, and the partitions."""
        self._lag_at = 0.0
        self._done: dict[int, int] = {}
        """Partition -> what is committed, as far as it is known."""
        self._moving = self._joined = False
        self._committing = False
        self._again: dict[int, Place] = {}

    def open(self) -> None:
        find_topic(self.wish, create=True)
        if self._consumer is None:
            self._consumer = said_of(self.wish, lambda: KafkaConsumer(**self._settings()))

    def subscribe(self) -> None:
        self._consumer.subscribe([self.wish.topic], listener=_Listener(self._told, self._user))

    def fetch(self, limit: int) -> list[Fetched]:
        if self._consumer is None:
            return []
        try:
            found = self._consumer.poll(timeout_ms=self._wait_ms(), max_records=max(limit, 1))
        except FencedInstanceIdError:
            self._user.on_fenced()
            return []
        except KafkaError as error:
            self.error = words(self.wish, error)
            return []
        self._hear(found)
        self._look_around()
        self._moving = bool(found)
        return [self._fetched(record) for records in found.values() for record in records]

    def _wait_ms(self) -> int:
        if self._joined and not self._consumer._coordinator.rejoining:
            return 0 if self._moving else _IDLE_WAIT_MS
        return _JOIN_WAIT_MS

    def commit(self, places: Mapping[int, Place]) -> None:
        self._hear({})
        self._again.update({each: place for each, place in places.items() if self._owns(each)})
        if not self._committing and self._again:
            going, self._again = self._again, {}
            self._committing = True
            self._consumer.commit_async(self._committed(going), callback=partial(self._on_commit, going))

    def commit_now(self, places: Mapping[int, Place], timeout_s: float) -> None:
        going = {**self._again, **places}
        self._again = {}
        if going:
            try:
                self._consumer.commit(self._committed(going), timeout_ms=int(timeout_s * 1000))
            except KafkaError as error:
                self.error = words(self.wish, error)
            else:
                self._note(going)

    def pause(self, paused: bool) -> None:
        partitions = self._consumer.assignment()
        (self._consumer.pause if paused else self._consumer.resume)(*partitions)

    def lowest(self, partition: int) -> int:
        place = TopicPartition(self.wish.topic, partition)
        try:
            return int(self._consumer.beginning_offsets([place], timeout_ms=_CALL_TIMEOUT_MS)[place])
        except KafkaError:
            return 0  # not known: then nothing is said of a gap

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=1000)
        self._joined = False

    def _hear(self, found: Mapping[Any, Sequence[Any]]) -> None:
        """Of rebalances: in our own thread, and before the records that came since."""
        while self._told:
            tell, places = self._told.popleft()
            if tell is not None:
                tell([place.partition for place in places])
                continue
            self._joined = True
            owned = [place for place in places if place in self._consumer.assignment()]
            assigned = {place.partition: self._committed_at(place, found) for place in owned}
            self._note(assigned)
            self._user.on_assigned(assigned)

    def _note(self, places: Mapping[int, Place]) -> None:
        self._done.update({each: place.offset for each, place in places.items() if place.offset >= 0})

    def _committed_at(self, partition: Any, found: Mapping[Any, Sequence[Any]]) -> Place:
        """Where the partition is read from."""
        known = self._consumer.committed(partition, metadata=True, timeout_ms=_CALL_TIMEOUT_MS)
        if known is not None:
            return place_of(known.offset, known.metadata)
        if not self.wish.latest:
            return NOWHERE
        records = found.get(partition)
        end = records[0].offset if records else self._consumer.position(partition, timeout_ms=_CALL_TIMEOUT_MS)
        self.commit_now({partition.partition: Place(end)}, _CALL_TIMEOUT_MS / 1000)
        return Place(end)

    def _owns(self, partition: int) -> bool:
        return TopicPartition(self.wish.topic, partition) in self._consumer.assignment()

    def _fetched(self, record: Any) -> Fetched:
        headers = record.headers or ()
        payload, time_ms = record.value or b"", max(record.timestamp or 0, 0)
        return Fetched(record.topic, record.partition, record.offset, payload, record.key, time_ms, headers)

    def _on_commit(self, going: dict[int, Place], _offsets: Any, error: Any) -> None:
        self._committing = False
        if isinstance(error, KafkaError) and error.retriable:
            self._again = {**going, **self._again}
        elif not isinstance(error, Exception):
            self._note(going)

    def _look_around(self) -> None:
        """Once a second: whether there is a connection, and how far behind it is."""
        now = time.monotonic()
        if now < self._lag_at:
            return
        self._lag_at = now + 1.0
        self.error = _connected(self.wish, self._consumer.metrics()["consumer-metrics"])
        if self._again:
            self.commit({})
        lags = list[int]()
        for place in self._consumer.assignment():
            end = self._consumer.highwater(place)
            if end is not None and place.partition in self._done:
                lags.append(max(0, end - self._done[place.partition]))
        self.lag = sum(lags) if lags else None

    def _committed(self, places: Mapping[int, Place]) -> dict[Any, Any]:
        return {
            TopicPartition(self.wish.topic, each): OffsetAndMetadata(place.offset, place.metadata, -1)
            for each, place in places.items()
        }

    def _settings(self) -> dict[str, Any]:
        return {
            **settings(self.wish),
            "group_id": self.wish.group,
            "group_instance_id": self.wish.client_id,
            "enable_auto_commit": False,
            "auto_offset_reset": "latest" if self.wish.latest else "earliest",
            "isolation_level": "read_committed",
            "partition_assignment_strategy": [CooperativeStickyAssignor],
            "session_timeout_ms": SESSION_TIMEOUT_MS,
            "fetch_max_bytes": _FETCH_BYTES,
            "max_partition_fetch_bytes": _FETCH_BYTES,
            "allow_auto_create_topics": False,
        }


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Called in the library's thread, where nothing of the library may be called back."""

    def __init__(self, told: collections.deque[Any], user: ReaderUser) -> None:
        self._told = told
        self._user = user

    def on_partitions_assigned(self, assigned: Sequence[Any]) -> None:
        self._told.append((None, list(assigned)))

    def on_partitions_revoked(self, revoked: Sequence[Any]) -> None:
        self._told.append((self._user.on_lost, list(revoked)))

    def on_partitions_lost(self, lost: Sequence[Any]) -> None:
        self._told.append((self._user.on_lost, list(lost)))


class PythonWriter:
    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.error = ""
        self.fatal = ""
        self._producer: Any = None
        self._told: collections.deque[tuple[Callable[[Any, Any], None], Any]] = collections.deque()
        """Filled by the library's thread, emptied by ours."""

    def open(self) -> None:
        find_topic(self.wish, create=True)
        if self._producer is None:
            self._producer = said_of(self.wish, lambda: KafkaProducer(**self._settings()))

    def send(self, waiting: collections.deque[Delivery]) -> None:
        while waiting:
            record = waiting.popleft()
            item = record.item
            try:
                future = self._producer.send(
                    self.wish.topic, item.payload, key=item.carried.key, headers=headers_of(item)
                )
            except KafkaError as error:
                self._told.append((record, error))
                return
            future.add_callback(lambda _metadata, told=record: self._told.append((told, None)))
            future.add_errback(lambda error, told=record: self._told.append((told, error)))

    def serve(self) -> None:
        while self._told:
            delivered, error = self._told.popleft()
            delivered(error, None)

    def close(self, timeout_s: float) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=timeout_s)
            self.serve()

    def _settings(self) -> dict[str, Any]:
        return {
            **settings(self.wish),
            "acks": "all",
            "enable_idempotence": True,
            "delivery_timeout_ms": _NO_LIMIT_MS,
            "max_request_size": MAX_MESSAGE_BYTES,
            "max_block_ms": 1000,
            "allow_auto_create_topics": False,
        }


class PythonClient:
    """The library, as the connector knows it."""

    def reader(self, wish: Wish, user: ReaderUser) -> Reader:
        return PythonReader(wish, user)

    def writer(self, wish: Wish) -> Writer:
        return PythonWriter(wish)

    def visit(self, wish: Wish) -> None:
        find_topic(wish, create=False)


def _connected(wish: Wish, metrics: Mapping[str, float]) -> str:
    return "" if metrics["connection-count"] else words(wish, "not connected")


client = PythonClient()
