"""Publishes a CSV file of `timestamp,value` as records, one JSON line each.

    python publish_csv.py cpu.csv | coord send anomaly-csv -
    python publish_csv.py cpu.csv --server localhost --topic fogline-demo-csv/raw

The second form is a producer that knows nothing of Fogline: it talks to the broker and counts a record
only when the broker has confirmed it.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

IN_FLIGHT = 500
"""Records handed to the broker before the first of them must be confirmed."""
CONFIRM_S = 30.0


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The records of the file, {"timestamp", "value"}. Raises ValueError naming the line that is not one."""
    with path.open(newline="") as lines:
        reader = csv.DictReader(lines)
        if not {"timestamp", "value"} <= set(reader.fieldnames or ()):
            raise ValueError(f"the first line must name the columns timestamp,value; it names {reader.fieldnames}")
        for row in reader:
            try:
                yield {"timestamp": row["timestamp"], "value": float(row["value"])}
            except (TypeError, ValueError) as error:
                raise ValueError(f"line {reader.line_num}: {row['value']!r} is not a number") from error


def publish(records: Iterator[dict[str, Any]], server: str, port: int, topic: str) -> int:
    """Publish with QoS 1 and return how many records the broker confirmed.

    Raises OSError when the broker cannot be reached, refuses the login or stops confirming.
    """
    client = Client(CallbackAPIVersion.VERSION2)
    answers: Queue[ReasonCode] = Queue()
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.put(reason)
    client.connect(server, port)
    client.loop_start()
    try:
        reason = answers.get(timeout=CONFIRM_S)
        if reason.is_failure:
            raise ConnectionRefusedError(f"{server}:{port} refused the connection: {reason}")
        return _confirmed(client, topic, records)
    except (Empty, RuntimeError) as error:
        raise ConnectionError(f"the connection to {server}:{port} was lost: {error!r}") from error
    finally:
        client.disconnect()
        client.loop_stop()


def _confirmed(client: Client, topic: str, records: Iterator[dict[str, Any]]) -> int:
    confirmed = 0
    while window := list(islice(records, IN_FLIGHT)):
        for each in [client.publish(topic, json.dumps(record), qos=1) for record in window]:
            each.wait_for_publish(CONFIRM_S)
            if not each.is_published():
                raise TimeoutError(f"no confirmation within {CONFIRM_S:.0f} s; {confirmed} records were confirmed")
            confirmed += 1
    return confirmed


def main() -> int:
    """Print the records, or publish them when a server is given."""
    parser = argparse.ArgumentParser(description="Publish a CSV file of timestamp,value.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--server", help="MQTT broker; without it the records go to standard output")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--topic", default="fogline-demo-csv/raw")
    arguments = parser.parse_args()
    try:
        if arguments.server is None:
            for record in rows(arguments.file):
                print(json.dumps(record))
        else:
            confirmed = publish(rows(arguments.file), arguments.server, arguments.port, arguments.topic)
            print(f"{confirmed} records confirmed by {arguments.server}:{arguments.port}", file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"{arguments.file}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
