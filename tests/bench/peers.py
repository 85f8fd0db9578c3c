"""The programs that Fogline is measured against, each as a competent person writes it by hand.

    python -m bench.peers KIND PORT MODEL

`tutorial` is what the tutorials show, and loses what is in flight when it dies. The others are at least
once, as Fogline is: a message is acknowledged only when what was made of it is confirmed. All keep their
session under one client id, read `bench/in`, write `bench/out` and run until they are killed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Callable
from typing import Any

import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.raw_mqtt import RawClient

CLIENT_ID, SOURCE, SINK = "peer", "bench/in", "bench/out"
KEEP_ALIVE_S = 60

Predict = Callable[[list[list[float]]], list[int]]


def load(path: str) -> Predict:
    """Rows in, answers out, for either file."""
    if path.endswith(".joblib"):
        import joblib

        model = joblib.load(path)
        return lambda rows: list(model.predict(rows).tolist())
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda rows: list(session.run(None, {"features": np.array(rows, dtype=np.float64)})[0].tolist())


def tutorial(port: int, predict: Predict) -> None:
    """paho as shipped, json, one prediction per record, published in the callback."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, CLIENT_ID, clean_session=False)

    def on_message(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        record = json.loads(message.payload)
        record["score"] = predict([record["features"]])[0]
        client.publish(SINK, json.dumps(record), qos=1)

    client.on_connect = lambda client, *_: client.subscribe(SOURCE, qos=1)
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_forever()


def naive(port: int, predict: Predict) -> None:
    """The tutorial made at least once: acknowledged when its publish is confirmed. paho is still as shipped."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, CLIENT_ID, clean_session=False, manual_ack=True)
    waiting: dict[int, mqtt.MQTTMessage] = {}

    def on_message(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        record = json.loads(message.payload)
        record["score"] = predict([record["features"]])[0]
        waiting[client.publish(SINK, json.dumps(record), qos=1).mid] = message

    client.on_connect = lambda client, *_: client.subscribe(SOURCE, qos=1)
    client.on_message = on_message
    client.on_publish = lambda client, _data, mid, *_: _acknowledge(client, waiting.pop(mid))
    client.connect("127.0.0.1", port)
    client.loop_forever()


def tuned(port: int, predict: Predict) -> None:
    """No Nagle, no window of paho's own, orjson, one prediction per record, acknowledged after its confirmation."""
    client = _tuned_client()
    waiting: dict[int, mqtt.MQTTMessage] = {}

    def on_message(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        record = orjson.loads(message.payload)
        record["score"] = predict([record["features"]])[0]
        waiting[client.publish(SINK, orjson.dumps(record), qos=1).mid] = message

    client.on_message = on_message
    client.on_publish = lambda client, _data, mid, *_: _acknowledge(client, waiting.pop(mid))
    client.connect("127.0.0.1", port)
    client.loop_forever()


def batches(port: int, predict: Predict) -> None:
    """The same, with one prediction for all that one turn of the loop brought."""
    client = _tuned_client()
    waiting: dict[int, mqtt.MQTTMessage] = {}
    arrived: list[mqtt.MQTTMessage] = []
    client.on_message = lambda _client, _data, message: arrived.append(message)
    client.on_publish = lambda client, _data, mid, *_: _acknowledge(client, waiting.pop(mid))
    client.connect("127.0.0.1", port)
    while client.loop() == mqtt.MQTT_ERR_SUCCESS:
        if not arrived:
            continue
        records = [orjson.loads(message.payload) for message in arrived]
        answers = predict([record["features"] for record in records])
        for message, record, answer in zip(arrived, records, answers, strict=True):
            record["score"] = answer
            waiting[client.publish(SINK, orjson.dumps(record), qos=1).mid] = message
        arrived.clear()


def relay(port: int, predict: Predict) -> None:
    """No work at all: what the broker can pass on. `predict` is not called; the session is there already."""
    with contextlib.suppress(ConnectionResetError), RawClient(port, CLIENT_ID) as client:
        client.relay(SINK)


def _tuned_client() -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, CLIENT_ID, clean_session=False, manual_ack=True)
    client.max_inflight_messages_set(0)
    client.on_socket_open = lambda _client, _data, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.on_connect = lambda client, *_: client.subscribe(SOURCE, qos=1)
    return client


def _acknowledge(client: mqtt.Client, message: mqtt.MQTTMessage) -> None:
    client.ack(message.mid, message.qos)


KINDS: dict[str, Callable[[int, Predict], None]] = {
    "naive": naive,
    "tutorial": tutorial,
    "tuned": tuned,
    "batches": batches,
    "relay": relay,
}

if __name__ == "__main__":
    kind, port, model = sys.argv[1:]
    KINDS[kind](int(port), load(model))
