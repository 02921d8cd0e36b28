"""What a command says before it starts: from whom it buys, by which ledger, and what the caps leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from eb_dagster.pipeline.announcement import Announcement


def tell_opening(said: Announcement) -> None:
    """Say it on stderr."""
    for line in said.lines:
        click.echo(f"  {line}", err=True)
    if said.warning is not None:
        click.echo(f"  warning: {said.warning}", err=True)
