"""Scores a comment by the words it holds; the words of a language come from the document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


class Sentiment:
    """Made once with `args` of the stage, then called for each record."""

    def __init__(self, good: Sequence[str], bad: Sequence[str]) -> None:
        self._good = set(good)
        self._bad = set(bad)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """The comment with its `score`: good words less bad ones."""
        words = re.findall(r"\w+", data["text"].lower())
        return {**data, "score": sum((word in self._good) - (word in self._bad) for word in words)}
