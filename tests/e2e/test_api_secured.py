"""Pipelines in API mode on nodes with certificates: called by https, from node to node too, and through `coord`."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from support.certificates import certify
from support.cluster import Cluster, cluster, write_json
from support.endpoints import HOST, an_api, ask, code, delete_all, free_range, status_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

NODES = ("edge_node", "cloud_1")
FIRST, LAST = free_range(4)
ADD = "def handler(data):\n    return data + 1\n"
TOKEN = {"auth": "token", "token": {"secret": "callers"}}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Cluster]:
    """Two nodes with a certificate and a secret."""
    folder = tmp_path_factory.mktemp("secured")
    for node in NODES:
        certify(folder / node / "tls", authority, HOST)
        (folder / node / "secrets").mkdir()
        secret = folder / node / "secrets" / "callers"
        secret.touch(mode=0o600)
        secret.write_text("s3cret")
    with cluster(folder) as running:
        running.start_agents(*NODES, flags=["--ports", f"{FIRST}-{LAST}"])
        yield running


@pytest.fixture
def clean(site: Cluster, authority: trustme.CA) -> Iterator[Cluster]:
    """The same, with nothing deployed and good certificates afterwards."""
    yield site
    delete_all(site)
    for node in NODES:
        certify(site.folder / node / "tls", authority, HOST)


def a_chain(folder: Path, *nodes: str) -> Path:
    """A stage on each node; the first wants a token."""
    names = [f"add-{place}" for place in range(len(nodes))]
    around = zip(["", *names[:-1]], names, [*names[1:], ""], nodes, strict=True)
    stages: dict[str, Any] = {
        name: code(folder / name, ADD, before, after, infra=node, props={} if before else TOKEN)
        for before, name, after, node in around
    }
    return write_json(folder / "far.json", an_api("far", stages, infra={node: {"hostname": node} for node in NODES}))


def test_two_nodes_speak_https(clean: Cluster, tmp_path: Path) -> None:
    ca = clean.folder / "edge_node" / "tls" / "ca.pem"
    document = a_chain(tmp_path, *NODES)
    url = f"https://{HOST}:{FIRST}"
    shown = clean.coord("submit", str(document)).stdout
    assert [line.split()[1] for line in shown.splitlines() if "http" in line][:2] == [
        url,
        f"https://{HOST}:{FIRST + 1}",
    ]
    assert f"endpoint {url}/ (models: far)" in clean.coord("status", "far").stdout
    assert ask(url, 1, token="s3cret", ca=ca) == (200, 3)
    assert ask(url, 1, ca=ca)[0] == 401
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(url, 1, token="s3cret")
    assert json.loads(clean.coord("predict", "far", "-d", "[1, 2]").stdout) == [3, 4]


def test_a_certificate_that_cannot_be_used_is_told_before_anything_is_replaced(
    clean: Cluster, tmp_path: Path, authority: trustme.CA
) -> None:
    ca, tls = (clean.folder / node / "tls" for node in NODES)
    clean.coord("submit", str(a_chain(tmp_path, "edge_node")))
    certify(tls, authority, HOST, until=datetime.now(UTC) - timedelta(minutes=1))
    refused = clean.coord("submit", str(a_chain(tmp_path, *NODES)), check=False)
    assert refused.returncode == 5
    said = f"the certificate {tls / 'certificate.pem'} cannot be used: certificate has expired: renew it"
    assert said in refused.stdout + refused.stderr
    assert ask(f"https://{HOST}:{FIRST}", 1, token="s3cret", ca=ca / "ca.pem") == (200, 2)
    certify(tls, authority, HOST)
    clean.coord("submit", str(a_chain(tmp_path, *NODES)))
    assert ask(f"https://{HOST}:{FIRST}", 1, token="s3cret", ca=ca / "ca.pem") == (200, 3)


def test_without_its_certificate_a_node_is_reached_as_before(clean: Cluster, tmp_path: Path) -> None:
    document = a_chain(tmp_path, *NODES)
    clean.coord("submit", str(document))
    (clean.folder / "edge_node" / "tls" / "certificate.pem").unlink()
    agent = clean.agents["edge_node"]
    agent.end()
    agent.start()
    assert "unchanged" not in clean.coord("submit", str(document)).stdout
    urls = [each["url"] for each in status_of(clean, "far")["endpoints"]]
    assert urls == [f"http://{HOST}:{FIRST}/", f"https://{HOST}:{FIRST + 1}/"]
    assert ask(urls[0].rstrip("/"), 1, token="s3cret") == (200, 3)
