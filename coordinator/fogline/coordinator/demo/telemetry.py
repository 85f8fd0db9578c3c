"""This machine's telemetry: recorded for training, then published as a foreign producer would."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

RATE_HZ = 5
LINE_S = 5.0
CONFIRM_S = 5.0


class Telemetry:
    """The example's own `sensors.py` as a process; its records are kept, or go to a topic."""

    def __init__(self, example: Path) -> None:
        argv = [sys.executable, str(example / "sensors.py"), "--rate", str(RATE_HZ)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
        self._records: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._publisher: threading.Thread | None = None
        self._stop = threading.Event()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._records.put(json.loads(line))

    def record(self, seconds: float, target: Path) -> int:
        """Write that many seconds of records as JSON lines; returns how many."""
        count = round(seconds * RATE_HZ)
        with target.open("w") as file:
            for _ in range(count):
                file.write(json.dumps(self._records.get(timeout=LINE_S)) + "\n")
        return count

    def publish(self, port: int, topic: str) -> None:
        """From now on publish every record to a topic of the broker on loopback:`port`.

        What was measured meanwhile is left out: it shows the start of the pipeline itself.
        """
        with contextlib.suppress(queue.Empty):
            while True:
                self._records.get_nowait()
        self._publisher = threading.Thread(target=self._publish, args=(port, topic), daemon=True)
        self._publisher.start()

    def _publish(self, port: int, topic: str) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="demo-sensors")
        client.connect("127.0.0.1", port)
        client.loop_start()
        while not self._stop.is_set():
            try:
                record = self._records.get(timeout=1 / RATE_HZ)
            except queue.Empty:
                continue
            client.publish(topic, json.dumps(record), qos=1).wait_for_publish(CONFIRM_S)
        client.disconnect()
        client.loop_stop()

    def close(self) -> None:
        """End the sensors and the publisher."""
        self._stop.set()
        if self._publisher:
            self._publisher.join(CONFIRM_S)
        self._process.terminate()
        self._process.wait()
        self._reader.join(LINE_S)
