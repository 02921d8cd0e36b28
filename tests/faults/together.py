"""Several processes on one ledger, signals, and databases that fail under the run.

Each scene starts its processes, does its damage, and then looks with two clean runs whether every
promise held.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd

from tests.databases import PostgreSQL

from . import workers
from .campaign import SLACK, Figures, Phase, Place, Verdict, enrich
from .places import CANARIES, holds_key, listening, names_below, wait_for
from .server import KEY, Pair, name_of

UNTRUSTED = ("LedgerError", "Unavailable")
"""How a run ends that cannot trust its ledger, or cannot reach it."""


def leads(first: int, last: int) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"canary.lead{at}@firm.example" for at in range(first, last)]})


def work(
    frame: pd.DataFrame, settings: dict[str, Any], result: Path, clock: float = 0.0, zone: str = ""
) -> None:
    """What a process does: enrich, and leave what came of it in a file."""
    if zone:
        os.environ["TZ"] = zone
        time.tzset()
    if clock:
        _put_clock(clock)
    with listening() as heard:
        try:
            phase = enrich(frame, settings, heard)
        except KeyboardInterrupt:
            sys.exit(130)
    draft = result.with_suffix(".draft")
    draft.write_bytes(pickle.dumps((phase, heard.texts)))
    draft.rename(result)


def _put_clock(seconds: float) -> None:
    """Make a machine's clock wrong by so much, as far as this process can tell."""
    from eb_dagster.ledger.ledger import Ledger

    real = time.time
    time.time = lambda: real() + seconds
    # The ledger asks the clock that there was when it was imported.
    defaults = Ledger.__init__.__kwdefaults__
    assert defaults is not None
    assert defaults["clock"] is real
    defaults["clock"] = time.time


class Scene:
    """One case for several processes, and what is asked of it afterwards."""

    def __init__(self, name: str, place: Place, **settings: Any) -> None:
        self.name, self.place, self.vendor = name, place, place.vendor
        self.case, self.folder, self.ledger = place.new_case("together")
        self.settings: dict[str, Any] = {
            "api_key": KEY, "base_url": self.vendor.url(self.case), "ledger": self.ledger,
            "partition_size": 20, "requests_per_minute": 6_000, "timeout": 10.0, "progress": False, **settings,
        }  # fmt: skip
        self.complaints: list[str] = []
        self.texts: list[str] = []
        self.results: dict[BaseProcess, Path] = {}
        self.bound = 0

    def start(
        self, frame: pd.DataFrame, *, clock: float = 0.0, zone: str = "", **settings: Any
    ) -> BaseProcess:
        result = self.folder / f"result{len(self.results)}"
        process = workers.start(work, frame, {**self.settings, **settings}, result, clock, zone)
        self.results[process] = result
        return process

    def result(self, process: BaseProcess, *, seconds: float = 180.0) -> Phase:
        """What a process found; an empty phase if it found nothing."""
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
            self.complain(f"a process was still running after {seconds:.0f} s: a deadlock?")
        try:
            phase, texts = pickle.loads(self.results[process].read_bytes())
        except FileNotFoundError:
            return Phase(None, f"exit code {process.exitcode}", {}, 0.0)
        self.texts += texts
        return phase

    def here(self, frame: pd.DataFrame, **settings: Any) -> Phase:
        """A run in this process."""
        mark = self.vendor.mark(self.case)
        with listening() as heard:
            phase = enrich(frame, {**self.settings, **settings}, heard)
        self.texts += heard.texts
        phase.events = self.vendor.events(self.case, since=mark)
        return phase

    def arrived(self) -> int:
        return sum(event["what"] == "arrived" for event in self.vendor.events(self.case))

    def await_requests(self, count: int) -> None:
        wait_for(lambda: self.arrived() >= count)

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def expect(self, is_so: bool, text: str) -> None:
        if not is_so:
            self.complain(text)

    def close(self, frame: pd.DataFrame, *, settled: bool = True, **settings: Any) -> Verdict:
        """Two clean runs over everything; then every promise, one after the other."""
        before = Phase(None, "", {}, 0.0, events=self.vendor.events(self.case))
        self.vendor.script(self.case)
        second, third = (self.here(frame, **settings) for _ in range(2))
        figures = Figures(cases=1, variants={self.name})
        everything = Counter[Pair]()
        for phase in (before, second, third):
            everything += phase.charged()
        figures.charged = everything.total()
        figures.charged_twice = sum(count - 1 for count in everything.values())
        self.expect(not figures.charged_twice, f"{figures.charged_twice} were charged twice")
        self.expect(not second.ended, f"the clean run ended with {second.ended}")
        statuses, charged = second.statuses(), before.charged()
        if second.frame is not None and settled:
            known = ("matched", "in_doubt", "unreadable")
            figures.lost = sum(statuses.get(one) not in known for one in charged)
            figures.forgotten = len(set(charged) & second.asked())
            self.expect(not figures.lost, f"{figures.lost} that were charged have no answer")
            self.expect(not figures.forgotten, f"{figures.forgotten} that were charged were asked again")
            self._look_at_rows(second)
        doubtful = [one for one, status in statuses.items() if status == "in_doubt"]
        figures.in_doubt = len(doubtful)
        figures.in_doubt_free = sum(one not in charged for one in doubtful)
        figures.largest_doubt = len(doubtful) / self.bound if self.bound else 0.0
        self.expect(
            len(doubtful) <= self.bound, f"{len(doubtful)} in doubt, {self.bound} at most were expected"
        )
        figures.rerun_requests = third.requests()
        self.expect(not third.requests(), f"a third run sent {third.requests()} requests")
        said = [hit for text in self.texts for hit in CANARIES.findall(text)]
        figures.leaks = len(said) + bool(CANARIES.search(names_below(self.folder))) + holds_key(self.folder)
        self.expect(not figures.leaks, "the key or a person was said")
        figures.broken = bool(self.complaints)
        return Verdict(f"{self.name}, {self.place.database}", self.complaints, figures)

    def _look_at_rows(self, phase: Phase) -> None:
        assert phase.frame is not None
        matched = phase.frame[phase.frame["eb_status"] == "matched"]
        own = [name_of("email", query) for query in matched["eb_query"]]
        self.expect(matched["eb_full_name"].tolist() == own, "rows hold other persons")


# Several processes


def overlapping(place: Place, *, processes: int = 4, people: int = 400, killed: int = 0) -> Verdict:
    """Processes whose people overlap; some are killed in mid-run."""
    scene = Scene(f"97 {processes} processes on overlapping input, {killed} killed", place)
    scene.vendor.script(scene.case, work=(0.02, 0.15))
    step = people // (processes + 1)
    parts = [leads(at * step, at * step + 2 * step) for at in range(processes)]
    running = [scene.start(part) for part in parts]
    for at in range(killed):
        scene.await_requests(3 + 3 * at)
        running[2 * at].kill()
    # A killed process had some requests in flight; how many, the vendor knows.
    scene.bound = killed * people
    phases = [scene.result(process) for process in running]
    for at, phase in enumerate(phases):
        if at % 2 or at >= 2 * killed:
            scene.expect(not phase.ended, f"process {at} ended with {phase.ended}")
            if phase.frame is not None:
                scene._look_at_rows(phase)
                if not killed:
                    odd = set(phase.frame["eb_status"]) - {"matched", "not_found"}
                    scene.expect(not odd, f"process {at} has rows that are {sorted(odd)}")
    return scene.close(leads(0, people))


def waiting(place: Place) -> Verdict:
    """The second process waits for the first one's answer, and uses it."""
    scene = Scene("75 the second process waits for the first one's answer", place)
    scene.vendor.script(scene.case, work=(1.0, 1.0))
    first = scene.start(leads(0, 60))
    scene.await_requests(3)
    second = scene.start(leads(0, 60))
    one, two = scene.result(first), scene.result(second)
    scene.expect(scene.arrived() == 3, f"{scene.arrived()} requests, 3 were enough")
    if one.frame is not None and two.frame is not None:
        same = one.frame["eb_full_name"].equals(two.frame["eb_full_name"])
        scene.expect(same, "the two did not get the same answers")
        scene.expect(two.report["requests"] == 0, "the second one asked")
    else:
        scene.complain(f"ended with {one.ended!r} and {two.ended!r}")
    return scene.close(leads(0, 60))


def stopped_owner(place: Place) -> Verdict:
    """A process that is stopped for a while still owns its claims, and goes on."""
    scene = Scene("73, 92 stopped in mid-run, then continued", place, timeout=20.0)
    scene.vendor.script(scene.case, work=(0.3, 0.3))
    first = scene.start(leads(0, 100), max_credits_at_risk=40)
    scene.await_requests(2)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)
    second = scene.start(leads(0, 100))
    time.sleep(2.0)
    os.kill(first.pid, signal.SIGCONT)
    one, two = scene.result(first), scene.result(second)
    scene.expect(not one.ended and not two.ended, f"ended with {one.ended!r} and {two.ended!r}")
    return scene.close(leads(0, 100))


def late_reply(place: Place) -> Verdict:
    """A claim is taken over while its process lives; the reply that it still gets is stored and used."""
    scene = Scene("98 claim taken over, then a late reply", place, timeout=30.0)
    gate = scene.folder / "gate"
    scene.vendor.script(scene.case, gate=str(gate))
    first = scene.start(leads(0, 20))
    scene.await_requests(1)
    # The lock dies though its process lives: its session ends, or somebody clears up its file.
    if place.postgresql is not None:
        place.postgresql.kill_sessions(scene.case)
    else:
        for one in Path(f"{scene.ledger}-owners").iterdir():
            one.unlink()
    two = scene.result(scene.start(leads(0, 20)))
    gate.touch()
    one = scene.result(first)
    scene.expect(not one.ended and not two.ended, f"ended with {one.ended!r} and {two.ended!r}")
    told = Counter(two.statuses().values())
    scene.expect(told == {"in_doubt": 20}, f"after it was taken over, the claim is {dict(told)}")
    late = set(one.statuses().values())
    scene.expect(late == {"matched", "not_found"}, f"the late reply made it {sorted(late)}")
    scene.expect(scene.arrived() == 1, f"{scene.arrived()} requests, 1 was enough")
    # Nothing is in doubt any more: `bound` is 0.
    return scene.close(leads(0, 20))


def caps(place: Place, *, processes: int = 3, daily: bool = True) -> Verdict:
    """A cap for each of several runs, and one for all of them in a day."""
    scene = Scene("caps with many senders and processes", place, max_credits=23, partition_size=7)
    scene.vendor.script(scene.case, work=(0.0, 0.05), hit=0.6)
    running = [scene.start(leads(at * 100, at * 100 + 100)) for at in range(processes)]
    for at, process in enumerate(running):
        phase = scene.result(process)
        spent = phase.report.get("credits_charged")
        scene.expect(spent == 23, f"run {at} spent {spent} of 23 credits ({phase.ended})")
    total = Phase(None, "", {}, 0.0, events=scene.vendor.events(scene.case)).charged().total()
    scene.expect(total == 23 * processes, f"the vendor charged {total}, {processes} runs of 23 were allowed")
    if not daily:
        return scene.close(leads(0, 300), max_credits=0)
    limits = {"max_credits": None, "max_credits_per_day": 100}
    running = [scene.start(leads(300 + at * 100, 400 + at * 100), **limits) for at in range(3)]
    for process in running:
        scene.result(process)
    total = Phase(None, "", {}, 0.0, events=scene.vendor.events(scene.case)).charged().total()
    scene.expect(total == 100, f"the vendor charged {total} on a day for which 100 were allowed")
    return scene.close(leads(0, 600), max_credits=0)


def out_of_memory(place: Place, *, megabytes: int) -> Verdict:
    """A process that has only so much memory left gets a reply that is larger."""
    scene = Scene(f"72 out of memory with {megabytes} MB left", place, max_credits_at_risk=40)
    big = {"kind": "big", "args": {"megabytes": 50}, "since": 2}
    scene.vendor.script(scene.case, faults=[big])
    scene.bound = 40
    result = scene.folder / "result"
    process = workers.start(_short_of_memory, leads(0, 100), scene.settings, result, megabytes)
    scene.results[process] = result
    scene.result(process)
    scene.expect(scene.arrived() >= 2, f"it ended after {scene.arrived()} requests already")
    return scene.close(leads(0, 100), max_credits_at_risk=20_000)


def _short_of_memory(frame: pd.DataFrame, settings: dict[str, Any], result: Path, megabytes: int) -> None:
    import resource

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = held + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # However it ends: what cannot be allocated may be missing anywhere.
    work(frame, settings, result)


# Signals


def told_to_stop(place: Place, number: signal.Signals) -> Verdict:
    """One signal: nothing more is sent, what is in flight is received and stored."""
    scene = Scene(f"71 {number.name} in mid-run", place, max_credits_at_risk=40)
    scene.vendor.script(scene.case, work=(0.8, 0.8))
    process = scene.start(leads(0, 200))
    scene.await_requests(2)
    time.sleep(0.1)
    assert process.pid is not None
    os.kill(process.pid, number)
    told = time.time()
    phase = scene.result(process)
    events = scene.vendor.events(scene.case)
    late = [one for one in events if one["what"] == "arrived" and one["at"] > told + 0.3]
    scene.expect(not late, f"{len(late)} requests left after the signal")
    codes = (130, -2, 1) if number == signal.SIGINT else (143, -15)
    scene.expect(process.exitcode in codes, f"{phase.ended or 'a frame'} after the signal")
    # Nothing is in doubt: `bound` is 0.
    return scene.close(leads(0, 200))


def told_twice(place: Place) -> Verdict:
    """The second Ctrl-C stops at once; what it cuts off is in doubt."""
    scene = Scene("71 two SIGINT in mid-run", place, max_credits_at_risk=40, timeout=30.0)
    scene.vendor.script(scene.case, work=(8.0, 8.0))
    scene.bound = 40
    process = scene.start(leads(0, 200))
    scene.await_requests(2)
    time.sleep(0.2)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.5)
    scene.expect(process.is_alive(), "the first signal did not wait for what is in flight")
    os.kill(process.pid, signal.SIGINT)
    told = time.monotonic()
    phase = scene.result(process)
    scene.expect(time.monotonic() - told < 1.0 + SLACK, "the second signal did not stop it at once")
    scene.expect(process.exitcode in (130, -2, 1), f"{phase.ended or 'a frame'} after the second signal")
    return scene.close(leads(0, 200), max_credits_at_risk=20_000)


# PostgreSQL


def sessions_killed(place: Place) -> Verdict:
    """The server ends the run's sessions, again and again."""
    assert place.postgresql is not None
    scene = Scene("94 backend killed in mid-run", place, max_credits_at_risk=80)
    scene.vendor.script(scene.case, work=(0.05, 0.1))
    scene.bound = 80
    process = scene.start(leads(0, 400))
    scene.await_requests(2)
    for _ in range(10):
        place.postgresql.kill_sessions(scene.case)
        time.sleep(0.1)
    phase = scene.result(process)
    scene.expect(phase.ended in ("", *UNTRUSTED), f"ended with {phase.ended}")
    return scene.close(leads(0, 400))


def server_down(place: Place, *, seconds: float = 60.0) -> Verdict:
    """The database server crashes with replies in flight, and comes back."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        own = PostgreSQL(Path(folder) / "data")
        try:
            return _server_down(replace(place, postgresql=own), own, seconds=seconds)
        finally:
            own.stop()


def _server_down(place: Place, postgresql: PostgreSQL, *, seconds: float) -> Verdict:
    scene = Scene("95 down with replies in flight", place, max_credits_at_risk=80)
    scene.vendor.script(scene.case, work=(0.6, 0.6))
    scene.bound = 80
    process = scene.start(leads(0, 200))
    scene.await_requests(3)
    postgresql.down()
    time.sleep(seconds)
    postgresql.up()
    phase = scene.result(process)
    scene.expect(phase.ended in ("", *UNTRUSTED), f"ended with {phase.ended}")
    return scene.close(leads(0, 200))


def promises_nothing(place: Place) -> Verdict:
    """A server that may forget what it committed is refused."""
    assert place.postgresql is not None
    scene = Scene("100 synchronous_commit=off", place)
    place.postgresql.run(f'ALTER DATABASE "{scene.case}" SET synchronous_commit = off')
    phase = scene.here(leads(0, 40))
    scene.expect(phase.ended in UNTRUSTED, f"ended with {phase.ended or 'a frame'}")
    scene.expect(not scene.arrived(), "something was sent")
    place.postgresql.run(f'ALTER DATABASE "{scene.case}" RESET synchronous_commit')
    return scene.close(leads(0, 40))


def no_connection_left(place: Place) -> Verdict:
    """The server has no connection left for us."""
    assert place.postgresql is not None
    scene = Scene("99 pool exhausted", place)
    role = f"few_{scene.case}"
    place.postgresql.run(
        f'CREATE ROLE "{role}" LOGIN CONNECTION LIMIT 0', f'GRANT ALL ON DATABASE "{scene.case}" TO "{role}"'
    )
    poor = str(scene.ledger).replace("postgres:@", f"{role}:@")
    phase = scene.here(leads(0, 40), ledger=poor)
    scene.expect(phase.ended in UNTRUSTED, f"ended with {phase.ended or 'a frame'}")
    scene.expect(not scene.arrived(), "something was sent")
    return scene.close(leads(0, 40))


# A ledger that is not the one that paid


def _publish(scene: Scene, **settings: Any) -> Callable[..., str]:
    """Enrich into a table; gives a function that does it once more and says how it ended."""
    from eb_dagster import Enricher, EnrichError

    source, target = scene.folder / "leads.parquet", scene.folder / "enriched.parquet"
    leads(0, 60).to_parquet(source, index=False)

    def publish(**changes: Any) -> str:
        with listening() as heard:
            try:
                with Enricher(**{**scene.settings, **settings, **changes}) as enricher:
                    enricher.enrich_parquet(source, target)
            except EnrichError as error:
                heard.hear_error(error)
                return type(error).__name__
            finally:
                scene.texts += heard.texts
        return ""

    scene.expect(publish() == "", "the first publication failed")
    return publish


def another_ledger(place: Place, how: str) -> Verdict:
    """Beside a published table, the ledger is gone, empty, or an older copy."""
    scene = Scene(f"84, 96 ledger {how} beside a published table", place)
    if place.postgresql is not None:
        return _another_database(scene, place.postgresql, how)
    ledger = Path(scene.ledger)
    kept = scene.folder / "kept.db"
    scene.here(leads(0, 20))
    for one in scene.folder.glob("ledger.db*"):
        if one.is_file():
            shutil.copy(one, scene.folder / one.name.replace("ledger", "older"))
    publish = _publish(scene)
    asked = scene.arrived()
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(ledger, kept)
    for one in scene.folder.glob("ledger.db*"):
        if one.is_file():
            one.unlink()
    if how == "emptied":
        ledger.touch(mode=0o600)
    elif how == "an older copy":
        for one in scene.folder.glob("older.db*"):
            shutil.move(one, scene.folder / one.name.replace("older", "ledger"))
        ledger.chmod(0o600)
    ended = publish()
    scene.expect(ended in UNTRUSTED, f"ended with {ended or 'a table'}")
    scene.expect(scene.arrived() == asked, "something was bought again")
    for one in scene.folder.glob("ledger.db*"):
        if one.is_file():
            one.unlink()
    shutil.move(kept, ledger)
    ledger.chmod(0o600)
    return scene.close(leads(0, 60))


def _another_database(scene: Scene, postgresql: PostgreSQL, how: str) -> Verdict:
    scene.here(leads(0, 20))
    other = f"{scene.case}_other"
    template = f'TEMPLATE "{scene.case}"' if how == "an older copy" else ""
    postgresql.kill_sessions(scene.case)
    postgresql.run(f'CREATE DATABASE "{other}" {template}')
    publish = _publish(scene)
    asked = scene.arrived()
    ended = publish(ledger=postgresql.url(other))
    scene.expect(ended in UNTRUSTED, f"ended with {ended or 'a table'}")
    scene.expect(scene.arrived() == asked, "something was bought again")
    return scene.close(leads(0, 60))


# SQLite


def refused_file(place: Place, how: str) -> Verdict:
    """A file that is no ledger to be trusted: nothing is sent."""
    scene = Scene(f"82, 86, 87 {how}", place)
    ledger = Path(scene.ledger)
    scene.here(leads(0, 20))
    asked = scene.arrived()
    undo = SPOILED[how](ledger)
    phase = scene.here(leads(0, 60))
    scene.expect(phase.ended in UNTRUSTED, f"ended with {phase.ended or 'a frame'}")
    scene.expect(scene.arrived() == asked, "something was sent")
    undo()
    return scene.close(leads(0, 60))


def _open_to_all(ledger: Path) -> Callable[[], None]:
    ledger.chmod(0o644)
    return lambda: ledger.chmod(0o600)


def _newer(ledger: Path) -> Callable[[], None]:
    def say(change: str) -> None:
        with closing(sqlite3.connect(ledger)) as connection:
            was = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()[0]
            now = str(eval(f"{int(was)} {change}")).encode()
            connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (now,))
            connection.commit()

    say("+ 90")
    return lambda: say("- 90")


def _swapped(put: Callable[[Path], None]) -> Callable[[Path], Callable[[], None]]:
    """Put something else in the ledger's place."""

    def spoil(ledger: Path) -> Callable[[], None]:
        with closing(sqlite3.connect(ledger)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for one in (ledger.with_name("ledger.db-wal"), ledger.with_name("ledger.db-shm")):
            one.unlink(missing_ok=True)
        kept = ledger.with_name("kept")
        ledger.rename(kept)
        put(ledger)

        def undo() -> None:
            if ledger.is_dir() and not ledger.is_symlink():
                ledger.rmdir()
            else:
                ledger.unlink(missing_ok=True)
            for one in (ledger.with_name("ledger.db-wal"), ledger.with_name("ledger.db-shm")):
                one.unlink(missing_ok=True)
            kept.rename(ledger)

        return undo

    return spoil


def _write_private(ledger: Path, data: bytes) -> None:
    ledger.write_bytes(data)
    ledger.chmod(0o600)


SPOILED: dict[str, Callable[[Path], Callable[[], None]]] = {
    "open permissions": _open_to_all,
    "a newer schema": _newer,
    "a file that is no database": _swapped(
        lambda ledger: _write_private(ledger, b"canary no database" * 900)
    ),
    "a folder": _swapped(lambda ledger: ledger.mkdir()),
}


def symlinked(place: Place) -> Verdict:
    """Two names of one ledger, by a symbolic link: refused, or one ledger."""
    scene = Scene("87 a symlinked ledger", place)
    scene.vendor.script(scene.case, work=(0.1, 0.3))
    scene.here(leads(0, 20))
    link = scene.folder / "elsewhere" / "link.db"
    link.parent.mkdir(mode=0o700)
    link.symlink_to(scene.ledger)
    running = [scene.start(leads(0, 100)), scene.start(leads(0, 100), ledger=str(link))]
    for process in running:
        phase = scene.result(process)
        scene.expect(phase.ended in ("", *UNTRUSTED), f"ended with {phase.ended}")
    return scene.close(leads(0, 100))


def locked(place: Place, *, seconds: float = 60.0) -> Verdict:
    """Somebody else holds the write lock for a while."""
    scene = Scene("83 locked by another process", place)
    scene.vendor.script(scene.case, work=(0.1, 0.1))
    scene.here(leads(0, 20))
    with closing(sqlite3.connect(scene.ledger, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        process = scene.start(leads(0, 100))
        time.sleep(seconds)
        connection.execute("ROLLBACK")
    phase = scene.result(process)
    scene.expect(not phase.ended, f"ended with {phase.ended}")
    return scene.close(leads(0, 100))


def _as_nobody(frame: pd.DataFrame, settings: dict[str, Any], result: Path) -> None:
    # What is imported at first use could not be read any more.
    import encodings.idna
    import encodings.unicode_escape  # noqa: F401

    os.setgid(65534)
    os.setuid(65534)
    with listening() as heard:
        phase = enrich(frame, settings, heard)
    result.write_bytes(pickle.dumps((phase, heard.texts)))


def read_only(place: Place, *, what: str) -> Verdict:
    """The file, or its folder, can only be read."""
    scene = Scene(f"82 read-only {what}", place)
    if os.geteuid() != 0:
        return Verdict(f"{scene.name}: skipped, needs root to become somebody else", [], Figures())
    # Somebody who is not root has to get there, so not below a private folder.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        ledger, out = folder / "ledger.db", folder / "out"
        out.mkdir(mode=0o777)
        out.chmod(0o777)
        scene.here(leads(0, 20), ledger=str(ledger))
        scene.settings["ledger"] = str(ledger)
        if what == "file":
            for one in [ledger, *folder.glob("ledger.db-*")]:
                shutil.chown(one, 65534, 65534)
            ledger.chmod(0o400)
        else:
            for one in folder.glob("ledger.db*"):
                shutil.chown(one, 65534, 65534)
            folder.chmod(0o555)
        asked = scene.arrived()
        result = out / "result"
        process = workers.start(_as_nobody, leads(0, 60), scene.settings, result)
        scene.results[process] = result
        phase = scene.result(process)
        folder.chmod(0o777)
        ledger.chmod(0o600)
        scene.expect(phase.ended in UNTRUSTED, f"ended with {phase.ended or 'a frame'}")
        scene.expect(scene.arrived() == asked, "something was sent")
        for one in folder.glob("ledger.db*"):
            shutil.chown(one, 0, 0)
        return scene.close(leads(0, 60))


# Clocks


def wrong_clock(place: Place, *, years: float) -> Verdict:
    """A process whose clock is years off buys nothing again."""
    from datetime import timedelta

    scene = Scene(f"91 clock {years:+g} years", place)
    scene.here(leads(0, 60))
    asked = scene.arrived()
    for age in (None, timedelta(days=90)):
        process = scene.start(leads(0, 60), clock=years * 365.25 * 86_400, max_age=age)
        phase = scene.result(process)
        scene.expect(phase.ended in ("", *UNTRUSTED), f"max_age={age}: ended with {phase.ended}")
    scene.expect(scene.arrived() == asked, "a wrong clock bought")
    return scene.close(leads(0, 60))


def daylight_saving(place: Place, *, ends: bool) -> Verdict:
    """Clocks are put forward or back between two runs: half an hour later is half an hour later."""
    from datetime import UTC, datetime, timedelta

    name = "ends" if ends else "begins"
    scene = Scene(f"91 daylight saving {name}", place)
    # In New York, at 2 o'clock in the night.
    change = datetime(2026, 11, 1, 6, tzinfo=UTC) if ends else datetime(2026, 3, 8, 7, tzinfo=UTC)
    half_an_hour, zone = 1_800.0, "America/New_York"
    clock = change.timestamp() - half_an_hour / 2 - time.time()
    ages = {
        "max_age": timedelta(minutes=45),
        "retry_misses_after": timedelta(minutes=45),
        "accept_clock": True,
    }
    phases = [
        scene.result(scene.start(leads(0, 60), clock=clock + late, zone=zone, **ages))
        for late in (0.0, half_an_hour)
    ]
    for phase in phases:
        scene.expect(not phase.ended, f"ended with {phase.ended}")
    scene.expect(scene.arrived() == 3, f"{scene.arrived()} requests, 3 were enough")
    return scene.close(leads(0, 60))


def edge_of_age(place: Place) -> Verdict:
    """When three processes find everybody too old at once, each person is bought again once."""
    from datetime import timedelta

    scene = Scene("93 the edge of max_age", place)
    scene.here(leads(0, 60))
    charged = Phase(None, "", {}, 0.0, events=scene.vendor.events(scene.case)).charged().total()
    age = timedelta(minutes=1)
    running = [scene.start(leads(0, 60), max_age=age, clock=age.total_seconds()) for _ in range(3)]
    for process in running:
        scene.result(process)
    counts = Phase(None, "", {}, 0.0, events=scene.vendor.events(scene.case)).charged()
    times = set(counts.values())
    scene.expect(times == {2}, f"bought {sorted(times)} times; once, and once more when old, were right")
    verdict = Verdict(
        f"{scene.name}, {place.database}", scene.complaints, Figures(cases=1, variants={scene.name})
    )
    verdict.figures.charged = charged
    return verdict


# What there is

Play = Callable[[Place], Verdict]

ON_BOTH: dict[str, Play] = {
    "97 overlapping input": lambda place: overlapping(place),
    "97 overlapping input, two killed": lambda place: overlapping(place, processes=5, people=480, killed=2),
    "75 the second waits": waiting,
    "73, 92 stopped, then continued": stopped_owner,
    "98 claim taken over, late reply": late_reply,
    **{
        f"72 out of memory, {size} MB left": (lambda place, size=size: out_of_memory(place, megabytes=size))
        for size in (150, 250)
    },
    "caps": caps,
    "71 SIGTERM": lambda place: told_to_stop(place, signal.SIGTERM),
    "71 SIGINT": lambda place: told_to_stop(place, signal.SIGINT),
    "71 SIGINT twice": told_twice,
    "84 deleted": lambda place: another_ledger(place, "deleted"),
    "84, 96 an older copy": lambda place: another_ledger(place, "an older copy"),
    "91 ten years on": lambda place: wrong_clock(place, years=10),
    "91 a year back": lambda place: wrong_clock(place, years=-1),
    "91 daylight saving begins": lambda place: daylight_saving(place, ends=False),
    "91 daylight saving ends": lambda place: daylight_saving(place, ends=True),
    "93 the edge of max_age": edge_of_age,
}
ON_POSTGRESQL: dict[str, Play] = {
    "94 backend killed": sessions_killed,
    "95 down with replies in flight": server_down,
    "99 pool exhausted": no_connection_left,
    "100 synchronous_commit=off": promises_nothing,
}
ON_SQLITE: dict[str, Play] = {
    "82 read-only file": lambda place: read_only(place, what="file"),
    "82 read-only folder": lambda place: read_only(place, what="folder"),
    "83 locked": locked,
    "84 emptied": lambda place: another_ledger(place, "emptied"),
    "87 symlinked": symlinked,
    **{f"82, 86, 87 {how}": (lambda place, how=how: refused_file(place, how)) for how in SPOILED},
}
