"""A user's jobs, each beside the scripts that a user would write instead, by turns and in processes of their own."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import pyarrow.parquet as pq

from tests.benchmarks.measured import COMMAND, SCRIPTS, Took, run
from tests.benchmarks.payloads import lead, make_leads
from tests.benchmarks.server import Running, running

# So fast that only the code bounds the speed.
UNPACED: Final = 1e6
COPIES: Final = 5
"""Of each lead, where four of five rows are duplicates."""


class Turns:
    """What each program took in each round."""

    def __init__(self) -> None:
        self._took: dict[str, list[Took]] = {}

    def add(self, name: str, took: Took) -> None:
        self._took.setdefault(name, []).append(took)
        print(
            f"  {name}: {took.cpu:.2f} s CPU, {took.wall:.2f} s, {took.peak:.0f} MB",
            file=sys.stderr,
            flush=True,
        )

    def ratio(self, what: str, above: str, below: str) -> float:
        """The median over the rounds of the ratio within a round."""
        rounds = zip(self._took[above], self._took[below], strict=True)
        return median(getattr(upper, what) / getattr(lower, what) for upper, lower in rounds)

    def each(self, what: str, name: str) -> float:
        return median(getattr(took, what) for took in self._took[name])


class Place:
    """A folder with leads, and what is made of them there."""

    def __init__(self, folder: Path, server: Running, rows: int, *, copies: int = 1) -> None:
        self.folder, self._server = folder, server
        self.leads = folder / "leads.parquet"
        make_leads(self.leads, rows, copies=copies)

    def ours(self, ledger: str = "ledger.db", *, rate: float = UNPACED) -> Took:
        return run(
            SCRIPTS / "ours.py", self._server.url, self.leads, self.folder / "ours.parquet", self.folder / ledger, rate,
            environment=self._server.trust,
        )  # fmt: skip

    def script(self, name: str) -> Took:
        """Run a user's script, which asks the server."""
        target = self.folder / f"{name}.parquet"
        return run(
            SCRIPTS / f"{name}.py", self._server.url, self.leads, target, environment=self._server.trust
        )

    def join(self, name: str, contacts: Path) -> Took:
        """Run a user's script, which joins what is there."""
        return run(SCRIPTS / f"{name}.py", self.leads, contacts, self.folder / f"{name}.parquet")

    def contacts(self) -> Path:
        """What was bought, as the table that a user would keep of it: each contact once, by its e-mail."""
        table = pq.read_table(self.folder / "ours.parquet").drop_columns(["id"])
        path = self.folder / "contacts.parquet"
        pq.write_table(table, path, compression="zstd")
        return path


@contextmanager
def place(folder: Path, server: Running, rows: int, *, copies: int = 1) -> Iterator[Place]:
    with TemporaryDirectory(dir=folder) as inside:
        yield Place(Path(inside), server, rows, copies=copies)


def measure(*, rounds: int, rows: int, folder: Path) -> dict[str, float]:
    """First purchase, and everything known. Without TLS, with gzip."""
    turns = Turns()
    with running(folder) as server:
        for _ in range(rounds):
            with place(folder, server, rows) as first:
                turns.add("first", first.ours())
                turns.add("first, Polars", first.script("polars_first"))
                turns.add("first, orjson", first.script("orjson_first"))
                turns.add("known, the first time", first.ours())
                contacts = first.contacts()
                turns.add("known", first.ours())
                turns.add("known, Polars", first.join("polars_known", contacts))
                turns.add("known, DuckDB", first.join("duckdb_known", contacts))
    return {
        "first_cpu": turns.ratio("cpu", "first", "first, Polars"),
        "first_memory": turns.ratio("peak", "first", "first, Polars"),
        "first_orjson": turns.ratio("cpu", "first", "first, orjson"),
        "known_cpu": turns.ratio("cpu", "known", "known, Polars"),
        "known_memory": turns.ratio("peak", "known", "known, Polars"),
        "known_first_time": turns.ratio("cpu", "known, the first time", "known, Polars"),
        "known_duckdb": turns.ratio("cpu", "known", "known, DuckDB"),
        "first_row": 1e6 * turns.each("cpu", "first") / rows,
        "known_row": 1e6 * turns.each("cpu", "known") / rows,
    }


def measure_duplicates(*, rounds: int, rows: int, folder: Path) -> dict[str, float]:
    """Four of five rows are duplicates."""
    turns = Turns()
    with running(folder) as server:
        for _ in range(rounds):
            with place(folder, server, rows, copies=COPIES) as duplicates:
                turns.add("duplicates", duplicates.ours())
                turns.add("duplicates, orjson", duplicates.script("orjson_first"))
    return {"duplicates_cpu": turns.ratio("cpu", "duplicates", "duplicates, orjson")}


def measure_vendor(*, rounds: int, rows: int, folder: Path) -> dict[str, float]:
    """First purchase with TLS and gzip, beside the vendor's sample."""
    turns = Turns()
    with running(folder, tls=True) as server:
        for _ in range(rounds):
            with place(folder, server, rows) as first:
                turns.add("first, TLS", first.ours())
                turns.add("first, TLS, vendor's sample", first.script("vendor_first"))
    return {
        "vendor_wall": turns.ratio("wall", "first, TLS, vendor's sample", "first, TLS"),
        "vendor_cpu": turns.ratio("cpu", "first, TLS, vendor's sample", "first, TLS"),
    }


def measure_memory(*, sizes: Sequence[int], folder: Path) -> dict[str, float]:
    """First purchases by the command, with its default settings and replies that take a second."""
    peaks: list[float] = []
    figures: dict[str, float] = {}
    with running(folder, latency=1.0) as server:
        for rows, size in zip(sizes, ("1m", "10m"), strict=False):
            with place(folder, server, rows) as first:
                took = command(
                    "enrich", first.leads, "-o", first.folder / "enriched.parquet", "--yes",
                    "--ledger", first.folder / "ledger.db", server=server,
                )  # fmt: skip
                peaks.append(took.peak)
                figures |= {
                    f"memory_{size}": took.peak,
                    f"cpu_{size}": 1e6 * took.cpu / rows,
                    f"ledger_{size}": (first.folder / "ledger.db").stat().st_size / rows,
                    f"table_{size}": (first.folder / "enriched.parquet").stat().st_size / rows,
                }
                print(f"  {rows:,} rows: {took}", file=sys.stderr, flush=True)
    return figures | {"memory_growth": peaks[-1] / peaks[0]}


def measure_asset(*, sizes: tuple[int, int], folder: Path) -> dict[str, float]:
    """First purchases by the asset of Dagster, from a query of SQLite."""
    peaks: list[float] = []
    with running(folder) as server:
        for rows in sizes:
            with TemporaryDirectory(dir=folder) as inside:
                database = Path(inside, "crm.db")
                with closing(sqlite3.connect(database)) as connection:
                    connection.execute("CREATE TABLE leads (email TEXT)")
                    leads = ((lead(number),) for number in range(rows))
                    connection.executemany("INSERT INTO leads VALUES (?)", leads)
                    connection.commit()
                files = [Path(inside, name) for name in ("enriched.parquet", "ledger.db")]
                took = run(SCRIPTS / "asset_of_query.py", server.endpoint, database, *files, UNPACED)
                peaks.append(took.peak)
                print(f"  {rows:,} rows: {took}", file=sys.stderr, flush=True)
    return {"asset_memory": peaks[-1], "asset_growth": peaks[-1] / peaks[0]}


def measure_plan(*, rows: int, folder: Path) -> dict[str, float]:
    with running(folder) as server, place(folder, server, rows) as here:
        took = command("plan", here.leads, "--ledger", here.folder / "ledger.db", server=server)
    return {"plan": took.cpu}


def measure_start_up(*, rounds: int, folder: Path) -> dict[str, float]:
    turns = Turns()
    with running(folder) as server:
        for number in range(rounds):
            turns.add("import", run("-c", "import eb_dagster"))
            turns.add("help", run(*COMMAND, "--help"))
            with place(folder, server, 10) as here:
                turns.add("ten_rows", here.ours(f"{number}.db"))
    return {name: turns.each("cpu", name) for name in ("import", "help", "ten_rows")}


def command(*arguments: object, server: Running) -> Took:
    """Run `eb-dagster …`."""
    environment = {"EXACTBUYER_BASE_URL": server.url, "EXACTBUYER_API_KEY": "no key", **server.trust}
    return run(*COMMAND, *arguments, environment=environment)
