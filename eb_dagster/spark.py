"""Enrich a Spark dataframe: each task buys its own partition, and one ledger coordinates them all.

Spark may run a task again, or twice at once, or kill it, or stop it when it has enough of its rows. So
every answer is in the ledger for the next task, and a task has nothing in flight when it hands its
first row to Spark: a user who looks at a few rows may stop Spark right after.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pyarrow as pa

from eb_dagster.enricher import Enricher
from eb_dagster.errors import ConfigError, InputError, LedgerError, shown_list
from eb_dagster.identifiers.columns import find_layout
from eb_dagster.ledger.connection import database_url, file_of
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.settings import read_base_url, with_identifiers

# Nothing of pyspark is imported here: an executor may bring another make of it.
if importlib.util.find_spec("pyspark") is None:
    raise ModuleNotFoundError(
        'eb_dagster.spark needs pyspark: pip install "eb-dagster[spark]"', name="pyspark"
    )

Frame = TypeVar("Frame")

_OF_ONE_RUN: Final = ("max_credits", "over_budget", "progress")
_AGES: Final = ("max_age", "retry_misses_after")
_KILL_TIMEOUT: Final = "spark.python.task.killTimeout"
_TEXT: Final = ("string", "varchar", "char", "void")


def enrich(frame: Frame, **settings: Any) -> Frame:
    """The Spark dataframe with the status and contact columns added, one row for each of its rows.

    Like everything in Spark it is lazy: nothing is bought before an action, such as a write, and a
    second action runs everything again. That costs no credit, because the ledger has the answers;
    `max_age` and `retry_misses_after` count from this call. A partition is bought whole even if the
    action wants only a few of its rows, as `show` does.

    What was in flight in a process that was lost is in doubt: the task that Spark starts in its place
    asks for the rest, and gives those rows the status `in_doubt`. With `in_doubt="resend"` it would
    ask for them again, and might pay twice. Spark itself kills the Python of a job that is cancelled or
    fails after `spark.python.task.killTimeout`, 2 s if it is not set; set it to more than `timeout`.

    Args:
        frame: columns as in `Enricher.enrich_batches`.
        **settings: those of `Enricher`, but for `api_key`, which each executor reads from
            $EXACTBUYER_API_KEY; the driver needs none. `max_credits`, `over_budget` and `progress` are
            of one run, and here each task is one: caps for all of them are `max_credits_per_day` and
            `max_credits_per_month`. `ledger` is a PostgreSQL database without a password in its
            address, else driver and executors each read $EB_DAGSTER_LEDGER; with a local master, a
            path too.

    Raises:
        ConfigError, InputError, LedgerError: at once, before anything runs. What goes wrong in a task
            is inside Spark's own error, in words.

    """
    if not hasattr(frame, "mapInArrow"):
        raise InputError(
            f"enrich takes a Spark dataframe, not {type(frame).__name__}; give it one, or use enrich_dataframe"
        )
    _check_names(settings)
    settings = with_identifiers(settings)
    called_at = time.time()
    spark = cast("Any", frame)
    session, schema = spark.sparkSession, spark.schema
    is_local = session.conf.get("spark.master", "").partition("[")[0] == "local"
    named = settings.pop("ledger", None)
    ledger = _find_ledger(named, is_local=is_local)
    ledger_id = _id_of(ledger)
    # The driver's address: an executor with another environment would otherwise ask another API.
    settings |= {"base_url": read_base_url(settings.get("base_url")), "progress": False}
    # It checks the settings, on no rows. The tasks have a key of their own.
    with Enricher(**settings, ledger=ledger, api_key="unused") as enricher:
        empty = pa.table([pa.nulls(0)] * len(schema.names), names=schema.names)
        new_fields = list(enricher.enrich_batches(empty).schema)[len(schema.names) :]
    _check_text(schema, settings)
    fields = session.createDataFrame(pa.schema(new_fields).empty_table()).schema.fields
    for field, column in zip(fields, new_fields, strict=True):
        # Here Spark looks for the comment on a column, in each table that it writes.
        field.metadata = {"comment": (column.metadata or {})[b"description"].decode()}
    named_ledger = None if named is None else ledger
    _warn_of_killing(session.conf.get(_KILL_TIMEOUT, None))

    def enriched(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if (first := next(batches, None)) is not None:
            own_ledger = _find_ledger(named_ledger, is_local=is_local)
            _check_same(own_ledger, ledger_id)
            reader = pa.RecordBatchReader.from_batches(first.schema, itertools.chain([first], batches))
            # What this job bought is not too old for a task that starts late, or once more.
            since_call = timedelta(seconds=max(0.0, time.time() - called_at))
            ages = {name: settings[name] + since_call for name in _AGES if settings.get(name) is not None}
            yield from _buy(reader, settings | ages, own_ledger)

    return spark.mapInArrow(enriched, type(schema)([*schema.fields, *fields]))


def _buy(batches: pa.RecordBatchReader, settings: Mapping[str, Any], ledger: str) -> Iterator[pa.RecordBatch]:
    """One task: buy a whole partition, then hand it over."""
    # Spark's own folder for what does not fit into memory. The file has no name, and is gone with the process.
    folder = os.environ.get("SPARK_LOCAL_DIRS", "").partition(",")[0]
    with tempfile.TemporaryFile(dir=folder if folder and Path(folder).is_dir() else None) as file:
        with Enricher(**settings, ledger=ledger) as enricher:
            reader = enricher.enrich_batches(batches)
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            with pa.ipc.new_stream(file, reader.schema, options=options) as writer:
                for batch in reader:
                    writer.write_batch(batch)
        file.seek(0)
        yield from pa.ipc.open_stream(file)


def _warn_of_killing(timeout: str | None) -> None:
    if timeout is None:
        warnings.warn(
            f"{_KILL_TIMEOUT} is not set: two seconds after a job is cancelled or fails, Spark kills its Python, and "
            "what is in flight then is in doubt. Set it to more than timeout, such as 6min",
            stacklevel=3,
        )


def _check_same(executor_ledger: str, driver_ledger_id: str) -> None:
    if _id_of(executor_ledger) != driver_ledger_id:
        raise LedgerError(
            "the ledger of this executor is not the driver's, so it would pay again; set "
            "EB_DAGSTER_LEDGER to the same for both, or give ledger=…"
        )


def _check_names(settings: Mapping[str, Any]) -> None:
    if "api_key" in settings:
        raise ConfigError(
            "an api_key that is given here would travel in Spark's plan; leave it out, and set "
            "EXACTBUYER_API_KEY on the executors"
        )
    if "@" in (settings.get("proxy") or ""):
        raise ConfigError(
            "a user and password in proxy would travel in Spark's plan; leave it out, and set EB_DAGSTER_PROXY "
            "on driver and executors"
        )
    if given := [name for name in _OF_ONE_RUN if name in settings]:
        raise ConfigError(
            f"{', '.join(given)}: of one run, and each Spark task is a run of its own; leave it out, and set "
            "max_credits_per_day or max_credits_per_month, which hold for all of them"
        )
    _check_known(settings)


def _check_known(settings: Mapping[str, Any]) -> None:
    known = set(inspect.signature(Enricher).parameters) - {"api_key", *_OF_ONE_RUN}
    if unknown := sorted(set(settings) - known):
        raise ConfigError(f"no such setting: {shown_list(unknown)}; choose from {sorted(known)}")


def _check_text(schema: Any, settings: Mapping[str, Any]) -> None:
    layout = find_layout(schema.names, settings.get("identifiers"))
    types = {name: schema[name].dataType for name in layout.names}
    faults = [
        f"{name}: {kind.simpleString()}" for name, kind in types.items() if kind.typeName() not in _TEXT
    ]
    if faults:
        raise InputError(f"identifiers that are not text ({', '.join(faults)}); cast the column to string")


def _holds_password(ledger: str) -> bool:
    url = database_url(ledger)
    return bool(url.password) or any("password" in name for name in url.query)


def _find_ledger(named: str | os.PathLike[str] | None, *, is_local: bool) -> str:
    """The ledger as named, else that of this machine's environment. Raises if executors could not share it."""
    text = os.environ.get("EB_DAGSTER_LEDGER") if named is None else os.fspath(named)
    if not text:
        raise ConfigError(
            "no ledger is named; set EB_DAGSTER_LEDGER on the driver and the executors, or give ledger=…"
        )
    if (file := file_of(database_url(text))) is not None:
        if not is_local:
            raise ConfigError(
                "the ledger is a file, and the executors of a cluster do not share files; name postgresql://…"
            )
        return str(file)
    if named is not None and _holds_password(text):
        raise ConfigError(
            "the ledger's address holds a password, which would travel in Spark's plan; set EB_DAGSTER_LEDGER on "
            "the driver and the executors instead, or leave the password to PGPASSFILE"
        )
    return text


def _id_of(ledger: str) -> str:
    with closing(Ledger(ledger, endpoint="")) as opened:
        return opened.id
