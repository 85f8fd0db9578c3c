"""A store file of an older release opens, with everything in it, and takes what this release writes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fogline.coordinator.core.deployment import Copy, Deployment, Outcome, Phase, Want
from fogline.coordinator.core.events import Event, Kind
from fogline.coordinator.core.locks import NOTHING
from fogline.coordinator.store import journal
from fogline.coordinator.store.sql import DesiredLine, Store
from fogline.wire.terms import Wanted

COPY = Copy("p/a/0/a", "d1", "n1", "a", 0)

SCHEMA_1 = """
CREATE TABLE deployments (id VARCHAR NOT NULL, state TEXT NOT NULL, PRIMARY KEY (id));
INSERT INTO deployments VALUES('p','{"id": "p", "revision": 1, "phase": "running", "since_s": 12.5, "target":
  [{"assignment": "p/a/0/a", "spec_digest": "d1", "node": "n1", "segment": "a", "depth": 0}], "former_revision": 0,
  "former": [], "leaving": [], "ready_since_s": null, "failure": null, "reason": "", "release": false}');
CREATE TABLE desired (node VARCHAR NOT NULL, assignment VARCHAR NOT NULL, spec_digest VARCHAR NOT NULL,
  deployment VARCHAR NOT NULL, segment VARCHAR NOT NULL, depth INTEGER NOT NULL, revision INTEGER NOT NULL,
  wanted VARCHAR NOT NULL, bind BOOLEAN NOT NULL, release BOOLEAN NOT NULL, generation INTEGER NOT NULL,
  PRIMARY KEY (node, assignment, spec_digest));
INSERT INTO desired VALUES('n1','p/a/0/a','d1','p','a',0,1,'running',1,0,7);
CREATE TABLE meta ("key" VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY ("key"));
INSERT INTO meta VALUES('schema','1'), ('epoch','3');
CREATE TABLE nodes (name VARCHAR NOT NULL, facts BLOB NOT NULL, "release" VARCHAR NOT NULL, seen_at FLOAT NOT NULL,
  generation INTEGER NOT NULL, PRIMARY KEY (name));
INSERT INTO nodes VALUES('n1',X'0A026E311204656467652A026D31','0.1.0',1795572977.5,7);
CREATE TABLE revisions (deployment VARCHAR NOT NULL, number INTEGER NOT NULL, document BLOB NOT NULL,
  artifacts TEXT NOT NULL, created_at FLOAT NOT NULL, succeeded BOOLEAN, verdict TEXT NOT NULL,
  PRIMARY KEY (deployment, number));
INSERT INTO revisions VALUES('p',1,X'7B226964223A202270227D','{"a": "x"}',1795572977.5,1,'revision 1 is running');
CREATE TABLE specs (digest VARCHAR NOT NULL, spec BLOB NOT NULL, PRIMARY KEY (digest));
INSERT INTO specs VALUES('d1',X'73706563');
CREATE INDEX ix_desired_deployment ON desired (deployment);
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.executescript(SCHEMA_1)
    connection.close()
    return f"sqlite:///{tmp_path / 'state.db'}"


def test_everything_in_it_is_found_again(url: str) -> None:
    store = Store(url)
    assert store.deployments() == [Deployment("p", 1, Phase.RUNNING, 12.5, (COPY,))]
    assert store.desired() == [DesiredLine(COPY, "p", 1, Want(Wanted.RUNNING, bind=True), 7)]
    assert [(each.number, each.succeeded, each.created_at) for each in store.revisions("p")] == [
        (1, True, 1795572977.5)
    ]
    assert [each.resolution for each in store.revisions("p")] == [NOTHING]
    assert (store.epoch(), store.spec("d1"), [each.name for each in store.nodes()]) == (3, b"spec", ["n1"])
    assert store.hosts("p") == ["n1"], "its dead letters may lie where it ran"
    assert store.events(journal.Wanted()) == []
    store.close()


def test_it_takes_a_turn_and_opens_once_more(url: str) -> None:
    store = Store(url)
    stopped = Deployment("p", 1, Phase.STOPPED, 20.0, (COPY,))
    line = DesiredLine(COPY, "p", 1, Want(Wanted.STOPPED), 8)
    event = Event(Kind.STOP, "stopped by the operator", "p", 1)
    store.commit(stopped, [line], {"n1": 8}, [Outcome(1, False, "stopped")], [event])
    store.close()
    again = Store(url)
    assert again.deployments() == [stopped]
    assert again.desired() == [line]
    assert [each.event for each in again.events(journal.Wanted("p"))] == [event]
    again.close()
