"""Pipelines in API mode: submitted, called, changed and broken, by real coordinators, agents and callers."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from support.cluster import LAYERS, Cluster, Process, cluster, wait_for, write_code, write_json
from support.endpoints import HOST, an_api, ask, code, delete_all, free_range, is_free, stage_of, status_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ADD = "def handler(data):\n    return {'x': data['x'] + 1}\n"
SLOW = 50
DOUBLE = f"""
import time

def handler(data):
    if data['x'] == {SLOW}:
        time.sleep(30)
    if data['x'] > 100:
        raise ValueError('too large')
    return {{'x': 2 * data['x']}}
"""
SHOW = "def handler(data):\n    return {'y': data['x']}\n"
FILTER = "def handler(data):\n    return data if data['sum'] > 0 else None\n"
FIRST, LAST = free_range(8)
SECRET = "s3cret-of-callers"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes with a few ports, and a secret."""
    folder = tmp_path_factory.mktemp("api")
    for node in LAYERS:
        (folder / "cluster" / node / "secrets").mkdir(parents=True)
        secret = folder / "cluster" / node / "secrets" / "callers"
        secret.touch(mode=0o600)
        secret.write_text(SECRET)
    with cluster(folder / "cluster") as running:
        running.start_agents(*LAYERS, flags=["--ports", f"{FIRST}-{LAST}"])
        yield running


@pytest.fixture
def clean(site: Cluster) -> Iterator[Cluster]:
    """The same, with nothing deployed afterwards."""
    yield site
    delete_all(site)


def a_model(folder: Path, **props: Any) -> dict[str, Any]:
    """The sum of a and b."""
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    joblib.dump(LinearRegression().fit(rows, rows.sum(axis=1)), folder / "sum.joblib")
    given = {"path": str(folder / "sum.joblib"), "input": ["a", "b"], **props}
    return {"type": "model", "framework": "sklearn", "props": given}


def on_three(folder: Path, first: str = ADD, last: str = SHOW) -> dict[str, Any]:
    """One stage on each node."""
    stages = {
        "add": code(folder / "add", first, "", "double", infra="edge_node"),
        "double": code(folder / "double", DOUBLE, "add", "show", infra="cloud_1"),
        "show": code(folder / "show", last, "double", "", infra="cloud_2"),
    }
    return an_api("far", stages, infra={name: {"hostname": name} for name in LAYERS})


def endpoints(site: Cluster, id_: str) -> dict[str, str]:
    """Segment -> URL."""
    return {each["segment"]: each["url"] for each in status_of(site, id_)["endpoints"]}


def test_a_single_model_of_this_machine(clean: Cluster, tmp_path: Path) -> None:
    raw = an_api("sum", {"add-up": a_model(tmp_path)}, **{"deploy-mode": "local"})
    document = write_json(tmp_path / "sum.json", raw)
    url = f"http://{HOST}:{FIRST}"
    plan = clean.coord("plan", str(document)).stdout
    rows = [line.split()[:4] for line in plan.splitlines() if "http" in line]
    assert rows == [["endpoint", url, "(outside)", "add-up"]]
    submitted = clean.coord("submit", str(document)).stdout
    assert f"endpoint {url}/ (models: sum, add-up)" in submitted
    shown = clean.coord("status", "sum").stdout
    assert (f"endpoint {url}/ (models: sum, add-up)" in shown, "FAILED" in shown, "DROPPED" in shown) == (
        True,
        True,
        False,
    )
    assert ask(url, {"a": 1, "b": 2}) == (200, pytest.approx(3))
    status, answer = ask(url, {"inputs": [tensor("a", 2), tensor("b", 5)]}, path="v2/models/add-up/infer")
    assert (status, answer["model_version"]) == (200, "1")
    assert answer["outputs"][0]["data"] == [pytest.approx(7)]
    (tmp_path / "record.json").write_text('[{"a": 1, "b": 1}, {"a": 0, "b": 0}]')
    for data, given in (('{"a": 1, "b": 1}', None), (f"@{tmp_path / 'record.json'}", None), ("-", '{"a": 2, "b": 0}')):
        answered = json.loads(clean.coord("predict", "sum", "--data", data, input_=given).stdout)
        assert answered == (pytest.approx(2) if data[0] != "@" else [pytest.approx(2), pytest.approx(0, abs=1e-9)])
    many = json.dumps([{"a": 1, "b": number} for number in range(150_000)])
    answered = json.loads(clean.coord("predict", "sum", "--data", "-", input_=many).stdout)
    assert (len(many) > 2**21, answered[::50_000]) == (True, [pytest.approx(1 + n) for n in range(0, 150_000, 50_000)])
    refused = clean.coord("predict", "sum", "-d", '{"a": 1}', check=False)
    assert refused.returncode == 5
    assert "sum answered 400:" in refused.stderr
    assert "'b' is missing" in refused.stderr
    row = stage_of(clean, "sum", "add-up")
    assert (row["in"], row["done"], row["dropped"]) == (150_007, 150_006, 1)
    assert (row["requests"], row["errors"], row["rate"] > 0) == (7, 1, True)
    head, values = (line.split() for line in clean.coord("status", "sum").stdout.splitlines()[2:4])
    cells = dict(zip(head, values, strict=False))
    assert (cells["REQUESTS"], cells["ERRORS"], cells["IN"], cells["FAILED"]) == ("7", "1", "150007", "1")
    assert cells["RATE"].endswith("/s")
    assert "unchanged" in clean.coord("submit", str(document)).stdout
    assert is_free(FIRST) is False
    clean.coord("delete", "sum")
    assert is_free(FIRST)
    assert "there is no deployment" in clean.coord("predict", "sum", "-d", "1", check=False).stderr


def tensor(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "datatype": "FP64", "shape": [1], "data": [value]}


def test_stages_of_one_process(clean: Cluster, tmp_path: Path) -> None:
    model = a_model(tmp_path, output="sum") | {"queues": {"input": "take", "output": "keep"}}
    stages = {
        "take": code(tmp_path / "take", "def handler(data):\n    return dict(data, b=1)\n", "", "sum"),
        "sum": model,
        "keep": code(tmp_path / "keep", FILTER, "sum"),
    }
    document = write_json(tmp_path / "kept.json", an_api("kept", stages))
    shown = clean.coord("submit", str(document)).stdout
    assert [line.split()[1] for line in shown.splitlines() if ".." in line] == ["memory", "memory"]
    (url,) = endpoints(clean, "kept").values()
    assert ask(url, {"a": 4}) == (200, {"a": 4, "b": 1, "sum": pytest.approx(5)})
    assert ask(url, {"a": -4}) == (204, None)
    nothing = clean.coord("predict", "kept", "-d", '{"a": -4}')
    assert (nothing.stdout, nothing.stderr) == ("", "nothing came of it: a stage filtered it\n")
    assert stage_of(clean, "kept", "keep")["filtered"] == 2
    records = tmp_path / "records.jsonl"
    records.write_text('{"a": 4}\n{"a": -4}\n{"a": 0}\n')
    tried = clean.coord("test", str(document), "--input", str(records)).stdout
    assert [json.loads(line)["sum"] for line in tried.splitlines()] == [pytest.approx(5), pytest.approx(1)]


def test_stages_of_three_nodes(clean: Cluster, tmp_path: Path) -> None:
    document = write_json(tmp_path / "far.json", on_three(tmp_path))
    shown = clean.coord("submit", str(document)).stdout
    hops = [line.split()[:2] for line in shown.splitlines() if ".." in line]
    assert hops == [["add..double", f"http://{HOST}:{FIRST + 1}"], ["double..show", f"http://{HOST}:{FIRST + 2}"]]
    urls = endpoints(clean, "far")
    assert list(urls) == ["add", "double", "show"]
    assert f"endpoint {urls['add']} (models: far)\n" in shown
    assert ask(urls["add"], {"x": 1}) == (200, {"y": 4})
    assert ask(urls["add"], None, path="v2/models/add")[0] == 404, "a stage of several is no model"
    status, answer = ask(urls["add"], {"x": 200})
    assert (status, answer["error"]) == (500, "stage double on cloud_1 failed: ValueError: too large")
    failed = clean.coord("predict", "far", "-d", '{"x": 200}', check=False)
    assert (failed.returncode, "stage double on cloud_1" in failed.stderr) == (5, True)
    assert stage_of(clean, "far", "double")["dropped"] == 2
    assert stage_of(clean, "far", "show")["done"] == 1


def test_what_a_new_revision_leaves_as_it_is_keeps_process_and_port(clean: Cluster, tmp_path: Path) -> None:
    document = write_json(tmp_path / "far.json", on_three(tmp_path))
    clean.coord("submit", str(document))
    urls, before = endpoints(clean, "far"), {row["name"]: row["pid"] for row in status_of(clean, "far")["stages"]}
    write_json(document, on_three(tmp_path, last=SHOW.replace("'y'", "'z'")))
    clean.coord("submit", str(document))
    after = {row["name"]: row["pid"] for row in status_of(clean, "far")["stages"]}
    assert endpoints(clean, "far") == urls
    assert [name for name in after if after[name] == before[name]] == ["add", "double"]
    assert ask(urls["add"], {"x": 1}) == (200, {"z": 4})

    def told() -> bool:
        return bool(ask(urls["add"], None, path="v2/models/far")[1]["versions"] == ["2"])

    wait_for("the process that was kept knows its revision", told, 5)
    clean.coordinator.end(signal.SIGKILL)
    clean.coordinator.start()
    wait_for("back", lambda: set(LAYERS) <= clean.connected())
    assert ask(urls["add"], {"x": 1}) == (200, {"z": 4})
    assert "unchanged" in clean.coord("submit", str(document)).stdout
    assert endpoints(clean, "far") == urls


def test_a_segment_that_dies_is_back_before_its_callers_give_up(clean: Cluster, tmp_path: Path) -> None:
    document = write_json(tmp_path / "far.json", on_three(tmp_path))
    clean.coord("submit", str(document))
    url = endpoints(clean, "far")["add"]
    assert ask(url, {"x": 1})[0] == 200
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(ask, url, {"x": SLOW - 1})
        wait_for("it is in the middle", lambda: stage_of(clean, "far", "add")["done"] == 2)
        os.kill(stage_of(clean, "far", "double")["pid"], signal.SIGKILL)
        died_at = time.monotonic()
        status, answer = under_way.result()
    assert (status, f"segment double on cloud_1 at {HOST}:{FIRST + 1} broke off" in answer["error"]) == (503, True)
    wait_for("an answer again", lambda: ask(url, {"x": 1}) == (200, {"y": 4}))
    took_s = time.monotonic() - died_at
    print(f"killed in the middle: answered again after {took_s:.2f} s")
    assert took_s < 5


def test_callers_bring_the_token(clean: Cluster, tmp_path: Path) -> None:
    raw = on_three(tmp_path)
    raw["pipeline"]["add"]["props"] |= {"auth": "token", "token": {"secret": "callers"}}
    clean.coord("submit", str(write_json(tmp_path / "far.json", raw)))
    for url in endpoints(clean, "far").values():
        assert ask(url, {"x": 1})[0] == 401
        assert ask(url, {"x": 1}, token="wrong")[0] in {401, 403}
    assert ask(endpoints(clean, "far")["add"], {"x": 1}, token=SECRET) == (200, {"y": 4})
    assert json.loads(clean.coord("predict", "far", "-d", '{"x": 1}').stdout) == {"y": 4}
    assert SECRET not in clean.coord("status", "far", "--output", "json").stdout


def test_documents_that_cannot_be_served(clean: Cluster, tmp_path: Path) -> None:
    def refused(raw: dict[str, Any], command: str = "submit") -> tuple[int, str]:
        done = clean.coord(command, str(write_json(tmp_path / "bad.json", raw)), check=False)
        return done.returncode, done.stderr

    def a_stage(**props: Any) -> dict[str, Any]:
        return {"add": code(tmp_path / "add", ADD, infra="edge_node", props=props)}

    queue = {"connector": "mqtt", "props": {"server": "localhost", "topic": "t"}}
    exit_code, said = refused(an_api("bad", {"add": code(tmp_path / "add", ADD, "q")}, queues={"q": queue}))
    assert (exit_code, "in API mode stages are linked to stages only" in said) == (2, True)
    exit_code, said = refused(an_api("bad", a_stage(port=70000)))
    assert (exit_code, "port must be an integer between 1 and 65535, not 70000" in said) == (2, True)
    infra = {"edge_node": {"hostname": "edge_node"}}
    clean.coord("submit", str(write_json(tmp_path / "one.json", an_api("one", a_stage(port=LAST), infra=infra))))
    exit_code, said = refused(an_api("two", a_stage(port=LAST), infra=infra))
    wanted = f"pipeline two wants port {LAST} of node edge_node, which pipeline one has"
    assert (exit_code, wanted in said) == (4, True)
    clean.coord("stop", "one")  # it is to listen there again when it is started
    exit_code, said = refused(an_api("two", a_stage(port=LAST), infra=infra), "plan")
    assert (exit_code, wanted in said) == (4, True)
    assert status_of(clean, "one")["endpoints"] == []


def test_a_port_that_somebody_else_has_is_waited_for(clean: Cluster, tmp_path: Path) -> None:
    stage = code(tmp_path / "add", ADD, infra="edge_node", props={"port": LAST})
    document = write_json(tmp_path / "p.json", an_api("p", {"add": stage}, infra={"edge_node": {}}))
    with socket.create_server((HOST, LAST)):
        clean.coord("submit", str(document), "--detach")
        said = wait_for("it says so", lambda: stage_of(clean, "p", "add")["reason"])
        assert said == f"cannot listen at {HOST}, port {LAST}: Address already in use"
        assert stage_of(clean, "p", "add")["state"] != "ready"
        unanswered = clean.coord("predict", "p", "-d", "1", check=False)
        assert (unanswered.returncode, said in unanswered.stderr) == (8, True)
    wait_for("then it is ready", lambda: status_of(clean, "p")["state"] == "running")
    assert ask(f"http://{HOST}:{LAST}", {"x": 1}) == (200, {"x": 2})


def test_a_run_prints_where_it_is_called(tmp_path: Path) -> None:
    write_code(tmp_path / "add", ADD)
    document = write_json(tmp_path / "here.json", an_api("here", {"add": code(tmp_path / "add", ADD)}))
    running = Process("run", tmp_path, "coord", "run", str(document))
    try:
        wait_for("it runs", lambda: "Ctrl-C ends it" in running.log or not running.running())
        (line,) = [each for each in running.log.splitlines() if "(models: " in each]
        url = line.split()[1]
        assert line == f"endpoint {url} (models: here, add)"
        assert ask(url.rstrip("/"), {"x": 1}) == (200, {"x": 2})
    finally:
        assert running.end() == 0, running.log
    assert is_free(int(url.rstrip("/").rpartition(":")[2]))
