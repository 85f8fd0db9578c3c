"""Tells the language of a comment by its commonest words."""

from __future__ import annotations

import re
from typing import Any

COMMON = {
    "english": {"the", "is", "and", "not", "it", "this", "was", "a", "of", "very"},
    "german": {"der", "die", "das", "ist", "und", "nicht", "es", "war", "ein", "sehr"},
}
OTHER = "other"


def handler(data: dict[str, Any]) -> dict[str, Any]:
    """The comment with its `language`: `english`, `german`, or `other` where no word tells.

    Raises KeyError for a comment without `text`.
    """
    words = re.findall(r"\w+", data["text"].lower())
    found = {language: sum(word in common for word in words) for language, common in COMMON.items()}
    best = max(found, key=lambda language: found[language])
    return {**data, "language": best if found[best] else OTHER}
