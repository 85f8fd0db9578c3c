"""A pipeline as services of a compose file: every segment a container of one machine, without any coordinator. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fogline.coordinator.core.circles import circle_problems
from fogline.coordinator.core.exactly_once import exactly_once_problems
from fogline.coordinator.core.fleet import Node
from fogline.coordinator.core.graph import Link
from fogline.coordinator.core.imagined import Imagined
from fogline.coordinator.core.ports import Door, Ports, doors, serving_specs
from fogline.coordinator.core.specs import Replica, Source, segment_spec
from fogline.coordinator.core.split import split
from fogline.coordinator.core.wires import Wiring, automatic_queues, shared_files, wire_problems
from fogline.coordinator.padl.endpoint import is_api
from fogline.coordinator.padl.files import FILE
from fogline.coordinator.padl.model import Constraints, Document
from fogline.coordinator.padl.problems import Problem, error, pointer_to
from fogline.coordinator.padl.templates import templates_in
from fogline.runtimes.container import recipe
from fogline.runtimes.spec import POSITIONS_VARIABLE, SECRETS_VARIABLE, SegmentSpec, ServingSpec

CLUSTER = "compose"
"""The name of the cluster in the names of readers: always the same, so that the next export of a pipeline reads on
where the last one stopped, and no coordinator's, so that none takes the records of its deployments."""
VERSION = "2.4"
"""Of the file's format: the newest that has limits, and that docker-compose 1 demands to be told."""
_SPEC = "/spec.json"
_SECRETS, _POSITIONS = "/run/secrets", "/positions"
_STOP_S = 40
_RESTARTS = {"always": "unless-stopped", "on-failure": "on-failure", "no": "no"}


@dataclass(frozen=True)
class Service:
    """One container."""

    name: str
    segment: str
    spec: SegmentSpec

    @property
    def reads_files(self) -> bool:
        """Whether its input has an end, and how far it has read is to be kept."""
        return any(end.connector == FILE for end in self.spec.sources)


def on_one_machine(document: Document, incompatible: Mapping[Link, str]) -> tuple[Imagined, list[Problem]]:
    """The segments of a document without errors, all in containers of one machine, and why they cannot be there.

    `incompatible` are pairs of stages that cannot share a process.
    """
    here: dict[str, Any] = {"infra": None, "containerized": True, "constraints": Constraints()}
    stages = {
        name: stage.model_copy(update=here | ({"replicas": 1} if stage.replicas == "each" else {}))
        for name, stage in document.pipeline.items()
    }
    document = document.model_copy(update={"pipeline": stages, "infra": {}})
    found = split(document, dict.fromkeys(stages, CLUSTER), incompatible)
    automatic = {} if is_api(document) else automatic_queues(document, found.cuts, Wiring(CLUSTER))
    problems = [
        *_templates(document),
        *circle_problems(document, found.segments),
        *wire_problems(document, found.cuts, automatic, {}),
        *exactly_once_problems(document, found.segments, automatic),
        *shared_files(document, found.segments),
    ]
    return Imagined(document, found.segments, automatic), problems


def _templates(document: Document) -> Iterator[Problem]:
    places = [(pointer_to("queues", name, "props"), queue.props) for name, queue in document.queues.items()]
    places += [
        (pointer_to("pipeline", name, "environment"), stage.environment) for name, stage in document.pipeline.items()
    ]
    for place, values in places:
        for key, facts in templates_in(values).items():
            message = f"a compose file has no nodes, of which {{node.{facts[0]}}} could be one's"
            yield error(place + pointer_to(key), message, "write out what it stands for")


def services(parts: Imagined, artifacts: Mapping[str, str], locks: Mapping[str, str]) -> Iterator[Service]:
    """A service for each copy of each segment. `artifacts` is stage -> digest, `locks` segment -> digest."""
    document, servings = parts.document, _servings(parts)
    sources = {stage: Source(artifact=digest) for stage, digest in artifacts.items()}
    for segment in parts.segments:
        copies = int(document.pipeline[segment.stages[0]].replicas)
        for number in range(copies):
            copy = Replica(str(number), copies > 1, lock=locks[segment.name], serving=servings.get(segment.name))
            spec = segment_spec(document, segment, CLUSTER, sources, parts.automatic, copy)
            yield Service(f"{segment.name}-{number}" if copies > 1 else segment.name, segment.name, spec)


def _servings(parts: Imagined) -> dict[str, ServingSpec]:
    """The endpoint at every address of the machine, what comes behind it at its loopback address alone."""
    here, inside = Node(CLUSTER), Node(CLUSTER, address="127.0.0.1")
    found, _ = doors(parts.document, parts.segments, {CLUSTER: here}, Ports())
    depth = {segment.name: segment.depth for segment in parts.segments}
    placed = {name: Door(inside if depth[name] else here, door.port) for name, door in found.items()}
    return serving_specs(parts.document, parts.segments, placed)


def compose_file(made: list[Service], user: str) -> dict[str, Any]:
    """The document of a compose file. Its folder has the build context of each segment, `specs`, `state`, `secrets`.

    `user`: `UID:GID` of all containers.
    """
    return {"version": VERSION, "services": {each.name: _service(each, user) for each in made}}


def _service(made: Service, user: str) -> dict[str, Any]:
    """As an agent would start it: nothing that is not needed."""
    spec = made.spec
    run = [*recipe.RUNTIME, "run", _SPEC, "--workspace", recipe.WORKSPACE, "--artifacts", recipe.ARTIFACTS]
    run += ["--dead-letters", f"{recipe.LETTERS}/{spec.pipeline}.db", "--bind"]
    environment = {SECRETS_VARIABLE: _SECRETS, POSITIONS_VARIABLE: _POSITIONS} | dict(spec.environment)
    limits: dict[str, Any] = {"pids_limit": 512}
    if spec.memory_bytes:
        limits |= {"mem_limit": spec.memory_bytes, "memswap_limit": spec.memory_bytes}
    if spec.cpus:
        limits["cpus"] = spec.cpus
    restart = "on-failure" if made.reads_files and spec.restart == "always" else _RESTARTS[spec.restart]
    return limits | {
        "build": {"context": f"./{made.segment}", "network": "none"},
        "entrypoint": [_literal(word) for word in run],
        "environment": {key: _literal(str(value)) for key, value in environment.items()},
        "volumes": [_volume(*each) for each in _mounts(made)],
        "user": user,
        "network_mode": "host",
        "init": True,
        "read_only": True,
        "tmpfs": ["/tmp:size=64m,mode=1777,nosuid,nodev"],  # noqa: S108  # its own, in memory
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "restart": restart,
        "stop_grace_period": f"{_STOP_S}s",
        "logging": {"driver": "json-file", "options": {"max-size": "1m", "max-file": "2"}},
    }


def _mounts(made: Service) -> Iterator[tuple[str, str, bool]]:
    """Where it is, where it appears, and whether it may be written."""
    yield f"./specs/{made.name}.json", _SPEC, False
    yield f"./state/{made.name}", recipe.WORKSPACE, True
    yield "./state/dead-letters", recipe.LETTERS, True
    if made.reads_files:
        yield "./state/positions", _POSITIONS, True
    for name in recipe.secrets(made.spec):
        yield f"./secrets/{name}", f"{_SECRETS}/{name}", False
    for folder, mode in recipe.folders(made.spec).items():
        yield folder, folder, mode == "rw"


def _volume(source: str, target: str, writable: bool) -> dict[str, Any]:
    mount = {"type": "bind", "source": _literal(source), "target": _literal(target)}
    return mount if writable else mount | {"read_only": True}


def _literal(text: str) -> str:
    """Compose would put a variable in the place of a `$NAME`."""
    return text.replace("$", "$$")
