"""Groups of commands."""

from __future__ import annotations

import click

from eb_dagster.errors import closest


class Commands(click.Group):
    """Says which command was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            meant = closest(args[0], self.commands)
            # Newer releases of click say it themselves.
            if meant is None or "mean" in error.message:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}. Did you mean {meant}?", ctx) from None
