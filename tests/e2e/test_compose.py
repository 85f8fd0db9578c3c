"""`coord export compose`: the folder gives the same records with docker-compose alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster import BIN, wait_for, write_json
from support.containers import IN_CONTAINERS, remove_images
from support.documents import a_queue
from support.endpoints import HOST, an_api, ask, code, free_range
from support.mosquitto import Mosquitto
from support.mqtt_peer import Peer

pytestmark = [
    *IN_CONTAINERS,
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose"),
]
PREPARE = "def handler(data):\n    return {'n': 7 // data['n']} if data['n'] < 100 else None\n"
KEEP = "import os\ndef handler(data):\n    return dict(data, word=os.environ['WORD'])\n"


def a_stream(folder: Path, port: int) -> dict[str, Any]:
    """Two segments, since their environments are not the same; a queue is made between them."""
    stages = {
        "prepare": code(folder / "prepare", PREPARE, "in", "keep"),
        "keep": code(folder / "keep", KEEP, "prepare", "out", environment={"WORD": "$HOME"}),
    }
    stages["prepare"]["resources"] = {"memory": "200MB", "cpus": 0.5}
    stages["prepare"]["on-error"] = {"retries": 0}
    queues = {name: a_queue(f"composed/{name}", port=port) for name in ("in", "out")}
    return {"version": "1.0", "id": "composed", "pipeline": stages, "queues": queues}


def exported(raw: dict[str, Any], folder: Path) -> Path:
    """The folder."""
    path, out = write_json(folder / "p.json", raw), folder / "out"
    subprocess.run([BIN / "coord", "export", "compose", path, "--out", out], check=True, capture_output=True)
    return out


def compose(folder: Path, *arguments: str) -> str:
    command = [
        "docker-compose",
        "--ansi",
        "never",
        "--project-name",
        f"fogline-{folder.parent.name.lower()}",
        *arguments,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def up(folder: Path) -> Iterator[None]:
    """Until the end of the block; nothing is left in the engine."""
    try:
        compose(folder, "up", "--detach", "--build")
        yield
    finally:
        images = dict.fromkeys(compose(folder, "images", "--quiet").split())
        compose(folder, "down", "--timeout", "10")
        remove_images(*images)


def test_the_same_records_without_any_coordinator(tmp_path: Path, broker: Mosquitto, engine: str) -> None:
    out = exported(a_stream(tmp_path, broker.port), tmp_path)
    with up(out), Peer(broker.port) as peer:
        wait_for("both read", lambda: compose(out, "logs").count(" ready") == 2)
        peer.subscribe("composed/out")
        peer.publish("composed/in", *(json.dumps({"n": n}).encode() for n in (0, 1, 3, 100, 7)))
        wait_for("all are there", lambda: len(peer.payloads) >= 3)
        assert [json.loads(each) for each in peer.payloads] == [{"n": n, "word": "$HOME"} for n in (7, 2, 1)]
        for name in ("prepare", "keep"):
            is_confined(compose(out, "ps", "-q", name).strip(), limited=name == "prepare")
        compose(out, "restart", "--timeout", "20", "prepare")
        peer.publish("composed/in", b'{"n": 2}')
        wait_for("it goes on", lambda: [json.loads(each)["n"] for each in peer.payloads] == [7, 2, 1, 3])
        (letter,) = dead_letters(out)
        assert "ZeroDivisionError" in letter["reason"]
    refused: list[str | Path] = [BIN / "coord", "export", "compose", tmp_path / "p.json", "--out", out]
    done = subprocess.run(refused, capture_output=True, text=True, check=False)
    assert (done.returncode != 0, "is there already: remove it" in done.stderr) == (True, True)


def dead_letters(folder: Path) -> list[dict[str, Any]]:
    """As the file says that they are listed."""
    (line,) = (
        each for each in (folder / "docker-compose.yml").read_text().splitlines() if "docker-compose exec" in each
    )
    _, _, service, *command = line.removeprefix("#").split()
    return [json.loads(each) for each in compose(folder, "exec", "-T", service, *command).splitlines()]


def is_confined(ident: str, *, limited: bool) -> None:
    (box,) = json.loads(subprocess.check_output(["docker", "inspect", ident]))
    host = box["HostConfig"]
    assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"]) == (True, False, ["ALL"])
    assert (host["SecurityOpt"], host["PidsLimit"]) == (["no-new-privileges"], 512)
    limits = (200_000_000, 200_000_000, 500_000_000) if limited else (0, 0, 0)
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == limits
    assert box["Config"]["User"] not in {"", "0", "0:0", "root"}


def test_an_endpoint_and_its_hops(tmp_path: Path, engine: str) -> None:
    port, _ = free_range(1)
    stages = {
        "prepare": code(tmp_path / "prepare", PREPARE, "", "keep", props={"port": port}),
        "keep": code(tmp_path / "keep", KEEP, "prepare", environment={"WORD": "yes"}),
    }
    stages["prepare"]["props"] |= {"auth": "token", "token": {"secret": "callers"}}
    out = exported(an_api("answers", stages), tmp_path)
    secret = out / "secrets" / "callers"
    secret.touch(mode=0o600)
    secret.write_text("of-callers")
    user = yaml.safe_load((out / "docker-compose.yml").read_text())["services"]["keep"]["user"]
    shutil.chown(secret, *map(int, user.split(":")))
    with up(out):
        wait_for("both listen", lambda: compose(out, "logs").count(" ready") == 2)
        assert ask(f"http://{HOST}:{port}", {"n": 1}, token="of-callers") == (200, {"n": 7, "word": "yes"})
        assert ask(f"http://{HOST}:{port}", {"n": 1})[0] == 401


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"server": "{node.label.broker}"}, "a compose file has no nodes"),
        ({"connector": "kafka"}, "declare an MQTT queue between prepare and keep"),
    ],
)
def test_what_cannot_be_composed(change: dict[str, str], said: str, tmp_path: Path) -> None:
    raw = a_stream(tmp_path, 1)
    for name, queue in raw["queues"].items():
        queue["props"]["topic"] = name
        queue["connector"] = change.get("connector", "mqtt")
        queue["props"]["server"] = change.get("server", "localhost")
    command: list[str | Path] = [
        BIN / "coord",
        "export",
        "compose",
        write_json(tmp_path / "p.json", raw),
        "--out",
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (4, True), done.stderr
    assert not (tmp_path / "out").exists()
