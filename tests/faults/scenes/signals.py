"""Signals in mid-run."""

from __future__ import annotations

import os
import signal
import time

from tests.faults.cases import Place, Verdict, slack
from tests.faults.scenes.scene import Scene, leads


def stopped(place: Place, sent: signal.Signals) -> Verdict:
    """After one signal nothing more is sent, and what is in flight is received and stored."""
    scene = Scene(f"71 {sent.name} in mid-run", place, max_credits_at_risk=40)
    scene.vendor.script(scene.case, processing=(0.8, 0.8))
    process = scene.start(leads(0, 200))
    scene.await_requests(2)
    time.sleep(0.1)
    assert process.pid is not None
    os.kill(process.pid, sent)
    told = time.time()
    phase = scene.result(process)
    events = scene.vendor.events(scene.case)
    late = [event for event in events if event["what"] == "arrived" and event["time"] > told + 0.3]
    scene.expect(not late, f"{len(late)} requests left after the signal")
    codes = (130, -2, 1) if sent == signal.SIGINT else (143, -15)
    scene.expect(process.exitcode in codes, f"{phase.ended or 'a frame'} after the signal")
    # Nothing is in doubt, so `doubt_bound` is 0.
    return scene.close(leads(0, 200))


def interrupted_twice(place: Place) -> Verdict:
    """The second Ctrl-C stops at once; what it cuts off is in doubt."""
    scene = Scene("71 two SIGINT in mid-run", place, max_credits_at_risk=40, timeout=30.0)
    scene.vendor.script(scene.case, processing=(8.0, 8.0))
    scene.doubt_bound = 40
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
    scene.expect(time.monotonic() - told < 1.0 + slack(), "the second signal did not stop it at once")
    scene.expect(process.exitcode in (130, -2, 1), f"{phase.ended or 'a frame'} after the second signal")
    return scene.close(leads(0, 200), max_credits_at_risk=20_000)
