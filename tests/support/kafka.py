"""A real Apache Kafka of one node, in KRaft mode, on free loopback ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

from support.mosquitto import free_port

START_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 20.0
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


class Kafka:
    """`with Kafka(folder) as kafka:` starts it and stops it; `restart` keeps port and data."""

    def __init__(
        self, folder: Path, *, host: str = "127.0.0.1", port: int | None = None, extra: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.host = host
        self.port = port or free_port()
        self._controller_port = free_port()
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Kafka:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

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
        with (self.folder / "kafka.log").open("ab") as log:
            arguments = [*self._java("-Xmx512m", "-XX:+UseSerialGC"), "kafka.Kafka", str(config)]
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log)
        if wait:
            self.wait_until_it_answers()

    def stop(self) -> None:
        """SIGTERM: the broker closes its logs and ends."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, as when the machine goes away."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop (if it runs) and start again on the same port with the same data."""
        self.stop()
        self.start()

    def log(self) -> str:
        return (self.folder / "kafka.log").read_text(errors="replace")

    def wait_until_it_answers(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        assert self._process is not None
        client = AdminClient({"bootstrap.servers": self.server, "log_level": 0, "reconnect.backoff.max.ms": 200})
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"Kafka ended with {self._process.returncode}:\n{self.log()}")
            try:
                if client.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"Kafka did not answer within {START_TIMEOUT_S} s:\n{self.log()}")

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

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
