"""Put one client through one fault.

A case is a fault on a database: a run in which the fault happens, a second run against a healthy
server, and a third one, which should find nothing left to do. The vendor's journal says what was
asked and charged; the frames and reports say what the client made of it. `judge` tells whether every
promise held.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pandas as pd

from . import workers
from .cases import Phase, Place, Verdict
from .judge import Case, judge
from .places import Heard, VendorProcess, listening
from .server.people import KEY
from .table import LEADS, Fault


def enrich(frame: pd.DataFrame, settings: dict[str, Any], heard: Heard) -> Phase:
    """One run of the package."""
    from eb_dagster import Enricher

    started = time.monotonic()
    report: dict[str, Any] = {}
    enriched, ended = None, ""
    try:
        with Enricher(**settings) as enricher:
            try:
                enriched = enricher.enrich_dataframe(frame)
            finally:
                report = enricher.report.to_dict()
    # Any error at all: the judge knows which of them may end a run.
    except Exception as error:
        ended = f"{type(error).__name__} {getattr(error, 'status', '')}".strip()
        heard.hear_error(error)
    return Phase(enriched, ended, report, time.monotonic() - started)


def run_cases(
    cases: list[tuple[Fault, Place]], *, at_once: int, client: Callable[..., Phase] = enrich
) -> list[Future[Verdict]]:
    """Run cases in several processes. A case whose memory is watched has one of its own."""
    shared = ProcessPoolExecutor(at_once, mp_context=workers.CONTEXT)
    alone = ThreadPoolExecutor(1)
    futures = [
        alone.submit(workers.call, run_case, *case, client)
        if case[0].heavy
        else shared.submit(run_case, *case, client)
        for case in cases
    ]
    shared.shutdown(wait=False)
    alone.shutdown(wait=False)
    return futures


def run_case(fault: Fault, place: Place, client: Callable[..., Phase] = enrich) -> Verdict:
    """Run one fault on one database and judge it."""
    name, folder, ledger = place.new_case(str(fault.number))
    vendor = place.vendor
    with ExitStack() as stack:
        url, mend = stack.enter_context(_address(fault, place, name))
        settings: dict[str, Any] = {
            "api_key": KEY,
            "base_url": url,
            "ledger": ledger,
            "partition_size": 40,
            "max_credits_at_risk": 80,
            "requests_per_minute": 12_000,
            "timeout": 20.0,
            "progress": False,
            **fault.settings,
        }
        frame = LEADS[fault.leads]()
        heard = stack.enter_context(listening())
        stray_before = len(vendor.events("elsewhere"))

        def run(**script: Any) -> Phase:
            vendor.script(name, **script)
            memory_before = workers.memory_peak()
            phase = client(frame, settings, heard)
            phase.memory = workers.memory_peak() - memory_before if fault.heavy else 0
            return phase

        with _environment(fault.environment, vendor):
            phases = [run(latency=(0.0, 0.02), **fault.script(vendor.elsewhere))]
        time.sleep(fault.pause)
        if fault.door.get("healed") == "later":
            mend()
        phases[0].events = vendor.events(name)
        if not fault.alone:
            settings |= fault.later
            for _ in range(2):
                mark = vendor.mark(name)
                phases.append(run())
                phases[-1].events = vendor.events(name, since=mark)
        stray = len(vendor.events("elsewhere")) - stray_before
    return judge(Case(fault, frame, phases, settings), heard=heard, folder=folder, stray=stray)


@contextmanager
def _address(fault: Fault, place: Place, case: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of the case, and how to mend it. A fault of the connection has a door of its own."""
    vendor = place.vendor
    if fault.address:
        yield fault.address.replace("{case}", case).replace("{port}", str(vendor.port)), lambda: None
        return
    if not fault.door:
        yield vendor.url(case), lambda: None
        return
    certificate = fault.door.get("certificate", "")
    facts = {**fault.door, "certificate": str(place.certificates[certificate]) if certificate else ""}
    healed = facts.pop("healed", None)
    is_closed = facts.get("manner") == "closed"
    port = vendor.open(name=f"{case}door", **facts)
    if is_closed:
        vendor.shut(port)

    def heal() -> None:
        if not is_closed:
            vendor.shut(port)
        vendor.open(port=port, name=f"{case}door")

    healer = threading.Timer(healed, heal) if isinstance(healed, float) else None
    if healer is not None:
        healer.start()
    try:
        with _environment({"SSL_CERT_FILE": str(place.certificates["authority"])}, vendor):
            yield vendor.url(case, port=port, scheme="https" if certificate else "http"), heal
    finally:
        if healer is not None:
            healer.join()
        vendor.shut(port)


@contextmanager
def _environment(variables: dict[str, str], vendor: VendorProcess) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        value = value.replace("{elsewhere}", str(vendor.elsewhere))
        os.environ[name] = value.replace("{folder}", str(vendor.folder))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
