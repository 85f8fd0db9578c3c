"""Models and code that are not what they should be: a clear sentence, and the revision before goes on untouched."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.linear_model import LinearRegression

from support.cluster import Cluster, cluster, wait_for, write_code, write_json
from support.documents import a_queue, a_stage
from support.framework_kits import KITS
from support.mosquitto import Mosquitto
from support.results.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(120)]

Change = Callable[[dict[str, Any], Path], None]
ID = "sources"


class Command:
    """Pickled, it is a command that runs when it is loaded: it notes who runs it."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        script = f"(id -un; tr '\\0' ' ' < /proc/$PPID/cmdline) >> {self._canary}"
        return os.system, (script,)


def _model(document: dict[str, Any], path: Path, framework: str, **props: Any) -> None:
    queues = document["pipeline"]["a"]["queues"]
    props = {"path": str(path), "input": "x", "output": "y"} | props
    document["pipeline"]["a"] = {"type": "model", "framework": framework, "props": props, "queues": queues}


def _git(*words: str, folder: Path) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words], cwd=folder, check=True)


def _onnx_as_sklearn(document: dict[str, Any], folder: Path) -> None:
    _model(document, KITS["onnx"].put(folder, None), "sklearn")


def _sklearn_as_onnx(document: dict[str, Any], folder: Path) -> None:
    _model(document, KITS["joblib"].put(folder, None), "onnx")


def _sklearn_as_tflite(document: dict[str, Any], folder: Path) -> None:
    _model(document, KITS["joblib"].put(folder, None), "tflite")


def _cut_off(document: dict[str, Any], folder: Path) -> None:
    path = folder / "cut.joblib"
    joblib.dump(LinearRegression().fit([[0.0, 1.0], [1.0, 0.0]], [1.0, 1.0]), path)
    path.write_bytes(path.read_bytes()[:-40])
    _model(document, path, "sklearn")


def _no_branch(document: dict[str, Any], folder: Path) -> None:
    _git("init", "--quiet", "--initial-branch=main", str(folder / "made"), folder=folder)
    write_code(folder / "made", "def handler(data):\n    return data\n")
    _git("add", ".", folder=folder / "made")
    _git("commit", "--quiet", "--message", "One", folder=folder / "made")
    _git("clone", "--quiet", "--bare", "made", "code.git", folder=folder)
    document["pipeline"]["a"]["props"] |= {"path": str(folder / "code.git"), "ref": "mian"}


def _no_repository(document: dict[str, Any], folder: Path) -> None:
    document["pipeline"]["a"]["props"]["path"] = "ssh://git@127.0.0.1:1/none.git"


def _raises_at_import(document: dict[str, Any], folder: Path) -> None:
    write_code(folder / "code", "LIMIT = 1 / 0\n\ndef handler(data):\n    return data\n")


def _leaves_at_import(document: dict[str, Any], folder: Path) -> None:
    write_code(folder / "code", "import sys\nsys.exit(3)\n\ndef handler(data):\n    return data\n")


CASES: list[tuple[Change, int, tuple[str, ...]]] = [
    (
        _onnx_as_sklearn,
        5,
        ("segment a", "the model (", "cannot be read as joblib: it looks like an ONNX model: set framework to onnx"),
    ),
    (_sklearn_as_onnx, 5, ("segment a", "ONNX")),
    (_sklearn_as_tflite, 5, ("segment a", "TFLite")),
    (_cut_off, 5, ("segment a", "joblib")),
    (_no_branch, 2, ("has no branch, tag or commit 'mian'; did you mean 'main'?", "/pipeline/a/props")),
    (_no_repository, 2, ("/pipeline/a/props/path", "ssh://git@127.0.0.1:1/none.git")),
    (_raises_at_import, 5, ("main.py:1", "ZeroDivisionError")),
    (_leaves_at_import, 5, ("main.py:2", "SystemExit")),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One for all cases."""
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory, broker: Mosquitto) -> Iterator[Cluster]:
    """A node on which a good revision runs."""
    folder = tmp_path_factory.mktemp("former")
    with cluster(folder / "cluster", "edge_node") as running:
        running.coord("submit", str(write_json(folder / "p.json", _document(folder, broker.port))))
        yield running


def _document(folder: Path, port: int) -> dict[str, Any]:
    write_code(folder / "code", "def handler(data):\n    return data\n")
    queues = {"q1": a_queue("sources/1", port=port), "q2": a_queue("sources/2", port=port)}
    return {"version": "1.0", "id": ID, "pipeline": {"a": a_stage("q1", "q2")}, "queues": queues}


def _answers(fleet: Cluster, broker: Mosquitto, word: str) -> bool:
    with Collector(broker.port, "sources/2") as collector:
        fleet.coord("send", ID, input_=f'"{word}"\n')
        return bool(wait_for("the record", lambda: word in collector.records))


@pytest.mark.parametrize(("change", "code", "words"), CASES, ids=[case[0].__name__[1:] for case in CASES])
def test_the_former_revision_goes_on(
    change: Change, code: int, words: tuple[str, ...], tmp_path: Path, broker: Mosquitto, former: Cluster
) -> None:
    before = former.stage(ID, "a")
    document = _document(tmp_path, broker.port)
    change(document, tmp_path)
    refused = former.coord("submit", str(write_json(tmp_path / "p.json", document)), check=False)
    said = refused.stdout + refused.stderr
    assert refused.returncode == code, said
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    after = former.stage(ID, "a")
    assert (after["state"], after["pid"]) == ("ready", before["pid"])
    assert _answers(former, broker, change.__name__)


def test_a_pickle_that_runs_a_command_runs_it_in_the_stage_alone(
    tmp_path: Path, broker: Mosquitto, former: Cluster
) -> None:
    canary, path = tmp_path / "canary", tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Command(canary)))
    document = _document(tmp_path, broker.port)
    _model(document, path, "sklearn", serializer="pickle")
    written = str(write_json(tmp_path / "p.json", document))
    for command in ("validate", "plan"):
        former.coord(command, written)
    assert not canary.exists()
    refused = former.coord("submit", written, check=False)
    assert refused.returncode == 5
    assert "the model is a int, which has no method 'predict'" in refused.stdout
    who, by = canary.read_text().splitlines()[:2]
    assert who == subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert "fogline.runtimes check" in by
    assert _answers(former, broker, "after the pickle")


def test_a_node_that_refuses_pickles_gets_none(tmp_path: Path, broker: Mosquitto) -> None:
    canary, path = tmp_path / "canary", tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Command(canary)))
    document = _document(tmp_path, broker.port)
    _model(document, path, "sklearn", serializer="pickle")
    with cluster(tmp_path / "cluster") as fleet:
        fleet.start_agents("edge_node", flags=("--refuse", "pickle"))
        refused = fleet.coord("submit", str(write_json(tmp_path / "p.json", document)), check=False)
    said = refused.stdout + refused.stderr
    assert refused.returncode == 4, said
    assert "refuses pickle" in said
    assert not canary.exists()
