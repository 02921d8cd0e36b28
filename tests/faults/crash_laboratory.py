"""What is needed to let processes die: a stand-in that counts, a source of victims, and `strace`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eb_dagster import sandbox

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
PATIENCE = 60.0
LASTING_PATIENCE = 3.0

# The statuses that account for a charge.
KEPT = ("matched", "in_doubt", "unreadable")


@dataclass(frozen=True)
class Scene:
    """What a victim does when it dies."""

    name: str
    runs: tuple[tuple[str, str], ...]
    partition_size: int
    max_credits_at_risk: int
    leads: int = 16
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    def order(self) -> dict[str, Any]:
        limits = {"partition_size": self.partition_size, "max_credits_at_risk": self.max_credits_at_risk}
        return {
            "runs": [{"source": source, "target": target} for source, target in self.runs],
            "settings": {**limits, **self.settings},
        }


ONE_AT_A_TIME = Scene("one at a time", (("all.parquet", "table.parquet"),), 4, 4)
SEVERAL_AT_ONCE = Scene(
    "several at once, on a used ledger",
    (("first.parquet", "table.parquet"), ("all.parquet", "table.parquet")),
    3,
    9,
)
# What follows a death: finish, and run once more. What is in doubt must not stop these runs.
FINISH = Scene("finish", (("all.parquet", "table.parquet"), ("all.parquet", "table.parquet")), 4, 1000)


class Victims:
    """A process that has imported everything and forks a victim for each order."""

    def __init__(self, *, errors: Path) -> None:
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.crash_victim"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **quiet, "PYTHONPATH": path},
                cwd=ROOT,
            )
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._started: dict[int, queue.SimpleQueue[int]] = defaultdict(queue.SimpleQueue)
        self._ended: dict[int, queue.SimpleQueue[int]] = defaultdict(queue.SimpleQueue)
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE):
            self.close()
            raise RuntimeError(f"no victims can be made; see {errors}")

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            said = json.loads(line)
            if "ready" in said:
                self._ready.set()
            elif "order" in said:
                self._started[said["order"]].put(said["pid"])
            else:
                self._ended[said["pid"]].put(said["ended"])

    def start(self, order: dict[str, Any]) -> Victim:
        number = next(self._numbers)
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock:
            stdin.write(json.dumps({**order, "number": number}).encode() + b"\n")
            stdin.flush()
        pid = self._started[number].get(timeout=PATIENCE)
        return Victim(pid, self._ended[pid])

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and stream is self._process.stdin:
                stream.close()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()


@dataclass
class Victim:
    """A forked process, and how it ended: an exit code, or a signal's number below 0."""

    pid: int
    _ends: queue.SimpleQueue[int]
    status: int | None = None

    def wait(self, timeout: float = PATIENCE) -> int:
        if self.status is None:
            try:
                self.status = self._ends.get(timeout=timeout)
            except queue.Empty:
                raise TimeoutError(f"a victim still lives after {timeout:.0f} s") from None
        return self.status

    def has_ended(self) -> bool:
        with contextlib.suppress(queue.Empty):
            self.status = self._ends.get_nowait() if self.status is None else self.status
        return self.status is not None

    def kill(self) -> None:
        # The process was not waited for yet, so its number is not used again.
        if not self.has_ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()


@dataclass(frozen=True)
class Death:
    """What happens to a victim, at the n-th call of one name by any one thread, or at its n-th step."""

    name: str
    nth: int
    senders_only: bool = False
    scene: Scene = ONE_AT_A_TIME
    result: str = "signal=KILL"
    lasts: bool = False

    def __str__(self) -> str:
        thread = "a sender" if self.senders_only else "any thread"
        and_on = " and all after it" if self.lasts else ""
        return f"{self.scene.name}: {self.name} number {self.nth}{and_on} of {thread} ({self.result})"


@dataclass
class Aftermath:
    """What was found after a victim's death and after the two runs that followed."""

    death: object
    folder: Path
    died: bool
    status: int = 0
    charged: Counter[str] = field(default_factory=Counter[str])
    kept: set[str] = field(default_factory=set[str])
    in_doubt: int = 0
    faults: list[str] = field(default_factory=list[str])

    @property
    def charged_twice(self) -> int:
        return sum(count > 1 for count in self.charged.values())

    @property
    def forgotten(self) -> int:
        return len(set(self.charged) - self.kept)

    @property
    def broken_promises(self) -> list[str]:
        """The two things that must never happen."""
        counts = {"charged twice": self.charged_twice, "charged and forgotten": self.forgotten}
        return [f"{count} {what}" for what, count in counts.items() if count]


class Laboratory:
    """Makes cases, each with a ledger and people of its own. One stand-in counts for all."""

    def __init__(self, folder: Path, api: sandbox.Sandbox, victims: Victims, *, naive: bool = False) -> None:
        self.folder, self.api, self.victims = folder, api, victims
        self._naive = naive
        self._cases = itertools.count()

    @staticmethod
    @contextlib.contextmanager
    def opened(*, latency: float = 0.0, naive: bool = False) -> Generator[Laboratory]:
        """Start all that is needed. The naive client takes the package's place if asked for."""
        folder = Path(tempfile.mkdtemp(prefix="eb-crashes-"))
        try:
            running = sandbox.running(
                bill=folder / "bill.db", requests_per_minute=10**8, match_rate=0.7, latency=latency
            )
            with running as api, contextlib.closing(Victims(errors=folder / "victims.txt")) as victims:
                yield Laboratory(folder, api, victims, naive=naive)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def new_case(self, scene: Scene) -> Path:
        """A folder with the input of a scene; its people are nobody else's."""
        name = f"case{next(self._cases):06d}"
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        people = [
            {
                "social_profile": f"linkedin.com/in/lead-{number}-{name}",
                "email": f"lead-{number}@{name}.example",
            }
            for number in range(scene.leads)
        ]
        # One person is asked for twice, and one row can never be asked.
        people += [people[0], {"social_profile": None, "email": "no address"}]
        table = pa.Table.from_pylist(people)
        pq.write_table(table, folder / "all.parquet")
        pq.write_table(table.slice(0, scene.leads // 2), folder / "first.parquet")
        for gate in ("start", "go_on"):
            os.mkfifo(folder / gate, 0o600)
        return folder

    def order(self, folder: Path, scene: Scene, **more: Any) -> dict[str, Any]:
        return {**scene.order(), "folder": str(folder), "url": self.api.url, "naive": self._naive, **more}

    def charged(self, folder: Path) -> Counter[str]:
        """How often each of a case's people was charged, from the stand-in's own bill."""
        query = "SELECT value FROM charges WHERE instr(value, ?)"
        with contextlib.closing(sqlite3.connect(self.api.bill)) as connection:
            return Counter(value for (value,) in connection.execute(query, (folder.name,)))

    # Before death

    def trace(self, scene: Scene, *, senders_only: bool = False) -> dict[int, Counter[str]]:
        """How often each thread of a clean run makes each call."""
        folder = self.new_case(scene)
        log = folder / "trace.txt"
        victim = self.victims.start(
            self.order(folder, scene, waits=True, shows_senders=senders_only)
        )  # fmt: skip
        options = ["-e", "trace=%file,%desc,%network", "-o", str(log)]
        with self._attached(folder, victim, options, senders_only=senders_only):
            if victim.wait() != 0:
                raise AssertionError(f"a clean run failed: {(folder / 'errors.txt').read_text()}")
        counts: dict[int, Counter[str]] = defaultdict(Counter)
        for line in log.read_text(errors="replace").splitlines():
            if match := re.match(r"(\d+) +(\w+)\(", line):
                counts[int(match[1])][match[2]] += 1
        shutil.rmtree(folder)
        return counts

    def run_traced(self, folder: Path, scene: Scene, options: Sequence[str]) -> int:
        """A run from its very start under `strace`; its exit code."""
        victim = self.victims.start(self.order(folder, scene, waits=True))
        with self._attached(folder, victim, options, senders_only=False):
            return victim.wait()

    def count_steps(self, scene: Scene) -> int:
        folder = self.new_case(scene)
        victim = self.victims.start(self.order(folder, scene, dies_at_step=-1))
        assert victim.wait() == 0, (folder / "errors.txt").read_text()
        return int(json.loads((folder / "steps.json").read_text()))

    # Death

    def die(self, death: Death) -> tuple[Path, Victim]:
        """Let a victim run into its death."""
        folder = self.new_case(death.scene)
        if death.name == "step":
            victim = self.victims.start(self.order(folder, death.scene, dies_at_step=death.nth))
            victim.wait()
            return folder, victim
        victim = self.victims.start(
            self.order(folder, death.scene, waits=True, shows_senders=death.senders_only)
        )
        inject = f"inject={death.name}:{death.result}:when={death.nth}{'+' if death.lasts else ''}"
        options = ["-e", f"trace={death.name}", "-e", inject, "-o", os.devnull]
        with self._attached(folder, victim, options, senders_only=death.senders_only):
            try:
                victim.wait(LASTING_PATIENCE if death.lasts else PATIENCE)
            except TimeoutError:
                # It may wait for a full disk to become free, which this one never does.
                victim.kill()
        return folder, victim

    @contextlib.contextmanager
    def _attached(
        self, folder: Path, victim: Victim, options: Sequence[str], *, senders_only: bool
    ) -> Generator[None]:
        """Trace a victim from its start, or only its senders from the first reply on."""
        try:
            if not senders_only:
                with attached([*options, "-f"], [victim.pid]):
                    open_gate(folder / "start", victim)
                    yield
                return
            open_gate(folder / "start", victim)
            senders = wait_for_senders(folder, victim)
            with attached(options, senders):
                open_gate(folder / "go_on", victim)
                yield
        finally:
            victim.kill()

    # After death

    def examine(self, folder: Path, scene: Scene, death: object, victim: Victim) -> Aftermath:
        """Let the next process finish and run once more, and compare both with the bill."""
        after = Aftermath(death, folder, died=victim.status == KILLED, status=victim.status or 0)
        self._check_table(folder, scene, after)
        finish = self.victims.start(self.order(folder, FINISH, reports=True))
        if finish.wait() != 0:
            after.faults.append(f"the next run failed: {last_line(folder / 'errors.txt')}")
            return after
        finished, again = json.loads((folder / "outcome.json").read_text())
        if again["requests"]:
            after.faults.append(f"a further run sent {again['requests']} requests")
        if again["rows"] != finished["rows"]:
            after.faults.append("a further run told another story")
        after.in_doubt = again["in_doubt"]
        after.charged = self.charged(folder)
        self._check_rows(again, after)
        if left := [name for name in again["files"] if name.endswith(".tmp")]:
            after.faults.append(f"left behind: {len(left)} temporary files")
        return after

    def _check_table(self, folder: Path, scene: Scene, after: Aftermath) -> None:
        target = folder / "table.parquet"
        if not target.exists():
            return
        rows = {pq.read_metadata(folder / source).num_rows for source, _ in scene.runs}
        try:
            found = pq.read_table(target).num_rows
        except (OSError, pa.ArrowException):
            after.faults.append("a table that is neither whole nor absent")
            return
        if found not in rows:
            after.faults.append(f"a table of {found} rows")

    def _check_rows(self, told: dict[str, Any], after: Aftermath) -> None:
        rows: list[dict[str, Any]] = told["rows"]
        after.kept = {row["eb_query"] for row in rows if row["eb_status"] in KEPT}
        matched = {row["eb_query"] for row in rows if row["eb_status"] == "matched"}
        if told["credits"] != len(matched):
            after.faults.append(f"{told['credits']} credits in the ledger for {len(matched)} contacts")
        if matched - set(after.charged):
            after.faults.append("a contact that nobody was charged for")
        statuses = Counter(row["eb_status"] for row in rows)
        if statuses["not_asked"] or statuses["suppressed"] or statuses["invalid"] != 1:
            after.faults.append(f"statuses {dict(statuses)}")
        for row in rows:
            if row["eb_status"] == "matched" and not _is_right_person(row):
                after.faults.append("another person's contact on a row")


def _is_right_person(row: dict[str, Any]) -> bool:
    profiles = [profile["url"] for profile in row["eb_social_profiles"] or []]
    return row["eb_query"] in [*(row["eb_emails"] or []), *profiles]


def last_line(path: Path) -> str:
    lines = path.read_text().strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "nothing was said"


def open_gate(gate: Path, victim: Victim) -> None:
    """Let a victim that waits at its gate go on."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not victim.has_ended():
        # Opening fails until the victim reads.
        with contextlib.suppress(OSError):
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
            return
        time.sleep(0.001)


def wait_for_senders(folder: Path, victim: Victim) -> list[int]:
    written = folder / "senders.json"
    wait_until(lambda: written.exists() or victim.has_ended())
    if not written.exists():
        raise AssertionError(f"no sender was seen: {last_line(folder / 'errors.txt')}")
    return json.loads(written.read_text())


def wait_until(is_so: Callable[[], bool], timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {timeout:.0f} s in vain")
        time.sleep(0.001)


@contextlib.contextmanager
def attached(options: Sequence[str], threads: Iterable[int]) -> Generator[None]:
    """Attach `strace` to these threads; its counts start here. It ends when they do."""
    numbers = list(threads)
    places = [part for number in numbers for part in ("-p", str(number))]
    tracer = subprocess.Popen(
        ["strace", "-qq", *options, *places], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: tracer.poll() is not None or all(map(_is_traced, numbers)))
        if tracer.poll() is not None:
            _, said = tracer.communicate()
            raise RuntimeError(f"strace gave up: {said.decode(errors='replace').strip()[-200:]}")
        yield
        tracer.communicate(timeout=PATIENCE)
    finally:
        if tracer.poll() is None:
            tracer.terminate()
        tracer.communicate(timeout=PATIENCE)


def _is_traced(thread: int) -> bool:
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except OSError:
        return True
    return "TracerPid:\t0\n" not in status


@cache
def why_no_strace() -> str | None:
    """Why calls cannot be traced here; None if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    sleeper = subprocess.Popen(["sleep", "60"])
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-e", "trace=write", "-o", os.devnull, "-p", str(sleeper.pid)],
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: tracer.poll() is not None or _is_traced(sleeper.pid))
        if tracer.poll() is None:
            return None
        return "strace may not trace here"
    finally:
        sleeper.kill()
        sleeper.wait()
        tracer.communicate()
