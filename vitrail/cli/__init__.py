"""The command line. It parses and renders; everything else is in `verbs`."""

from vitrail.cli.main import run

__all__ = ["run"]
