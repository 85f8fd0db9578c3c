"""When the interpreter looks for garbage in a process that works in batches."""

from __future__ import annotations

import gc

COLLECT_AFTER = 20_000
"""More objects made than given back, before the garbage collector looks for cycles among them: several batches."""
_INTERPRETERS_THRESHOLD = gc.get_threshold()


def collect_rarely() -> None:
    """The batches under way are thousands of objects that come and go, none of them part of a cycle. At the threshold
    of the interpreter the collector looks at all of them several times a batch, which costs a third of the time. What
    is loaded stays, and need not be looked at. A threshold that user code has set is its own affair."""
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == _INTERPRETERS_THRESHOLD:
        gc.set_threshold(COLLECT_AFTER)
