"""The coordinator's store and the artifact store: what is committed is what comes back."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from fogline.coordinator.artifacts.store import ArtifactStore
from fogline.coordinator.core.deployment import Copy, Deployment, Outcome, Phase, Want
from fogline.coordinator.core.events import Event, Kind
from fogline.coordinator.store import journal
from fogline.coordinator.store.journal import Wanted as WantedEvents
from fogline.coordinator.store.sql import DesiredLine, Store
from fogline.wire.terms import ErrorKind, FoglineError, Wanted

COPY = Copy("p/a/0/a", "d1", "n1", "a", 0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state.db'}"


def test_a_turn_survives_a_restart_whole(url: str) -> None:
    store = Store(url)
    store.save_node("n1", b"facts", "0.1.0")
    number = store.add_revision("p", b"{}", {"a": "x"}, {"d1": b"spec"})
    failure = Outcome(3, False, "because")
    deployment = Deployment(
        "p", number, Phase.RUNNING, 12.5, (COPY,), leaving=(replace(COPY, node="n2"),), failure=failure
    )
    line = DesiredLine(COPY, "p", number, Want(Wanted.RUNNING, bind=True), 7)
    store.commit(deployment, [line], {"n1": 7}, [Outcome(number, True, "runs")])
    store.set_epoch(4)
    store.close()
    again = Store(url)
    assert again.deployments() == [deployment]
    assert again.desired() == [line]
    assert again.spec("d1") == b"spec"
    assert [(node.name, node.generation, node.facts) for node in again.nodes()] == [("n1", 7, b"facts")]
    revision = again.revision("p", number)
    assert (revision.succeeded, revision.verdict, revision.artifacts) == (True, "runs", {"a": "x"})
    assert again.epoch() == 4
    again.close()


def test_revisions_are_numbered_from_one_and_forgotten_with_their_deployment(url: str) -> None:
    store = Store(url)
    assert [store.add_revision("p", b"{}", {}, {"d1": b"s"}) for _ in range(3)] == [1, 2, 3]
    assert store.add_revision("q", b"{}", {}, {"d1": b"s"}) == 1
    store.commit(Deployment("p", 3, Phase.STOPPED, 0.0, (COPY,)), [], {}, [])
    store.commit(Deployment("q", 1, Phase.RUNNING, 0.0, (COPY,)), [], {}, [])
    store.forget("p")
    assert [each.id for each in store.deployments()] == ["q"]
    assert store.spec("d1") == b"s", "still used by q"
    store.forget("q")
    with pytest.raises(KeyError):
        store.spec("d1")
    with pytest.raises(FoglineError, match="no revision 3"):
        store.revision("p", 3)
    store.close()


def test_every_revision_is_listed_with_its_time_and_verdict(url: str) -> None:
    store = Store(url)
    for _ in range(2):
        store.add_revision("p", b"{}", {"a": "x"}, {"d1": b"s"})
    store.commit(Deployment("p", 2, Phase.STARTING, 0.0, (COPY,)), [], {}, [Outcome(1, False, "no")])
    found = store.revisions("p")
    assert [(each.number, each.succeeded, each.verdict) for each in found] == [(1, False, "no"), (2, None, "")]
    assert 0 < found[0].created_at <= found[1].created_at
    store.close()


def test_events_come_back_by_deployment_number_and_time_and_outlive_it(url: str) -> None:
    store = Store(url)
    store.save_node("n1", b"facts", "0.1.0", Event(Kind.NODE, "joined", node="n1"))
    deployment = Deployment("p", 1, Phase.STOPPED, 0.0, (COPY,))
    told = [Event(Kind.COPY, f"failed: {n}", "p", 1, "n1", "a") for n in range(3)]
    store.commit(deployment, [], {}, [], told)
    store.forget("p")
    everything = store.events(WantedEvents())
    assert [each.number for each in everything] == [1, 2, 3, 4]
    assert [each.event for each in store.events(WantedEvents("p"))] == told
    assert [each.event for each in store.events(WantedEvents("p", limit=2))] == told[1:]
    assert [each.number for each in store.events(WantedEvents(after=2))] == [3, 4]
    assert store.events(WantedEvents(since=everything[-1].at + 1)) == []
    assert store.told_of() == ["p"]
    store.close()


def test_the_oldest_events_give_way_and_no_number_comes_twice(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "EVENTS_KEPT", 5)
    store = Store(url)
    for n in range(12):
        store.tell([Event(Kind.NODE, str(n), node="n1")])
    assert [(each.number, each.event.text) for each in store.events(WantedEvents())] == [
        (n + 1, str(n)) for n in range(7, 12)
    ]
    store.close()


def test_where_a_deployment_ever_ran_is_known_until_it_is_deleted(url: str) -> None:
    store = Store(url)
    for node in ("n1", "n2"):
        line = DesiredLine(replace(COPY, node=node), "p", 1, Want(Wanted.RUNNING), 1)
        store.commit(Deployment("p", 1, Phase.RUNNING, 0.0, (COPY,)), [line], {}, [])
    assert store.hosts("p") == ["n1", "n2"]
    store.forget("p")
    assert store.hosts("p") == []
    store.commit(Deployment("p", 1, Phase.RUNNING, 0.0, (COPY,)), [line], {}, [])
    assert store.hosts("p") == ["n2"], "only where the new one of that name is"
    store.close()


def test_a_store_of_a_newer_release_is_refused(url: str) -> None:
    store = Store(url)
    store._set_meta("schema", "99")
    store.close()
    with pytest.raises(FoglineError, match="upgrade this one") as caught:
        Store(url)
    assert caught.value.kind is ErrorKind.VERSION_MISMATCH


def test_an_artifact_counts_only_with_its_own_digest(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    data = b"model" * 1000
    digest = hashlib.sha256(data).hexdigest()
    with store.writer(digest) as writer:
        writer.write(b"something else")
        with pytest.raises(FoglineError, match="another digest"):
            writer.finish()
    assert store.missing([digest]) == [digest]
    with store.writer(digest) as writer:
        writer.write(data[:7])
        writer.write(data[7:])
        assert writer.finish() == len(data)
    assert store.missing([digest]) == []
    assert b"".join(store.read(digest, 10, 64)) == data[10:]
    assert sorted(path.name for path in tmp_path.iterdir()) == [digest]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "x" * 64, "A" * 64])
def test_a_digest_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(FoglineError, match="not a SHA-256"):
        ArtifactStore(tmp_path).size_bytes(name)
