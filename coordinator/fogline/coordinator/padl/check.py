"""What a document means: names, references, options of plugins, machines. Pure; every finding is collected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from typing import Any

from fogline.coordinator.padl import older
from fogline.coordinator.padl.addresses import address_problems
from fogline.coordinator.padl.endpoint import endpoint_problems, other_props
from fogline.coordinator.padl.files import file_problems
from fogline.coordinator.padl.links import copies, ends, link_problems
from fogline.coordinator.padl.listening import listening_problems
from fogline.coordinator.padl.model import CODE, Document, Queue, Stage, Translated
from fogline.coordinator.padl.problems import Problem, error, listed, near_miss, pointer_to, quoted, warning
from fogline.coordinator.padl.props import prop_problems
from fogline.coordinator.padl.templates import template_problems, without_templates
from fogline.runtimes.options import CONNECTORS, FRAMEWORK_ALIASES, FRAMEWORKS, Table, defaults
from fogline.wire.terms import NAME, NAME_RULE

_LANGUAGES = ("python",)
LAYERS = ("edge", "fog", "cloud")
NODE_FACTS = ("layer", "os", "hostname", "architecture")
"""What `constraints.node` may name besides labels."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOPIC_LIMIT_BYTES = 65535
_KAFKA_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def check(document: Document, broken: Set[str] = frozenset()) -> list[Problem]:
    """Every problem of meaning. Names in `broken` belong to parts whose shape is wrong: they count as defined."""
    found = [
        *_names(document, broken),
        *link_problems(document, broken),
        *(problem for name, stage in document.pipeline.items() for problem in _stage(name, stage)),
        *(problem for name, queue in document.queues.items() for problem in _queue(name, queue)),
        *_topics(document),
        *_logins(document),
        *_guarantees(document),
        *_metadata(document),
        *template_problems(document),
        *_replicas(document),
        *file_problems(document),
        *endpoint_problems(document),
        *listening_problems(document),
        *_machines(document, broken),
        *([] if broken else _unused(document)),
    ]
    return document.as_written(found)


def _names(document: Document, broken: Set[str]) -> Iterator[Problem]:
    if not document.pipeline and not broken:
        yield error(pointer_to("pipeline"), "the pipeline has no stage", "a pipeline has at least one")
    named = [("pipeline id", pointer_to("id"), document.id)]
    for kind, key in (("stage", "pipeline"), ("queue", "queues"), ("machine", "infra")):
        named += [(f"{kind} name", pointer_to(key, name), name) for name in getattr(document, key)]
    for what, place, name in named:
        if not NAME.fullmatch(name):
            yield error(place, f"{quoted(name)} is not a {what}", f"allowed: {NAME_RULE}")


def _stage(name: str, stage: Stage) -> Iterator[Problem]:
    place = pointer_to("pipeline", name)
    if stage.type == CODE:
        yield from _code_stage(place, stage)
    elif stage.language is not None:
        yield warning(place + "/language", "a model stage has no language", "the key is not used: remove it")
    for variable in stage.environment:
        if not _VARIABLE.fullmatch(variable):
            message = f"{quoted(variable)} is not the name of an environment variable"
            yield error(place + pointer_to("environment", variable), message, "letters, digits and '_'")
    yield from _clashes(place, stage)
    yield from _framework(place, stage)
    yield from address_problems(place, stage)
    for key in stage.constraints.node:
        if key not in NODE_FACTS and (suggestion := near_miss(key, NODE_FACTS)):
            message = f"{quoted(key)} is taken as a label of one's own{suggestion}"
            yield warning(place + pointer_to("constraints", "node", key), message, f"known: {listed(NODE_FACTS)}")
    layer = stage.constraints.node.get("layer", LAYERS[0])
    if layer not in LAYERS:
        message = f"layer {quoted(layer)} is not known{near_miss(layer, LAYERS)}"
        yield error(place + "/constraints/node/layer", message, f"known: {', '.join(LAYERS)}")


def _clashes(place: str, part: Translated) -> Iterator[Problem]:
    for pointer, older_pointer in part.clashes:
        key, older_key = pointer.rpartition("/")[2], older_pointer.removeprefix("/")
        message = f"{key!r} is not what {older_key!r} says: the document gives both"
        yield error(place + pointer, message, f"keep one of {key!r} and {older_key!r}")


def _code_stage(place: str, stage: Stage) -> Iterator[Problem]:
    if stage.framework_key is not None:
        yield error(place + "/framework", "a code stage has no framework", 'remove the key, or set "type": "model"')
    if stage.language is not None and stage.language not in _LANGUAGES:
        message = f"language {quoted(stage.language)} is not known{near_miss(stage.language, _LANGUAGES)}"
        yield error(place + "/language", message, f"known: {listed(_LANGUAGES)}")
    for argument in stage.args:
        if not argument.isidentifier():
            message = f"{quoted(argument)} is not the name of an argument"
            yield error(place + pointer_to("args", argument), message, "args are keyword arguments of the function")


def _framework(place: str, stage: Stage) -> Iterator[Problem]:
    models = (set(FRAMEWORKS) | set(FRAMEWORK_ALIASES)) - {CODE}
    if not stage.framework and stage.model is not None:
        message = f"nothing says what kind of model {quoted(stage.model)} is"
        hint = f'add "framework": one of {listed(models)}; known file endings: {", ".join(older.SUFFIXES)}'
        yield error(place + "/model", message, hint)
    elif not stage.framework:
        yield error(place, "a model stage needs a 'framework'", f"one of {listed(models)}")
    elif stage.framework not in FRAMEWORKS or (stage.framework == CODE and stage.type != CODE):
        message = f"framework {quoted(stage.framework)} is not known{near_miss(stage.framework, models)}"
        if reason := FRAMEWORKS.refused().get(stage.framework):
            message = f"framework {reason}"
        yield error(place + "/framework", message, f"known: {listed(models)}")
    else:
        owner = "a code stage" if stage.framework == CODE else f"framework {stage.framework!r}"
        yield from _taken(FRAMEWORKS, stage.framework, place + "/framework")
        yield from prop_problems(FRAMEWORKS[stage.framework], other_props(stage), place + "/props", owner)


def _taken(table: Table[Any], name: str, place: str) -> Iterator[Problem]:
    """Fogline's own plugin is meant, whatever a package here offers under its name."""
    if reason := table.refused().get(name):
        yield warning(place, f"{table.kind.removesuffix('s')} {reason}", "rename it in that package, or uninstall that")


def _queue(name: str, queue: Queue) -> Iterator[Problem]:
    place = pointer_to("queues", name)
    address = older.address_of(queue.path) if queue.path is not None else older.Address()
    yield from _clashes(place, queue)
    if address.message:
        yield error(place + "/path", address.message, address.hint)
    elif not queue.connector and queue.format is not None:
        hint = "a URL such as mqtt://edge/norm, or a file glob such as /data/*.csv"
        yield error(place, f"queue {quoted(name)} needs a 'path'", hint)
    elif not queue.connector:
        yield error(place, f"queue {quoted(name)} needs a 'connector'", f"one of {listed(CONNECTORS)}")
    elif queue.connector not in CONNECTORS:
        message = f"connector {quoted(queue.connector)} is not known{near_miss(queue.connector, CONNECTORS)}"
        if reason := CONNECTORS.refused().get(queue.connector):
            message = f"connector {reason}"
        yield error(place + "/connector", message, f"known: {listed(CONNECTORS)}")
    else:
        yield from prop_problems(
            CONNECTORS[queue.connector], queue.props, place + "/props", f"connector {queue.connector!r}"
        )


def _topics(document: Document) -> Iterator[Problem]:
    written = {end.name: end.stage for end in (*ends(document), *copies(document)) if end.side == "output"}
    first: dict[tuple[object, ...], str] = {}
    for name, queue in document.queues.items():
        topic, place = queue.props.get("topic"), pointer_to("queues", name, "props", "topic")
        if not isinstance(topic, str):
            continue
        if queue.connector == "mqtt":
            yield from _mqtt_topic(topic, place, written.get(name))
        if queue.connector == "kafka" and (
            not _KAFKA_TOPIC.fullmatch(without_templates(topic)) or topic in {".", ".."}
        ):
            message = f"{quoted(topic)} cannot be a topic of Kafka"
            yield error(place, message, "letters, digits, '.', '_' and '-', at most 249 of them, for example plant.raw")
        props = defaults(CONNECTORS.get(queue.connector, ()), queue.props)
        address = tuple(repr(each) for each in (queue.connector, props.get("server"), props.get("port"), topic))
        if address in first:
            message = f"queues {quoted(first[address])} and {quoted(name)} are the same topic of the same broker"
            yield warning(place, message, "what is written to one is read from the other; one queue is enough")
        first.setdefault(address, name)


def _logins(document: Document) -> Iterator[Problem]:
    for name, queue in document.queues.items():
        for key in ("password", "mechanism"):
            if key in queue.props and "username" not in queue.props:
                message = f"{quoted(key)} says nothing without a login name"
                yield error(pointer_to("queues", name, "props", key), message, 'add "username": NAME')


def _replicas(document: Document) -> Iterator[Problem]:
    for name, stage in document.pipeline.items():
        place = pointer_to("pipeline", name)
        if stage.replicas == "each" and stage.infra is not None:
            message = f"'each' is a copy on every node that is admitted, and 'infra' pins {quoted(name)} to one"
            yield error(place + "/replicas", message, "leave out infra, and say by constraints.node which nodes")
        alone = [each for each in (*stage.inputs, *stage.outputs) if each in document.queues]
        alone = [each for each in alone if document.queues[each].connector in {"file", "websocket"}]
        if isinstance(stage.replicas, int) and stage.replicas > 1 and alone:
            message = f"copies cannot share {quoted(alone[0])}: {document.queues[alone[0]].connector} has no groups"
            yield error(place + "/replicas", message, "use mqtt or kafka between them, or one copy")


def _guarantees(document: Document) -> Iterator[Problem]:
    written = {end.name for end in (*ends(document), *copies(document)) if end.side == "output"}
    for name, queue in document.queues.items():
        if queue.guarantee == "at-least-once":
            continue
        place = pointer_to("queues", name, "guarantee")
        hint = 'use "guarantee": "at-least-once"'
        if queue.connector != "kafka":
            yield error(place, f"{quoted(queue.connector)} has no transactions, so nothing is exactly once there", hint)
        elif queue.props.get("client") == "python":
            yield error(place, "exactly once needs the client confluent", 'leave out "client"')
        elif name not in written:
            message = f"no stage writes {quoted(name)}: exactly once is a promise to the readers of what is written"
            yield error(place, message, "leave it out here, and say it of the queue that is written")


def _metadata(document: Document) -> Iterator[Problem]:
    """It is about what is read, and a field of a record."""
    written = {end.name for end in (*ends(document), *copies(document)) if end.side == "output"}
    read = {end.name for end in ends(document) if end.side == "input"}
    for name, queue in document.queues.items():
        field, table = queue.props.get("metadata"), CONNECTORS.get(queue.connector, ())
        if not isinstance(field, str) or "metadata" not in {option.name for option in table}:
            continue
        place, format_ = pointer_to("queues", name, "props", "metadata"), defaults(table, queue.props).get("format")
        if not field:
            yield error(place, "metadata must be the name of a field", "for example _meta")
        elif format_ != "json":
            message = f"a record of format {format_!r} has no fields, so nothing can be added to it"
            yield error(place, message, 'use "format": "json", or leave "metadata" out')
        elif name in written - read:
            message = f"no stage reads {quoted(name)}, and metadata is added to what is read"
            yield warning(place, message, "the key is not used: remove it")


def _mqtt_topic(topic: str, place: str, writer: str | None) -> Iterator[Problem]:
    levels = topic.split("/")
    if len(topic.encode("utf-8", "replace")) > _TOPIC_LIMIT_BYTES:
        yield error(place, f"the topic is longer than {_TOPIC_LIMIT_BYTES} bytes")
    elif levels[0] == "$share":
        yield error(place, "the topic is a shared subscription", "name the topic alone: replicas share by themselves")
    elif "#" not in topic and "+" not in topic:
        return
    elif writer is not None:
        message = f"stage {quoted(writer)} writes to this topic, so it may not hold the wildcards '+' and '#'"
        yield error(place, message, "name one topic; wildcards are for topics that are only read")
    elif any(len(level) > 1 and ("#" in level or "+" in level) for level in levels) or "#" in levels[:-1]:
        yield error(place, "a wildcard stands alone between slashes, and '#' only at the end", "plant/+/raw or plant/#")


def _machines(document: Document, broken: Set[str]) -> Iterator[Problem]:
    for name, stage in document.pipeline.items():
        place = pointer_to("pipeline", name, "infra")
        if stage.infra is None or stage.infra in document.infra or stage.infra in broken:
            continue
        if document.has_infra_map:
            message = f"{quoted(stage.infra)} is not a machine of infra{near_miss(stage.infra, document.infra)}"
            yield error(place, message, f"known: {listed(document.infra) or 'none'}")
        elif not NAME.fullmatch(stage.infra):
            yield error(place, f"{quoted(stage.infra)} is not the name of a node", f"allowed: {NAME_RULE}")
        else:
            message = f"the document has no infra map, so {quoted(stage.infra)} is taken as the name of a node"
            yield warning(place, message, f'"infra": {{"{stage.infra}": {{"hostname": "…"}}}} says which machine it is')
    for name, machine in document.infra.items():
        if machine.ssh_config is not None and machine.ssh_config.password is not None:
            message = f"machine {quoted(name)} has its password in clear text"
            place = pointer_to("infra", name, "sshConfig", "pass")
            yield warning(place, message, "use an SSH key; the password is never stored, sent or shown")


def _unused(document: Document) -> Iterator[Problem]:
    used = {end.name for end in (*ends(document), *copies(document))}
    for name in document.queues:
        if name not in used:
            yield warning(pointer_to("queues", name), f"no stage uses the queue {quoted(name)}", "remove it")
    pinned = {stage.infra for stage in document.pipeline.values()}
    for name in document.infra:
        if name not in pinned:
            yield warning(pointer_to("infra", name), f"no stage is pinned to the machine {quoted(name)}", "remove it")
