"""Pipelines in API mode whose segments run in containers: called at their node's address, token, hops and drain."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.boxed import boxes
from support.cluster import LAYERS, Cluster, cluster, wait_for, write_json
from support.containers import IN_CONTAINERS
from support.endpoints import HOST, an_api, ask, code, delete_all, free_range, is_free, stage_of, status_of

pytestmark = [*IN_CONTAINERS, pytest.mark.timeout(180)]
FIRST, LAST = free_range(6)
SECRET = "s3cret-of-callers"
ADD = "def handler(data):\n    return {'x': data['x'] + 1}\n"
DOUBLE = "import os\ndef handler(data):\n    return {'x': 2 * data['x'], 'native': os.path.exists('/fogline')}\n"
SHOW = """
import os, time

def handler(data):
    time.sleep(data['x'] > 1000)
    return {'y': data['x'], 'boxed': [data['native'], os.path.exists('/fogline')]}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Iterator[Cluster]:
    """Three nodes with a few ports, and a secret."""
    folder = tmp_path_factory.mktemp("api") / "cluster"
    for node in LAYERS:
        (folder / node / "secrets").mkdir(parents=True)
        secret = folder / node / "secrets" / "callers"
        secret.touch(mode=0o600)
        secret.write_text(SECRET)
    with cluster(folder) as started:
        started.start_agents(*LAYERS, environments="store", flags=["--ports", f"{FIRST}-{LAST}"])
        yield started


@pytest.fixture
def clean(site: Cluster) -> Iterator[Cluster]:
    """The same, with nothing deployed afterwards."""
    yield site
    delete_all(site)


def endpoint(site: Cluster, id_: str) -> str:
    return str(status_of(site, id_)["endpoints"][0]["url"])


def test_on_this_machine(clean: Cluster, tmp_path: Path) -> None:
    stage = code(tmp_path / "add", ADD, props={"port": LAST})
    raw = an_api("sum", {"add": stage}, containerized=True, **{"deploy-mode": "local"})
    submitted = clean.coord("submit", str(write_json(tmp_path / "sum.json", raw))).stdout
    url = f"http://{HOST}:{LAST}"
    assert f"endpoint {url}/ (models: sum, add)" in submitted
    assert ask(url, {"x": 3}) == (200, {"x": 4})
    assert ask(url, None, path="v2/health/ready")[0] == 200
    assert len(boxes(clean, "sum")) == 1
    clean.coord("delete", "sum")
    assert is_free(LAST)
    assert boxes(clean, "sum") == []


def on_three(folder: Path, last: str = SHOW) -> dict[str, Any]:
    """One stage on each node, the one in the middle native."""
    stages = {
        "add": code(folder / "add", ADD, "", "double", infra="edge_node"),
        "double": code(folder / "double", DOUBLE, "add", "show", infra="cloud_1", containerized=False),
        "show": code(folder / "show", last, "double", "", infra="cloud_2"),
    }
    stages["add"]["props"] |= {"auth": "token", "token": {"secret": "callers"}}
    return an_api("far", stages, infra={name: {"hostname": name} for name in LAYERS}, containerized=True)


def test_hops_between_containers_and_processes(clean: Cluster, tmp_path: Path) -> None:
    document = write_json(tmp_path / "far.json", on_three(tmp_path))
    clean.coord("submit", str(document))
    url = endpoint(clean, "far")
    assert {box["Config"]["Labels"]["fogline.segment"] for box in boxes(clean, "far")} == {"add", "show"}
    assert ask(url, {"x": 1})[0] == 401
    assert ask(url, {"x": 1}, token=SECRET) == (200, {"y": 4, "boxed": [False, True]})
    assert json.loads(clean.coord("predict", "far", "-d", '{"x": 2}').stdout)["y"] == 6
    drains(clean, document, tmp_path, url)
    comes_back(clean, url)


def drains(site: Cluster, document: Path, folder: Path, url: str) -> None:
    """A new revision of a container lets it answer first."""
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(ask, url, {"x": 600}, token=SECRET)
        wait_for("it is in the last container", lambda: stage_of(site, "far", "double")["done"] == 3)
        write_json(document, on_three(folder, last=SHOW.replace("'y'", "'z'")))
        site.coord("submit", str(document))
        assert under_way.result() == (200, {"y": 1202, "boxed": [False, True]})
    assert ask(url, {"x": 1}, token=SECRET)[1]["z"] == 4


def comes_back(site: Cluster, url: str) -> None:
    """Its container is killed; callers have an answer again within seconds."""
    (box,) = (each for each in boxes(site, "far") if each["Config"]["Labels"]["fogline.segment"] == "show")
    subprocess.run(["docker", "kill", box["Id"]], check=True, capture_output=True)
    began = time.monotonic()
    wait_for("an answer again", lambda: ask(url, {"x": 1}, token=SECRET)[0] == 200)
    assert time.monotonic() - began < 8
    assert stage_of(site, "far", "show")["restarts"] == 1
