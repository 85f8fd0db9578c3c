"""From a split document to the specs of its segments. Pure: the same document gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from fogline.coordinator.core.exactly_once import is_exact
from fogline.coordinator.core.graph import Link, link_name, readers, writers
from fogline.coordinator.core.split import Segment
from fogline.coordinator.padl.endpoint import other_props
from fogline.coordinator.padl.files import FILE, format_of
from fogline.coordinator.padl.model import Document, Health, Queue, Stage
from fogline.coordinator.padl.templates import filled, templates_in
from fogline.runtimes.options import (
    ADDRESS,
    BATCH_SIZE,
    BATCH_SIZES,
    CONNECTORS,
    FOLDERS,
    LOOPBACK,
    completed,
    defaults,
)
from fogline.runtimes.spec import BatchSpec, EndpointSpec, HealthSpec, OnErrorSpec, SegmentSpec, ServingSpec, StageSpec

_Number = TypeVar("_Number", int, float)

LANE = "a"
"""Always `a` until two versions live side by side."""

_NOT_FOR_THE_STAGE = {"path", "ref", "commit", "input_format"}


@dataclass(frozen=True)
class Replica:
    """One copy of a segment: its name, whether it shares what it reads with others, and where it runs."""

    name: str = "0"
    several: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    """What templates stand for: `name`, `layer`, `label.X`."""
    lock: str = ""
    """Digest of the lock of its environment; empty: it runs in the agent's own."""
    context: str = ""
    """Digest of the build context of its image, where it runs in a container."""
    image: str = ""
    """That image in a registry; then there is no context."""
    serving: ServingSpec | None = None
    """How it answers requests, in API mode."""


LONE = Replica()


@dataclass(frozen=True)
class Source:
    """Where a stage's code or model is: in the artifact store, or in place on this machine."""

    artifact: str = ""
    path: str = ""


def reader_name(cluster: str, pipeline: str, stage: str, queue: str) -> str:
    """The name a reading stage goes by at brokers; never revision, node or segment."""
    return f"fogline.{cluster}.{pipeline}.{stage}.{queue}"


def segment_spec(
    document: Document,
    segment: Segment,
    cluster: str,
    sources: Mapping[str, Source],
    automatic: Mapping[Link, Queue] = MappingProxyType({}),
    replica: Replica = LONE,
) -> SegmentSpec:
    """The spec of one copy of a segment. `sources` must hold every stage of it, `automatic` every link that
    leaves it, `replica` the facts of its node that templates ask for."""
    head = document.pipeline[segment.stages[0]]
    contained = document.contains(head)
    stages = [document.pipeline[name] for name in segment.stages]
    endpoints_in: list[EndpointSpec] = []
    endpoints_out: list[EndpointSpec] = []
    for name in segment.stages:
        stage = document.pipeline[name]
        endpoints_in += [_reading(document, cluster, name, queue) for queue in stage.inputs if queue in document.queues]
        endpoints_out += [
            _writing(document, cluster, name, queue) for queue in _written(stage) if queue in document.queues
        ]
    for link, queue in sorted(automatic.items()):
        if link[1] in segment.stages:
            endpoints_in.append(_automatic(document, cluster, link, queue, link[1]))
        if link[0] in segment.stages:
            endpoints_out.append(_automatic(document, cluster, link, queue, link[0]))
    endpoints_in = [_of_reader(each, segment, replica) for each in endpoints_in]
    endpoints_out = [_of_writer(each, replica) for each in endpoints_out]
    if is_exact(document, segment):
        endpoints_in = [replace(each, exactly_once=True) for each in endpoints_in]
        endpoints_out = [replace(each, exactly_once=True) for each in endpoints_out]
    return SegmentSpec(
        pipeline=document.id,
        segment=segment.name,
        replica=replica.name,
        lane=LANE,
        cluster=cluster,
        stages=tuple(stage_spec(document, name, sources[name]) for name in segment.stages),
        sources=tuple(endpoints_in),
        sinks=tuple(endpoints_out),
        batch=_batch(head, endpoints_in),
        environment=filled(head.environment, replica.facts),
        restart=head.restart,
        health=_health(stages),
        lock=replica.lock,
        serving=replica.serving,
        container=contained,
        memory_bytes=_most(stage.resources.memory_bytes for stage in stages) if contained else 0,
        cpus=_most(stage.resources.cpus for stage in stages) if contained else 0.0,
        context=replica.context,
        image=replica.image,
        image_secret=document.registry_secret if replica.image else "",
    )


def image_spec(
    document: Document, segment: Segment, automatic: Mapping[Link, Queue], artifacts: Mapping[str, str], lock: str
) -> SegmentSpec:
    """As much of a segment's spec as its image depends on, whatever node and copy it is for.

    `artifacts` is stage -> digest and must hold every stage of it.
    """
    members = set(segment.stages)
    queues = {name for each in segment.stages for name in _touched(document.pipeline[each])} & document.queues.keys()
    connectors = {document.queues[name].connector for name in queues}
    connectors |= {queue.connector for link, queue in automatic.items() if members & set(link)}
    return SegmentSpec(
        pipeline=document.id,
        segment=segment.name,
        replica=LONE.name,
        lane=LANE,
        cluster="",
        stages=tuple(stage_spec(document, name, Source(artifact=artifacts[name])) for name in segment.stages),
        sources=tuple(EndpointSpec("", segment.name, each, {}, "") for each in sorted(connectors)),
        lock=lock,
        container=True,
    )


def stage_spec(document: Document, name: str, source: Source) -> StageSpec:
    """One stage, its queues and direct links under the names they are tapped by."""
    stage = document.pipeline[name]
    stages, options = document.pipeline, _stage_options(stage)
    return StageSpec(
        name=name,
        framework=stage.framework,
        inputs=tuple(link_name((each, name)) if each in stages else each for each in stage.inputs),
        outputs=tuple(link_name((name, each)) if each in stages else each for each in stage.outputs),
        artifact=source.artifact,
        path=source.path,
        options=options,
        on_error=_on_error(stage),
        bundled=bool(source.artifact) and options.get("serializer") in FOLDERS,
        route=stage.route or "",
    )


def _batch(head: Stage, sources: Sequence[EndpointSpec]) -> BatchSpec:
    """What the first stage says; how many at once, where it does not, is a matter of what is read."""
    asked = "max_size" in head.batch.model_fields_set
    usual = min((BATCH_SIZES.get(source.connector, BATCH_SIZE) for source in sources), default=BATCH_SIZE)
    return BatchSpec(head.batch.max_size if asked else usual, head.batch.max_wait_ms / 1000)


def _on_error(stage: Stage) -> OnErrorSpec:
    given = stage.on_error
    return OnErrorSpec(given.retries, given.then, given.queue or "") if given else OnErrorSpec()


def _health(stages: Sequence[Stage]) -> HealthSpec:
    """Fused stages load one after the other; each may take the time it asked for."""
    given = [stage.deadlines or Health() for stage in stages]
    return HealthSpec(
        sum(each.startup for each in given), max(each.ready for each in given), max(each.live for each in given)
    )


def _most(asked: Iterable[_Number | None]) -> _Number:
    """What stages that share a container may have together: no limit where one of them has none."""
    known = list(asked)
    return 0 if None in known else sum(each for each in known if each)


def _stage_options(stage: Stage) -> dict[str, Any]:
    given = other_props(stage)
    if stage.type != "model":
        given.pop("serializer", None)
    if stage.args:
        given["args"] = dict(stage.args)
    return {key: value for key, value in completed(stage.framework, given).items() if key not in _NOT_FOR_THE_STAGE}


def _reading(document: Document, cluster: str, stage: str, queue: str) -> EndpointSpec:
    group = reader_name(cluster, document.id, stage, queue)
    return EndpointSpec(
        queue=queue,
        stage=stage,
        connector=document.queues[queue].connector,
        options=_queue_options(document.queues[queue]),
        client_id=group,
        group=group,
        written_by_stage=bool(writers(document, queue)),
    )


def _writing(document: Document, cluster: str, stage: str, queue: str) -> EndpointSpec:
    return EndpointSpec(
        queue=queue,
        stage=stage,
        connector=document.queues[queue].connector,
        options=_queue_options(document.queues[queue]),
        client_id=reader_name(cluster, document.id, stage, queue),
        read_by_stage=bool(readers(document, queue)),
    )


def _automatic(document: Document, cluster: str, link: Link, queue: Queue, stage: str) -> EndpointSpec:
    """The end of an automatic queue at `stage`."""
    name = link_name(link)
    group = reader_name(cluster, document.id, stage, name)
    reads = stage == link[1]
    return EndpointSpec(
        queue=name,
        stage=stage,
        connector=queue.connector,
        options=_queue_options(queue),
        client_id=group,
        group=group if reads else "",
        read_by_stage=not reads,
        written_by_stage=reads,
        envelopes=True,
    )


def _of_reader(end: EndpointSpec, segment: Segment, replica: Replica) -> EndpointSpec:
    """As this copy reads: with the others, unless each has an address of its own."""
    own = segment.each and (_own_address(end) or str(end.options.get("server", "")).startswith(LOOPBACK))
    group = f"{end.group}.{replica.name}" if segment.each and _own_address(end) else end.group
    options = filled(end.options, replica.facts)
    name = f"{end.client_id}.{replica.name}"
    return replace(end, options=options, client_id=name, group=group, shared=replica.several and not own)


def _of_writer(end: EndpointSpec, replica: Replica) -> EndpointSpec:
    return replace(end, options=filled(end.options, replica.facts), client_id=f"{end.client_id}.{replica.name}.w")


def _own_address(end: EndpointSpec) -> bool:
    return any(key in ADDRESS for key in templates_in(end.options))


def _written(stage: Stage) -> tuple[str, ...]:
    """The outputs, and the queue that gets a copy of every dead letter."""
    errors = stage.on_error.queue if stage.on_error else None
    return (*stage.outputs, *((errors,) if errors else ()))


def _touched(stage: Stage) -> tuple[str, ...]:
    """Everything it reads and writes."""
    return (*stage.inputs, *_written(stage))


def _queue_options(queue: Queue) -> dict[str, Any]:
    if queue.connector == FILE:
        return defaults(CONNECTORS[FILE], {**queue.props, "format": format_of(queue)})
    return defaults(CONNECTORS[queue.connector], queue.props)
