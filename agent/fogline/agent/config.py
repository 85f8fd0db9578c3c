"""What the operator decides about an agent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fogline.wire.channel import require_loopback, split_address
from fogline.wire.terms import NAME, NAME_RULE, ErrorKind, FoglineError

LAYERS = ("edge", "fog", "cloud")
ENVIRONMENTS = ("store", "index", "own")
_UNITS = {"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
REFUSABLE = ("pickle",)


@dataclass(frozen=True)
class Config:
    """Settings of one run of the agent."""

    coordinator: str
    """HOST:PORT that is dialled."""
    name: str
    """What the node is called in the cluster."""
    layer: str
    """`edge`, `fog` or `cloud`."""
    state_dir: Path
    """Everything the agent keeps lies in here."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """For placement constraints."""
    address: str = ""
    """Where other nodes reach this one; empty: the address it has towards the coordinator."""
    insecure: bool = False
    """Accept a connection without TLS to another machine."""
    environments: str = "own"
    """Where a stage's packages come from: wheels of the coordinator's store, an index this node reaches, or nowhere,
    since stages run in the agent's own environment."""
    refuses: tuple[str, ...] = ()
    """Kinds of models that must not be loaded here."""
    ports: tuple[int, int] = (31000, 31999)
    """First and last of those that segments listen at in API mode; the coordinator hands them out."""
    artifact_cap_bytes: int = 4 * 1024**3
    """How much of what nothing needs any more may stay among the artifacts, for the case that it is needed again."""
    tied: bool = False
    """End with the parent process, and end every stage first."""

    def validate(self) -> None:
        """Raise FoglineError for the first value that cannot be."""
        split_address(self.coordinator)
        require_loopback(self.coordinator, insecure=self.insecure)
        if not NAME.fullmatch(self.name):
            raise _invalid(f"--name {self.name!r} is not a node name: {NAME_RULE}")
        if self.layer not in LAYERS:
            raise _invalid(f"--layer {self.layer!r} is not one of {', '.join(LAYERS)}")
        if self.state_dir.exists() and not self.state_dir.is_dir():
            raise _invalid(f"--state-dir {self.state_dir} is a file; name a folder")


def parse_labels(given: list[str]) -> dict[str, str]:
    """`k=v` pairs. Raises FoglineError for anything else and for a key given twice."""
    labels: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise _invalid(f"--label {pair!r} is not KEY=VALUE, for example --label site=north")
        if key in labels:
            raise _invalid(f"--label {key} is given twice")
        labels[key] = value
    return labels


def parse_size(given: str) -> int:
    """Bytes of `4GiB`. Raises FoglineError for anything that is no number and unit."""
    found = re.fullmatch(r"(\d{1,9})(KiB|MiB|GiB|TiB)", given)
    if found is None:
        raise _invalid(f"--artifact-cap {given!r} is not a size, for example 4GiB or 500MiB")
    return int(found[1]) << _UNITS[found[2]]


def parse_ports(given: str) -> tuple[int, int]:
    """First and last of `31000-31999`. Raises FoglineError for anything that is no range of ports."""
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", given)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise _invalid(f"--ports {given!r} is not FIRST-LAST, two ports up to 65535, for example 31000-31999")
    return first, last


def _invalid(sentence: str) -> FoglineError:
    return FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
