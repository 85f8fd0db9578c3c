"""The servers of the REST row, each as a process of its own with one worker, and one thread for its model."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers_env import python_of
from fogline.runtimes.spec import SegmentSpec, ServingSpec, StageSpec
from support.mosquitto import free_port
from support.segments import RunningSegment, wait_until

PROGRAMS = Path(__file__).parent / "rest_peers"
UP_S = 120.0


@dataclass(frozen=True)
class Door:
    """Where a server takes one record, and how it wants it."""

    url: str
    nested: bool = False
    """The rows of a batch, of which this is one."""
    v2: bool = False
    """The Open Inference Protocol."""
    field: str = "features"

    def body(self, row: list[float]) -> bytes:
        """One record."""
        if self.v2:
            tensor = {"name": "features", "shape": [1, len(row)], "datatype": "FP64", "data": row}
            return json.dumps({"inputs": [tensor]}).encode()
        return json.dumps({self.field: [row] if self.nested else row}).encode()

    def answer(self, row: list[float]) -> int:
        """What the server says to a record."""
        request = urllib.request.Request(self.url, self.body(row), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            found: Any = json.load(response)
        if self.v2:
            found = found["outputs"][0]["data"]
        if isinstance(found, dict):
            (found,) = found.values()
        return int(found[0] if isinstance(found, list) else found)


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    doors: dict[str, Door]
    pid: int
    """Of its first process."""
    start_s: float
    """From the start of that one to the first answer."""


@contextmanager
def ours(folder: Path, model: Path) -> Iterator[Running]:
    """Fogline."""
    port = free_port()
    stage = StageSpec("model", "sklearn", (), (), path=str(model), options={"input": "features"})
    serving = ServingSpec("127.0.0.1", port, "model")
    spec = SegmentSpec("model", "model", "0", "a", "bench", (stage,), serving=serving)
    base = f"http://127.0.0.1:{port}"
    doors = {"plain": Door(f"{base}/predict"), "v2": Door(f"{base}/v2/models/model/infer", v2=True)}
    began = time.perf_counter()
    with _one_thread(), RunningSegment(spec, folder / "ours") as running:
        _until_it_answers(running.process, doors["plain"], folder / "ours" / "log")
        yield Running(doors, running.process.pid, time.perf_counter() - began)


@contextmanager
def fastapi(folder: Path, model: Path) -> Iterator[Running]:
    """FastAPI on uvicorn."""
    port = free_port()
    door = Door(f"http://127.0.0.1:{port}/predict")
    command = [str(python_of("fastapi")), str(PROGRAMS / "fastapi_as_shipped.py"), str(model), str(port)]
    with _process(command, folder / "fastapi", {}, {"plain": door}) as running:
        yield running


@contextmanager
def mlserver(folder: Path, model: Path) -> Iterator[Running]:
    """MLServer, computing in its own process."""
    home, ports = folder / "mlserver", [free_port() for _ in range(3)]
    home.mkdir(parents=True)
    settings = dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
    (home / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1", "parallel_workers": 0}))
    found = {"name": "model", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": str(model)}}
    (home / "model-settings.json").write_text(json.dumps(found))
    door = Door(f"http://127.0.0.1:{ports[0]}/v2/models/model/infer", v2=True)
    command = [str(python_of("mlserver").with_name("mlserver")), "start", str(home)]
    with _process(command, home, {}, {"v2": door}) as running:
        yield running


@contextmanager
def bentoml(folder: Path, model: Path) -> Iterator[Running]:
    """BentoML, its plain API and the batched one."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    doors = {"plain": Door(f"{base}/predict"), "batched": Door(f"{base}/predict_batch", nested=True)}
    command = [str(python_of("bentoml").with_name("bentoml")), "serve", "bentoml_as_shipped:Model"]
    command += ["--port", str(port), "--host", "127.0.0.1", "--working-dir", str(PROGRAMS)]
    told = {"MODEL": str(model), "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "bentoml-home")}
    with _process(command, folder / "bentoml", told, doors) as running:
        yield running


@contextmanager
def mlflow(folder: Path, model: Path) -> Iterator[Running]:
    """MLflow's own scoring server."""
    home, port, python = folder / "mlflow", free_port(), python_of("mlflow")
    told = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_TRACKING_URI": f"sqlite:///{home}/db"}
    home.mkdir(parents=True)
    save = [str(python), str(PROGRAMS / "mlflow_save.py"), str(model), str(home / "model")]
    subprocess.run(save, check=True, capture_output=True, cwd=home, env={**os.environ, **told})
    door = Door(f"http://127.0.0.1:{port}/invocations", nested=True, field="inputs")
    command = [str(python.with_name("mlflow")), "models", "serve", "--model-uri", str(home / "model")]
    command += ["--env-manager", "local", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    path = os.pathsep.join((str(python.parent), os.environ["PATH"]))  # it starts `uvicorn` by its name
    with _process(command, home, {**told, "PATH": path}, {"plain": door}) as running:
        yield running


@contextmanager
def _process(
    command: list[str], folder: Path, variables: Mapping[str, str], doors: dict[str, Door]
) -> Iterator[Running]:
    """Run until the context ends; entered when the server answers."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **variables, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)
    try:
        _until_it_answers(process, next(iter(doors.values())), folder / "log")
        yield Running(doors, process.pid, time.perf_counter() - began)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)


def _until_it_answers(process: subprocess.Popen[bytes], door: Door, log: Path) -> None:
    wait_until(lambda: process.poll() is not None or _answers(door), f"{door.url} answers", UP_S)
    if process.poll() is not None:
        raise RuntimeError(f"{door.url}: its process ended: {log.read_text()[-500:]}")


def _answers(door: Door) -> bool:
    with contextlib.suppress(OSError):
        return door.answer([0.0] * 20) in (0, 1)
    return False


@contextmanager
def _one_thread() -> Iterator[None]:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
