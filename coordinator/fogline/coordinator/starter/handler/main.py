"""A stage: Fogline calls `handler` with each record, and passes on what it returns."""

from typing import Any

LIMIT = 80.0  # degrees Celsius


def handler(data: dict[str, Any]) -> dict[str, Any] | None:
    """One reading in, an alarm out, or nothing."""
    # A record is any JSON value; here it is one line of sample.jsonl.
    if data["celsius"] <= LIMIT:
        return None  # a filter: nothing flows on
    # What is printed goes to the stage's log, never into the data.
    print(f"{data['sensor']} is hot")
    # Several results of one record: `yield` them instead of returning one.
    return {**data, "above": round(data["celsius"] - LIMIT, 1)}
