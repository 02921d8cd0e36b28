"""Processes that are ready at once: each is forked from one that has imported everything."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests import compiled

compiled.share()

CONTEXT = multiprocessing.get_context("forkserver")
# One for all who use it: such a server is one in a process, and the first who needs it starts it.
# pandera imports its validation backends at first use, so they are named too.
CONTEXT.set_forkserver_preload(
    ["pandas", "pyarrow.parquet", "pandera.pandas", "pandera.backends.pandas.register", "sqlalchemy",
     "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql", "psycopg", "requests", "tqdm.auto",
     "eb_dagster.enricher", f"{__package__}.campaign", f"{__package__}.index_faults", "tests.ledger.steps"]
)  # fmt: skip


def start(target: Callable[..., Any], *given: Any) -> BaseProcess:
    """Start a function in a process of its own."""
    process = CONTEXT.Process(target=target, args=given, daemon=True)
    process.start()
    return process


def call(target: Callable[..., Any], *given: Any, seconds: float = 180.0) -> Any:
    """Run a function in a process of its own and give what it returns."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = start(_answer, sender, target, given)
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise TimeoutError("the process gave no answer")
        return receiver.recv()
    finally:
        process.kill()
        process.join()
        receiver.close()


def _answer(pipe: Connection, target: Callable[..., Any], given: tuple[Any, ...]) -> None:
    pipe.send(target(*given))
    pipe.close()


def memory_peak() -> int:
    """The most bytes this process ever held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0
