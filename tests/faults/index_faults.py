"""Let processes die in the middle of a merge of the key index, spoil its tables, and put older copies back.

Whatever is wrong with the index, a look-up must tell what a scan of all requests tells: a key that would be unknown
would be paid for twice. Long form: `python -m tests.faults.index_faults --long`.
"""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from eb_dagster.errors import LedgerError
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.schema import counters, key_rows, key_segments, requests
from tests.databases import PostgreSQL
from tests.faults import command, workers
from tests.faults.counts import Counts
from tests.faults.crash_victim import Countdown
from tests.faults.progress import told
from tests.ledger.index_steps import (
    Found,
    answer,
    ask,
    email,
    everybody,
    fill,
    looked_up,
    note,
    scanned,
    small_segments,
)
from tests.ledger.steps import ENDPOINT, PLENTY

REQUESTS = 15
LATE = 1
"""A request whose reply comes after it was indexed."""
INDEX_TABLES = (key_segments, key_rows)


@dataclass
class Toll(Counts):
    """What a series of cases came to."""

    cases: int = 0
    unknown: int = 0
    """Keys that the index did not find, and that would have been bought again."""
    wrong: int = 0
    """Keys of which it told something else than the requests do."""
    paid_twice: int = 0
    """Keys that a claim granted although they are known."""
    refused: int = 0
    not_mended: int = 0
    """Cases in which `ledger check` found faults after the next process had gone on."""
    faults: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Template:
    """A ledger of which each case gets a copy."""

    where: str
    copy: Callable[[], str]
    drop: Callable[[str], None]


def make(where: str) -> None:
    """A ledger with segments of several levels, one that is being merged, late entries, and requests outside."""
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        late = ask(ledger, 200_000, 200_001)
        assert late == LATE
        ledger.doubt(late, http_status=None, note="")
        fill(ledger, REQUESTS)
        answer(ledger, late, 200_002)
        note(ledger, late, 200_002, 200_003)


def in_files(folder: Path) -> Template:
    ledger = folder / "ledger.db"
    make(str(ledger))
    numbers = iter(range(10**9))

    def copy() -> str:
        place = folder / f"case{next(numbers)}"
        place.mkdir(mode=0o700)
        return str(shutil.copy(ledger, place / "ledger.db"))

    def drop(where: str) -> None:
        shutil.rmtree(Path(where).parent)

    return Template(str(ledger), copy, drop)


def in_postgresql(server: PostgreSQL, name: str = "index_faults") -> Template:
    make(server.database(name))
    numbers = iter(range(10**9))

    def copy() -> str:
        of_case = f"{name}_{next(numbers)}"
        server.run(f'CREATE DATABASE "{of_case}" TEMPLATE "{name}"')
        return server.url(of_case)

    def drop(where: str) -> None:
        server.run(f'DROP DATABASE "{sa.make_url(where).database}" WITH (FORCE)')

    return Template(server.url(name), copy, drop)


def examine(where: str, toll: Toll, what: str) -> None:
    """Look up and try to buy everybody, let the index go on, and do so again."""
    toll.cases += 1
    try:
        with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
            everyone = everybody(REQUESTS)
            truth = scanned(ledger, everyone)
            _look_up_one_by_one(ledger, truth, toll, what)
            for _ in range(2):
                _compare(truth, looked_up(ledger, everyone), toll, what)
                ledger.index.catch_up()
            if found := [fault for fault in reconcile.check(ledger) if "index" in fault]:
                toll.not_mended += 1
                toll.faults.append(f"{what}: {found[0]}")
    except LedgerError:
        toll.refused += 1


def _compare(truth: Found, told_by_index: Found, toll: Toll, what: str) -> None:
    unknown = truth.keys() - told_by_index.keys()
    wrong = {number for number in told_by_index if told_by_index[number] != truth.get(number)}
    toll.unknown += len(unknown)
    toll.wrong += len(wrong)
    if unknown or wrong:
        toll.faults.append(f"{what}: {len(unknown)} unknown, {len(wrong)} wrong")


def _look_up_one_by_one(ledger: Ledger, truth: Found, toll: Toll, what: str) -> None:
    """Each for itself: where several are looked up, one is found in the request of another."""
    keys = {number: ledger.key(email(number)) for number in truth}
    with ledger.database.reading() as connection:
        unknown = [
            number for number, key in keys.items() if not _is_found(ledger, connection, key, truth[number])
        ]
    for key in [*map(keys.__getitem__, unknown), *list(keys.values())[:3]]:
        claim = ledger.claim([key], run="again", required=0, limits=PLENTY, seen=0, alias_keys=[key])
        toll.paid_twice += claim.granted
    toll.unknown += len(unknown)
    if unknown:
        toll.faults.append(f"{what}: {len(unknown)} unknown when looked up alone")


def _is_found(ledger: Ledger, connection: sa.Connection, key: bytes, known: tuple[str, int]) -> bool:
    hits = ledger.index.find(connection, [key])
    return known[1] > hits.covered or known[1] in (*hits.asked.tolist(), *hits.aliases.tolist())


# Deaths


def work(where: str, fatal_step: int, said: str) -> None:
    """What a victim does: merge, take a late reply in once more, take in new requests, until nothing is left."""
    with small_segments(), closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        countdown = Countdown(fatal_step)
        countdown.start()
        for _ in range(4):
            ledger.index.grow()
        note(ledger, LATE, 200_003, 200_004)
        fill(ledger, 6, start=REQUESTS)
        ledger.index.catch_up()
        countdown.stop()
    Path(said).write_text(str(countdown.taken))


def die(template: Template, fatal_step: int, folder: Path) -> tuple[str, int | None, int]:
    """Let a victim die at a step. Returns its ledger, how it ended, and the steps it took if it lived."""
    where, said = template.copy(), folder / "said.txt"
    victim = workers.CONTEXT.Process(target=work, args=(where, fatal_step, str(said)))
    victim.start()
    victim.join(120)
    status = victim.exitcode
    victim.close()
    return where, status, int(said.read_text()) if status == 0 else 0


def run_deaths(template: Template, folder: Path, *, count: int | None, lots: random.Random) -> Toll:
    """Deaths before and after calls of the database: all of them, or so many."""
    toll = Toll()
    where, status, steps = die(template, -1, folder)
    assert status == 0
    examine(where, toll, "nobody died")
    chosen = range(1, steps + 1) if count is None else lots.sample(range(1, steps + 1), count)
    for step in told(chosen, what="deaths", of=len(chosen)):
        where, status, _ = die(template, step, folder)
        if status != -signal.SIGKILL:
            toll.faults.append(f"step {step}: it ended with {status}")
        examine(where, toll, f"death at step {step} of {steps}")
        template.drop(where)
    return toll


# Spoiled tables


def run_flips(template: Template, *, count: int, lots: random.Random) -> Toll:
    """Flip a bit in a value of the index, of the counters, or of what a request says of its late entry."""
    toll = Toll()
    for number in told(range(count), what="flips", of=count):
        table = (*INDEX_TABLES, key_rows, counters, requests)[number % 5]
        where = template.copy()
        with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
            what = _flip_in(ledger, table, lots)
        examine(where, toll, what)
        template.drop(where)
    return toll


def _flip_in(ledger: Ledger, table: sa.Table, lots: random.Random) -> str:
    with ledger.database.transaction() as connection:
        row = lots.choice(connection.execute(sa.select(table)).all())
        columns = [table.c.late] if table is requests else list(table.c)
        column = lots.choice(columns)
        spoiled = _flipped(getattr(row, column.name), lots)
        is_row = sa.and_(*(key == getattr(row, key.name) for key in table.primary_key))
        is_taken = (
            column.primary_key
            and connection.execute(sa.select(table.c[column.name]).where(column == spoiled)).first()
        )
        if not is_taken:
            connection.execute(sa.update(table).where(is_row).values({column.name: spoiled}))
    return f"a bit of {table.name}.{column.name}"


def _flipped(value: Any, lots: random.Random) -> Any:
    if isinstance(value, int):
        return value ^ 1 << lots.randrange(max(value.bit_length(), 1))
    if isinstance(value, str):
        place = lots.randrange(len(value))
        return value[:place] + chr(ord(value[place]) ^ 1) + value[place + 1 :]
    blob = bytearray(value) or bytearray(1)
    blob[lots.randrange(len(blob))] ^= 1 << lots.randrange(8)
    return bytes(blob)


def run_losses(template: Template) -> Toll:
    """Each row of the index is missing once; so is each table, and each two headers that follow one another."""
    toll = Toll()
    with (
        closing(Ledger(template.where, endpoint=ENDPOINT)) as ledger,
        ledger.database.reading() as connection,
    ):
        ids = {table: list(connection.execute(sa.select(table.c.id)).scalars()) for table in INDEX_TABLES}
    groups = [(table, [row_id]) for table in INDEX_TABLES for row_id in ids[table]]
    groups += [(table, ids[table]) for table in INDEX_TABLES]
    groups += [
        (key_segments, ids[key_segments][first : first + 2]) for first in range(len(ids[key_segments]) - 1)
    ]
    for table, gone in told(groups, what="losses", of=len(groups)):
        where = template.copy()
        with closing(Ledger(where, endpoint=ENDPOINT)) as ledger, ledger.database.transaction() as connection:
            connection.execute(sa.delete(table).where(table.c.id.in_(gone)))
        examine(where, toll, f"{len(gone)} rows of {table.name} are missing")
        template.drop(where)
    return toll


def run_older_copies(template: Template) -> Toll:
    """After each of many steps, put back what the tables of the index held before: together, and one by one."""
    toll, where = Toll(), template.copy()
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        copies = list(_copies_on_the_way(ledger))
    for number, older in enumerate(copies):
        for tables in (INDEX_TABLES, INDEX_TABLES[:1], INDEX_TABLES[1:]):
            with (
                closing(Ledger(where, endpoint=ENDPOINT)) as ledger,
                ledger.database.transaction() as connection,
            ):
                for table in INDEX_TABLES:
                    rows = (older if table in tables else copies[-1])[table]
                    connection.execute(sa.delete(table))
                    if rows:
                        connection.execute(sa.insert(table), rows)
            examine(where, toll, f"copy {number} of {len(copies)} of {[table.name for table in tables]}")
    template.drop(where)
    return toll


def _copies_on_the_way(ledger: Ledger) -> Iterator[dict[sa.Table, list[dict[str, Any]]]]:
    def copy() -> dict[sa.Table, list[dict[str, Any]]]:
        with ledger.database.reading() as connection:
            return {
                table: [row._asdict() for row in connection.execute(sa.select(table))]
                for table in INDEX_TABLES
            }

    yield copy()
    while ledger.index.grow():
        yield copy()
    for step in range(3):
        note(ledger, LATE, 200_003, 200_004 - step % 2)
        yield copy()
        fill(ledger, 3, start=REQUESTS + 3 * step)
        yield copy()


def run_flips_in_the_file(template: Template, *, count: int, lots: random.Random) -> Toll:
    """Flip any bit of the file's pages that belong to the index, or to the indexes that it relies on."""
    toll = Toll()
    for number in told(range(count), what="flips in the file", of=count):
        where = Path(template.copy())
        with closing(sqlite3.connect(where)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (size,) = connection.execute("PRAGMA page_size").fetchone()
            pages = _pages_of(connection)
        content = bytearray(where.read_bytes())
        page = lots.choice(pages) - 1
        used = [place for place in range(page * size, (page + 1) * size) if content[place]]
        place = lots.choice(used) if number % 4 and used else page * size + lots.randrange(size)
        content[place] ^= 1 << lots.randrange(8)
        where.write_bytes(content)
        examine(str(where), toll, f"byte {place:,} of the file")
        template.drop(str(where))
    return toll


def _pages_of(connection: sqlite3.Connection) -> list[int]:
    """The root pages of the tables and indexes; in a ledger so small, nearly all there are."""
    query = "SELECT rootpage FROM sqlite_master WHERE tbl_name IN ('key_rows', 'key_segments') OR name LIKE 'requests_%'"
    return [page for (page,) in connection.execute(query) if page]


# Figures


def run_all(template: Template, folder: Path, *, long: bool, lots: random.Random) -> dict[str, Toll]:
    """All series on one database, by name."""
    is_file = "://" not in template.where
    tolls = {
        "deaths": run_deaths(template, folder, count=None if long else 4, lots=lots),
        "flips": run_flips(template, count=(1_000 if is_file else 100) if long else 8, lots=lots),
    }
    if long:
        tolls |= {"losses": run_losses(template), "older copies": run_older_copies(template)}
    if is_file:
        tolls["flips in the file"] = run_flips_in_the_file(template, count=1_000 if long else 8, lots=lots)
    return tolls


def figures(long: bool = False, *, seed: int | None = None) -> command.Rows:
    """The rows of the campaign's table."""
    seed = command.chosen_seed(seed)
    rows: command.Rows = [("index: seed", str(seed))]
    with tempfile.TemporaryDirectory(prefix="eb-index-") as name, small_segments():
        folder = Path(name)
        rows += _rows("SQLite", in_files(folder), folder, long=long, seed=seed)
        server = PostgreSQL(folder / "pg")
        try:
            rows += _rows("PostgreSQL", in_postgresql(server), folder, long=long, seed=seed)
        finally:
            server.stop()
    return rows


def _rows(name: str, template: Template, folder: Path, *, long: bool, seed: int) -> command.Rows:
    started, rows = time.monotonic(), command.Rows()
    faults: list[str] = []
    for series, toll in run_all(template, folder, long=long, lots=random.Random(seed)).items():
        rows.append((f"index: {name}, {series}", _in_words(toll)))
        faults += toll.faults
    rows.append((f"index: {name}, seconds", f"{time.monotonic() - started:.0f}"))
    return rows + [(f"index: {name}, FAULT", fault) for fault in faults[:40]]


def _in_words(toll: Toll) -> str:
    return (
        f"{toll.cases:,} cases: {toll.unknown} unknown, {toll.wrong} wrong, {toll.paid_twice} paid twice, "
        f"{toll.refused:,} refused"
    )


def sum_up(tolls: Sequence[Toll]) -> Toll:
    """All series together."""
    total = Toll()
    for toll in tolls:
        total.add(toll)
    return total


if __name__ == "__main__":
    command.main(__doc__, figures)
