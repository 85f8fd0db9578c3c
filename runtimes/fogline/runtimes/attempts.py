"""One attempt at a batch in one stage: decode, user code, encode. Whatever goes wrong fails a record.

User code may raise anything, `SystemExit` and `KeyboardInterrupt` too, or return what nobody can encode: none
of it ends the process, which has other records to look after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fogline.runtimes.codecs import Decode, Encode
from fogline.runtimes.errors import BadMessage, Failure, NotFinite
from fogline.runtimes.frameworks.base import Failed, Framework, Result
from fogline.runtimes.message import Item
from fogline.runtimes.routes import Route
from fogline.runtimes.traces import sentence, user_trace

Outcome = list[tuple[Any, ...]] | Failed
"""What follows from one record, or why there is nothing: each result encoded in each of the stage's formats, and
behind these, where the stage routes, the outputs it goes to."""


@dataclass
class Work:
    """What a stage does to a record."""

    framework: Framework
    encodes: tuple[Encode | Route, ...]


class _Undecodable(Failed):
    """Failed before any user code: another attempt would meet the same bytes."""


class _Unusable(Failed):
    """Nothing was wrong with the record: what the stage made of it cannot go on."""


def attempt(work: Work, decode: Decode, payloads: list[bytes]) -> list[Outcome]:
    """Once, all together. The common case, where all is well, has no bookkeeping."""
    try:
        records: list[Any] = list(map(decode, payloads))
    except (BadMessage, MemoryError, RecursionError):
        return _attempt_readable(work, decode, payloads)
    encodes = work.encodes
    return [
        _encoded(encodes, result) if type(result) is list else result for result in _processed(work.framework, records)
    ]


def _attempt_readable(work: Work, decode: Decode, payloads: list[bytes]) -> list[Outcome]:
    """Those that can be decoded; the others have failed."""
    records, places, outcomes = _decode_each(decode, payloads)
    results = _processed(work.framework, records) if records else []
    for place, result in zip(places, results, strict=True):
        outcomes[place] = _encoded(work.encodes, result) if type(result) is list else result
    return outcomes


def again(work: Work, decode: Decode, payload: bytes, first: Failed, retries: int) -> tuple[Outcome, int]:
    """Up to `retries` more attempts at one record, each from a fresh copy: the outcome, and all attempts it took."""
    attempts, outcome = 1, first
    while attempts <= retries and isinstance(outcome, Failed) and not isinstance(outcome, _Undecodable):
        attempts += 1
        (outcome,) = attempt(work, decode, [payload])  # type: ignore[assignment]
    return outcome, attempts


def failure(stage: str, failed: Failed, item: Item, attempts: int) -> Failure:
    """What is kept of an error: words, not the error, which holds on to the record and all its frames."""
    error = failed.error
    refused = isinstance(error, NotFinite) or (isinstance(error, BadMessage) and not isinstance(failed, _Unusable))
    if isinstance(error, BadMessage):
        reason, trace = error.reason, ""
    else:
        reason, trace = sentence(error), user_trace(error)
    return Failure(stage, reason, trace, item.payload, attempts, item.origin, refused)


def together(outcomes: Sequence[Outcome]) -> set[int]:
    """Which errors (by `id`) several records share: they failed in one call, which blames none of them."""
    failed = [id(each) for each in outcomes if isinstance(each, Failed)]
    if len(failed) < 2:
        return set()
    return {each for each, count in Counter(failed).items() if count > 1}


def _processed(framework: Framework, records: list[Any]) -> list[Result]:
    count = len(records)
    framework.progress.tick()
    try:
        results = framework.process(records)
        if len(results) != count:
            raise BadMessage(f"the stage gave {len(results)} results for {count} records")
    except BaseException as error:  # noqa: BLE001 - no framework can catch all that user code does
        return [_Unusable(error)] * count
    finally:
        framework.progress.leave()
    return results


def _decode_each(decode: Decode, payloads: list[bytes]) -> tuple[list[Any], list[int], list[Any]]:
    records, places, outcomes = list[Any](), list[int](), list[Any]()
    for index, payload in enumerate(payloads):
        try:
            records.append(decode(payload))
            places.append(index)
            outcomes.append(None)
        except (BadMessage, MemoryError, RecursionError) as error:
            outcomes.append(_Undecodable(error))
    return records, places, outcomes


def _encoded(encodes: tuple[Encode | Route, ...], records: Any) -> Outcome:
    try:
        if len(encodes) == 1:
            encode = encodes[0]
            return [(encode(record),) for record in records]
        return [tuple([encode(record) for encode in encodes]) for record in records]
    except Exception as error:  # noqa: BLE001 - encoding calls methods of what user code returned
        return _Unusable(error)
