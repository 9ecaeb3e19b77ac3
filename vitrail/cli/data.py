"""`vitrail data`: the noun group of what is done to sources of pictures."""

from __future__ import annotations

import click

from vitrail.cli import data_audit, data_pack, data_prepare


@click.group("data", no_args_is_help=True)
def command() -> None:
    """Sources of pictures: looked through, and made ready for use."""


command.add_command(data_audit.command)
command.add_command(data_pack.command)
command.add_command(data_prepare.command)
