"""From what an environment must hold to its lock, with every wheel in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fogline.coordinator.artifacts.lock import Lock, read_lock
from fogline.coordinator.artifacts.pinning import pins
from fogline.coordinator.artifacts.programs import cache_folder
from fogline.coordinator.artifacts.targets import read_target
from fogline.coordinator.artifacts.wheels import download, path_of
from fogline.coordinator.core.needs import Need, requirements_digest


def lock_for(needs: Sequence[Need], target: str, tell: Callable[[str], None], *, anew: bool, what: str = "") -> Lock:
    """The lock for one kind of node; its wheels are in the cache afterwards.

    Unless `anew`, what this machine resolved before is taken as it was, without any index. `what` it is for, for
    people. Raises FoglineError when it cannot be had.
    """
    wanted = read_target(target)
    remembered = cache_folder("locks") / f"{requirements_digest(needs)}-{target}.json"
    if remembered.exists() and not anew:
        lock = read_lock(remembered.read_bytes())
        if all(path_of(wheel).exists() for wheel in lock.wheels):
            return lock
    tell(f"resolving packages{f' of {what}' if what else ''} for {target} ...")
    lock = download(pins(needs, wanted), wanted, tell)
    remembered.write_bytes(lock.to_bytes())
    return lock
