"""`coord demo`: three nodes of this machine watch its own telemetry and report a real disturbance."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc

from fogline.coordinator.cli.client import connect
from fogline.coordinator.cli.deployments import submit_ready
from fogline.coordinator.cli.documents import read
from fogline.coordinator.cli.output import Output, say
from fogline.coordinator.demo.disturbance import busy, cpu_burn, network_burst
from fogline.coordinator.demo.live import LiveTable
from fogline.coordinator.local.broker import start_broker
from fogline.coordinator.local.children import free_port
from fogline.coordinator.local.cluster import Interrupted, LocalCluster, local_cluster
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from fogline.wire.terms import ErrorKind, FoglineError

NODES = {"edge_node": "edge", "cloud_1": "fog", "cloud_2": "cloud"}
RECORD_S = 15.0
CALM_S = 5.0
DISTURB_S = 8.0
DISTURBANCES = (("CPU burn", cpu_burn), ("network burst", network_burst))
"""The second when the first cannot stand out, or did not."""
NO_ANOMALY = 1
INTERRUPTED = 130


def run_demo(*, keep: bool) -> int:
    """Run the demo; returns the exit code."""
    absent = [name for name in ("psutil", "onnx", "onnxruntime", "paho") if find_spec(name) is None]
    if absent:
        sentence = f"the demo needs {', '.join(absent)}: pip install 'fogline[demo]'"
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
    try:
        with local_cluster() as cluster:
            return _run(cluster, keep)
    except Interrupted:
        say("interrupted; everything was ended")
        return INTERRUPTED


def _run(cluster: LocalCluster, keep: bool) -> int:
    from fogline.coordinator.demo.telemetry import Telemetry

    port = free_port()
    print(start_broker(cluster.children, cluster.folder / "broker", port))
    for name, layer in NODES.items():
        cluster.start_agent(name, layer)
    cluster.wait_for_nodes(len(NODES))
    print(f"started a coordinator on {cluster.address} and the agents {', '.join(NODES)}")
    example = cluster.folder / "example"
    shutil.copytree(_example(), example, ignore=shutil.ignore_patterns("models", "__pycache__"))
    telemetry = Telemetry(example)
    try:
        return _watch(cluster, example, telemetry, port, keep)
    finally:
        telemetry.close()


def _watch(cluster: LocalCluster, example: Path, telemetry: Any, port: int, keep: bool) -> int:
    record = example / "record.jsonl"
    print(f"recording CPU, network and disk of this machine for {RECORD_S:g} s ...")
    telemetry.record(RECORD_S, record)
    argv = [
        sys.executable,
        str(example / "train.py"),
        str(record),
        "--output",
        str(example / "models" / "detector.onnx"),
    ]
    subprocess.run(argv, check=True, cwd=example)
    ready = read([example / "pipeline.json", _site(example, port)])
    id_ = ready.document.id
    with connect(cluster.address) as stub:
        if code := submit_ready(stub, ready, output_=Output.TABLE):
            return code
        telemetry.publish(port, str(ready.document.queues["q1"].props["topic"]))
        code = _disturb(stub, id_, record)
    if keep and code == 0:
        say(f"left running: coord status {id_} --coordinator {cluster.address}; Ctrl-C ends it")
        while True:
            signal.pause()
    return code


def _disturb(stub: operator_grpc.OperatorCoordinatorStub, id_: str, record: Path) -> int:
    """Calm, then a disturbance, until an anomaly of its time comes out of the last queue; the verdict."""
    anomalies = Anomalies(stub, id_)
    live = LiveTable(stub, id_)
    live.show_until(lambda: False, CALM_S)
    burst_only = busy(record)
    for name, disturb in DISTURBANCES[burst_only:]:
        print(f"--- a real {name} begins ---")
        began_at = datetime.now(UTC)
        with disturb():
            live.show_until(partial(anomalies.since, began_at), DISTURB_S)
        if anomaly := anomalies.since(began_at):
            took_s = anomalies.seen_at - began_at.timestamp()
            passed = f"{live.rows[0]['in']} records in, through {len(live.rows)} stages on {len(NODES)} nodes"
            print(f"anomaly: {json.dumps(anomaly)}")
            print(f"verdict: OK, the {name} was reported {took_s:.1f} s after it began ({passed})")
            return 0
        print(f"no anomaly came out of the last queue within {DISTURB_S:g} s of the {name}")
    print("verdict: FAILED, nothing was reported; is this machine so busy that no disturbance stands out?")
    return NO_ANOMALY


class Anomalies:
    """What comes out of the last queue, by `tap`."""

    def __init__(self, stub: operator_grpc.OperatorCoordinatorStub, id_: str) -> None:
        self._calls = stub.Tap(operator.TapRequest(id=id_))
        self._found: list[dict[str, Any]] = []
        self.seen_at = 0.0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for reply in self._calls:
                self._found += [json.loads(line) for line in reply.data.splitlines()]
        except grpc.RpcError:
            return  # the demo is over, or says so itself when nothing arrives

    def since(self, moment: datetime) -> dict[str, Any] | None:
        """The first anomaly measured after `moment`."""
        for each in self._found:
            if datetime.fromisoformat(each["timestamp"]) >= moment:
                self.seen_at = self.seen_at or time.time()
                return each
        return None


def _site(example: Path, port: int) -> Path:
    """An overlay that moves every queue to our own broker."""
    queues = json.loads((example / "pipeline.json").read_text())["queues"]
    site = example / "site.json"
    site.write_text(json.dumps({"queues": {name: {"props": {"port": port}} for name in queues}}))
    return site


def _example() -> Path:
    """The example's folder: inside the installed package, or in the source tree."""
    here = Path(__file__).parent
    places = [here / "example", here.parents[3] / "examples" / "anomaly-detection"]
    found = next((place for place in places if (place / "pipeline.json").is_file()), None)
    if found is None:
        raise FoglineError(ErrorKind.INTERNAL, f"the example is missing from this installation: {places[0]}")
    return found
