"""The shell: `eb-dagster …`."""

from eb_dagster.cli.commands import main as main
