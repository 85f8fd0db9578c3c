"""The note handed through the door: what one segment process is asked to run.

A segment's spec is JSON, written by the coordinator (or by `coord test`), carried through the control
plane as opaque bytes and read by the stage process. It is modelled here and nowhere else. Its digest,
SHA-256 over the canonical bytes, decides whether a running process must be replaced, so nothing that
changes without need (a revision number, a node's name, a path) belongs in it.

Standard library only: the agent and the coordinator import this module.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, TypeVar

_T = TypeVar("_T")

SPEC_VERSION = 1
CONTROL_VERSION = 1
"""Version of the control socket's vocabulary; neighbouring releases understand each other."""

MEMORY = "memory"
"""The connector of a link between two stages of one process."""


SECRETS_VARIABLE = "FOGLINE_SECRETS"
"""Environment variable that names the folder of secrets, a file each."""
TLS_VARIABLE = "FOGLINE_TLS"
"""Environment variable that names the folder of the node's certificate."""
TLS_FILES = ("certificate.pem", "key.pem", "ca.pem")
"""What may be in it: the node's certificate, its key, and the authority of the other nodes'."""

POSITIONS_VARIABLE = "FOGLINE_POSITIONS"
"""Environment variable that names the folder in which readers of files keep how far they are."""


class Exit(IntEnum):
    """How a segment process ended. 0 and the numbers here are final words; anything else is a crash."""

    DONE = 0
    """Everything taken was acknowledged: drained on request, or, when it has left `finished.json`, at the end of
    its input."""
    BAD_SPEC = 64
    """The spec itself cannot be run (unknown plugin, wrong option, newer spec version)."""
    STAGE_UNUSABLE = 65
    """A stage cannot be loaded: model file, entry point, function, import."""
    NOT_CONNECTED = 69
    """A broker could not be reached while checking."""
    RECORD_FAILED = 70
    """A record failed for good and there is nowhere to put it: it stays unacknowledged."""
    SUPERSEDED = 75
    """Another copy reads under this name now: start again only when the assignment is confirmed."""


SUPERSEDED = "superseded"
"""The first word of the reason that goes with that exit."""

FINAL_EXITS = frozenset({Exit.DONE, Exit.BAD_SPEC, Exit.STAGE_UNUSABLE, Exit.RECORD_FAILED, Exit.SUPERSEDED})
"""Starting again would end the same way: the agent does not restart after these."""


class SegmentState(StrEnum):
    """What the control socket's `status` answers under `state`.

    ::

        loading --> loaded --bind--> binding --> ready --drain--> draining --> (exit 0)
    """

    LOADING = "loading"
    LOADED = "loaded"
    BINDING = "binding"
    READY = "ready"
    DRAINING = "draining"


COUNTERS = ("in", "done", "filtered", "dead_lettered", "dropped", "in_flight", "out", "redelivered", "unrouted")
"""Per stage, in this order everywhere: `in = done + filtered + dead_lettered + dropped + in_flight`."""


_LATER_KEYS = (
    "route",
    "envelopes",
    "exactly_once",
    "shared",
    "bundled",
    "lock",
    "serving",
    "container",
    "memory_bytes",
    "cpus",
    "tls_name",
    "context",
    "image",
    "image_secret",
)
"""Of segments, stages, endpoints and serving, in a later release than the others; left out while empty, so that the
digest of what does not use them stays what it was, and no process is replaced for an upgrade."""


class SpecError(ValueError):
    """The bytes are not a spec this release can run."""


@dataclass(frozen=True)
class OnErrorSpec:
    """What a record gets that fails: `retries` further attempts, then an end."""

    retries: int = 3
    then: str = "dead-letter"
    """`dead-letter`: the input message is kept on the node; `drop`: counted and gone; `stop`: the segment ends,
    the message stays unacknowledged."""
    queue: str = ""
    """A queue that also gets the input message of every dead letter; empty: none. It has a sink in `sinks`."""


@dataclass(frozen=True)
class HealthSpec:
    """Deadlines, in seconds. Loading is never held against `live_s`."""

    startup_s: float = 120.0
    """From the start of the process until every stage is loaded; also for the check before the first start."""
    ready_s: float = 60.0
    """From loaded to ready, while a revision is being started."""
    live_s: float = 60.0
    """Without progress while there is something to do: then it hangs, and is killed and started again."""


@dataclass(frozen=True)
class StageSpec:
    """One stage of the segment. `inputs` and `outputs` name queues of the pipeline or links `a..b`."""

    name: str
    framework: str
    """A name of the framework registry: `code`, `onnx`, `sklearn`."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    artifact: str = ""
    """SHA-256 of the bundle (code) or file (model) in the artifact folder; empty when `path` is used."""
    path: str = ""
    """Absolute path on this machine, for `coord test`, which runs the user's own files in place."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the framework: `entrypoint`, `function`, `args`, `input`, `output`, `method`, ..."""
    on_error: OnErrorSpec = OnErrorSpec()
    bundled: bool = False
    """The artifact of a model is the bundle of a folder; that of code always is."""
    route: str = ""
    """The field of a result that names the outputs it goes to; empty: every result goes to all of them."""


@dataclass(frozen=True)
class EndpointSpec:
    """One end of a declared queue: a source (`stage` reads it) or a sink (`stage` writes it)."""

    queue: str
    stage: str
    connector: str
    options: Mapping[str, Any]
    """Options of the connector: `server`, `port`, `topic`, `format`, ..."""
    client_id: str
    """Stable over restarts and moves: for a reader `fogline.<cluster>.<pipeline>.<stage>.<queue>.<replica>`."""
    group: str = ""
    """Reader's name without the replica: the consumer group."""
    read_by_stage: bool = False
    """Sinks: a Fogline stage reads this queue, so a message nobody was subscribed to is a failure."""
    written_by_stage: bool = False
    """Sources: a Fogline stage writes this queue (only foreigners otherwise)."""
    envelopes: bool = False
    """An automatic queue: a message carries many records."""
    shared: bool = False
    """A reader that shares its queue with the other copies of its stage."""
    exactly_once: bool = False
    """One of the ends of a segment whose outputs and offsets are committed together."""


@dataclass(frozen=True)
class BatchSpec:
    """Micro-batching: at most `max_size` records at once, waiting at most `max_wait_s` for more."""

    max_size: int = 256
    max_wait_s: float = 0.0


@dataclass(frozen=True)
class ServingSpec:
    """The segment answers HTTP requests; its stages are a chain, without queues."""

    host: str
    """The address to listen at; empty: all of them."""
    port: int
    model: str
    """Its name as a model of the Open Inference Protocol: the pipeline's id. The name of an only stage is one more,
    where the chain does not go on."""
    token_secret: str = ""
    """The secret that a caller must bring as `Authorization: Bearer`; empty: anybody may call."""
    limit_bytes: int = 16 * 1024 * 1024
    """Of one request's body."""
    timeout_s: float = 60.0
    """From the request's first byte to its answer; then it is given up."""
    queue: int = 1024
    """Records that may wait for their turn; a request beyond them is told to come again."""
    forward: str = ""
    """The URL of the segment that goes on where this chain ends; empty: this chain has the answer."""
    onward: str = ""
    """What people call that one: its first stage and its node."""
    node: str = ""
    """The name of its node, for what goes wrong here and is told by the segment in front."""
    tls_name: str = ""
    """What callers reach it by, and the node's certificate is for; empty: it takes plain HTTP."""


@dataclass(frozen=True)
class SegmentSpec:
    """One process: sources -> stages (topological order) -> sinks."""

    pipeline: str
    segment: str
    replica: str
    lane: str
    cluster: str
    stages: tuple[StageSpec, ...]
    sources: tuple[EndpointSpec, ...] = ()
    sinks: tuple[EndpointSpec, ...] = ()
    batch: BatchSpec = BatchSpec()
    environment: Mapping[str, str] = field(default_factory=dict)
    restart: str = "always"
    """What the agent does when the process dies: `always`, `on-failure` or `no`."""
    health: HealthSpec = HealthSpec()
    lock: str = ""
    """SHA-256 of the lock of its environment, an artifact; empty: it runs in the agent's own."""
    serving: ServingSpec | None = None
    """How it answers requests, in API mode; None: it reads and writes queues."""
    container: bool = False
    """It runs in a container of its own, which holds its environment."""
    memory_bytes: int = 0
    """Containers: what it may take at most; 0: as much as there is."""
    cpus: float = 0.0
    """Containers: how many CPUs it may use; 0: as many as there are."""
    context: str = ""
    """Containers: SHA-256 of its image's build context, an artifact; empty: the image is pulled."""
    image: str = ""
    """Containers: the image in a registry, by its digest: `HOST/NAME@sha256:...`."""
    image_secret: str = ""
    """The secret with which the node pulls it, `USER:PASSWORD`; empty: anybody may."""
    spec_version: int = SPEC_VERSION

    @property
    def assignment_id(self) -> str:
        """`pipeline/segment/replica/lane`."""
        return f"{self.pipeline}/{self.segment}/{self.replica}/{self.lane}"

    @property
    def artifacts(self) -> tuple[str, ...]:
        """Digests the node needs before this segment can start, each once, in stage order."""
        return tuple(dict.fromkeys(stage.artifact for stage in self.stages if stage.artifact))

    @property
    def queues(self) -> tuple[str, ...]:
        """Every queue and in-memory link this segment touches, each once."""
        names = [name for stage in self.stages for name in (*stage.inputs, *stage.outputs)]
        return tuple(dict.fromkeys(names))

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no blanks, UTF-8. The digest is taken over these bytes."""
        document = dataclasses.asdict(self)
        serving = [document["serving"]] if document["serving"] else []
        for part in (document, *document["stages"], *document["sources"], *document["sinks"], *serving):
            for key in _LATER_KEYS:
                if not part.get(key, True):
                    del part[key]
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(spec: bytes) -> str:
    """SHA-256 of canonical spec bytes, in hex: the `spec_digest` of an assignment."""
    return hashlib.sha256(spec).hexdigest()


def parse(data: bytes) -> SegmentSpec:
    """Read a spec. Unknown keys of a known version are ignored, so that neighbours understand each other.

    Raises SpecError when the bytes are not JSON, a required key is absent or the version is newer.
    """
    try:
        document = json.loads(data)
        version = document["spec_version"]
        if version > SPEC_VERSION:
            raise SpecError(f"spec version {version} is newer than {SPEC_VERSION}: upgrade this node's fogline")
        return SegmentSpec(
            **_known(SegmentSpec, document)
            | {
                "stages": tuple(_stage(each) for each in document["stages"]),
                "sources": tuple(_read(EndpointSpec, each) for each in document["sources"]),
                "sinks": tuple(_read(EndpointSpec, each) for each in document["sinks"]),
                "batch": _read(BatchSpec, document["batch"]),
                "health": _read(HealthSpec, document.get("health", {})),
                "serving": _read(ServingSpec, document["serving"]) if document.get("serving") else None,
            }
        )
    except SpecError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"not a segment spec: {error!r}") from error


def _stage(document: Mapping[str, Any]) -> StageSpec:
    known = _known(StageSpec, document)
    on_error = _read(OnErrorSpec, known.get("on_error", {}))
    return StageSpec(
        **known | {"inputs": tuple(known["inputs"]), "outputs": tuple(known["outputs"]), "on_error": on_error}
    )


def _read(kind: type[_T], document: Mapping[str, Any]) -> _T:
    return kind(**_known(kind, document))


def _known(kind: type, document: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in dataclasses.fields(kind)}
    return {key: value for key, value in document.items() if key in names}
