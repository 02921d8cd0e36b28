"""`eb-dagster sandbox`: a local stand-in for the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(short_help="Run a local stand-in for the API.")
@click.option("--port", default=8765, show_default=True, help="Port on 127.0.0.1 to listen on.")
@click.option(
    "--bill",
    type=click.Path(path_type=Path),
    default=Path("sandbox-bill.db"),
    show_default=True,
    help="SQLite file that keeps every charge.",
)
@click.option(
    "--credits",
    "credit_limit",
    type=click.IntRange(min=0),
    help="Credits that may be spent. Default: any number.",
)
@click.option("--api-key", metavar="KEY", help="The only key that is accepted. Default: any but 'invalid'.")
@click.option(
    "--requests-per-minute",
    default=200,
    show_default=True,
    help="Above this, it answers 429, as the vendor does.",
)
@click.option("--latency", default=0.0, show_default=True, help="Seconds that each request takes.")
@click.option(
    "--match-rate", default=0.7, show_default=True, help="Share of the identifiers that find a contact."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND@N[-M]",
    help="What goes wrong with the N-th request; repeatable.",
)
def sandbox(port: int, bill: Path, credit_limit: int | None, faults: tuple[str, ...], **options: Any) -> None:
    """Run a local stand-in for the API, which also keeps a bill. Its people are made up."""
    from eb_dagster import sandbox as stand_in

    try:
        parsed = [stand_in.Fault.parse(text) for text in faults]
        with stand_in.running(port=port, bill=bill, credits=credit_limit, faults=parsed, **options) as server:
            click.echo(f"listening on {server.url}; every charge is in {bill}; stop with Ctrl-C")
            key = options.get("api_key") or "sandbox"
            click.echo(f"  export EXACTBUYER_BASE_URL={server.url} EXACTBUYER_API_KEY={key}")
            stand_in.wait_for_interrupt()
    except (ImportError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{error.strerror}".replace("another port", "another --port")) from None
    except KeyboardInterrupt:
        click.echo("stopped")
