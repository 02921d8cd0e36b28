"""Clocks that are wrong, or put forward or back."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from tests.faults.cases import Figures, Place, Verdict
from tests.faults.scenes.scene import UNTRUSTED, Scene, leads


def wrong_clock(place: Place, *, years: float) -> Verdict:
    """A process whose clock is wrong by years buys nothing again."""
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
    """Clocks are put forward or back between two runs; half an hour later is still half an hour later."""
    name = "ends" if ends else "begins"
    scene = Scene(f"91 daylight saving {name}", place)
    # At 2 a.m. in New York.
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
    scene = Scene("93 the edge of max_age", place)
    scene.here(leads(0, 60))
    charged = scene.charged().total()
    age = timedelta(minutes=1)
    running = [scene.start(leads(0, 60), max_age=age, clock=age.total_seconds()) for _ in range(3)]
    for process in running:
        scene.result(process)
    counts = scene.charged()
    times = set(counts.values())
    scene.expect(times == {2}, f"bought {sorted(times)} times; once, and once more when old, were right")
    verdict = Verdict(
        f"{scene.name}, {place.database}", scene.complaints, Figures(cases=1, variants={scene.name})
    )
    verdict.figures.charged = charged
    return verdict
