"""What an idle agent and a segment process take of a node."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import grpc

from bench.models import write
from bench.process_figures import MB, processor_s, resident_bytes
from bench.raw_mqtt import RawClient
from bench.rows import Row, measured
from bench.size import Size
from fogline.runtimes.spec import StageSpec
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.v1 import operator_coordinator_pb2_grpc as operator_grpc
from support.cluster import Process, cluster, wait_for
from support.mosquitto import Mosquitto
from support.segments import RunningSegment, mqtt_end, segment

SETTLE_S = 3.0
"""After an agent has joined, before it counts as idle."""
SEGMENT_RECORDS = 2000
REGISTERED_WITHIN_S = 30.0


def agent_rows(folder: Path, size: Size) -> list[Row]:
    """Start to registered, then memory and processor time of the last of the agents, connected and idle."""
    with cluster(folder / "cluster") as running, grpc.insecure_channel(running.address) as channel:
        stub = operator_grpc.OperatorCoordinatorStub(channel)
        stub.ListNodes(operator.ListNodesRequest(), timeout=REGISTERED_WITHIN_S, wait_for_ready=True)
        starts_s = []
        for turn in range(size.rounds):
            name = f"idle-{turn}"
            began = time.perf_counter()
            argv = ["--coordinator", running.address, "--name", name, "--layer", "edge"]
            state_dir = str(running.folder / name)
            running.agents[name] = Process(
                name, running.folder, "fogline-agent", "run", *argv, "--state-dir", state_dir
            )
            _until_registered(stub, name)
            starts_s.append(time.perf_counter() - began)
            if turn < size.rounds - 1:
                running.agents[name].end()
        pid = running.agents[name].pid
        time.sleep(SETTLE_S)
        before_s, began = processor_s(pid), time.monotonic()
        time.sleep(size.idle_s)
        share = (processor_s(pid) - before_s) / (time.monotonic() - began)
        return [
            measured("agent, connected and idle: resident memory (Rss)", resident_bytes(pid) / MB, "MB", "<= 48 MB"),
            measured("agent, connected and idle: its share (Pss)", resident_bytes(pid, "Pss") / MB, "MB"),
            measured("agent, connected and idle: processor time", share * 100, "% of a core", "<= 0.5 % of a core"),
            measured("agent, start to registered", statistics.median(starts_s), "s", "<= 1 s"),
        ]


def segment_rows(folder: Path, size: Size) -> list[Row]:
    """A segment with an ONNX model after it has worked."""
    models = write(folder / "models", min(size.records, SEGMENT_RECORDS))
    with Mosquitto(folder / "broker") as broker, RawClient(broker.port) as client:
        client.subscribe("t/out")
        options = {"input": "features", "output": "score"}
        stage = StageSpec("judge", "onnx", ("in",), ("out",), path=str(models.onnx), options=options)
        ends = (mqtt_end("in", "judge", broker.port),), (mqtt_end("out", "judge", broker.port),)
        with RunningSegment(segment(stage, sources=ends[0], sinks=ends[1]), folder / "segment") as running:
            running.until("ready")
            with RawClient(broker.port) as feeder:
                feeder.publish_all("t/in", models.payloads)
            client.collect(len(models.payloads))
            pid = running.process.pid
            return [
                measured("segment process, ONNX over MQTT: resident memory (Rss)", _rss(pid), "MB", "<= 90 MB"),
                measured("segment process, ONNX over MQTT: its share (Pss)", resident_bytes(pid, "Pss") / MB, "MB"),
            ]


def _rss(pid: int) -> float:
    return resident_bytes(pid) / MB


def _until_registered(stub: operator_grpc.OperatorCoordinatorStub, name: str) -> None:
    def registered() -> bool:
        nodes = stub.ListNodes(operator.ListNodesRequest(), timeout=REGISTERED_WITHIN_S).nodes
        return any(node.facts.name == name and node.state == "connected" for node in nodes)

    wait_for(f"{name} registered", registered, REGISTERED_WITHIN_S)
