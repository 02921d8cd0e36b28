"""The process that crashes. One that has imported everything forks a fresh victim for each order.

Orders come as lines of JSON on standard input; what became of each victim goes out the same way.
A victim buys what its order says and dies of what the order arranges, or of a signal from outside.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pandas as pd
import pyarrow.parquet as pq

import eb_dagster
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.pipeline.report import Report
from tests.faults import crash_imports, crash_naive

Order = dict[str, Any]

# A process reaches files and sockets by these calls only. So a death before or after each of them is a
# death at every step of its own.
STEPS = frozenset(
    {
        "execute",
        "executemany",
        "commit",
        "rollback",
        "close",
        "connect",
        "sendall",
        "send",
        "recv_into",
        "recv",
        "shutdown",
        "open",
        "fsync",
        "replace",
        "rename",
        "unlink",
        "write",
        "flush",
        "mkdir",
        "flock",
        "ftruncate",
        "write_table",
    }
)


def serve() -> None:
    """Fork victims until standard input ends."""
    crash_imports.load()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    print(json.dumps({"ready": True}), flush=True)
    pending = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            _bury()
        if 0 in ready:
            received = os.read(0, 65_536)
            if not received:
                return
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                _fork(json.loads(line), wake, woken)


def _bury() -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            status = os.waitstatus_to_exitcode(ended[1])
            print(json.dumps({"pid": ended[0], "ended": status}), flush=True)


def _fork(order: Order, *pipes: int) -> None:
    pid = os.fork()
    if pid:
        print(json.dumps({"order": order["number"], "pid": pid}), flush=True)
        return
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        folder = Path(order["folder"])
        errors = os.open(folder / "errors.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((nothing, 0), (errors, 1), (errors, 2)):
            os.dup2(old, new)
        for descriptor in (*pipes, errors, nothing):
            os.close(descriptor)
        code = live(order, folder)
    except BaseException:
        _tell()
    finally:
        os._exit(code)


def live(order: Order, folder: Path) -> int:
    """What the victim does: wait for the start, then buy."""
    if order.get("waits"):
        _wait_at(folder / "start")
    if order.get("forks"):
        return _fork_while_buying(order, folder)
    countdown = Countdown(order["dies_at_step"]) if "dies_at_step" in order else None
    if countdown is not None:
        countdown.start()
    *earlier, last = order["runs"]
    progress = _StopBeforeSenders(folder) if order.get("shows_senders") else False
    outcomes = [_buy(order, folder, run) for run in earlier]
    outcomes.append(_buy(order, folder, last, progress=progress))
    if countdown is not None:
        countdown.stop()
        (folder / "steps.json").write_text(json.dumps(countdown.taken))
    if order.get("reports"):
        (folder / "outcome.json").write_text(json.dumps(outcomes))
    errors = [outcome["error"] for outcome in outcomes if outcome["error"]]
    # The last error decides: the ledger's, the system's, or another one of the package.
    return {"LedgerError": 3, "OSError": 4}.get(errors[-1], 5) if errors else 0


def _buy(order: Order, folder: Path, run: dict[str, str], *, progress: Any = False) -> dict[str, Any]:
    if order.get("naive"):
        size = order["settings"]["partition_size"]
        return crash_naive.buy(url=order["url"], folder=folder, source=run["source"], partition_size=size)
    error, report = None, Report()
    try:
        with eb_dagster.Enricher(
            api_key="canary-key",
            base_url=order["url"],
            ledger=folder / "ledger.db",
            progress=progress,
            requests_per_minute=600_000,
            **order["settings"],
        ) as enricher:
            report = enricher.enrich_parquet(folder / run["source"], folder / run["target"])
    except (eb_dagster.EnrichError, OSError) as raised:
        _tell()
        kinds = (eb_dagster.LedgerError, OSError, eb_dagster.EnrichError)
        error = next(kind.__name__ for kind in kinds if isinstance(raised, kind))
    outcome: dict[str, Any] = {"error": error, "requests": report.requests}
    if order.get("reports"):
        outcome |= _look(order["url"], folder, folder / run["target"])
    return outcome


def _fork_while_buying(order: Order, folder: Path) -> int:
    """Fork in the middle of a purchase; the child leaves through the `with` and the parent goes on."""
    (run,) = order["runs"]
    with eb_dagster.Enricher(
        api_key="canary-key", base_url=order["url"], ledger=folder / "ledger.db", progress=False,
        requests_per_minute=600_000, **order["settings"],
    ) as enricher:  # fmt: skip
        buying = threading.Thread(
            target=enricher.enrich_parquet, args=(folder / run["source"], folder / run["target"])
        )
        buying.start()
        with contextlib.closing(Ledger(folder / "ledger.db", endpoint=_endpoint(order["url"]))) as other:
            while not other.budget.spending().in_flight:
                time.sleep(0.005)
            child = os.fork()
            if not child:
                _leave_as_a_child(enricher, folder)
            os.waitpid(child, 0)
            said = folder / "child.txt"
            told = {
                "child": said.read_text() if said.exists() else "hung",
                "others_took": other.recover(),
            }
        buying.join()
    (folder / "fork.json").write_text(json.dumps(told))
    return 0


def _leave_as_a_child(enricher: eb_dagster.Enricher, folder: Path) -> NoReturn:
    # A child that waits for a lock of its parent's threads waits for ever.
    faulthandler.dump_traceback_later(15, exit=True)
    said = "nothing"
    try:
        with enricher:
            enricher.plan(pd.DataFrame({"email": ["nobody@crash.example"]}))
    except BaseException as error:
        said = type(error).__name__
    (folder / "child.txt").write_text(said)
    gc.collect()
    os._exit(0)


def _endpoint(url: str) -> str:
    return f"{url}/v1/bulk-enrich"


def _tell() -> None:
    """Write what went wrong, by a call that no test lets fail: `write` may be what failed."""
    os.writev(2, [traceback.format_exc().encode()])


def _look(url: str, folder: Path, table: Path) -> dict[str, Any]:
    seen: dict[str, Any] = {"rows": None}
    if table.exists():
        names = ["eb_status", "eb_query", "eb_emails", "eb_social_profiles"]
        seen["rows"] = pq.read_table(table, columns=names).to_pylist()
    with contextlib.closing(Ledger(folder / "ledger.db", endpoint=_endpoint(url))) as ledger:
        spent = ledger.budget.spending()
    seen["credits"], seen["in_doubt"], seen["unreadable"] = spent.credits, spent.in_doubt, spent.unreadable
    seen["files"] = sorted(file.name for file in folder.iterdir())
    return seen


def _wait_at(gate: Path) -> None:
    # Reading from a named pipe ends when the other side has opened and closed it.
    with gate.open("rb") as opened:
        opened.read()


class _StopBeforeSenders:
    """Wait once after the first reply, so that somebody can attach to the senders alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done = False

    def __call__(self, report: Report) -> None:
        if self._done or not report.requests:
            return
        self._done = True
        own_number = threading.get_native_id()
        senders = [
            int(task.name) for task in Path("/proc/self/task").iterdir() if int(task.name) != own_number
        ]
        written = self._folder / "senders.part"
        written.write_text(json.dumps(senders))
        written.rename(self._folder / "senders.json")
        _wait_at(self._folder / "go_on")


class Countdown:
    """Counts the steps of all threads and dies at one of them: before it, or just after."""

    def __init__(self, fatal_step: int) -> None:
        self._fatal_step = fatal_step
        self.taken = 0

    def start(self) -> None:
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def stop(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # pyright: ignore[reportArgumentType]

    def _profile(self, _frame: FrameType, event: str, function: Callable[..., Any]) -> None:
        if event in ("c_call", "c_return") and function.__name__ in STEPS:
            self.taken += 1
            if self.taken == self._fatal_step:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve()
