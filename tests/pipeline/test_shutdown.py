import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from eb_dagster.pipeline.shutdown import marked

_RUN = """
import sys
from eb_dagster import Enricher
with Enricher(api_key="k", base_url=sys.argv[1], ledger=sys.argv[2], partition_size=10,
              requests_per_minute=1200, progress=False) as enricher:
    enricher.enrich_parquet(sys.argv[3], sys.argv[4])
"""
_LOOP = """
import sys, time
import pyarrow.parquet as pq
from eb_dagster import Enricher
with Enricher(api_key="k", base_url=sys.argv[1], ledger=sys.argv[2], partition_size=10,
              requests_per_minute=1200, progress=False) as enricher:
    for batch in enricher.enrich_batches(pq.read_table(sys.argv[3])):
        print("batch", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    frame = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(4_000)]})
    frame.to_parquet(tmp_path / "in.parquet", index=False)
    started = []

    def run(api, program=_RUN):
        paths = [str(tmp_path / name) for name in ("ledger.db", "in.parquet", "out.parquet")]
        process = subprocess.Popen(
            [sys.executable, "-c", program, api.url, *paths], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def wait_for_requests(api, count: int) -> None:
    deadline = time.monotonic() + 60
    while api.requests() < count and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_what_is_in_flight_is_taken_in_before_the_process_stops(
    stand_in, enricher, start, tmp_path, number, code
):
    api = stand_in(latency=1.0)
    process = start(api)
    wait_for_requests(api, 3)
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    asked = api.requests()
    assert asked < 400
    assert not (tmp_path / "out.parquet").exists()
    buyer = enricher(api)
    plan = buyer.plan(pd.read_parquet(tmp_path / "in.parquet"))
    assert plan.in_doubt == 0
    assert plan.matched_in_ledger == api.credits() > 0
    assert b"firm.example" not in process.stderr.read()


def test_what_is_waited_for_is_said_above_the_bar_and_nowhere_without_one(stand_in, start):
    for progress, is_said in (("True", True), ("False", False)):
        api = stand_in(latency=1.0)
        process = start(api, _RUN.replace("progress=False", f"progress={progress}"))
        wait_for_requests(api, 1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert (b"stopping: waiting for " in said) is is_said


def test_a_second_ctrl_c_stops_at_once_and_what_is_cut_off_is_in_doubt(stand_in, enricher, start, tmp_path):
    api = stand_in(latency=30.0)
    process = start(api)
    wait_for_requests(api, 3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) == -signal.SIGINT
    plan = enricher(api).plan(pd.read_parquet(tmp_path / "in.parquet"))
    assert plan.in_doubt == 10 * api.requests()


def test_while_the_users_own_code_runs_a_signal_is_theirs(stand_in, start):
    process = start(stand_in(), _LOOP)
    assert process.stdout.readline() == b"batch\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) == -signal.SIGINT


def test_handlers_are_as_they_were_afterwards():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with marked() as interruption:
        assert signal.getsignal(signal.SIGINT) == interruption.note
        assert not interruption
    assert before == {number: signal.getsignal(number) for number in before}


def test_a_signal_that_was_marked_is_delivered_at_the_end():
    reached = []

    def run() -> None:
        with marked() as interruption:
            signal.raise_signal(signal.SIGINT)
            reached.append(bool(interruption))

    with pytest.raises(KeyboardInterrupt):
        run()
    assert reached == [True]


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with marked() as interruption:
            signal.raise_signal(signal.SIGTERM)
            assert not interruption
    finally:
        signal.signal(signal.SIGTERM, before)
