"""An authority of the tests' own, a server's certificate for the loopback, and a client's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True)
class Certificates:
    """PEM files."""

    ca: Path
    server_cert: Path
    server_key: Path
    server_both: Path
    """Key and certificates in one file, as Kafka wants it."""
    client_cert: Path
    client_key: Path


def issued(folder: Path) -> Certificates:
    """Fresh ones in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("edge@fogline.test")
    names = ("ca", "server-cert", "server-key", "server-both", "client-cert", "client-key")
    made = Certificates(*(folder / f"{name}.pem" for name in names))
    authority.cert_pem.write_to_path(made.ca)
    server.cert_chain_pems[0].write_to_path(made.server_cert)
    server.private_key_pem.write_to_path(made.server_key)
    made.server_both.write_bytes(_pkcs8(server.private_key_pem.bytes()) + server.cert_chain_pems[0].bytes())
    client.cert_chain_pems[0].write_to_path(made.client_cert)
    client.private_key_pem.write_to_path(made.client_key)
    return made


def certify(folder: Path, authority: trustme.CA, *names: str, until: datetime | None = None) -> Path:
    """What a node's operator lays out: a certificate for these names, its key, and the authority."""
    folder.mkdir(parents=True, exist_ok=True)
    made = authority.issue_cert(*(names or ("127.0.0.1",)), not_after=until)
    key = folder / "key.pem"
    key.touch(mode=0o600)
    made.private_key_pem.write_to_path(key)
    made.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return folder


def _pkcs8(key: bytes) -> bytes:
    """The only form of a key that Java reads."""
    loaded = serialization.load_pem_private_key(key, None)
    form = serialization.PrivateFormat.PKCS8
    return loaded.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
