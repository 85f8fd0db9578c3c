"""Settings of one coordinator."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogline.wire.channel import require_loopback
from fogline.wire.terms import NAME, NAME_RULE, ErrorKind, FoglineError

_CLUSTER_ID = re.compile(r"[0-9a-f]{32}")
_BROKER = re.compile(r"mqtt://(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?/?")


@dataclass(frozen=True)
class CoordinatorConfig:
    """What `coord serve` was told. Raises FoglineError on contradictions."""

    listen: str
    """HOST:PORT of the one listener, for agents and for `coord`."""
    state_dir: Path
    """Store, artifacts, lock and the file with the cluster id."""
    cluster: str = ""
    """Name in broker sessions and groups; empty: the first 8 digits of the cluster id."""
    cluster_id: str = ""
    """32 hex digits to take on instead of the file's, when a lost coordinator is rebuilt."""
    insecure: bool = False
    """Accept a listener beyond loopback although there is no TLS yet."""
    default_broker: str = ""
    """mqtt://HOST:PORT of automatic queues; empty: that of the document's first MQTT queue."""
    tied: bool = False
    """End when the process that started this one ends (`coord run`, `coord demo`)."""

    def __post_init__(self) -> None:
        require_loopback(self.listen, insecure=self.insecure)
        if self.cluster and not NAME.fullmatch(self.cluster):
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"--cluster {self.cluster!r} is not a name: {NAME_RULE}")
        if self.cluster_id and not _CLUSTER_ID.fullmatch(self.cluster_id):
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"--cluster-id {self.cluster_id!r} is not 32 hex digits")
        if self.default_broker and not self.broker:
            sentence = f"--default-broker {self.default_broker!r} is not mqtt://HOST:PORT"
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)

    @property
    def broker(self) -> dict[str, Any]:
        """`server` and `port` of the default broker; empty when there is none, or when it is no such address."""
        match = _BROKER.fullmatch(self.default_broker)
        return {"server": match[1].strip("[]"), "port": int(match[2] or 1883)} if match else {}


def cluster_id(config: CoordinatorConfig) -> str:
    """The identity of this cluster: a file in the state directory, made once."""
    path = config.state_dir / "cluster-id"
    if config.cluster_id:
        path.write_text(config.cluster_id + "\n")
    elif not path.exists():
        path.write_text(uuid.uuid4().hex + "\n")
    found = path.read_text().strip()
    if not _CLUSTER_ID.fullmatch(found):
        raise FoglineError(ErrorKind.CORRUPT, f"{path} does not hold a cluster id; restore it or set --cluster-id")
    return found
