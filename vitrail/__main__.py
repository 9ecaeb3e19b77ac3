"""`vitrail` and `python -m vitrail`."""

from __future__ import annotations

import sys


def main() -> None:
    """The command line; leaves the process with the exit code."""
    from vitrail.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
