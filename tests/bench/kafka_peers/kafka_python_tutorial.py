"""What the tutorials of kafka-python show: one record, predict, wait for the broker, commit; again."""

from __future__ import annotations

import json

from kafka import KafkaConsumer, KafkaProducer

from bench.kafka_peers.judge import arguments

server, source, sink, group, judge = arguments()
consumer = KafkaConsumer(
    source, bootstrap_servers=server, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
)
producer = KafkaProducer(bootstrap_servers=server, acks="all")
for message in consumer:
    record = judge.one(json.loads(message.value))
    producer.send(sink, json.dumps(record).encode()).get()
    consumer.commit()
