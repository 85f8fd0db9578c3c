"""Version handshake: neighbouring releases work together; a refusal says which side to upgrade."""

from __future__ import annotations

from importlib.metadata import version

from fogline.wire.terms import ErrorKind, FoglineError

PROTOCOL = 1
"""Raised when a conversation changes in a way an older end cannot follow."""
OLDEST_PROTOCOL = 1


def release() -> str:
    """The release of the installed distribution, such as `0.1.0`."""
    return version("fogline")


def check_peer(peer: str, protocol: int, peer_release: str) -> None:
    """Raise FoglineError when `peer` (its name for the sentence) speaks a protocol we cannot follow."""
    if protocol < OLDEST_PROTOCOL:
        raise FoglineError(
            ErrorKind.VERSION_MISMATCH,
            f"{peer} runs fogline {peer_release or 'of unknown release'} (protocol {protocol}), "
            f"older than this side's {release()} can talk to: upgrade {peer}",
        )
    if protocol > PROTOCOL:
        raise FoglineError(
            ErrorKind.VERSION_MISMATCH,
            f"{peer} runs fogline {peer_release} (protocol {protocol}), "
            f"newer than this side's {release()}: upgrade this side",
        )
