"""The whole scenario on this machine: trains the model, makes the repositories, deploys both forms, compares.

    python run.py --mqtt localhost:1883 --kafka localhost:9092

Needs the commands `coord`, `fogline-agent` and `git`, and both brokers. For the training TensorFlow is installed into
an environment of its own, unless `--python` names one; the node that runs the model gets its own from the coordinator.
What comes out of the pipeline is compared with the same computed offline, in plain Keras. Everything ends with the
script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer
from telemetry import records

HERE = Path(__file__).parent
WORK = HERE / "work"
BIN = Path(sys.executable).parent
NODES = {"edge_node": "edge", "cloud_1": "cloud", "cloud_2": "cloud"}
TENSORFLOW = "tensorflow-cpu>=2.16" if os.uname().machine == "x86_64" else "tensorflow>=2.16"
FORMS = {"distributed": ("distributed.json",), "atomic": ("distributed.json", "atomic.json")}
TOLERANCE = 1e-5
PATIENCE_S = 120.0


def main() -> int:
    """Prepare, deploy, send, compare; 0 when every answer is as computed offline."""
    parser = argparse.ArgumentParser(description="Run the LSTM scenario on this machine and check its answers.")
    parser.add_argument("--mqtt", default="localhost:1883", metavar="HOST:PORT")
    parser.add_argument("--kafka", default="localhost:9092", metavar="HOST:PORT")
    parser.add_argument("--records", type=int, default=600, help="measurements to send (default: 600)")
    parser.add_argument("--form", choices=[*FORMS, "both"], default="both")
    parser.add_argument("--python", type=Path, help="a Python with TensorFlow, for the training; else one is made")
    given = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    recording = WORK / "records.jsonl"
    python = given.python or training_environment()
    train(python)
    for name in ("preparation", "outliers_filter"):
        make_repository(name)
    lines = [json.dumps(each) for each in records(given.records, seed=2, odd=True)]
    recording.write_text("\n".join(lines) + "\n")
    expected = offline(python, recording)
    print(f"offline: {len(expected)} of {given.records} measurements end an anomalous window", flush=True)
    with cluster() as address:
        forms = FORMS if given.form == "both" else {given.form: FORMS[given.form]}
        return max(run(form, files, address, given, expected) for form, files in forms.items())


def training_environment() -> Path:
    """The Python of an environment that holds TensorFlow; made once."""
    folder = WORK / ".venv"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print("installing TensorFlow for the training ...", flush=True)
        subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--clear", folder], check=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*install, TENSORFLOW, "numpy"], check=True)
        (folder / "complete").touch()
    return python


def train(python: Path) -> None:
    """Write lstm.h5 and limit.json, unless they are there."""
    if not (WORK / "lstm.h5").exists():
        print("training ...", flush=True)
        keras(python, WORK)


def offline(python: Path, recording: Path) -> list[dict[str, Any]]:
    """What the pipeline is to answer."""
    return [json.loads(line) for line in keras(python, WORK, "--offline", recording).splitlines()]


def keras(python: Path, *words: Any) -> str:
    """What train.py prints; what TensorFlow says beside it is shown only when it fails."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    argv = [python, HERE / "train.py", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def make_repository(name: str) -> None:
    """`work/NAME.git`, a bare repository with the code of that stage; the same content gives the same commit."""
    bare = WORK / f"{name}.git"
    shutil.rmtree(bare, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(HERE / name, scratch, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        if name == "outliers_filter":
            shutil.copy(WORK / "limit.json", scratch)
        author = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in AUTHOR.items()}
        for words in (
            ["init", "--quiet", "--initial-branch=main"],
            ["add", "."],
            ["commit", "--quiet", "--message", f"The {name} stage"],
            ["clone", "--quiet", "--bare", ".", str(bare.absolute())],
        ):
            subprocess.run(["git", *words], cwd=scratch, check=True, env={**os.environ, **author})


AUTHOR = {"NAME": "Example", "EMAIL": "example@localhost", "DATE": "2026-01-01T00:00:00Z"}


@contextmanager
def cluster() -> Iterator[str]:
    """A coordinator and three agents whose stages get environments from its store; yields its address."""
    with tempfile.TemporaryDirectory(prefix="lstm-anomaly-") as scratch, ExitStack() as running:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        serve = [BIN / "coord", "serve", "--listen", address, "--state-dir", f"{scratch}/coordinator"]
        running.enter_context(started("coordinator", serve))
        for name, layer in NODES.items():
            agent = [BIN / "fogline-agent", "run", "--coordinator", address, "--name", name, "--layer", layer]
            agent += ["--state-dir", f"{scratch}/{name}", "--environments", "store", "--tied"]
            running.enter_context(started(name, agent))
        wait_for_nodes(address)
        yield address


@contextmanager
def started(name: str, argv: list[Any]) -> Iterator[None]:
    """A process until the end of the block; what it says goes to work/NAME.log."""
    with (WORK / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def wait_for_nodes(address: str) -> None:
    """Return once all three have joined."""
    deadline = time.monotonic() + PATIENCE_S
    argv = [BIN / "coord", "nodes", "--coordinator", address, "--output", "json"]
    while time.monotonic() < deadline:
        done = subprocess.run(argv, capture_output=True, check=False)
        if done.returncode == 0 and sum(each["state"] == "connected" for each in json.loads(done.stdout)) == len(NODES):
            return
        time.sleep(0.2)
    raise SystemExit(f"the nodes did not join within {PATIENCE_S:g} s: see {WORK}/*.log")


def run(form: str, files: tuple[str, ...], address: str, given: Any, expected: list[dict[str, Any]]) -> int:
    """Deploy one form, send the recording, compare what its last queue gets, delete it again."""
    document = json.loads((HERE / files[-1]).read_text())
    queues = site_queues(files, given)
    site = WORK / f"{form}-site.json"
    site.write_text(json.dumps({"queues": queues}, indent=2))
    coord(address, "submit", *(HERE / file for file in files), site)
    coord(address, "send", document["id"], WORK / "records.jsonl")
    answers = list(consumed(given.kafka, queues["q4"]["props"]["topic"], len(expected)))
    coord(address, "status", document["id"])
    coord(address, "delete", document["id"])
    return compared(form, answers, expected)


def coord(address: str, command: str, *words: Any) -> None:
    """A command of `coord`, its output shown. Raises SystemExit with its code when it fails."""
    print(f"$ coord {command} {' '.join(str(word) for word in words)}", flush=True)
    code = subprocess.run([BIN / "coord", command, *words, "--coordinator", address], check=False).returncode
    if code:
        raise SystemExit(code)


def site_queues(files: tuple[str, ...], given: Any) -> dict[str, Any]:
    """An overlay's queues: where the brokers of this site are, and topics that nobody has used before."""
    queues: dict[str, Any] = {}
    for file in files:
        queues |= json.loads((HERE / file).read_text())["queues"]
    found = {}
    for name, queue in queues.items():
        if queue is not None:
            server, port = (given.mqtt if name in ("q1", "q2") else given.kafka).rsplit(":", 1)
            topic = f"{queue['props']['topic']}-{os.getpid()}"
            found[name] = {"props": {"server": server, "port": int(port), "topic": topic}}
    return found


def consumed(kafka: str, topic: str, count: int) -> Iterator[dict[str, Any]]:
    """So many records of the topic from its beginning."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    deadline = time.monotonic() + PATIENCE_S
    while count and time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            count -= 1
            yield json.loads(message.value())
    consumer.close()


def compared(form: str, answers: list[dict[str, Any]], expected: list[dict[str, Any]]) -> int:
    """Say how far the answers are from those computed offline; 1 when too far, or not the same measurements."""
    if [each["timestamp"] for each in answers] != [each["timestamp"] for each in expected]:
        print(f"{form}: {len(answers)} answers that are not the {len(expected)} expected ones")
        return 1
    worst = max(abs(a["error"] - b["error"]) for a, b in zip(answers, expected, strict=True))
    verdict = "OK" if worst <= TOLERANCE else "WRONG"
    print(f"{form}: {len(answers)} anomalies, largest difference from plain Keras {worst:.1e}: {verdict}", flush=True)
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
