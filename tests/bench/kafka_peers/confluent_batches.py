"""The ceiling: confluent-kafka by hand, 5000 records, one prediction, flush, commit."""

from __future__ import annotations

import orjson
from confluent_kafka import Consumer, KafkaException, Producer

from bench.kafka_peers.judge import arguments

BATCH = 5000


def failed(error: object, _message: object) -> None:
    """Called for what could not be delivered, and for nothing else."""
    raise KafkaException(error)


server, source, sink, group, judge = arguments()
consumer = Consumer(
    {
        "bootstrap.servers": server,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
)
producer = Producer(
    {
        "bootstrap.servers": server,
        "enable.idempotence": True,
        "linger.ms": 5,
        "delivery.report.only.error": True,
        "on_delivery": failed,
    }
)
consumer.subscribe([source])
while True:
    messages = consumer.consume(BATCH, 0.1)
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
    if messages:
        for record in judge.many([orjson.loads(message.value() or b"") for message in messages]):
            producer.produce(sink, orjson.dumps(record))
        producer.flush()
        consumer.commit(asynchronous=False)
