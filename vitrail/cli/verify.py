"""`vitrail verify`"""

from __future__ import annotations

import click

from vitrail.cli.options import AS_JSON, ENGINE, TRUST


@click.command("verify")
@click.argument("bundle", metavar="BUNDLE")
@click.option("--data", metavar="DATA", help="Pictures: those of the proof are held against it, others are counted.")
@ENGINE
@TRUST
@AS_JSON
def command(bundle: str, data: str | None, engine: str, as_json: bool) -> None:
    """Prove BUNDLE again on this machine, without torch; exit code 5 when its answers left the proven bound."""
    from vitrail.cli.render import result
    from vitrail.verbs.verify import verify

    done = verify(bundle, data, engine=engine)
    result([done.verification.line()], done.to_json(), as_json=as_json)
