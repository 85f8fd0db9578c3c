"""A real Apache Kafka of one node, in KRaft mode, on free loopback ports."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from support.mosquitto import free_port
from support.server import Server

_ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = Path(os.environ.get("FOGLINE_KAFKA") or _ROOT / "build/kafka")
"""The folder of jars that `tests/install-real-parts.sh` fills."""
_SETTINGS = Path(__file__).with_name("kafka_server")
JAVA = shutil.which("java") or ""


def missing() -> str:
    """What there is not; empty: Kafka can be started."""
    if not JAVA:
        return "java"
    return "" if any(LIBRARIES.glob("kafka_*.jar")) else f"the jars of Kafka in {LIBRARIES}"


class Kafka(Server):
    """`with Kafka(folder) as kafka:` starts it and stops it; `restart` keeps port and data."""

    program, start_timeout_s, stop_timeout_s = "kafka", 40.0, 20.0

    def __init__(
        self, folder: Path, *, host: str = "127.0.0.1", port: int | None = None, extra: tuple[str, ...] = ()
    ) -> None:
        super().__init__(folder)
        self.host = host
        self.port = port or free_port()
        self._controller_port = free_port()
        self._extra = extra

    @property
    def server(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"kafka://{self.server}"

    def start(self, *, wait: bool = True) -> None:
        """Start the broker; return when it answers metadata requests: its port listens long before."""
        config = self.folder / "server.properties"
        if not config.exists():
            self._format(config)
        self._spawn([*self._java("-Xmx512m", "-XX:+UseSerialGC"), "kafka.Kafka", str(config)])
        if wait:
            self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": self.server, "log_level": 0, "reconnect.backoff.max.ms": 200})

        def answers() -> bool:
            try:
                return bool(client.list_topics(timeout=1).brokers)
            except KafkaException:
                return False

        self._wait_until(answers)

    def _format(self, config: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config.write_text("\n".join(self._settings()) + "\n")
        tool = [*self._java("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool"]
        ident = subprocess.run([*tool, "random-uuid"], check=True, capture_output=True, text=True).stdout.split()[-1]
        subprocess.run([*tool, "format", "-t", ident, "-c", str(config)], check=True, capture_output=True)

    def _java(self, *options: str) -> list[str]:
        return [JAVA, *options, "-cp", f"{_SETTINGS}:{LIBRARIES}/*"]

    def _settings(self) -> list[str]:
        broker, controller = f"PLAINTEXT://{self.server}", f"CONTROLLER://127.0.0.1:{self._controller_port}"
        defaults = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"{broker},{controller}",
            "advertised.listeners": broker,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
        }
        given = dict(line.split("=", 1) for line in self._extra)
        return [f"{key}={value}" for key, value in (defaults | given).items()]
