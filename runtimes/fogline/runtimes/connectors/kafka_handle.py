"""What reader, writer and visitor of confluent-kafka (librdkafka) have in common."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fogline.runtimes.connectors.kafka_client import MAX_MESSAGE_BYTES, OPEN_TIMEOUT_S, Wish, no_topic
from fogline.runtimes.errors import NotConnected

CALL_TIMEOUT_S = 5.0
_AFTER = re.compile(r" \(after \d+ms in state .*")


class Handle:
    """A client of the library, and what it last said about its brokers."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.down = ""
        """Why no broker is reached; empty while one is."""
        self.fatal = ""
        self._words = ""

    def settings(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.wish.server,
            "client.id": self.wish.client_id,
            "allow.auto.create.topics": False,
            "statistics.interval.ms": 1000,
            "stats_cb": self._on_statistics,
            "error_cb": self._on_error,
            "log_level": 0,
            "reconnect.backoff.ms": 200,
            "reconnect.backoff.max.ms": 5000,
            "socket.keepalive.enable": True,
            **login_settings(self.wish),
        }

    def find_topic(self, client: Any, serve: Callable[[], Any], *, create: bool) -> None:
        """Reach a broker, and see that the topic is there or make it. Raises NotConnected."""
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        while True:
            try:
                found = client.list_topics(self.wish.topic, timeout=0.5).topics[self.wish.topic]
            except KafkaException as error:
                serve()
                words = self.down or self._words or said(error.args[0])
                if self.down or time.monotonic() > deadline:
                    raise NotConnected(f"kafka {self.wish.server}: {words}") from None
                continue
            missing = found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
            if found.error is None:
                return
            if not missing or not self.wish.create:
                words = no_topic(self.wish) if missing else said(found.error)
                raise NotConnected(f"kafka {self.wish.server}: topic {self.wish.topic}: {words}")
            if not create:
                return
            self._create(deadline)

    def _create(self, deadline: float) -> None:
        topic = NewTopic(
            self.wish.topic, self.wish.partitions, -1, config={"max.message.bytes": str(MAX_MESSAGE_BYTES)}
        )
        admin = AdminClient({**self.settings(), "statistics.interval.ms": 0})
        try:
            admin.create_topics([topic], operation_timeout=CALL_TIMEOUT_S)[topic.topic].result(CALL_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                words = f"topic {self.wish.topic} cannot be created: {said(error.args[0])}"
                raise NotConnected(f"kafka {self.wish.server}: {words}") from None
        if time.monotonic() > deadline:
            raise NotConnected(f"kafka {self.wish.server}: topic {self.wish.topic} was created, but is not known yet")

    def _on_error(self, error: KafkaError) -> None:
        if is_fatal(error):
            self.fatal = said(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.down = self._words or said(error)
        else:
            self._words = said(error)

    def _on_statistics(self, text: str) -> None:
        known = orjson.loads(text)
        if any(broker["state"] == "UP" for broker in known["brokers"].values()):
            self.down = self._words = ""
        self.on_topics(known["topics"])

    def on_topics(self, topics: Mapping[str, Any]) -> None: ...


def login_settings(wish: Wish) -> dict[str, Any]:
    """Of the library, for what the wish says of login and transport security."""
    login, tls = wish.login, wish.tls
    user = login.get("username")
    found = {"security.protocol": f"{'sasl_' if user else ''}{'ssl' if tls else 'plaintext'}"}
    if tls is not None:
        files = {"ssl.ca.location": tls.ca, "ssl.certificate.location": tls.cert, "ssl.key.location": tls.key}
        found |= {key: path for key, path in files.items() if path}
    if user:
        found |= {
            "sasl.mechanisms": login.get("mechanism") or "PLAIN",
            "sasl.username": user,
            "sasl.password": login.get("password") or "",
        }
    return found


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that says so is of no use any more."""
    return bool(error.fatal()) or error.code() == KafkaError._FATAL


def said(error: KafkaError) -> str:
    """The library's words, without its clock."""
    return _AFTER.sub("", str(error.str()))
