"""`POST /predict`: plain JSON, one record or a list of them.

An array is a list of records, unless the model reads arrays and this one is as deep as one record is.
One record: its answer; 204 when it was filtered, a list when a generator made several. A list: a list of such
answers, `null` for what was filtered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson

from fogline.runtimes.errors import Failure
from fogline.runtimes.frameworks.signature import Signature
from fogline.runtimes.serving.chain import Answer
from fogline.runtimes.serving.refusals import bad_request, of_record

_OPENING = re.compile(rb"[\s\[]*")


def depth_of(signature: Signature | None) -> int:
    """How deep the arrays are that are one record; 0: an array is never one record."""
    if signature is None or signature.only_object or len(signature.inputs) != 1:
        return 0
    return len(signature.inputs[0].shape)


def records(body: bytes, depth: int) -> tuple[list[bytes], bool]:
    """The encoded records, and whether they came as a list. Raises Refusal."""
    first = body[:1]
    if first == b"{":
        return [body], False
    if first != b"[" and not body.strip():
        raise bad_request("the body is empty: it must be a record in JSON, or a list of records")
    opening = _OPENING.match(body).group()  # type: ignore[union-attr]
    nested = opening.count(b"[")
    if not nested or (nested == depth and body[len(opening) : len(opening) + 1] not in (b"{", b"]")):
        return [body], False
    try:
        listed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error}") from None
    return [orjson.dumps(each) for each in listed], True


def response(answers: Sequence[Answer], listed: bool) -> bytes | None:
    """The body; None: nothing came of the only record. Raises Refusal for the first record that failed."""
    if not listed:
        answer = answers[0]
        if isinstance(answer, Failure):
            raise of_record(answer, None)
        if len(answer) == 1:
            return answer[0]
        return b"[" + b",".join(answer) + b"]" if answer else None
    parts = []
    for place, answer in enumerate(answers):
        if isinstance(answer, Failure):
            raise of_record(answer, place)
        if len(answer) == 1:
            parts.append(answer[0])
        else:
            parts.append(b"[" + b",".join(answer) + b"]" if answer else b"null")
    return b"[" + b",".join(parts) + b"]"
