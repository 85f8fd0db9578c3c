"""What a framework or connector says of itself, and those of other packages, found by their entry points.

A package offers one by an entry point of the group `fogline.frameworks` or `fogline.connectors` that names a `Plugin`:

    [project.entry-points."fogline.frameworks"]
    lookup = "fogline_lookup:PLUGIN"

The coordinator loads that object to know the options, so its module imports nothing heavy; the implementation
is imported in the stage process alone. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

_T = TypeVar("_T")

Kind = Literal["frameworks", "connectors"]


@dataclass(frozen=True)
class Option:
    """One key of `props`."""

    name: str
    kind: str
    """`string`, `integer`, `number`, `boolean`, `names` (a string or a list of strings), `object`, `secret`,
    `tls` (an object of files)."""
    sentence: str
    example: Any
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    available: bool = True
    """False: the key is known, but this release refuses it with "not available yet"."""


@dataclass(frozen=True)
class Plugin:
    """What an entry point names."""

    implementation: str
    """`module:name` of a subclass of `frameworks.base.Framework`, or of a `connectors.base.Connector` object."""
    options: tuple[Option, ...]
    """Keys of `props`; a framework has `path` among them, which names the model file."""
    requirements: tuple[str, ...] = ()
    """Packages of an environment in which it runs, as PEP 508 lines: the one it is in among them."""


@dataclass(frozen=True)
class Found:
    """What the packages of this environment offer."""

    plugins: Mapping[str, Plugin] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    """Name -> the package that offers it."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Name that cannot be used -> why."""


def offered(kind: Kind) -> tuple[str, ...]:
    """The names alone: nothing of the packages is imported."""
    from importlib.metadata import entry_points  # slow to import, and most stages need no plugin

    return tuple(sorted({point.name for point in entry_points(group=f"fogline.{kind}")}))


@cache
def found(kind: Kind) -> Found:
    """The plugins, loaded. Of two packages with the same name neither is used. Never raises for what a package does."""
    from importlib.metadata import entry_points

    plugins, owners, refused = dict[str, Plugin](), dict[str, str](), dict[str, str]()
    points = [(each.name, each.dist.name if each.dist else "", each) for each in entry_points(group=f"fogline.{kind}")]
    for name, owner, point in sorted(points, key=lambda each: each[:2]):
        if name in owners:
            refused[name] = f"{name!r} is offered by the packages {owners[name]} and {owner}: uninstall one of them"
            plugins.pop(name, None)
            continue
        owners[name] = owner
        try:
            plugin = point.load()
        except Exception as error:  # noqa: BLE001 - another's code may raise anything
            refused[name] = f"{name!r} of the package {owner} cannot be loaded: {type(error).__name__}: {error}"
            continue
        if isinstance(plugin, Plugin):
            plugins[name] = plugin
        else:
            refused[name] = f"{name!r} of the package {owner} is no Plugin but {type(plugin).__name__}: {point.value}"
    return Found(plugins, owners, refused)


class Table(Mapping[str, _T]):
    """Fogline's own entries, then those of plugins; these are looked for only where the own ones do not do."""

    def __init__(self, kind: Kind, own: Mapping[str, _T], of: Callable[[Plugin], _T]) -> None:
        self.kind: Kind = kind
        self.own = own
        self._of = of

    def __getitem__(self, name: str) -> _T:
        return self.own[name] if name in self.own else self._of(found(self.kind).plugins[name])

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (name for name in found(self.kind).plugins if name not in self.own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def refused(self) -> dict[str, str]:
        """Name -> why a plugin is not used: unusable, or its name is taken."""
        known = found(self.kind)
        taken = {
            name: f"{name!r} of the package {owner} is not used: Fogline has {self.kind[:-1]} {name!r} itself"
            for name, owner in known.owners.items()
            if name in self.own
        }
        return {**known.refused, **taken}
