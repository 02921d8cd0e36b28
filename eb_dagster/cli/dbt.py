"""`eb-dagster dbt-sources`: the warehouse's tables as sources of dbt."""

from __future__ import annotations

import click


@click.command("dbt-sources", short_help="Write a sources.yml for dbt.")
@click.option("--dataset", required=True, help="Schema in the warehouse that the tables are in.")
@click.option("--name", default="exactbuyer", show_default=True, help="What dbt calls the source.")
@click.option("--database", help="Database of the tables, if it is not that of dbt's target.")
@click.option("--history", is_flag=True, help="Include the table contact_job_history.")
@click.option(
    "--prefix", default="eb_", show_default=True, help="What the name of every added column starts with."
)
def dbt_sources(dataset: str, name: str, database: str | None, prefix: str, *, history: bool) -> None:
    """Write a sources.yml for dbt to stdout: the tables of contacts, with a description of every column.

    As in: eb-dagster dbt-sources --dataset crm > models/exactbuyer.yml
    """
    try:
        from eb_dagster.warehouse.dbt_sources import dbt_sources as sources
    except ModuleNotFoundError as error:
        raise click.UsageError(str(error)) from None
    text = sources(dataset=dataset, name=name, database=database, history=history, prefix=prefix)
    click.echo(text, nl=False)
