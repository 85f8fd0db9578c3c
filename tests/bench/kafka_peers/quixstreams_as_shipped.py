"""quixstreams as its guide shows it: a function on each record of a topic."""

from __future__ import annotations

from quixstreams import Application

from bench.kafka_peers.judge import arguments

server, source, sink, group, judge = arguments()
app = Application(broker_address=server, consumer_group=group, auto_offset_reset="earliest")
stream = app.dataframe(app.topic(source, value_deserializer="json"))
stream.apply(judge.one).to_topic(app.topic(sink, value_serializer="json"))
app.run()
