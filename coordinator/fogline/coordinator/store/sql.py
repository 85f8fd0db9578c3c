"""What the coordinator remembers, over SQLAlchemy Core. Every method is one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from fogline.coordinator.core.deployment import Copy, Deployment, Outcome, Phase, Want
from fogline.coordinator.core.events import Event
from fogline.coordinator.core.locks import NOTHING, KnownLock, Parted, Resolution
from fogline.coordinator.store import journal
from fogline.coordinator.store import tables as t
from fogline.coordinator.store.schema import bring_up
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
    created_at: float = 0.0
    """Seconds since the epoch."""
    resolution: Resolution = NOTHING


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
        bring_up(self._engine)

    def close(self) -> None:
        """Close the database; whatever a method returned for is on the disk."""
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

    def save_node(self, name: str, facts: bytes, release: str, event: Event | None = None) -> None:
        """Remember what a node said of itself, and what that tells; its generation stays."""
        values = {"facts": facts, "release": release, "seen_at": time.time()}
        with self._engine.begin() as connection:
            changed = connection.execute(update(t.nodes).where(t.nodes.c.name == name).values(values))
            if not changed.rowcount:
                connection.execute(insert(t.nodes).values(name=name, generation=0, **values))
            journal.write(connection, [event] if event else [])

    def deployments(self) -> list[Deployment]:
        """Every deployment, by id."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(t.deployments.c.state).order_by(t.deployments.c.id))
            return [_deployment(json.loads(row.state)) for row in rows]

    def add_revision(
        self,
        id_: str,
        document: bytes,
        artifacts: Mapping[str, str],
        specs: Mapping[str, bytes],
        resolution: Resolution = NOTHING,
    ) -> int:
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
                    resolution=orjson.dumps(resolution).decode(),
                )
            )
            _keep_specs(connection, specs)
            return number

    def keep_specs(self, specs: Mapping[str, bytes]) -> None:
        """Remember specs by their digest."""
        with self._engine.begin() as connection:
            _keep_specs(connection, specs)

    def add_taken_over(self, id_: str, number: int, specs: Mapping[str, bytes]) -> None:
        """A revision, unless it is known, whose specs came from the nodes that run it: without a document."""
        found = select(t.revisions.c.number).where(t.revisions.c.deployment == id_, t.revisions.c.number == number)
        with self._engine.begin() as connection:
            _keep_specs(connection, specs)
            if connection.execute(found).first() is None:
                connection.execute(
                    insert(t.revisions).values(
                        deployment=id_,
                        number=number,
                        document=b"",
                        artifacts="{}",
                        created_at=time.time(),
                        succeeded=True,
                        verdict="taken over from the nodes that run it",
                    )
                )

    def keep_lock(self, lock: KnownLock) -> None:
        """Remember a lock by what was asked for; it takes the place of an older one."""
        with self._engine.begin() as connection:
            connection.execute(delete(t.locks).where(*_asked_for(lock)))
            given = {"requirements_digest": lock.requirements_digest, "target": lock.target, "digest": lock.digest}
            connection.execute(insert(t.locks).values(given))

    def find_lock(self, wanted: KnownLock) -> str:
        """Digest of the newest lock for the same requirements and kind of node; empty: there is none."""
        with self._engine.connect() as connection:
            return connection.execute(select(t.locks.c.digest).where(*_asked_for(wanted))).scalar() or ""

    def complete_revision(
        self,
        id_: str,
        number: int,
        document: bytes,
        artifacts: Mapping[str, str],
        resolution: Resolution = NOTHING,
    ) -> None:
        """Give a revision that was taken over the document it turned out to be; any other stays as it is."""
        where = (t.revisions.c.deployment == id_, t.revisions.c.number == number, t.revisions.c.document == b"")
        values = {"document": document, "artifacts": json.dumps(dict(artifacts), sort_keys=True)}
        values["resolution"] = orjson.dumps(resolution).decode()
        with self._engine.begin() as connection:
            connection.execute(update(t.revisions).where(*where).values(values))

    def revision(self, id_: str, number: int) -> Revision:
        """One revision. Raises FoglineError when there is none of that number."""
        query = select(t.revisions).where(t.revisions.c.deployment == id_, t.revisions.c.number == number)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            sentence = f"deployment {id_} has no revision {number}; `coord history {id_}` lists them"
            raise FoglineError(ErrorKind.NOT_FOUND, sentence)
        return _revision(row)

    def revisions(self, id_: str) -> list[Revision]:
        """Every revision of a deployment, oldest first."""
        query = select(t.revisions).where(t.revisions.c.deployment == id_).order_by(t.revisions.c.number)
        with self._engine.connect() as connection:
            return [_revision(row) for row in connection.execute(query).mappings()]

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
        events: Sequence[Event] = (),
    ) -> None:
        """One turn of reconcile, all or nothing: state, desired lines, node generations, verdicts, what to tell."""
        state = orjson.dumps(deployment).decode()
        with self._engine.begin() as connection:
            connection.execute(delete(t.deployments).where(t.deployments.c.id == deployment.id))
            connection.execute(insert(t.deployments).values(id=deployment.id, state=state))
            connection.execute(delete(t.desired).where(t.desired.c.deployment == deployment.id))
            if lines:
                connection.execute(insert(t.desired), [_row(line) for line in lines])
            if generations:
                numbered = update(t.nodes).where(t.nodes.c.name == bindparam("node")).values(generation=bindparam("to"))
                connection.execute(numbered, [{"node": node, "to": to} for node, to in generations.items()])
            for outcome in outcomes:
                where = (t.revisions.c.deployment == deployment.id, t.revisions.c.number == outcome.revision)
                verdict = {"succeeded": outcome.succeeded, "verdict": outcome.text}
                connection.execute(update(t.revisions).where(*where).values(verdict))
            _remember_hosts(connection, deployment.id, {line.copy.node for line in lines})
            journal.write(connection, events)

    def tell(self, events: Sequence[Event]) -> None:
        """Write events that come with no other change."""
        with self._engine.begin() as connection:
            journal.write(connection, events)

    def events(self, wanted: journal.Wanted) -> list[journal.StoredEvent]:
        """The events that are wanted, oldest first."""
        with self._engine.connect() as connection:
            return journal.read(connection, wanted)

    def told_of(self) -> list[str]:
        """Every deployment that events tell of, deleted ones included."""
        with self._engine.connect() as connection:
            return journal.deployments(connection)

    def hosts(self, id_: str) -> list[str]:
        """Nodes that run or ran copies of a deployment, by name."""
        query = select(t.hosts.c.node).where(t.hosts.c.deployment == id_, ~t.hosts.c.purge).order_by(t.hosts.c.node)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def forget(self, id_: str) -> None:
        """Remove a deployment, its revisions and the specs nobody else uses; its dead letters are to be purged."""
        with self._engine.begin() as connection:
            connection.execute(delete(t.deployments).where(t.deployments.c.id == id_))
            connection.execute(delete(t.revisions).where(t.revisions.c.deployment == id_))
            connection.execute(update(t.hosts).where(t.hosts.c.deployment == id_).values(purge=True))
            used = select(t.desired.c.spec_digest)
            connection.execute(delete(t.specs).where(t.specs.c.digest.not_in(used), ~self._spec_in_use()))

    def purges(self) -> list[tuple[str, str]]:
        """Deleted deployments and the nodes on which their dead letters may still lie."""
        query = select(t.hosts.c.deployment, t.hosts.c.node).where(t.hosts.c.purge)
        with self._engine.connect() as connection:
            return sorted((row.deployment, row.node) for row in connection.execute(query))

    def purged(self, id_: str, node: str) -> None:
        """No dead letter of a deleted deployment is left on that node."""
        where = (t.hosts.c.deployment == id_, t.hosts.c.node == node, t.hosts.c.purge)
        with self._engine.begin() as connection:
            connection.execute(delete(t.hosts).where(*where))

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
    dropped = {key: tuple(ids) for key, ids in document.get("dropped", {}).items()}
    values = {"phase": Phase(document["phase"]), "failure": failure, "dropped": dropped}
    return Deployment(**document | copies | values)


def _keep_specs(connection: Connection, specs: Mapping[str, bytes]) -> None:
    known = set(connection.execute(select(t.specs.c.digest)).scalars())
    missing = [{"digest": key, "spec": spec} for key, spec in specs.items() if key not in known]
    if missing:
        connection.execute(insert(t.specs), missing)


def _remember_hosts(connection: Connection, id_: str, nodes: set[str]) -> None:
    """A deployment of a deleted one's name keeps what dead letters that left on its nodes."""
    known = {row.node: row.purge for row in connection.execute(select(t.hosts).where(t.hosts.c.deployment == id_))}
    if fresh := sorted(nodes - known.keys()):
        connection.execute(insert(t.hosts), [{"deployment": id_, "node": node, "purge": False} for node in fresh])
    for node in sorted(nodes & known.keys()):
        if known[node]:
            where = (t.hosts.c.deployment == id_, t.hosts.c.node == node)
            connection.execute(update(t.hosts).where(*where).values(purge=False))


def _revision(row: Any) -> Revision:
    kept = json.loads(row["resolution"])
    locks = tuple(KnownLock(**each) for each in kept.get("locks", ()))
    apart = tuple(Parted(**each) for each in kept.get("apart", ()))
    values = {"artifacts": json.loads(row["artifacts"]), "resolution": Resolution(locks, apart)}
    return Revision(**dict(row) | values)


def _asked_for(lock: KnownLock) -> tuple[Any, Any]:
    return t.locks.c.requirements_digest == lock.requirements_digest, t.locks.c.target == lock.target


def _line(row: Any) -> DesiredLine:
    copy = Copy(row["assignment"], row["spec_digest"], row["node"], row["segment"], row["depth"])
    want = Want(
        Wanted(row["wanted"]), row["bind"], row["release"], row["incarnation"], tuple(json.loads(row["readers"]))
    )
    return DesiredLine(copy, row["deployment"], row["revision"], want, row["generation"])


def _row(line: DesiredLine) -> dict[str, Any]:
    return {
        **{key: value for key, value in vars(line.copy).items() if key != "each"},
        "deployment": line.deployment,
        "revision": line.revision,
        "wanted": line.want.wanted.value,
        "bind": line.want.bind,
        "release": line.want.release,
        "incarnation": line.want.incarnation,
        "readers": orjson.dumps(line.want.readers).decode(),
        "generation": line.generation,
    }
