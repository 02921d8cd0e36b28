"""Dagster's own workers on one PostgreSQL ledger: 50 partitions that share people, some killed in mid-run."""

import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pyarrow.parquet as pq
import pytest

from eb_dagster import sandbox
from eb_dagster.definitions.metadata import figures_in
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.ledger import Ledger
from tests import dagster_workers
from tests.dagster_workers import FOLDER, KEYS, OWN, PACE, SHARED, everybody, people

T = TypeVar("T")
PROCESSES = 3
LATENCY = 1.0
"""Long enough to kill a process between the charge and the reply."""
ENRICHED = dg.AssetKey("enriched")


class Workers:
    """Run processes that Dagster's instance, the ledger and the sandbox are shared by."""

    def __init__(self, folder: Path, api: sandbox.Sandbox, environment: dict[str, str]) -> None:
        self.folder, self.api, self.environment = folder, api, environment
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *keys: str, in_steps: bool = False) -> subprocess.Popen[bytes]:
        """A process that runs these partitions, in a group of its own."""
        script = f"from tests.dagster_workers import run; run({list(keys)}, in_steps={in_steps})"
        with (self.folder / "workers.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", script], env=self.environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.running[process.pid] = process
        return process

    def wait(self, *, seconds: float = 300.0) -> None:
        ends = time.monotonic() + seconds
        for process in self.running.values():
            process.wait(max(1.0, ends - time.monotonic()))

    def kill_all(self) -> None:
        for process in self.running.values():
            kill_group(process)

    def await_charge(self, *keys: str) -> str:
        """The first of these partitions that has just been charged for, and whose reply is outstanding."""
        return await_that(lambda: next((key for key in keys if self._just_charged(key)), None))

    def _just_charged(self, key: str) -> bool:
        query = "SELECT count(*) FROM charges WHERE value LIKE ? AND at > ?"
        return ask(self.api.bill, query, f"{key}.%@own.example", time.time() - LATENCY / 2) != [(0,)]

    def process(self, key: str) -> int:
        """The process in which a partition is enriched."""
        return int((self.folder / "processes" / key).read_text())


def kill_group(process: subprocess.Popen[bytes]) -> None:
    # As when a machine goes: the run and the steps that it started, and nothing of it is told.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def await_that(find: Callable[[], T | None], *, seconds: float = 200.0) -> T:
    ends = time.monotonic() + seconds
    while (found := find()) is None:
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.02)
    return found


def ask(bill: Path, query: str, *values: object) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(bill, timeout=30.0)) as connection:
        return connection.execute(query, values).fetchall()


@pytest.fixture
def workers(tmp_path, postgresql, monkeypatch) -> Iterator[Workers]:
    for name in ("leads", "processes", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    dagster_workers.write_leads(tmp_path)
    settings = {"requests_per_minute": PACE + 5, "latency": LATENCY, "match_rate": 0.8}
    with sandbox.running(bill=tmp_path / "bill.db", **settings) as api:
        environment = {
            FOLDER: str(tmp_path), "DAGSTER_HOME": str(tmp_path / "home"), "EXACTBUYER_API_KEY": "canary-key",
            "EXACTBUYER_BASE_URL": api.url, "EB_DAGSTER_LEDGER": postgresql.new_database(),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        }  # fmt: skip
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        # Processes that make Dagster's own tables at once get into each other's way.
        dg.DagsterInstance.get().dispose()
        started = Workers(tmp_path, api, {**os.environ})
        try:
            yield started
        finally:
            started.kill_all()


@pytest.mark.timeout(900)
def test_fifty_partitions_at_once_some_killed_pay_once_for_each_person(workers):
    in_steps, shares = KEYS[:4], [KEYS[4 + index :: PROCESSES] for index in range(PROCESSES)]
    workers.start(*in_steps, in_steps=True)
    runs = [workers.start(*share) for share in shares]
    # A worker of a step dies with a reply outstanding: its run fails, and the next run starts.
    killed = [workers.await_charge(*in_steps)]
    os.kill(workers.process(killed[0]), signal.SIGKILL)
    # Two runs die, with a reply outstanding too; the partitions after them are not run.
    for index in range(2):
        killed.append(workers.await_charge(*shares[index][-4:]))
        kill_group(runs[index])
    workers.wait()

    with dg.DagsterInstance.get() as instance:
        failed = failed_partitions(instance)
        assert failed == set(killed)
        missing = sorted(set(KEYS) - set(instance.get_materialized_partitions(ENRICHED)))
        assert set(killed) <= set(missing)
        for index in range(2):
            workers.start(*missing[index::2])
        workers.wait()
        assert sorted(instance.get_materialized_partitions(ENRICHED)) == KEYS
        refused = refusals(instance)

    in_doubt = look_at_tables(workers.folder)
    with contextlib.closing(
        Ledger(workers.environment["EB_DAGSTER_LEDGER"], endpoint="", must_exist=True)
    ) as it:
        doubts, (month,) = reconcile.doubts(it), reconcile.months(it)
        assert reconcile.check(it) == []
    # Nobody was paid for twice, nor asked twice; and nobody was left out, but who was about to be asked by
    # a process that was killed.
    assert workers.api.charged_twice() == 0
    ((asked,),) = ask(workers.api.bill, "SELECT sum(asked) FROM requests")
    assert len(everybody()) - len(in_doubt) <= asked <= len(everybody())
    # What is in doubt is what was in flight when a process was killed, and the bill had it.
    at_risk = sum(doubt.at_risk for doubt in doubts)
    assert 0 < len(in_doubt) == at_risk <= len(killed) * (OWN + SHARED)
    assert month.credits + len(in_doubt & charged(workers.api)) == workers.api.credits()
    # The pace was shared: no refusal, and hardly a request that follows another too closely.
    assert refused == 0
    assert hurried(workers.api) < 0.2


def failed_partitions(instance: dg.DagsterInstance) -> set[str]:
    """The partitions whose run has failed. A run whose process is gone is reported so, as run monitoring does."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        instance.report_run_failed(run)
    failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    return {run.tags["dagster/partition"] for run in failed}


def refusals(instance: dg.DagsterInstance) -> int:
    made = instance.fetch_materializations(ENRICHED, limit=1000).records
    assert len(made) == len(KEYS)
    return sum(int(figures_in(event.asset_materialization.metadata)["refusals"]) for event in made)


def look_at_tables(folder: Path) -> set[str]:
    """Every partition has its rows in order, each with its own answer. Returns the people in doubt."""
    in_doubt = set()
    assert {path.stem for path in (folder / "enriched").iterdir()} == set(KEYS)
    for key in KEYS:
        table = pq.read_table(folder / "enriched" / f"{key}.parquet").to_pandas()
        assert table["email"].tolist() == people(key)
        assert table["eb_query"].tolist() == people(key)
        assert set(table["eb_status"]) <= {"matched", "not_found", "in_doubt"}
        assert table.loc[table["eb_matched"].eq(True), "eb_full_name"].notna().all()
        in_doubt |= set(table.loc[table["eb_status"] == "in_doubt", "email"])
    return in_doubt


def charged(api: sandbox.Sandbox) -> set[str]:
    return {value for (value,) in ask(api.bill, "SELECT value FROM charges")}


def hurried(api: sandbox.Sandbox) -> float:
    """The share of requests that came less than half an interval after the one before."""
    times = [time for (time,) in ask(api.bill, "SELECT at FROM requests ORDER BY at")]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return sum(gap < 60 / PACE / 2 for gap in gaps) / len(gaps)
