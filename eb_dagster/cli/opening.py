"""What a command says before it starts: from whom it buys, by which ledger, and what the caps leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from eb_dagster.pipeline.opening import Opening


def tell_opening(opening: Opening) -> None:
    """Say it on stderr."""
    for line in opening.lines:
        click.echo(f"  {line}", err=True)
    if opening.warning is not None:
        click.echo(f"  warning: {opening.warning}", err=True)
