"""PADL as one model: what the three dialects say, with the defaults of absent keys.

Shape only: types, keys, ranges. What the values mean together is judged by `check`, what this release
cannot run by `available`. A key set to null counts as absent where it has no other default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from fogline.coordinator.padl import older
from fogline.coordinator.padl.fields import (
    Amount,
    Bandwidth,
    BatchSize,
    Cores,
    Count,
    Devices,
    ImagePrefix,
    Names,
    NotNegative,
    Port,
    Positive,
    Replicas,
    Seconds,
    SecretName,
    Secrets,
    Version,
    Word,
    bytes_of,
)
from fogline.coordinator.padl.problems import Problem, keys_of, pointer_to
from fogline.runtimes.options import FRAMEWORK_ALIASES

CODE = "code"


class Part(BaseModel):
    """Any object of a document: unknown keys are errors, nothing is converted, nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Translated(Part):
    """An object that PADL 1.0 writes with other keys."""

    _filled: older.Filled = PrivateAttr(older.Filled({}))

    @property
    def clashes(self) -> tuple[tuple[str, str], ...]:
        """Pointers inside this object: of a key, and of an older key that says otherwise."""
        return self._filled.clashes

    def written(self, pointer: str) -> str:
        """The pointer inside this object of what the user wrote: `/model` for `/props/path` in PADL 1.0."""
        return self._filled.origins.get(pointer, pointer)


class SshConfig(Part):
    """How `coord bootstrap` reaches a machine. Never stored, sent to an agent or shown."""

    user: str | None = Field(None, description="Login name.")
    password: str | None = Field(None, alias="pass", repr=False, description="Clear text; better left out.")
    port: Port = Field(22, description="Port of the SSH server.")


class Machine(Part):
    """A machine of `infra`."""

    hostname: str | None = Field(None, description="Name of the node, or the hostname it reports.")
    ssh_config: SshConfig | None = Field(None, alias="sshConfig", description="Access for `coord bootstrap`.")


class Queue(Translated):
    """A named channel between stages: a connector and an address."""

    connector: str = Field("", description="Transport: mqtt, kafka, websocket or file.")
    props: dict[str, Any] = Field({}, description="Options of the connector: server, port, topic, ...")
    guarantee: Literal["at-least-once", "exactly-once"] = Field("at-least-once", description="Delivery guarantee.")
    format: Literal["text", "avro", "json"] | None = Field(None, description="PADL 1.0: format of the payloads.")
    path: str | None = Field(None, description="PADL 1.0: URL such as mqtt://edge/norm, or a file glob.")

    @model_validator(mode="wrap")
    @classmethod
    def _read_older_dialect(cls, data: Any, handler: ModelWrapValidatorHandler[Queue]) -> Queue:
        """A queue of PADL 1.0 has a `path` and a `format` instead of connector and props."""
        if not isinstance(data, dict):
            return handler(data)
        filled = older.Filled(data)
        for key in ("path", "format"):
            filled = filled.completed(older.queue_of({key: data.get(key)}), "/" + key)
        queue = handler(filled.whole)
        queue._filled = filled
        return queue


class Links(Part):
    """What a stage reads and writes: names of queues, or of neighbour stages (direct links)."""

    inputs: Names = Field((), alias="input", description="The queue or neighbour stage that is read.")
    outputs: Names = Field((), alias="output", description="The queue or neighbour stage that is written.")


class Resources(Part):
    """What a stage needs of its node."""

    cpus: Cores | None = Field(None, description="Processor cores, fractions allowed.")
    gpus: Devices | None = Field(None, description="Graphics processors.")
    memory: Amount | None = Field(None, description="Memory: bytes, or an amount such as 512MB or 1GiB.")
    disk: Amount | None = Field(None, description="Disk space: bytes, or an amount such as 2GB.")
    network: Bandwidth | None = Field(None, description="Bandwidth: bytes per second, or a text such as 10GbE.")

    @property
    def memory_bytes(self) -> int | None:
        """`memory` in bytes."""
        return bytes_of(self.memory)

    @property
    def disk_bytes(self) -> int | None:
        """`disk` in bytes."""
        return bytes_of(self.disk)


class ModelConstraints(Part):
    """Limits of a single call."""

    max_execution_time: Seconds | None = Field(
        None, description="Seconds one call may take; stages in one process share the longest."
    )


class Constraints(Part):
    """Where a stage may run and how long a call may take."""

    node: dict[str, Word] = Field({}, description="Labels the node must carry: layer, os, hostname or any label.")
    model: ModelConstraints | None = Field(None, description="Limits of a single call.")


class Update(Part):
    """What happens when a new revision does not become ready."""

    on_failure: Literal["retry", "rollback", "stop"] = Field(
        "rollback", description="Go back to the former revision, or stop everything."
    )


class Rollback(Part):
    """What happens when the former revision, started again, fails too."""

    on_failure: Literal["retry", "stop"] = Field("stop", description="Stop everything.")


class Deploy(Part):
    """What becomes of a revision that fails."""

    update: Update = Field(Update(), description="When a new revision fails.")
    rollback: Rollback = Field(Rollback(), description="When the rollback fails.")


class Batch(Part):
    """Micro-batching: at most `max-size` records at once, waiting at most `max-wait-ms` for more."""

    max_size: BatchSize = Field(
        256, alias="max-size", description="Records per batch at most; absent: 256, where only Kafka is read 2048."
    )
    max_wait_ms: NotNegative = Field(0.0, alias="max-wait-ms", description="Milliseconds to wait for more.")


class OnError(Part):
    """What a record gets that fails."""

    retries: Count = Field(3, description="How often it is tried again.")
    then: Literal["dead-letter", "drop", "stop"] = Field("dead-letter", description="What happens after that.")
    queue: str | None = Field(None, description="Queue that gets a copy.")


class Health(Part):
    """Deadlines in seconds. Loading a model is never held against `live`."""

    startup: Positive = Field(120.0, description="Seconds until everything is loaded.")
    ready: Positive = Field(60.0, description="Seconds from loaded to ready.")
    live: Positive = Field(60.0, description="Seconds without progress until a stage counts as stuck.")


class Stage(Translated):
    """One step of the pipeline: a model or a code block."""

    type: Literal["code", "model"] = Field(description='"code" for a function of yours, "model" for a model file.')
    language: str | None = Field(None, description="Language of a code stage: python.")
    framework_key: str | None = Field(None, alias="framework", description="Framework of a model: onnx, sklearn, ...")
    props: dict[str, Any] = Field({}, description="Options of the code or the framework: path, entrypoint, ...")
    queues: Links = Field(Links(), description="What the stage reads and writes.")
    infra: str | None = Field(None, description="Machine of `infra` the stage is pinned to.")
    args: dict[str, Any] = Field({}, description="Keyword arguments of the function or class.")
    resources: Resources = Field(Resources(), description="What the stage needs of its node.")
    labels: dict[str, Word] = Field({}, description="Labels of one's own.")
    constraints: Constraints = Field(Constraints(), description="Where the stage may run.")
    deploy: Deploy = Field(Deploy(), description="What to do when deploying fails.")
    environment: dict[str, Word] = Field({}, description="Environment variables.")
    restart: Literal["no", "always", "on-failure"] = Field(
        "always", description="When a stage that ended starts again."
    )
    replicas: Replicas = Field(1, description="Copies that share the load, or one on each admitted node.")
    batch: Batch = Field(Batch(), description="Micro-batching.")
    on_error: OnError | None = Field(None, alias="on-error", description="What a failing record gets.")
    route: str | None = Field(None, description="Field of the record that names the outputs it goes to.")
    health: Health | None = Field(None, description="Deadlines: startup, ready, live.")
    secrets: Secrets | None = Field(None, description="Names of secrets, resolved on the node.")
    containerized: bool | None = Field(None, description="Overrides the document's choice for this stage.")
    model: str | None = Field(None, description="PADL 1.0: path or URI of the model.")

    @model_validator(mode="wrap")
    @classmethod
    def _read_older_dialect(cls, data: Any, handler: ModelWrapValidatorHandler[Stage]) -> Stage:
        """A stage of PADL 1.0 names its model; what kind it is follows from the file."""
        if not isinstance(data, dict):
            return handler(data)
        filled = older.Filled(data).completed(older.stage_of(data), "/model")
        stage = handler(filled.whole)
        stage._filled = filled
        return stage

    @property
    def framework(self) -> str:
        """Name in the option tables: `code` for code stages, aliases resolved; empty when none is given."""
        if self.type == CODE:
            return CODE
        given = self.framework_key or ""
        return FRAMEWORK_ALIASES.get(given, given)

    @property
    def deadlines(self) -> Health | None:
        """`health`, its `live` no longer than one call may take; None when neither is given."""
        limit = self.constraints.model.max_execution_time if self.constraints.model else None
        if limit is None:
            return self.health
        given = self.health or Health()
        live = limit if "live" not in given.model_fields_set else min(limit, given.live)
        return given.model_copy(update={"live": live})

    @property
    def inputs(self) -> tuple[str, ...]:
        """Queues and stages that are read."""
        return self.queues.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Queues and stages that are written."""
        return self.queues.outputs


class Credentials(Part):
    """The secret with which a registry is logged in to: `USER:PASSWORD`."""

    secret: SecretName = Field(description="Its name: a file of that name on the node, and with the submitter.")


class Registry(Part):
    """Where images are pushed to and pulled from."""

    prefix: ImagePrefix = Field(description="HOST[:PORT][/PATH]; the names of images follow.")
    credentials: Credentials | None = Field(None, description="What the registry asks for, by the name of a secret.")


class Document(Part):
    """A pipeline as the user wrote it."""

    version: Version = Field(description='Version of the language: "1.0".')
    id: str = Field(description="Name of the pipeline; the file's own name when absent.")
    containerized: bool = Field(False, description="Run segments as containers instead of native processes.")
    package_mode: Literal["api", "stream"] = Field(
        "stream", alias="package-mode", description="REST endpoint, or publish and subscribe."
    )
    deploy_mode: Literal["local", "remote"] = Field(
        "remote", alias="deploy-mode", description="This machine, or the machines of `infra`."
    )
    pipeline: dict[str, Stage] = Field(description="The stages by name; their order carries no meaning.")
    queues: dict[str, Queue] = Field({}, description="The queues by name.")
    infra: dict[str, Machine] = Field({}, description="The machines by name.")
    registry: Registry | None = Field(None, description="Where images are pushed and pulled.")
    rollout: Any = Field(None, description="How a new revision replaces the former.")
    monitoring: Any = Field(None, description="Drift watch.")
    notifications: Any = Field(None, description="Webhooks.")

    @property
    def has_infra_map(self) -> bool:
        """Without a map, a stage's `infra` is the name of a node."""
        return "infra" in self.model_fields_set

    def contains(self, stage: Stage) -> bool:
        """Whether a stage runs in a container: its own word counts before the document's."""
        return self.containerized if stage.containerized is None else stage.containerized

    @property
    def registry_secret(self) -> str:
        """The name of the secret with which images are pulled; empty: anybody may."""
        return self.registry.credentials.secret if self.registry and self.registry.credentials else ""

    def written(self, pointer: str) -> str:
        """The pointer of what the user wrote: `/pipeline/a/model` for `/pipeline/a/props/path` in PADL 1.0."""
        part, name, *rest = [*keys_of(pointer), "", ""]
        holder = self.pipeline.get(name) if part == "pipeline" else self.queues.get(name) if part == "queues" else None
        return pointer_to(part, name) + holder.written(pointer_to(*rest[:-2])) if holder else pointer

    def as_written(self, problems: Iterable[Problem]) -> list[Problem]:
        """The problems at the places of what the user wrote."""
        return [dataclasses.replace(each, pointer=self.written(each.pointer)) for each in problems]
