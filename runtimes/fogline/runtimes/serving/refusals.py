"""Why a request gets no answer, and what the caller is told."""

from __future__ import annotations

from fogline.runtimes.errors import Failure


class Refusal(Exception):
    """Ends the request with this HTTP status and sentence; `headers` go along."""

    def __init__(self, status: int, reason: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


def bad_request(reason: str) -> Refusal:
    """The caller can mend it."""
    return Refusal(400, reason)


def of_record(failure: Failure, place: int | None) -> Refusal:
    """What the caller learns of a record that failed; `place`: where it is among several.

    A record that a stage cannot read is the caller's affair, a stage that fails at it is ours. Traces stay here.
    """
    where = "" if place is None else f"record {place}: "
    if failure.refused:
        return Refusal(400, f"{where}stage {failure.stage}: {failure.reason}")
    return Refusal(500, f"{where}stage {failure.stage} failed: {failure.reason}")
