"""Rebuild the ledger as a power cut would have left it, many times, and look at what it remembers.

A purchase is recorded at its calls to the system. Of each file, all that was there at its last
fsync is in an image; of what was written later, any part may be there, torn at the sectors of a disk.

Long form: `python -m tests.faults.images --long`.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote_plus

import pandas as pd
import pyarrow.parquet as pq

import eb_dagster
from eb_dagster.api.reply import Reply
from tests import compiled
from tests.faults import command
from tests.faults.counts import Counts
from tests.faults.crash_laboratory import (
    KEPT,
    ONE_AT_A_TIME,
    SEVERAL_AT_ONCE,
    Laboratory,
    Scene,
    why_no_strace,
)
from tests.faults.progress import told

SECTOR = 512
LEDGER = "ledger.db"
# The first process to open the ledger rebuilds the shared index, so nothing in it has to be kept.
FILES = (LEDGER, f"{LEDGER}-wal", f"{LEDGER}-journal")
CALLS = "openat,pwrite64,write,fsync,fdatasync,ftruncate,unlink,sendto,sendmsg,write,writev"

Promise = Literal["NORMAL", "OFF"]
Kind = Literal["create", "unlink", "write", "truncate", "sync", "sync_folder", "leave", "owner"]


@dataclass(frozen=True)
class Event:
    """One thing that happened to the ledger's files or to the wire, in order."""

    kind: Kind
    name: str = ""
    offset: int = 0
    data: bytes = field(default=b"", repr=False)
    people: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Recording:
    """A purchase as its system calls show it: the events, who was charged for, and the input."""

    scene: str
    url: str
    events: tuple[Event, ...] = field(repr=False)
    charged: frozenset[str] = field(repr=False)
    leads: tuple[tuple[str | None, str | None], ...] = field(repr=False)

    def without_syncs(self, synchronous: Promise) -> Recording:
        """The same purchase with a ledger that was opened with a weaker promise."""
        kept: list[Event] = []
        for index, event in enumerate(self.events):
            if event.kind == "sync":
                later = self.events[index + 1 :]
                after = next((other for other in later if other.kind in ("write", "sync")), None)
                checkpoints = after is not None and after.kind == "write" and after.name == LEDGER
                # NORMAL still syncs the log before it copies it into the database, and then the database.
                if synchronous == "OFF" or (event.name.endswith("-wal") and not checkpoints):
                    continue
            kept.append(event)
        return replace(self, events=tuple(kept))


@dataclass
class Tally(Counts):
    """What a series of images came to."""

    images: int = 0
    distinct: set[str] = field(default_factory=set[str])
    left: int = 0
    forgotten: int = 0
    charged_twice: int = 0
    in_doubt: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list[str])
    seconds: float = 0.0


# Recording


def record(lab: Laboratory, scene: Scene) -> Recording:
    """Trace a whole purchase, data and all."""
    folder = lab.new_case(scene)
    log = folder.with_suffix(".trace")
    options = ["-y", "-xx", "-s", "4000000", "-e", f"trace={CALLS}", "-o", str(log)]
    if (status := lab.run_traced(folder, scene, options)) != 0:
        raise AssertionError(f"a clean run failed ({status}): {(folder / 'errors.txt').read_text()}")
    events = tuple(_read_trace(log, folder))
    leads = pq.read_table(folder / "all.parquet").to_pylist()
    log.unlink()
    return Recording(
        scene.name,
        lab.api.url,
        events,
        frozenset(lab.charged(folder)),
        tuple((lead["social_profile"], lead["email"]) for lead in leads),
    )


_LINE = re.compile(
    r"(?P<thread>\d+) +(?:(?P<call>\w+)\((?P<rest>.*)|<\.\.\. (?P<resumed>\w+) resumed>(?P<end>.*))"
)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(?P<cut>\.\.\.)?')
_PLACE = re.compile(r"\d+<((?:\\x[0-9a-f]{2})*)>")


def _read_trace(log: Path, folder: Path) -> Iterator[Event]:
    pending: dict[str, str] = {}
    with log.open(errors="replace") as lines:
        for line in lines:
            if not (match := _LINE.match(line)):
                continue
            if match["resumed"]:
                # It is durable only once the call has returned.
                if (place := pending.pop(match["thread"], None)) and match["end"].endswith("= 0"):
                    yield from _sync(place, folder)
                continue
            rest = match["rest"]
            if match["call"] in ("fsync", "fdatasync"):
                place = _text(_PLACE, rest)
                if "<unfinished" in rest:
                    pending[match["thread"]] = place
                else:
                    yield from _sync(place, folder)
            elif " = -1 " not in rest[-60:]:
                yield from _change(match["call"], rest, folder)


def _sync(place: str, folder: Path) -> Iterator[Event]:
    if place == str(folder):
        yield Event("sync_folder")
    elif (name := _ours(place, folder)) is not None:
        yield Event("sync", name)


def _change(call: str, rest: str, folder: Path) -> Iterator[Event]:
    if call in ("sendto", "sendmsg"):
        if people := _people(b"".join(map(_bytes, _STRING.findall(rest))), folder.name):
            yield Event("leave", people=people)
        return
    place = _text(_STRING if call in ("openat", "unlink") else _PLACE, rest)
    if call == "openat" and place.endswith(".lock") and "O_CREAT" in rest:
        yield Event("owner", Path(place).name)
    if (name := _ours(place, folder)) is None:
        return
    if call == "openat" and "O_CREAT" in rest:
        yield Event("create", name)
    elif call == "unlink":
        yield Event("unlink", name)
    elif call == "ftruncate":
        yield Event("truncate", name, offset=int(re.findall(r">, (\d+)", rest)[0]))
    elif call == "pwrite64":
        text, offset = re.findall(r'>, "([^"]*)", \d+, (\d+)', rest)[0]
        yield Event("write", name, offset=int(offset), data=_bytes((text,)))
    elif call in ("write", "writev"):
        raise AssertionError(f"{name} was written at a place that the trace does not tell")


def _text(pattern: re.Pattern[str], rest: str) -> str:
    found = pattern.search(rest)
    return os.fsdecode(_bytes((found[1],))) if found else ""


def _bytes(found: Sequence[str]) -> bytes:
    return bytes.fromhex(found[0].replace("\\x", ""))


def _ours(place: str, folder: Path) -> str | None:
    path = Path(place)
    return path.name if path.parent == folder and path.name in FILES else None


def _people(payload: bytes, case: str) -> frozenset[str]:
    text = unquote_plus(payload.decode("latin-1"))
    profile, email = rf"linkedin\.com/in/lead-\d+-{case}", rf"lead-\d+@{case}\.example"
    return frozenset(re.findall(f"{profile}|{email}", text))


# Images


@dataclass
class _File:
    """A file's content: what is certain, and what was written since."""

    certain: bytearray = field(default_factory=bytearray)
    open: list[Event] = field(default_factory=list[Event])

    def sync(self) -> None:
        for event in self.open:
            _apply(self.certain, event)
        self.open.clear()

    def left_by_a_power_cut(self, lots: random.Random) -> bytes:
        content = bytearray(self.certain)
        manner = lots.choice(("all", "none", "first", "any", "torn", "torn"))
        last = lots.randint(0, len(self.open)) if manner == "first" else len(self.open)
        for event in self.open[:last]:
            if manner == "none" or (manner == "any" and lots.random() < 0.5):
                continue
            if manner == "torn" and event.kind == "write":
                _apply_torn(content, event, lots)
            else:
                _apply(content, event)
        return bytes(content)


def _apply(content: bytearray, event: Event) -> None:
    if event.kind == "truncate":
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    end = event.offset + len(event.data)
    content.extend(bytes(max(0, end - len(content))))
    content[event.offset : end] = event.data


def _apply_torn(content: bytearray, event: Event, lots: random.Random) -> None:
    start, end = event.offset, event.offset + len(event.data)
    share = lots.random()
    while start < end:
        stop = min(end, start - start % SECTOR + SECTOR)
        if lots.random() < share:
            _apply(
                content,
                replace(event, offset=start, data=event.data[start - event.offset : stop - event.offset]),
            )
        start = stop


class Disk:
    """The ledger's folder, event by event."""

    def __init__(self) -> None:
        self._certain: dict[str, _File] = {}
        self._names: dict[str, list[_File | None]] = defaultdict(list)
        self._owner_names: set[str] = set()
        self.left: set[str] = set()

    def pass_event(self, event: Event) -> None:
        if event.kind == "leave":
            self.left |= event.people
        elif event.kind == "owner":
            self._owner_names.add(event.name)
        elif event.kind == "create":
            if self._now(event.name) is None:
                self._names[event.name].append(_File())
        elif event.kind == "unlink":
            self._names[event.name].append(None)
        elif event.kind == "sync_folder":
            for name, changes in self._names.items():
                self._settle(name, changes)
            self._names.clear()
        elif (file := self._now(event.name)) is not None:
            if event.kind == "sync":
                file.sync()
            else:
                file.open.append(event)

    def _now(self, name: str) -> _File | None:
        return self._names[name][-1] if self._names.get(name) else self._certain.get(name)

    def _settle(self, name: str, changes: Sequence[_File | None]) -> None:
        if changes and changes[-1] is not None:
            self._certain[name] = changes[-1]
        elif changes:
            self._certain.pop(name, None)

    def left_by_a_power_cut(self, lots: random.Random) -> dict[str, bytes]:
        files = dict(self._certain)
        for name, changes in self._names.items():
            # Names that were not synced may be as they were, or as they became.
            reached = changes[: lots.randint(0, len(changes))]
            if reached:
                files.pop(name, None)
                if reached[-1] is not None:
                    files[name] = reached[-1]
        image = {name: file.left_by_a_power_cut(lots) for name, file in files.items()}
        if lots.random() < 0.3 and LEDGER in image:
            image[f"{LEDGER}-shm"] = lots.randbytes(32_768)
        if lots.random() < 0.5:
            image |= {f"{LEDGER}-owners/{name}": b"" for name in sorted(self._owner_names)}
        return image


def images(
    recording: Recording, *, seed: int, count: int
) -> Iterator[tuple[int, dict[str, bytes], set[str]]]:
    """That many cuts: where each one fell, the files it left, and whose request had left by then."""
    lots = random.Random(seed)
    # Each place is cut at least once, if there are enough cuts.
    places = list(range(1, len(recording.events) + 1))
    cuts = Counter(places if count >= len(places) else ())
    cuts.update(lots.choice(places) for _ in range(count - cuts.total()))
    disk = Disk()
    for event_number, event in enumerate(recording.events, 1):
        disk.pass_event(event)
        for _ in range(cuts[event_number]):
            yield event_number, disk.left_by_a_power_cut(lots), set(disk.left)


# What an image remembers


class ScriptedClient:
    """Takes the client's place: it notes who is asked for, and finds everybody."""

    def __init__(self) -> None:
        self.values: list[str] = []

    def send(self, form: bytes) -> Reply:
        query = json.loads(parse_qs(form.decode())["query_list"][0])
        values = [entry["value"] for entry in query]
        self.values += values
        contacts = [
            {"value": value, "enriched_contact": {"full_name": f"Tamsin {value}"}} for value in values
        ]
        body = json.dumps({"contacts": contacts, "records_enriched": len(contacts)}).encode()
        return Reply(
            status=200, body=body, encoding="", complete=True, request_left=True, retry_after=None
        )  # fmt: skip

    def open(self) -> None:
        """Nothing is to be loaded."""

    def abort(self) -> None:
        """Nothing is open."""


def look(
    recording: Recording, event_number: int, image: dict[str, bytes], left: set[str], place: Path
) -> Tally:
    """Open an image with the package and finish the purchase."""
    tally = Tally(images=1, left=len(left))
    tally.distinct.add(_digest(image))
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    for name, content in image.items():
        path = place / name
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.write_bytes(content)
        path.chmod(0o600)
    client = ScriptedClient()
    cut = f"{recording.scene}, cut at event {event_number}"
    frame = pd.DataFrame(recording.leads, columns=["social_profile", "email"])
    try:
        with eb_dagster.Enricher(
            api_key="canary-key", base_url=recording.url, ledger=place / LEDGER, progress=False,
            requests_per_minute=600_000, partition_size=100,
        ) as enricher:  # fmt: skip
            enricher._client = client  # pyright: ignore
            enriched = enricher.enrich_dataframe(frame)
    except eb_dagster.LedgerError as error:
        tally.refused = 1
        if left:
            tally.faults.append(f"{cut}: refused after a purchase: {error}")
        return tally
    again = set(client.values) & left
    tally.forgotten = len(again)
    tally.charged_twice = len(again & recording.charged)
    tally.in_doubt = int((enriched["eb_status"] == "in_doubt").sum())
    statuses = dict(zip(enriched["eb_query"], enriched["eb_status"], strict=True))
    lost = {value for value in left & recording.charged if statuses.get(value) not in KEPT}
    if again or lost:
        tally.forgotten = len(again | lost)
        tally.faults.append(f"{cut}: {len(again | lost)} forgotten")
    return tally


def _digest(image: dict[str, bytes]) -> str:
    whole = hashlib.blake2b(digest_size=12)
    for name in FILES:
        whole.update(b"%d" % len(image.get(name, b"")) + image.get(name, b""))
    return whole.hexdigest()


def look_at_all(recording: Recording, *, seed: int, count: int) -> Tally:
    """Draw that many images and look at each."""
    compiled.share()
    tally = Tally()
    warnings.simplefilter("ignore")
    place = Path(tempfile.mkdtemp(prefix="eb-images-"))
    try:
        for event_number, image, left in images(recording, seed=seed, count=count):
            tally.add(look(recording, event_number, image, left, place / "image"))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return tally


def look_in_parallel(recordings: Sequence[Recording], *, seed: int, count: int) -> Tally:
    """Share the images of some recordings among the processors."""
    started = time.monotonic()
    processors = os.cpu_count() or 1
    shares = [recording for recording in recordings for _ in range(processors)]
    images_a_share = math.ceil(count / len(shares))
    tally = Tally()
    with ProcessPoolExecutor(processors, multiprocessing.get_context("spawn")) as pool:
        running = [
            pool.submit(look_at_all, recording, seed=seed + number, count=images_a_share)
            for number, recording in enumerate(shares)
        ]
        for future in told(running, what="images, in shares", of=len(shares)):
            tally.add(future.result())
    tally.seconds = time.monotonic() - started
    return tally


def record_all() -> list[Recording]:
    with Laboratory.opened(latency=0.01) as lab:
        return [record(lab, scene) for scene in (ONE_AT_A_TIME, SEVERAL_AT_ONCE)]


def figures(long: bool = False, *, seed: int | None = None) -> command.Rows:
    """The rows of the campaign's table."""
    if (reason := why_no_strace()) is not None:
        return [("power cuts", f"not simulated: {reason}")]
    seed = command.chosen_seed(seed)
    recordings = record_all()
    ours = look_in_parallel(recordings, seed=seed, count=2_400 if long else 200)
    rows = [
        ("power cuts: seed", str(seed)),
        ("power cuts: images (distinct)", f"{ours.images:,} ({len(ours.distinct):,})"),
        ("power cuts: charged or at least sent before the cut", f"{ours.left:,}"),
        ("power cuts: charged twice", str(ours.charged_twice)),
        ("power cuts: charged and forgotten", str(ours.forgotten)),
        ("power cuts: in doubt afterwards", f"{ours.in_doubt:,}"),
        ("power cuts: refused to open", str(ours.refused)),
    ]
    promises: tuple[Promise, ...] = ("NORMAL", "OFF")
    for promise in promises:
        weaker = [recording.without_syncs(promise) for recording in recordings]
        control = look_in_parallel(weaker, seed=seed, count=400 if long else 40)
        forgot = len(control.faults)
        rows.append(
            (f"power cuts: with synchronous={promise}", f"{forgot} of {control.images} images forgot")
        )
    rows.append(("power cuts: seconds", f"{ours.seconds:.0f}"))
    return rows + [("power cuts: FAULT", fault) for fault in ours.faults[:20]]


if __name__ == "__main__":
    command.main(__doc__, figures)
