"""The reading end of Kafka through confluent-kafka (librdkafka)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from fogline.runtimes.connectors.kafka_client import (
    NOWHERE,
    SESSION_TIMEOUT_MS,
    Fetched,
    Place,
    ReaderUser,
    Wish,
    place_of,
)
from fogline.runtimes.connectors.kafka_handle import CALL_TIMEOUT_S, Handle, is_fatal, said

_RETRY_COMMIT_S = 1.0
_NO_LONGER_OURS = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._NO_OFFSET,
}


class ConfluentReader(Handle):
    def __init__(self, wish: Wish, user: ReaderUser) -> None:
        super().__init__(wish)
        self.lag: int | None = None
        self._user = user
        self._consumer: Consumer | None = None
        self._complaint = ""
        self._committing: dict[int, Place] = {}
        self._retry_at = 0.0
        self._in_callback = False
        self._paused = False
        self._assigned_anew = False

    @property
    def error(self) -> str:
        words = self.down or self._complaint
        return f"kafka {self.wish.server}: {words}" if words else ""

    def open(self) -> None:
        if self._consumer is None:
            self._consumer = Consumer(self._settings())
        self.find_topic(self._consumer, lambda: self._poll(0, 0.0), create=True)

    def subscribe(self) -> None:
        assert self._consumer is not None
        self._consumer.subscribe(
            [self.wish.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def fetch(self, limit: int) -> list[Fetched]:
        if self._retry_at and time.monotonic() >= self._retry_at:
            self.commit({})
        if self._assigned_anew:
            # The library keeps a partition paused that went and came back, whatever was resumed meanwhile.
            self._assigned_anew = False
            self.pause(self._paused)
        fetched, topic = list[Fetched](), self.wish.topic
        for message in self._poll(limit, 0.0):
            error = message.error()
            if error is not None:
                self._on_message_error(error)
                continue
            time_ms = message.timestamp()[1]
            fetched.append(
                Fetched(
                    topic,
                    message.partition(),
                    message.offset(),
                    message.value() or b"",
                    message.key(),
                    time_ms if time_ms > 0 else 0,
                    message.headers() or (),
                )
            )
        if fetched:
            self._complaint = ""
        return fetched

    def commit(self, places: Mapping[int, Place]) -> None:
        assert self._consumer is not None
        self._committing.update(places)
        self._retry_at = 0.0
        if self._committing:
            self._consumer.commit(offsets=self._committed(self._committing), asynchronous=True)

    def commit_now(self, places: Mapping[int, Place], timeout_s: float) -> None:
        assert self._consumer is not None
        if self._in_callback:
            self._commit_and_wait({**self._committing, **places})
            return
        self.commit(places)
        deadline = time.monotonic() + timeout_s
        while self._committing and time.monotonic() < deadline:
            self._poll(0, 0.02)

    def pause(self, paused: bool) -> None:
        assert self._consumer is not None
        self._paused = paused
        partitions = self._consumer.assignment()
        (self._consumer.pause if paused else self._consumer.resume)(partitions)

    def lowest(self, partition: int) -> int:
        assert self._consumer is not None
        try:
            return int(self._consumer.get_watermark_offsets(self._partition(partition), timeout=CALL_TIMEOUT_S)[0])
        except KafkaException:
            return 0  # not known: then nothing is said of a gap

    def membership(self) -> Any:
        """What stands for this member in a transaction (KIP-447)."""
        assert self._consumer is not None
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()  # revokes what it has, and that may commit
            self._consumer = None

    def on_topics(self, topics: Mapping[str, Any]) -> None:
        partitions = topics.get(self.wish.topic, {}).get("partitions", {})
        lags = [each["consumer_lag"] for each in partitions.values() if each["consumer_lag"] >= 0]
        self.lag = sum(lags) if lags else None

    def _settings(self) -> dict[str, Any]:
        return {
            **self.settings(),
            "group.id": self.wish.group,
            "group.instance.id": self.wish.client_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "queued.max.messages.kbytes": 16_384,
            "fetch.queue.backoff.ms": 10,
            "on_commit": self._on_commit,
        }

    def _poll(self, limit: int, timeout_s: float) -> list[Any]:
        """Callbacks run in here. The library serves them only when it is asked for at least one record."""
        assert self._consumer is not None
        if limit:
            found: list[Any] = self._consumer.consume(limit, timeout_s)
            return found
        message = self._consumer.poll(timeout_s)
        return [] if message is None else [message]

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with _Inside(self):
            places = dict.fromkeys((each.partition for each in partitions), NOWHERE)
            try:
                for each in consumer.committed(partitions, timeout=CALL_TIMEOUT_S) if partitions else ():
                    places[each.partition] = place_of(each.offset, each.metadata)
                if self.wish.latest:
                    places |= self._at_the_end([each for each in places if places[each] == NOWHERE])
            except KafkaException as error:
                self._complaint = said(error.args[0])
            self._user.on_assigned(places)
            self._assigned_anew = True

    def _at_the_end(self, partitions: Sequence[int]) -> dict[int, Place]:
        """Commit the end of each partition, so that from here on nothing is missed."""
        assert self._consumer is not None
        ends = {
            each: Place(self._consumer.get_watermark_offsets(self._partition(each), timeout=CALL_TIMEOUT_S)[1])
            for each in partitions
        }
        self._commit_and_wait(ends)
        return ends

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with _Inside(self):
            self._user.on_revoked([each.partition for each in partitions])
            self._forget(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(partitions)
        self._user.on_lost([each.partition for each in partitions])

    def _forget(self, partitions: Sequence[TopicPartition]) -> None:
        for each in partitions:
            self._committing.pop(each.partition, None)

    def _commit_and_wait(self, places: Mapping[int, Place]) -> None:
        assert self._consumer is not None
        if not places:
            return
        try:
            self._consumer.commit(offsets=self._committed(places), asynchronous=False)
        except KafkaException as error:
            self._complaint = said(error.args[0])

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is None or error.code() in _NO_LONGER_OURS:
            for each in partitions:
                if self._committing.get(each.partition, NOWHERE).offset == each.offset:
                    del self._committing[each.partition]
        else:
            self._retry_at = time.monotonic() + _RETRY_COMMIT_S

    def _on_message_error(self, error: KafkaError) -> None:
        self._complaint = said(error)
        if is_fatal(error) or error.code() == KafkaError.FENCED_INSTANCE_ID:
            self._user.on_fenced()

    def _on_error(self, error: KafkaError) -> None:
        super()._on_error(error)
        if is_fatal(error):
            self._user.on_fenced()

    def _partition(self, number: int) -> TopicPartition:
        return TopicPartition(self.wish.topic, number)

    def _committed(self, places: Mapping[int, Place]) -> list[TopicPartition]:
        topic = self.wish.topic
        return [TopicPartition(topic, each, place.offset, place.metadata) for each, place in places.items()]


class _Inside:
    """While one of the library's rebalance callbacks runs, it may only be called in ways that wait."""

    def __init__(self, reader: ConfluentReader) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        self._reader._in_callback = True

    def __exit__(self, *_about: object) -> None:
        self._reader._in_callback = False
