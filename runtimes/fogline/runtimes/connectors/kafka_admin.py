"""Administration of Kafka through kafka-python, also of what librdkafka does not offer: a static member leaves its
group only when it is removed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import MemberToRemove, NewTopic, OffsetSpec
from kafka.errors import (
    GroupIdNotFoundError,
    KafkaError,
    NonEmptyGroupError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from fogline.runtimes.connectors.kafka_client import MAX_MESSAGE_BYTES, OPEN_TIMEOUT_S, Wish, no_topic
from fogline.runtimes.errors import NotConnected

_SAYS_NOTHING = "socket disconnected"


class _Overheard(logging.Handler):
    """Why a connection failed: the library tells its log, and its caller only that it did."""

    words = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "kafka.net.connection" and isinstance(record.args, tuple) and record.args:
            text = str(record.args[-1])
            if _SAYS_NOTHING not in text or not self.words:
                self.words = text


_overheard = _Overheard(logging.ERROR)
_log = logging.getLogger("kafka")
_log.setLevel(logging.ERROR)
_log.propagate = False  # what it complains of is said by the connector, once
_log.addHandler(_overheard)


def end_reader(wish: Wish, *, others: bool) -> int:
    """Remove the member and, unless there are `others`, the group with its offsets once the last one is gone. Returns
    how many records are not committed then. Raises NotConnected."""
    admin = said_of(wish, lambda: KafkaAdminClient(**settings(wish)))
    try:
        left = 0 if others else _behind(admin, wish)
        admin.remove_group_members(wish.group, [MemberToRemove(group_instance_id=wish.client_id)])
        if not others:
            admin.delete_groups([wish.group])
    except GroupIdNotFoundError:
        return 0
    except NonEmptyGroupError:  # its other members are removed one after the other
        return 0
    except KafkaError as error:
        raise NotConnected(words(wish, error)) from None
    finally:
        admin.close()
    return left


def _behind(admin: Any, wish: Wish) -> int:
    """Records after the committed offsets; where none is committed, all that there are."""
    committed = admin.list_group_offsets({wish.group: None})[wish.group]
    if not committed:
        return 0
    numbers = [each["partition_index"] for each in admin.describe_topics([wish.topic])[0]["partitions"]]
    places = [TopicPartition(wish.topic, number) for number in numbers]
    first = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
    last = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
    done = {place: committed[place].offset if place in committed else -1 for place in places}
    return sum(last[place].offset - max(done[place], first[place].offset) for place in places)


def find_topic(wish: Wish, *, create: bool) -> None:
    admin = said_of(wish, lambda: KafkaAdminClient(**settings(wish)))
    try:
        found = admin.describe_topics([wish.topic])[0]
        if not found["error_code"]:
            return
        if found["error_code"] != UnknownTopicOrPartitionError.errno:
            raise NotConnected(words(wish, f"topic {wish.topic}: error {found['error_code']}"))
        if not wish.create:
            raise NotConnected(words(wish, f"topic {wish.topic}: {no_topic(wish)}"))
        if create:
            config = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
            admin.create_topics([NewTopic(wish.topic, wish.partitions, -1, topic_configs=config)])
            admin.wait_for_topics([wish.topic])
    except TopicAlreadyExistsError:
        return
    except KafkaError as error:
        raise NotConnected(words(wish, f"topic {wish.topic}: {error}")) from None
    finally:
        admin.close()


def settings(wish: Wish) -> dict[str, Any]:
    """Of the library, for every kind of client."""
    login, tls = wish.login, wish.tls
    user = login.get("username")
    found: dict[str, Any] = {
        "bootstrap_servers": wish.server,
        "client_id": wish.client_id,
        "security_protocol": f"{'SASL_' if user else ''}{'SSL' if tls else 'PLAINTEXT'}",
        "bootstrap_timeout_ms": int(OPEN_TIMEOUT_S * 1000),
        "reconnect_backoff_ms": 200,
        "reconnect_backoff_max_ms": 5000,
    }
    if tls is not None:
        found["ssl_context"] = tls.context()
    if user:
        found |= {
            "sasl_mechanism": login.get("mechanism") or "PLAIN",
            "sasl_plain_username": user,
            "sasl_plain_password": login.get("password") or "",
        }
    return found


def said_of(wish: Wish, make: Callable[[], Any]) -> Any:
    """What `make` makes. Raises NotConnected with the reason."""
    _overheard.words = ""
    try:
        return make()
    except KafkaError as error:
        raise NotConnected(words(wish, _overheard.words or error)) from None


def words(wish: Wish, error: object) -> str:
    """The sentence for what went wrong there."""
    return f"kafka {wish.server}: {error or type(error).__name__}"
