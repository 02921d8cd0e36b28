"""Start the stand-in. This file can be imported without Flask; what it offers then says what to install."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from eb_dagster.sandbox import bill as bills
from eb_dagster.sandbox.faults import Fault

if TYPE_CHECKING:
    import flask

    from eb_dagster.sandbox.app import Api


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox: where it listens and where it keeps its bill.

    The counts are read from the bill, so they also work after the sandbox has stopped.
    """

    url: str
    bill: Path

    def requests(self) -> int:
        """How many requests reached it, refused ones included, but not those over the limit."""
        return bills.count_requests(self.bill)

    def credits(self) -> int:
        """How many credits were charged."""
        return bills.count_credits(self.bill)

    def charged_twice(self) -> int:
        """How many identifiers were charged more than once."""
        return bills.count_charged_twice(self.bill)


class Settings(TypedDict, total=False):
    """What `create_app`, `running` and `serve` understand besides the bill."""

    credits: int | None
    requests_per_minute: int
    latency: float
    match_rate: float
    faults: Sequence[Fault]
    retry_after: str | None


def create_app(
    *,
    bill: Path,
    credits: int | None = None,  # noqa: A002 - the vendor's word
    requests_per_minute: int = 200,
    latency: float = 0.0,
    match_rate: float = 0.7,
    faults: Sequence[Fault] = (),
    retry_after: str | None = None,
) -> flask.Flask:
    """The stand-in as a Flask application.

    `bill` is a SQLite file, which is made if it does not exist. `credits` is the total that this bill may
    reach, restarts included; None sets no limit. `latency` is in seconds, between the charge and the
    reply. `retry_after` is the header to send with 429 and 503; None sends none.
    """
    try:
        from eb_dagster.sandbox.app import make_app
    except ImportError:
        raise ImportError('the sandbox needs Flask: pip install "eb-dagster[sandbox]"') from None
    return make_app(
        bill=bill,
        credits=credits,
        requests_per_minute=requests_per_minute,
        latency=latency,
        match_rate=match_rate,
        faults=faults,
        retry_after=retry_after,
    )


@contextlib.contextmanager
def running(
    *, port: int = 0, host: str = "127.0.0.1", bill: Path, **settings: Unpack[Settings]
) -> Generator[Sandbox]:
    """Run a sandbox in a thread of this process for as long as the context lasts.

    Port 0 takes a free one. The settings are those of `create_app`.
    """
    app = create_app(bill=bill, **settings)
    # Needs Flask, so it is imported after `create_app` has said what to install.
    from eb_dagster.sandbox.server import listening

    api: Api = app.extensions["sandbox"]
    with contextlib.closing(api), listening(host, port, app) as server:
        yield Sandbox(url=f"http://{host}:{server.server_port}", bill=bill)


def serve(*, port: int, host: str = "127.0.0.1", bill: Path, **settings: Unpack[Settings]) -> None:
    """Run a sandbox until interrupted. The settings are those of `create_app`."""
    with running(port=port, host=host, bill=bill, **settings):
        threading.Event().wait()
