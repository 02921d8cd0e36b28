"""A run as a span and metrics of OpenTelemetry, where its API is installed (extra `telemetry`). Counts only.

Without the user's own SDK, the API does nothing. The span `eb_dagster.run` lasts as long as the run, and has an event
for what a person waits for. The counters `eb_dagster.credits`, `.requests`, `.rows` and the histogram
`eb_dagster.run.duration` are of the meter `eb_dagster`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from eb_dagster.pipeline.report import Report

_NAME: Final = "eb_dagster"
_FIGURES: Final = (
    "rows",
    "identifiers",
    "requests",
    "replies",
    "matched",
    "not_found",
    "not_asked",
    "in_doubt",
    "unreadable",
    "credits_charged",
    "credits_in_doubt",
    "credits_saved",
)


class Telemetry:
    """A span that starts now."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace

        # It is handed in, not made the current one: a generator would leave it in whatever context it is resumed from.
        self._span: Any = trace.get_tracer(_NAME).start_span(f"{_NAME}.run")
        self._meter: Any = metrics.get_meter(_NAME)

    def event(self, name: str, count: int) -> None:
        """Add an event to the span."""
        self._span.add_event(name, {"count": count})

    def end(self, report: Report, error: str | None) -> None:
        """End the span, and count what the run did."""
        from opentelemetry.trace import StatusCode

        self._span.set_attributes({f"{_NAME}.{name}": getattr(report, name) for name in _FIGURES})
        self._span.set_attribute(f"{_NAME}.is_finished", report.unfinished is None and error is None)
        if error is not None:
            # Its text is not ours to tell: the cause of an error may quote a person.
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end()
        for name, unit, count in (
            ("credits", "{credit}", report.credits_charged),
            ("requests", "{request}", report.requests),
            ("rows", "{row}", report.rows),
        ):
            self._meter.create_counter(f"{_NAME}.{name}", unit=unit).add(count)
        self._meter.create_histogram(f"{_NAME}.run.duration", unit="s").record(report.seconds)


def telemetry() -> Telemetry | None:
    """Where a run is told of; None where OpenTelemetry's API is not installed, or nobody has set up an SDK."""
    # Whoever set one up in this process has loaded the API; the environment may name one that it loads itself.
    if "opentelemetry.trace" not in sys.modules and not any(name.startswith("OTEL_") for name in os.environ):
        return None
    # The name is a namespace that other packages share.
    has_api = importlib.util.find_spec("opentelemetry") and importlib.util.find_spec("opentelemetry.trace")
    return Telemetry() if has_api else None
