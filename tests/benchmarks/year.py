"""A year of enrichment: whether a row gets its own person, and what a person costs.

`python -m tests.benchmarks.year [--rows N] [--seed S] [--long] [--only NAME …]`. People, tables and the
vendor's knowledge depend on the seed alone. Each contestant lives through the same year against a bill of
its own: 62 tables in 52 weeks (ten of them beside another, on one ledger), 13 refreshes, requests that
break off, changing required fields.

**How a row is judged.** By identity: the vendor's contact says under `id` whose it is, and that is compared
with whom the row was about when it was made. A contact of anybody else is wrong, whatever the row shares
with them: a desk, a mailbox, a name. Rows that offer only what belongs to several people (a desk phone, a
role or a family's mailbox) are told apart and not judged, neither as right nor as wrong: from keys nobody
can tell whose they are, and who is found by one is right by luck. What they got is in lines of their own.

**What counts as an alias.** A row answered from the ledger by an identifier that this contestant never sent
in any spelling. It is wrong if its contact is another person's, on rows of every kind.

**What differs between runs of one seed.** Requests that are in flight together, and two tables on one ledger,
are answered in whatever order, so that a few credits in a thousand may differ.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import pyarrow.parquet as pq

from tests.benchmarks.goals import machine
from tests.benchmarks.vendor import Account, Key, Knowledge, Vendor, as_one, offers
from tests.benchmarks.world import COLUMNS, Table, World

SHORT_ROWS: Final = 9_000
LONG_ROWS: Final = 389_025
SEED: Final = 1
# With keys alone, before the second edition of the rules, on 2026-11-29: rows with the right person, and
# credits for each person bought. By rows and seed.
BEFORE: Final[Mapping[tuple[int, int], tuple[int, float]]] = {
    (SHORT_ROWS, SEED): (4_096, 1.2455),
    (LONG_ROWS, SEED): (170_898, 1.2459),
}

_ROWS_A_PERSON: Final = 6
# Longer than an enricher takes from being made to its first look at the clock.
_BETWEEN_AGES: Final = 0.3


class Answer(NamedTuple):
    """What a contestant gave for one row."""

    status: str
    person: int | None = None
    query: Key | None = None
    """The identifier that answered, if it is told."""
    is_from_ledger: bool = False


class Contestant(Protocol):
    """Whoever enriches tables. `cutoff` is the moment before which a refresh finds a contact old."""

    told: Counter[str]
    """What its own reports count of what is measured here."""

    def enrich(self, together: Sequence[Table], *, cutoff: float | None) -> list[list[Answer]]: ...

    def settle(self, account: Account) -> None:
        """Act on the vendor's bill for requests that broke off."""


# Contestants


class Ours:
    """`eb_dagster.Enricher` on one ledger."""

    def __init__(self, url: str, folder: Path, *, with_names: bool = False) -> None:
        self._url, self._folder, self._with_names = url, folder, with_names
        self._ledger = folder / "ledger.db"
        self.told: Counter[str] = Counter()

    @staticmethod
    def takes_names() -> bool:
        from eb_dagster import Enricher

        return "person" in inspect.signature(Enricher).parameters

    def enrich(self, together: Sequence[Table], *, cutoff: float | None) -> list[list[Answer]]:
        if len(together) == 1:
            return [self._enrich(together[0], cutoff)]
        with ThreadPoolExecutor(len(together)) as threads:
            return list(threads.map(lambda table: self._enrich(table, cutoff), together))

    def _enrich(self, table: Table, cutoff: float | None) -> list[Answer]:
        from eb_dagster import Enricher
        from eb_dagster.errors import EnrichError

        names = {"name": "Name", "company": "Company"}
        there = table.frame.columns
        settings: dict[str, Any] = {
            "identifiers": {kind: name for kind, name in COLUMNS.items() if name in there},
            "required_fields": table.required,
            "max_age": None if cutoff is None else timedelta(seconds=time.time() - cutoff),
        }
        if self._with_names:
            settings["person"] = {part: name for part, name in names.items() if name in there}
        with Enricher(
            api_key="no key", base_url=self._url, ledger=self._ledger, default_region="US", timeout=60.0,
            requests_per_minute=1e6, progress=False, columns=["other"],
            partition_size=_partition_size(table), **settings,
        ) as enricher:  # fmt: skip
            try:
                enriched = enricher.enrich_dataframe(table.frame)
            except EnrichError as error:
                self.told[type(error).__name__] += 1
                return [Answer("stopped")] * len(table.truth)
            self._note(enricher.report.to_dict())
        columns = ("eb_status", "eb_field_type", "eb_query", "eb_from_ledger", "eb_other")
        return [
            Answer(
                status,
                json.loads(other)["id"] if status == "matched" else None,
                (kind, query) if status == "matched" else None,
                bool(is_from_ledger),
            )
            for status, kind, query, is_from_ledger, other in zip(
                *(enriched[name].tolist() for name in columns), strict=True
            )
        ]

    def _note(self, report: Mapping[str, Any]) -> None:
        """Whatever the report counts under these names, as a figure or as a reason."""
        for name in ("shared", "role_mailbox", "contradicted"):
            for figure in (
                report.get(name),
                *(report.get(group, {}).get(name) for group in ("invalid", "unusable")),
            ):
                if isinstance(figure, int):
                    self.told[name] += figure

    def settle(self, account: Account) -> None:
        """Look for each request in doubt on the bill, as a user would: by how many were asked."""
        bill, account.bill = account.bill, []
        if not bill:
            return
        doubts = json.loads(self._command("show", "--json"))["doubts"]
        self._command("export", "--output", str(self._folder / "receipts.parquet"))
        receipts = pq.read_table(self._folder / "receipts.parquet", columns=["request", "credits"])
        booked = dict(zip(*receipts.to_pydict().values(), strict=True))
        for doubt in doubts:
            # What is not on the bill was not charged.
            line = next((line for line in bill if line[0] == doubt["asked"]), (0, 0))
            bill = [entry for entry in bill if entry is not line]
            request, charged = doubt["request"], line[1]
            if charged:
                more = min(charged - booked[request], doubt["at_risk"])
                self._command("resolve", str(request), "--charged", "--credits", str(more))
            else:
                self._command("resolve", str(request), "--resend")

    def _command(self, *arguments: str) -> str:
        from click.testing import CliRunner

        from eb_dagster.cli import main

        done = CliRunner().invoke(main, ["ledger", "--ledger", str(self._ledger), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout


class _Plain:
    """What plain scripts have in common: one connection, and one more try when it breaks off."""

    def __init__(self, url: str, _folder: Path) -> None:
        import requests

        self._endpoint = f"{url}/v1/bulk-enrich"
        self._session = requests.Session()
        self.told: Counter[str] = Counter()

    def _ask(self, pairs: Sequence[Key], table: Table) -> Iterator[int | None]:
        """For each identifier the person found, by position."""
        import requests

        size = _partition_size(table)
        for start in range(0, len(pairs), size):
            data = {
                "query_list": json.dumps(
                    [{"field_type": kind, "value": value} for kind, value in pairs[start : start + size]]
                ),
                "required_fields": json.dumps([{"field_type": name} for name in table.required]),
            }
            for attempt in range(2):
                try:
                    contacts = self._session.post(self._endpoint, data=data).json()["contacts"]
                except requests.RequestException:
                    assert not attempt
                else:
                    break
            yield from ((contact["enriched_contact"] or {}).get("id") for contact in contacts)

    def settle(self, account: Account) -> None:
        account.bill.clear()


class Sample(_Plain):
    """The vendor's sample in a loop: every identifier of every row, every time, taken by position."""

    def enrich(self, together: Sequence[Table], *, cutoff: float | None) -> list[list[Answer]]:
        del cutoff
        answers: list[list[Answer]] = []
        for table in together:
            there = offers(table)
            asked = self._ask([pair for row in there for pair in row], table)
            rows = [[next(asked) for _ in row] for row in there]
            people = [next((person for person in row if person is not None), None) for row in rows]
            answers.append(
                [Answer("not_found" if person is None else "matched", person) for person in people]
            )
        return answers


class Cache(_Plain):
    """A dict of lower-cased identifiers: any that is known answers; else they are asked in order."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self._known: dict[str, tuple[int | None, float]] = {}

    def enrich(self, together: Sequence[Table], *, cutoff: float | None) -> list[list[Answer]]:
        return [self._enrich(table, cutoff or 0.0) for table in together]

    def _enrich(self, table: Table, cutoff: float) -> list[Answer]:
        there = [[(kind, value.strip().lower()) for kind, value in row] for row in offers(table)]
        for step in range(len(COLUMNS)):
            waiting = [
                row[step] for row in there
                if step < len(row) and not any(self._person(key, cutoff) for key in row)
            ]  # fmt: skip
            asked = [
                key for key in dict.fromkeys(waiting) if self._age(key) < cutoff or key[1] not in self._known
            ]
            for (_, value), person in zip(asked, self._ask(asked, table), strict=True):
                self._known[value] = (person, time.time())
        people = [[self._person(key, 0.0) for key in row] for row in there]
        found = [next((known for known in row if known), None) for row in people]
        return [Answer("not_found" if known is None else "matched", known and known[0]) for known in found]

    def _age(self, key: Key) -> float:
        return self._known.get(key[1], (None, 0.0))[1]

    def _person(self, key: Key, cutoff: float) -> tuple[int] | None:
        person, since = self._known.get(key[1], (None, 0.0))
        return None if person is None or since < cutoff else (person,)


def _partition_size(table: Table) -> int:
    # A request that breaks off takes about as large a part of a table of any size.
    return min(1000, max(10, len(table.truth) // 5))


CONTESTANTS: Final[dict[str, Callable[[str, Path], Contestant]]] = {
    "keys": Ours,
    "person": lambda url, folder: Ours(url, folder, with_names=True),
    "sample": Sample,
    "cache": Cache,
}


# Judging


@dataclass(slots=True)
class Verdicts:
    """How the rows of a year ended, and what they cost."""

    rows: int = 0
    shared: int = 0
    """Rows that offer only what is shared; `right` and `wrong` are of the others."""
    right: int = 0
    wrong: int = 0
    right_shared: int = 0
    wrong_shared: int = 0
    aliases: int = 0
    wrong_aliases: int = 0
    ended: Counter[str] = field(default_factory=Counter[str])
    told: Counter[str] = field(default_factory=Counter[str])
    account: Account = field(default_factory=Account)
    cpu: float = 0.0
    wall: float = 0.0

    def judge(self, table: Table, answers: Sequence[Answer], *, asked: set[Key]) -> None:
        for truth, is_shared, answer in zip(table.truth, table.shared, answers, strict=True):
            self.rows += 1
            self.shared += is_shared
            self.ended[answer.status] += 1
            is_right, is_wrong = answer.person == truth, answer.person not in (None, truth)
            self.right += is_right and not is_shared
            self.wrong += is_wrong and not is_shared
            self.right_shared += is_right and is_shared
            self.wrong_shared += is_wrong and is_shared
            if answer.is_from_ledger and answer.query and as_one(*answer.query) not in asked:
                self.aliases += 1
                self.wrong_aliases += is_wrong

    @property
    def credits_a_person(self) -> float:
        """Credits for each person bought, refreshes apart."""
        return self.account.bought.total() / max(len(self.account.bought), 1)

    @property
    def wrong_share(self) -> float:
        return 100 * self.wrong / max(self.rows - self.shared, 1)


def live(contestant: Contestant, vendor: Vendor, year: Sequence[Sequence[Table]]) -> Verdicts:
    """Let a contestant live through the year."""
    verdicts = Verdicts(account=vendor.account)
    refreshed: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        # Broken requests are meant to be warned of.
        warnings.simplefilter("ignore")
        for together in year:
            is_refresh = together[0].is_refresh
            contestant.settle(vendor.account)
            vendor.begin(together[0])
            cutoff = [0.0, 0.0, *refreshed][-2] if is_refresh else None
            answers = contestant.enrich(together, cutoff=cutoff)
            for table, of_table in zip(together, answers, strict=True):
                verdicts.judge(table, of_table, asked=vendor.account.asked)
            if is_refresh:
                # The one after the next buys again what is older than this moment.
                refreshed.append(time.time())
                time.sleep(_BETWEEN_AGES)
    verdicts.wall, verdicts.cpu = time.perf_counter() - wall, time.process_time() - cpu
    verdicts.told = contestant.told
    return verdicts


def run_year(
    *, rows: int = SHORT_ROWS, seed: int = SEED, only: Sequence[str] = tuple(CONTESTANTS), folder: Path | None = None
) -> dict[str, Verdicts]:  # fmt: skip
    """The year of each contestant; one that cannot be measured yet is left out, with a word."""
    world = World(people=max(30, rows // _ROWS_A_PERSON), seed=seed)
    year = list(world.year(rows=rows, seed=seed))
    lived: dict[str, Verdicts] = {}
    for name in only:
        if name == "person" and not Ours.takes_names():
            print("person: skipped, Enricher takes no person= yet", file=sys.stderr, flush=True)
            continue
        with (
            tempfile.TemporaryDirectory(dir=folder) as place,
            Vendor(Knowledge(world, seed=seed)) as vendor,
        ):
            lived[name] = live(CONTESTANTS[name](vendor.url, Path(place)), vendor, year)
        verdicts = lived[name]
        print(f"{name}: {verdicts.wall:.0f} s, {verdicts.cpu:.0f} s of CPU", file=sys.stderr, flush=True)
    return lived


def measure(
    *, rows: int, seed: int = SEED, only: Sequence[str] = ("keys", "person"), folder: Path
) -> dict[str, float]:  # fmt: skip
    """The goals of the year."""
    figures: dict[str, float] = {}
    for name, verdicts in run_year(rows=rows, seed=seed, only=only, folder=folder).items():
        figures |= {
            f"year_{name}_wrong": verdicts.wrong_share,
            f"year_{name}_aliases": verdicts.wrong_aliases,
        }
        if (rows, seed) in BEFORE:
            right, spent = BEFORE[rows, seed]
            figures |= {
                f"year_{name}_right": verdicts.right / right,
                f"year_{name}_credits": verdicts.credits_a_person / spent,
            }
    return figures


# Telling

LINES: Final[tuple[tuple[str, Callable[[Verdicts], float], str], ...]] = (
    ("rows", lambda verdicts: verdicts.rows, ""),
    ("of those that offer something of one person's own", lambda verdicts: verdicts.rows - verdicts.shared, ""),
    ("  with the right person", lambda verdicts: verdicts.right, ""),
    ("  **with another person's contact**", lambda verdicts: verdicts.wrong, ""),
    ("  the same", lambda verdicts: verdicts.wrong_share, "%"),
    ("rows that offer only what is shared (not judged)", lambda verdicts: verdicts.shared, ""),
    ("  with the right person", lambda verdicts: verdicts.right_shared, ""),
    ("  with another person's contact", lambda verdicts: verdicts.wrong_shared, ""),
    *(
        (f"rows {status.replace('_', ' ')}", lambda verdicts, status=status: verdicts.ended[status], "")
        for status in ("not_found", "invalid", "not_asked", "in_doubt", "unreadable", "stopped")
    ),
    ("rows answered by an alias", lambda verdicts: verdicts.aliases, ""),
    ("  with another person's contact", lambda verdicts: verdicts.wrong_aliases, ""),
    *(
        (f"counted as {name}", lambda verdicts, name=name: verdicts.told[name], "")
        for name in ("shared", "role_mailbox", "contradicted")
    ),
    ("requests", lambda verdicts: verdicts.account.requests, ""),
    ("credits, refreshes apart", lambda verdicts: verdicts.account.bought.total(), ""),
    ("persons bought", lambda verdicts: len(verdicts.account.bought), ""),
    ("**credits for each person bought**", lambda verdicts: verdicts.credits_a_person, ""),
    ("credits of refreshes", lambda verdicts: verdicts.account.refreshed.total(), ""),
    ("  for each person in them",
     lambda verdicts: verdicts.account.refreshed.total() / max(len(verdicts.account.refreshed), 1), ""),
    ("seconds", lambda verdicts: verdicts.wall, "s"),
    ("seconds of CPU, the vendor's too", lambda verdicts: verdicts.cpu, "s"),
)  # fmt: skip


def table_of(lived: Mapping[str, Verdicts]) -> str:
    """One column for each contestant, as Markdown."""
    lines = [f"| | {' | '.join(lived)} |", f"|---|{'--:|' * len(lived)}"]
    for what, figure, unit in LINES:
        values = [figure(verdicts) for verdicts in lived.values()]
        shown = [
            f"{value:,}" if isinstance(value, int) else f"{value:.4f} {unit}".strip() for value in values
        ]
        lines.append(f"| {what} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.year", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rows", type=int, default=SHORT_ROWS)
    parser.add_argument("--long", dest="rows", action="store_const", const=LONG_ROWS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--folder", type=Path, help="where ledgers are written; a temporary one")
    chosen = parser.parse_args()
    lived = run_year(rows=chosen.rows, seed=chosen.seed, only=chosen.only, folder=chosen.folder)
    print(f"{time.strftime('%Y-%m-%d')}, seed {chosen.seed}, {machine()}\n")
    print(table_of(lived))
    if (chosen.rows, chosen.seed) in BEFORE:
        right, spent = BEFORE[chosen.rows, chosen.seed]
        for name in lived.keys() & {"keys", "person"}:
            verdicts = lived[name]
            print(
                f"\n{name}, against 2026-11-29: rows with the right person {verdicts.right / right:.4f} (goal ≥ 1.01), "
                f"credits for each person bought {verdicts.credits_a_person / spent:.4f} (goal ≤ 0.985)"
            )


if __name__ == "__main__":
    main()
