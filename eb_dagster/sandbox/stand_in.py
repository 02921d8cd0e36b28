"""Start the stand-in. This file can be imported without Flask; its functions then say what to install."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypedDict, Unpack

from eb_dagster.sandbox.bill import (
    count_charged_twice,
    count_credits,
    count_requests,
    list_charges,
)
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
    api: Api | None = field(default=None, repr=False, compare=False)
    """What answers, where it runs in this process."""

    def requests(self) -> int:
        """How many requests reached it, refused ones included, but not those over the limit."""
        return count_requests(self.bill)

    def credits(self) -> int:
        """How many credits were charged."""
        return count_credits(self.bill)

    def charged_twice(self) -> int:
        """How many identifiers were charged more than once."""
        return count_charged_twice(self.bill)

    def charges(self) -> list[tuple[str, str]]:
        """Every charge, in order, as kind and value: as they were sent."""
        return list_charges(self.bill)

    def fail_next(self, kind: str, *, requests: int = 1) -> None:
        """Let the next requests go wrong in a way of `FAULTS`."""
        if self.api is None:
            raise ValueError("this sandbox runs in another process; give it its faults when it starts")
        self.api.fail_next(kind, requests=requests)


class Settings(TypedDict, total=False):
    """What `create_app`, `running` and `serve` understand besides the bill."""

    credits: int | None
    """The total that this bill may reach, restarts included. None, the default, sets no limit."""
    requests_per_minute: int
    """200 by default."""
    latency: float
    """Seconds between the charge and the reply; 0 by default."""
    match_rate: float
    """The share of identifiers that are found; 0.7 by default."""
    faults: Sequence[Fault]
    """None by default."""
    api_key: str | None
    """The key that is right; every other one is answered with 401. None, the default, takes any but "invalid"."""
    retry_after: str | None
    """The header to send with 429 and 503. None, the default, sends none."""


def create_app(*, bill: Path, **settings: Unpack[Settings]) -> flask.Flask:
    """The stand-in as a Flask application. `bill` is a SQLite file, which is made if it does not exist."""
    try:
        from eb_dagster.sandbox.app import make_app
    except ImportError:
        raise ImportError('the sandbox needs Flask: pip install "eb-dagster[sandbox]"') from None
    return make_app(bill=bill, **settings)


@contextlib.contextmanager
def running(
    *, port: int = 0, host: str = "127.0.0.1", bill: Path, **settings: Unpack[Settings]
) -> Generator[Sandbox]:
    """Run a sandbox in a thread of this process for as long as the context lasts.

    Port 0 takes a free one.
    """
    app = create_app(bill=bill, **settings)
    # It needs Flask, so it is imported only after `create_app`, which says what to install.
    from eb_dagster.sandbox.server import listening

    api: Api = app.extensions["sandbox"]
    with contextlib.closing(api), listening(host, port, app) as server:
        yield Sandbox(url=f"http://{host}:{server.server_port}", bill=bill, api=api)


def serve(*, port: int, host: str = "127.0.0.1", bill: Path, **settings: Unpack[Settings]) -> None:
    """Run a sandbox until interrupted."""
    with running(port=port, host=host, bill=bill, **settings):
        wait_for_interrupt()


def wait_for_interrupt() -> NoReturn:
    """Wait until Ctrl-C. On Windows it interrupts only a sleep, and no other wait without an end."""
    while True:
        time.sleep(3600)
