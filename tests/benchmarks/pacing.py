"""Whether the vendor is kept busy, and never more than it allows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.benchmarks.goals import GOALS
from tests.benchmarks.jobs import place
from tests.benchmarks.runs import in_process, paced
from tests.benchmarks.server import running

# Partitions are small, so that the pace is measured. The clock is the real one, because a commit takes
# real time.
PARTITION: Final = 100


def measure(*, requests: int, folder: Path) -> dict[str, float]:
    figures: dict[str, float] = {"refusals": 0}
    for name in [goal.name for goal in GOALS if goal.name.startswith("pace_")]:
        latency = float(name.removeprefix("pace_"))
        with (
            running(folder, latency=latency) as server,
            place(folder, server, requests * PARTITION) as here,
        ):
            in_process(paced, server, here.folder, requests * PARTITION, "198", str(PARTITION))
            arrivals = sorted(server.arrivals())
        figures[name] = rate(arrivals) / 198
        figures["refusals"] += refused(arrivals, most=200, window=60)
    return figures


def measure_fast(*, requests: int, folder: Path) -> dict[str, float]:
    """A contract with ten times the limit, with full partitions, in real time; and the cores that its rate takes."""
    with running(folder, latency=1.0) as server, place(folder, server, requests * 1000) as here:
        took = in_process(paced, server, here.folder, requests * 1000, "2000", "1000")
        arrivals = sorted(server.arrivals())
    return {"fast_rate": rate(arrivals) / 2000, "fast_cores": took["cpu"] / requests * 2000 / 60}


def rate(arrivals: list[float]) -> float:
    """Requests a minute between the first and the last."""
    return 60 * (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])


def refused(arrivals: list[float], *, most: int, window: float) -> int:
    """How many requests a moving window would have refused."""
    return sum(later - earlier < window for earlier, later in zip(arrivals, arrivals[most:], strict=False))
