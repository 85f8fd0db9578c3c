"""kafka-python as one who knows it writes it: 500 records, one prediction, all confirmed, one commit."""

from __future__ import annotations

import orjson
from kafka import KafkaConsumer, KafkaProducer

from bench.kafka_peers.judge import arguments

BATCH = 500

server, source, sink, group, judge = arguments()
consumer = KafkaConsumer(
    source,
    bootstrap_servers=server,
    group_id=group,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    max_poll_records=BATCH,
)
producer = KafkaProducer(bootstrap_servers=server, acks="all", linger_ms=5)
while True:
    polled = consumer.poll(timeout_ms=100)
    records = [orjson.loads(message.value) for messages in polled.values() for message in messages]
    if records:
        sent = [producer.send(sink, orjson.dumps(record)) for record in judge.many(records)]
        producer.flush()
        for each in sent:
            each.get()
        consumer.commit()
