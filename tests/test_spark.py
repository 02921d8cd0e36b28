"""Spark on a real cluster of this machine: a master, two workers and their executors, each a process.

They have two addresses (127.0.0.1 and 127.0.0.2), because Spark runs a task twice only on two hosts.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from eb_dagster import ConfigError, Enricher, InputError, sandbox
from eb_dagster.api.envelope import PATH
from eb_dagster.contacts.schema import arrow_schema
from eb_dagster.ledger.budget import Spending
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.pipeline.run import BLOCK_ROWS
from tests.databases import PostgreSQL
from tests.documents import snippets
from tests.test_documents import SPARK

pyspark = pytest.importorskip("pyspark", reason="needs pyspark: pip install eb-dagster[spark]")
from eb_dagster.spark import _warn_of_killing, enrich  # noqa: E402

if shutil.which("java") is None:
    pytest.skip("needs Java 17", allow_module_level=True)
from pyspark.sql import DataFrame, SparkSession  # noqa: E402

# pyspark warns of pandas 3 whatever is done with it, and leaves its sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KEY = "canary-key-of-spark"
ROOT = Path(__file__).parents[1]
JARS = Path(pyspark.__file__).parent / "jars"
HOSTS = ("127.0.0.1", "127.0.0.2")
# Short-lived: the time that a thorough compiler takes is not earned back.
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"


def wait_for(condition: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                found.setdefault(parent, []).append(int(folder.name))
    return found


def command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


class Cluster:
    """A master and two workers; only what they started is ever killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.processes = folder, free_port(), list[subprocess.Popen[bytes]]()
        self.url = f"spark://{HOSTS[0]}:{self.port}"
        self._start("master", HOSTS[0], "master.Master", "--port", str(self.port))
        wait_for(lambda: is_open(self.port))
        for host in HOSTS:
            work = folder / f"work{host}"
            self._start(
                f"worker{host}", host, "worker.Worker", "--cores", "1", "--memory", "1g",
                "--work-dir", str(work), self.url,
            )  # fmt: skip

    def _start(self, name: str, host: str, service: str, *words: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [
                        "java", "-Xmx256m", "-cp", f"{JARS}/*", f"org.apache.spark.deploy.{service}",
                        "--host", host, "--webui-port", "0", *words,
                    ],
                    env={**os.environ, "SPARK_LOCAL_IP": host}, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                )
            )  # fmt: skip

    def executors(self) -> list[int]:
        """The executors' own processes."""
        tree = children()
        started = [pid for process in self.processes for pid in tree.get(process.pid, [])]
        return [pid for pid in started if "CoarseGrainedExecutorBackend" in command(pid)]

    def python_workers(self, executor: int) -> list[int]:
        """Where the Python of its tasks runs, or did and may again: what the executor's daemon forked."""
        tree = children()
        return [pid for daemon in tree.get(executor, []) for pid in tree.get(daemon, [])]

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(30)

    def said(self) -> str:
        """All that Spark wrote: logs, and the events that its pages show."""
        return "".join(
            file.read_text("utf-8", "replace") for file in sorted(self.folder.rglob("*")) if file.is_file()
        )


@pytest.fixture(scope="module")
def ledger_of_all(postgresql: PostgreSQL) -> str:
    """The ledger that the executors' environment names."""
    return postgresql.new_database()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, ledger_of_all: str) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        (core,) = JARS.glob("spark-core_*.jar")
        for name, value in {
            "SPARK_HOME": str(JARS.parent), "SPARK_SCALA_VERSION": core.name.split("_")[1].split("-")[0],
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "JAVA_TOOL_OPTIONS": JAVA, "SPARK_LOCAL_IP": HOSTS[0],
            "EXACTBUYER_API_KEY": KEY, "EB_DAGSTER_LEDGER": ledger_of_all,
        }.items():  # fmt: skip
            patch.setenv(name, value)
        running = Cluster(folder)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def spark(cluster: Cluster) -> Iterator[SparkSession]:
    builder: Any = SparkSession.builder
    events = cluster.folder / "events"
    events.mkdir()
    for name, value in {
        "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": HOSTS[0], "spark.driver.bindAddress": HOSTS[0],
        "spark.executor.memory": "512m", "spark.eventLog.enabled": "true", "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.compress": "false", "spark.sql.session.timeZone": "America/New_York",
        "spark.speculation": "true", "spark.speculation.interval": "100ms",
        "spark.speculation.minTaskRuntime": "1s", "spark.speculation.quantile": "0.5",
        "spark.python.task.killTimeout": "2min",
    }.items():  # fmt: skip
        builder = builder.config(name, value)
    session = builder.master(cluster.url).getOrCreate()
    gateway: Any = session.sparkContext._gateway
    yield session
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(30)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., sandbox.Sandbox]]:
    """Start a sandbox that the driver's environment names; the executors' own does not."""
    with ExitStack() as stack:

        def start(**settings: Any) -> sandbox.Sandbox:
            running = sandbox.running(bill=tmp_path / "bill.db", requests_per_minute=100_000, **settings)
            api = stack.enter_context(running)
            monkeypatch.setenv("EXACTBUYER_BASE_URL", api.url)
            return api

        yield start


def people(first: int, last: int) -> list[tuple[str, int]]:
    return [(f"lead{number}@canary.example", number) for number in range(first, last)]


def leads(spark: SparkSession, first: int, last: int, *, partitions: int = 4) -> DataFrame:
    """People in so many partitions, each in turn."""
    rows = spark.sparkContext.parallelize(people(first, last), partitions)
    return spark.createDataFrame(rows, "email string, number long")


def spending(ledger: str, api: sandbox.Sandbox) -> Spending:
    with contextlib.closing(Ledger(ledger, endpoint=api.url + PATH)) as opened:
        return opened.budget.spending()


def speculative(cluster: Cluster) -> int:
    """How many tasks Spark has started a second time while the first one ran."""
    events = [json.loads(line) for line in cluster.said().splitlines() if line.startswith('{"Event"')]
    return sum(
        event["Event"] == "SparkListenerTaskStart" and event["Task Info"]["Speculative"] for event in events
    )


FAST = {"requests_per_minute": 60_000, "partition_size": 25}


def test_rows_values_and_types_are_those_of_pandas(spark, api, ledger_of_all):
    here = api()
    rows = [
        (email, number, decimal.Decimal(number), datetime.datetime(2026, 1, 1), {"a": [number]}, ["x", None])
        for email, number in [*people(0, 200), *people(0, 20), ("no address", 500), (None, 501)]
    ]
    frame = spark.createDataFrame(
        spark.sparkContext.parallelize(rows, 3),
        "email string, number long, price decimal(10,2), at timestamp, `a map` map<string, array<int>>, texts array<string>",
    )
    enriched = enrich(frame, **FAST)
    assert enriched.schema[:6] == frame.schema
    assert [field.name for field in enriched.schema[6:]] == arrow_schema().names
    assert enriched.schema["eb_work_email"].metadata["comment"] == "Current work e-mail, else the first one."
    assert not enriched.schema["eb_status"].nullable
    assert here.requests() == 0
    table = enriched.toArrow().select([*frame.columns, *arrow_schema().names])
    assert table.select(frame.columns).to_pylist() == frame.toArrow().to_pylist()
    assert here.charged_twice() == 0
    found = [row["eb_query"] for row in table.to_pylist() if row["eb_matched"]]
    assert here.credits() == len(set(found)) < len(found)
    asked = here.requests()
    with Enricher(api_key=KEY, ledger=ledger_of_all, progress=False) as enricher:
        expected = enricher.enrich_dataframe(table.select(frame.columns))
    known = [name for name in expected.column_names if name != "eb_from_ledger"]
    assert table.select(known).to_pylist() == expected.select(known).to_pylist()
    # pandas, through the same ledger, and a second action of Spark's: neither asks for anything.
    assert enriched.count() == len(rows)
    assert here.requests() == asked


def test_who_wants_few_rows_leaves_nothing_in_flight(spark, api, ledger_of_all):
    # So many that the first rows are whole while requests for the last ones are in flight.
    people = 3 * BLOCK_ROWS
    here = api(latency=2.0)
    frame = enrich(leads(spark, 0, people, partitions=1), requests_per_minute=240)
    assert len(frame.take(1)) == 1
    spent = spending(ledger_of_all, here)
    assert (spent.in_flight, spent.in_doubt) == (0, 0)
    assert here.requests() == math.ceil(people / 1000)


@pytest.mark.parametrize("what", ["python worker", "executor"])
def test_a_process_that_is_killed_in_mid_job_costs_nothing_twice(spark, cluster, api, postgresql, what):
    here, ledger = api(latency=1.0, match_rate=1.0), postgresql.new_database()
    people, at_risk = 400, 150
    frame = leads(spark, 0, people)
    enriched = enrich(frame, ledger=ledger, max_credits_at_risk=at_risk, **FAST)
    rows: list[Any] = []
    job = threading.Thread(target=lambda: rows.extend(enriched.select("number", "eb_status").collect()))
    job.start()
    wait_for(lambda: here.requests() >= 6)

    for executor in cluster.executors():
        for pid in [executor] if what == "executor" else cluster.python_workers(executor):
            os.kill(pid, signal.SIGKILL)
        # An executor's Python outlives it by a moment. Had it nothing in flight, then the other one has.
        time.sleep(0.3)
        # Whoever opens the ledger finds out whose process is gone.
        if spending(ledger, here).in_doubt:
            break
    job.join(120)
    assert not job.is_alive()
    statuses = {row.number: row.eb_status for row in rows}
    assert sorted(statuses) == list(range(people))
    doubtful = sum(status == "in_doubt" for status in statuses.values())
    assert set(statuses.values()) <= {"matched", "in_doubt"}
    assert 0 < doubtful <= at_risk
    assert here.charged_twice() == 0
    assert people - doubtful <= here.credits() <= people
    spent = spending(ledger, here)
    assert (spent.in_flight, spent.in_doubt) == (0, doubtful)
    # Whoever asks again is told the same, and nobody is asked.
    asked = here.requests()
    assert enriched.filter("eb_status = 'in_doubt'").count() == doubtful
    assert here.requests() == asked


def test_a_task_that_runs_twice_at_once_buys_once(spark, cluster, api, postgresql):
    here, ledger = api(latency=0.5, match_rate=1.0), postgresql.new_database()
    before = speculative(cluster)
    # Whether Spark finds a task slow is for its clock to say.
    for first in range(0, 1500, 300):
        few = leads(spark, first, first + 3, partitions=2)
        rest = leads(spark, first + 3, first + 300, partitions=1)
        enriched = enrich(few.union(rest), ledger=ledger, max_credits_at_risk=50, **FAST)
        assert enriched.filter("eb_status = 'matched'").count() == 300
        assert here.charged_twice() == 0
        assert here.credits() == first + 300
        spent = spending(ledger, here)
        assert (spent.in_flight, spent.in_doubt) == (0, 0)
        if speculative(cluster) > before:
            return
    pytest.fail("Spark ran no task a second time")


def test_a_job_that_is_cancelled_stores_what_is_in_flight(spark, api, postgresql):
    here, ledger = api(latency=6.0, match_rate=1.0), postgresql.new_database()
    enriched = enrich(leads(spark, 0, 50, partitions=1), ledger=ledger, **FAST)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            enriched.count()
        except Exception as error:
            ended.append(error)

    job = threading.Thread(target=run)
    job.start()
    wait_for(lambda: here.requests() == 2)
    spark.sparkContext.cancelAllJobs()
    job.join(60)
    assert ended
    wait_for(lambda: not spending(ledger, here).in_flight)
    spent = spending(ledger, here)
    assert (spent.credits, spent.in_doubt) == (50, 0)


def test_where_spark_would_kill_what_is_in_flight_it_is_said():
    with pytest.warns(UserWarning, match="killTimeout is not set.*in doubt"):
        _warn_of_killing(None)
    _warn_of_killing("6min")


def test_what_a_job_bought_is_not_too_old_for_the_rest_of_it(spark, api, postgresql):
    here = api(match_rate=1.0)
    nothing_kept = datetime.timedelta(microseconds=1)
    enriched = enrich(
        leads(spark, 0, 50, partitions=1), ledger=postgresql.new_database(), max_age=nothing_kept, **FAST
    )
    assert enriched.union(enriched).count() == 100
    assert enriched.count() == 50
    assert (here.credits(), here.charged_twice()) == (50, 0)


def test_two_jobs_at_once_that_share_people_buy_each_once(spark, api, postgresql):
    here, ledger = api(latency=0.1, match_rate=1.0), postgresql.new_database()
    counts: list[int] = []

    def run(first: int, last: int) -> None:
        frame = enrich(leads(spark, first, last, partitions=2), ledger=ledger, **FAST)
        counts.append(frame.filter("eb_status = 'matched'").count())

    jobs = [threading.Thread(target=run, args=span) for span in ((0, 400), (200, 600))]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
    assert counts == [400, 400]
    assert here.credits() == 600
    assert here.charged_twice() == 0


def test_an_executor_with_another_ledger_pays_nothing(spark, api, postgresql, monkeypatch):
    here = api()
    monkeypatch.setenv("EB_DAGSTER_LEDGER", postgresql.new_database())
    with pytest.raises(Exception, match="is not the driver's"):
        enrich(leads(spark, 0, 10, partitions=1)).count()
    assert here.requests() == 0


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"max_credit": 5}, ConfigError, "max_credits_per_day"),
        ({"api_key": KEY}, ConfigError, "EXACTBUYER_API_KEY"),
        ({"max_credits": 5}, ConfigError, "max_credits_per_day"),
        ({"progress": True}, ConfigError, "of one run"),
        ({"partition_size": 5000}, ConfigError, "partition_size"),
        ({"base_url": "http://canary.example"}, ConfigError, "plain http"),
        ({"ledger": "ledger.db"}, ConfigError, "do not share files"),
        ({"ledger": "postgresql://me:canary@127.0.0.1/crm"}, ConfigError, "password"),
        ({"ledger": "postgresql://127.0.0.1/crm?sslpassword=canary"}, ConfigError, "password"),
        ({"identifiers": {"email": "mail"}}, InputError, "mail"),
        ({"identifiers": {"email": "number"}}, InputError, "number: bigint"),
        ({"columns": ["full_nam"]}, ConfigError, "full_nam"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(spark, api, wrong, error, says):
    here = api()
    with pytest.raises(error, match=says):
        enrich(leads(spark, 0, 10), **wrong)
    assert here.requests() == 0


def test_columns_that_are_there_already_are_refused(spark, api):
    api()
    with pytest.raises(InputError, match="eb_status"):
        enrich(leads(spark, 0, 10).withColumnRenamed("number", "eb_status"))


def test_a_ledger_has_to_be_named(spark, api, monkeypatch):
    api()
    monkeypatch.delenv("EB_DAGSTER_LEDGER")
    with pytest.raises(ConfigError, match="no ledger is named"):
        enrich(leads(spark, 0, 10))


def test_a_frame_of_pandas_is_refused():
    with pytest.raises(InputError, match="Spark dataframe, not DataFrame"):
        enrich(pd.DataFrame({"email": []}))


def test_the_snippet_of_the_documents_runs(spark, api, tmp_path):
    api(match_rate=1.0)
    (snippet,) = [snippet for snippet in snippets("python") if SPARK in snippet]
    table = tmp_path / "contacts"
    names: dict[str, Any] = {"leads": leads(spark, 0, 30).withColumnRenamed("email", "Email")}
    exec(snippet.replace("s3a://crm/contacts", str(table)), names)
    assert spark.read.parquet(str(table)).where("eb_matched").count() == 30


def test_nothing_that_spark_writes_holds_the_key(spark, cluster, api, capfd):
    api()
    frame = enrich(leads(spark, 0, 20, partitions=1))
    frame.explain(extended=True)
    assert "MapInArrow" in capfd.readouterr().out
    frame.count()
    said = cluster.said()
    assert "MapInArrow" in said
    assert KEY not in said
    assert "canary.example" not in said
