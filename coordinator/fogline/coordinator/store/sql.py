"""What the coordinator remembers, over SQLAlchemy Core. Every method is one transaction."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from fogline.coordinator.core.deployment import Copy, Deployment, Outcome, Phase, Want
from fogline.coordinator.store import tables as t
from fogline.wire.terms import ErrorKind, FoglineError, Wanted


@dataclass(frozen=True)
class StoredNode:
    """A node as it introduced itself last."""

    name: str
    facts: bytes
    release: str
    seen_at: float
    generation: int


@dataclass(frozen=True)
class Revision:
    """One submit of a deployment; never edited, but for its verdict."""

    deployment: str
    number: int
    document: bytes
    artifacts: Mapping[str, str]
    succeeded: bool | None
    verdict: str


@dataclass(frozen=True)
class DesiredLine:
    """One line of a node's desired state, and the generation at which it last changed."""

    copy: Copy
    deployment: str
    revision: int
    want: Want
    generation: int


class Store:
    """Durable state of one coordinator. `url` is an SQLAlchemy URL, such as `sqlite:////var/lib/x/state.db`."""

    def __init__(self, url: str) -> None:
        self._engine = t.open_engine(url)
        t.metadata.create_all(self._engine)
        found = int(self._meta("schema", str(t.SCHEMA_VERSION)))
        if found > t.SCHEMA_VERSION:
            sentence = f"the store was written by a newer coordinator (schema {found}): upgrade this one"
            raise FoglineError(ErrorKind.VERSION_MISMATCH, sentence)
        self._set_meta("schema", str(t.SCHEMA_VERSION))

    def close(self) -> None:
        """Give the database back."""
        self._engine.dispose()

    def epoch(self) -> int:
        """Number of this store's line of history; raised when agents have seen a later one."""
        return int(self._meta("epoch", "1"))

    def set_epoch(self, epoch: int) -> None:
        """Remember a new epoch."""
        self._set_meta("epoch", str(epoch))

    def nodes(self) -> list[StoredNode]:
        """Every node that ever joined, by name."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(t.nodes).order_by(t.nodes.c.name))
            return [StoredNode(**row) for row in rows.mappings()]

    def save_node(self, name: str, facts: bytes, release: str) -> None:
        """Remember what a node said of itself; its generation stays."""
        values = {"facts": facts, "release": release, "seen_at": time.time()}
        with self._engine.begin() as connection:
            changed = connection.execute(update(t.nodes).where(t.nodes.c.name == name).values(values))
            if not changed.rowcount:
                connection.execute(insert(t.nodes).values(name=name, generation=0, **values))

    def deployments(self) -> list[Deployment]:
        """Every deployment, by id."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(t.deployments.c.state).order_by(t.deployments.c.id))
            return [_deployment(json.loads(row.state)) for row in rows]

    def add_revision(self, id_: str, document: bytes, artifacts: Mapping[str, str], specs: Mapping[str, bytes]) -> int:
        """Append a revision and keep its specs by digest; returns its number, 1 for the first."""
        with self._engine.begin() as connection:
            newest = select(func.max(t.revisions.c.number)).where(t.revisions.c.deployment == id_)
            number = (connection.execute(newest).scalar() or 0) + 1
            connection.execute(
                insert(t.revisions).values(
                    deployment=id_,
                    number=number,
                    document=document,
                    artifacts=json.dumps(dict(artifacts), sort_keys=True),
                    created_at=time.time(),
                    verdict="",
                )
            )
            known = set(connection.execute(select(t.specs.c.digest)).scalars())
            missing = [{"digest": key, "spec": spec} for key, spec in specs.items() if key not in known]
            if missing:
                connection.execute(insert(t.specs), missing)
            return number

    def revision(self, id_: str, number: int) -> Revision:
        """One revision. Raises FoglineError when there is none of that number."""
        query = select(t.revisions).where(t.revisions.c.deployment == id_, t.revisions.c.number == number)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise FoglineError(ErrorKind.NOT_FOUND, f"deployment {id_} has no revision {number}")
        artifacts = json.loads(row["artifacts"])
        return Revision(id_, number, row["document"], artifacts, row["succeeded"], row["verdict"])

    def spec(self, digest: str) -> bytes:
        """The spec of that digest; KeyError when it was never added."""
        with self._engine.connect() as connection:
            found = connection.execute(select(t.specs.c.spec).where(t.specs.c.digest == digest)).scalar()
        if found is None:
            raise KeyError(digest)
        return bytes(found)

    def desired(self) -> list[DesiredLine]:
        """Every line of every node's desired state."""
        with self._engine.connect() as connection:
            return [_line(row) for row in connection.execute(select(t.desired)).mappings()]

    def commit(
        self,
        deployment: Deployment,
        lines: Sequence[DesiredLine],
        generations: Mapping[str, int],
        outcomes: Sequence[Outcome],
    ) -> None:
        """One turn of reconcile, all or nothing: state, desired lines, node generations, verdicts."""
        state = json.dumps(dataclasses.asdict(deployment))
        with self._engine.begin() as connection:
            connection.execute(delete(t.deployments).where(t.deployments.c.id == deployment.id))
            connection.execute(insert(t.deployments).values(id=deployment.id, state=state))
            connection.execute(delete(t.desired).where(t.desired.c.deployment == deployment.id))
            if lines:
                connection.execute(insert(t.desired), [_row(line) for line in lines])
            for node, generation in generations.items():
                connection.execute(update(t.nodes).where(t.nodes.c.name == node).values(generation=generation))
            for outcome in outcomes:
                where = (t.revisions.c.deployment == deployment.id, t.revisions.c.number == outcome.revision)
                verdict = {"succeeded": outcome.succeeded, "verdict": outcome.text}
                connection.execute(update(t.revisions).where(*where).values(verdict))

    def forget(self, id_: str) -> None:
        """Remove a deployment, its revisions and the specs nobody else uses."""
        with self._engine.begin() as connection:
            connection.execute(delete(t.deployments).where(t.deployments.c.id == id_))
            connection.execute(delete(t.revisions).where(t.revisions.c.deployment == id_))
            used = select(t.desired.c.spec_digest)
            connection.execute(delete(t.specs).where(t.specs.c.digest.not_in(used), ~self._spec_in_use()))

    def _spec_in_use(self) -> Any:
        return select(t.deployments.c.id).where(t.deployments.c.state.contains(t.specs.c.digest)).exists()

    def _meta(self, key: str, default: str) -> str:
        with self._engine.connect() as connection:
            value = connection.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()
        return default if value is None else str(value)

    def _set_meta(self, key: str, value: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(t.meta).where(t.meta.c.key == key))
            connection.execute(insert(t.meta).values(key=key, value=value))


def _deployment(document: dict[str, Any]) -> Deployment:
    copies = {key: tuple(Copy(**each) for each in document[key]) for key in ("target", "former", "leaving")}
    failure = Outcome(**document["failure"]) if document["failure"] else None
    return Deployment(**document | copies | {"phase": Phase(document["phase"]), "failure": failure})


def _line(row: Any) -> DesiredLine:
    copy = Copy(row["assignment"], row["spec_digest"], row["node"], row["segment"], row["depth"])
    want = Want(Wanted(row["wanted"]), row["bind"], row["release"])
    return DesiredLine(copy, row["deployment"], row["revision"], want, row["generation"])


def _row(line: DesiredLine) -> dict[str, Any]:
    return {
        **dataclasses.asdict(line.copy),
        "deployment": line.deployment,
        "revision": line.revision,
        "wanted": line.want.wanted.value,
        "bind": line.want.bind,
        "release": line.want.release,
        "generation": line.generation,
    }
