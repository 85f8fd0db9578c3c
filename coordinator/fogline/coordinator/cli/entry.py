"""The command `coord`, where the installation may be an agent's, which has no command line libraries."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `coord`, or say which extra is missing."""
    try:
        from fogline.coordinator.cli.app import main as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fogline"):
            raise
        print(f"coord: this installation lacks {error.name}: pip install 'fogline[coordinator]'", file=sys.stderr)
        sys.exit(2)
    run()
