"""Kafka: a consumer group per reader, an idempotent producer per writer, transactions where they are asked for."""

from __future__ import annotations

import dataclasses
import uuid
import weakref
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fogline.runtimes import options
from fogline.runtimes.connectors.base import Connector, Sink, Source
from fogline.runtimes.connectors.kafka_client import Client, Wish
from fogline.runtimes.connectors.kafka_sink import KafkaSink
from fogline.runtimes.connectors.kafka_source import KafkaSource
from fogline.runtimes.errors import StageUnusable
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec
from fogline.runtimes.tls import tls_of


class Kafka:
    """The connector as the registry knows it."""

    def __init__(self) -> None:
        self._transactions: weakref.WeakKeyDictionary[Poller, Any] = weakref.WeakKeyDictionary()
        """One for each segment, which is one poller."""

    def source(self, endpoint: EndpointSpec, poller: Poller, window: int) -> Source:
        wish, client = _wish(endpoint), _client(endpoint)
        if not endpoint.exactly_once:
            return KafkaSource(endpoint, poller, window, wish, client.reader)
        from fogline.runtimes.connectors.kafka_transactions import TransactionSource

        return TransactionSource(endpoint, poller, window, wish, self._transaction(poller, wish))

    def sink(self, endpoint: EndpointSpec, poller: Poller) -> Sink:
        wish, client = _wish(endpoint), _client(endpoint)
        if not endpoint.exactly_once:
            return KafkaSink(endpoint, poller, wish, client.writer)
        from fogline.runtimes.connectors.kafka_transactions import TransactionSink

        return TransactionSink(endpoint, poller, wish, self._transaction(poller, wish))

    def _transaction(self, poller: Poller, wish: Wish) -> Any:
        from fogline.runtimes.connectors.kafka_transactions import Transaction

        return self._transactions.setdefault(poller, Transaction(wish))

    def check(self, endpoint: EndpointSpec) -> None:
        name = f"{endpoint.client_id}.check.{uuid.uuid4().hex[:8]}"
        wish = dataclasses.replace(_wish(endpoint), client_id=name, group=name)
        _client(endpoint).visit(wish)

    def release(self, endpoint: EndpointSpec, *, others: bool = False) -> int:
        try:
            from fogline.runtimes.connectors.kafka_admin import end_reader
        except ModuleNotFoundError as error:
            raise StageUnusable(endpoint.stage, _missing(endpoint, error.name)) from None
        return end_reader(_wish(endpoint), others=others)


def _wish(endpoint: EndpointSpec) -> Wish:
    given = options.defaults(options.CONNECTORS["kafka"], endpoint.options)
    login = {key: given[key] for key in ("username", "password", "mechanism") if given.get(key)}
    return Wish(
        server=f"{given['server']}:{given['port']}",
        topic=given["topic"],
        client_id=endpoint.client_id,
        group=given.get("group") or endpoint.group,
        latest=given.get("start") == "latest",
        create=given.get("create", True),
        partitions=given.get("partitions") or 1,
        login=login,
        tls=tls_of(endpoint),
    )


def _client(endpoint: EndpointSpec) -> Client:
    wanted = endpoint.options.get("client")
    if wanted is None:
        wanted = "confluent" if find_spec("confluent_kafka") else "python"
    module = {"confluent": "kafka_confluent", "python": "kafka_python"}[wanted]
    try:
        found: Client = import_module(f"fogline.runtimes.connectors.{module}").client
    except ModuleNotFoundError as error:
        raise StageUnusable(endpoint.stage, _missing(endpoint, error.name)) from None
    return found


def _missing(endpoint: EndpointSpec, library: str | None) -> str:
    return f"queue {endpoint.queue} needs {library}, which is not installed here: pip install 'fogline[kafka]'"


connector: Connector = Kafka()
