"""bytewax with the model on whole batches (`flat_map_batch`), 1000 records of its source at a time."""

from __future__ import annotations

from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from bench.kafka_peers.judge import arguments

BATCH = 1000

server, source, sink, group, judge = arguments()


def work(messages: list[Any]) -> list[Any]:
    """A batch as it comes from the source."""
    records = judge.many([orjson.loads(message.value) for message in messages])
    return [KafkaSinkMessage(None, orjson.dumps(record)) for record in records]


flow = Dataflow("peer")
read = op.input("read", flow, KafkaSource([server], [source], batch_size=BATCH))
judged = op.flat_map_batch("judge", read, work)
op.output("write", judged, KafkaSink([server], sink))
cli_main(flow)
