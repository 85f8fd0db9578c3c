"""One driver for a node that can do both: a copy's spec says whether it is a container."""

from __future__ import annotations

from pathlib import Path

from fogline.agent.drivers.base import Driver, Handle, Launch
from fogline.agent.host.workspace import read_json
from fogline.wire.terms import ErrorKind, FoglineError

NO_ENGINE = "it is to run in a container, and this node has no container engine"


class EitherDriver:
    """Hands a copy to the driver that it is for; `containers` None: there is no engine here."""

    def __init__(self, processes: Driver, containers: Driver | None) -> None:
        self._processes = processes
        self._containers = containers

    @property
    def name(self) -> str:
        """Both of them."""
        return "either"

    async def start(self, launch: Launch) -> Handle:
        """Start a copy. Raises FoglineError with the reason when nothing runs afterwards."""
        return await self._of(launch.container is not None).start(launch)

    async def adopt(self, workspace: Path) -> Handle | None:
        """The copy of a workspace that runs; none of a container's where there is no engine."""
        contained = bool(read_json(workspace / "spec.json").get("container"))
        if contained and self._containers is None:
            return None
        return await self._of(contained).adopt(workspace)

    def _of(self, container: bool) -> Driver:  # asked of a value
        if not container:
            return self._processes
        if self._containers is None:
            raise FoglineError(ErrorKind.FAILED, NO_ENGINE)
        return self._containers
