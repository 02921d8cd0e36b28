"""Enrich tables of identifiers: settings in, one call, results out. `pipeline/run` knows the order of things."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, Unpack, cast, overload

import pyarrow as pa

from eb_dagster.api.client import Client
from eb_dagster.contacts.enriched_tables import nothing_enriched, prefix_of_enriched, read_enriched
from eb_dagster.contacts.schema import arrow_schema, enriched_contacts, to_pandas
from eb_dagster.errors import (
    ConfigError,
    InputError,
    LedgerError,
    OverBudget,
    counted,
    shown_list,
)
from eb_dagster.identifiers.columns import Layout
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType
from eb_dagster.ledger import privacy
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.pipeline.lazy_ledger import LazyLedger
from eb_dagster.pipeline.opening import Opening, opening_of
from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.publication import Publisher
from eb_dagster.pipeline.report import Report
from eb_dagster.pipeline.run import (
    Chunks,
    Run,
    Setup,
    beside_inputs,
    chunks_of,
    make_explanation,
    make_plan,
)
from eb_dagster.pipeline.run_log import LOGGER
from eb_dagster.pipeline.update import Update
from eb_dagster.pipeline.watch import Watch
from eb_dagster.settings import EnricherOptions, read_settings, signature
from eb_dagster.settings.config_file import CONFIG_FILE, read_config
from eb_dagster.tables.column import IdentifierColumns, as_table, how_to_give, is_no_table
from eb_dagster.tables.keyed_rows import keyed_rows
from eb_dagster.tables.object_store import ObjectPath, Place, place
from eb_dagster.tables.parquet import Revision, parquet_source
from eb_dagster.tables.source import (
    InputColumns,
    PandasSource,
    PolarsSource,
    Source,
    batches_source,
    joined_schema,
    source_of,
)

if TYPE_CHECKING:
    import pandas as pd

    OfPandas: TypeAlias = pd.DataFrame | pd.Series[Any] | list[str] | list[str | None]
    """What comes back as a dataframe of pandas."""

_LONGEST_PAUSE_IN_USE: Final = timedelta(days=731)


class Enricher:
    """Buys contacts for identifiers and remembers them, so that each is paid for at most once.

    Args:
        api_key: The vendor's API key. Default: $EXACTBUYER_API_KEY.
        base_url: Address of the API: https, or plain http to this machine. Default: $EXACTBUYER_BASE_URL,
            then the vendor's.
        ledger: Path or database URL of the ledger, which remembers what was bought. Default:
            $EB_DAGSTER_LEDGER, then a file in your data folder.
        proxy: HTTP proxy between this machine and the API, as http://host:port. Default:
            $EB_DAGSTER_PROXY, then none.
        ca_bundle: PEM file of certificate authorities to trust besides the usual ones. Default:
            $EB_DAGSTER_CA_BUNDLE, then none.
        required_fields: Fields that a contact must have to count as found, and to be charged.
        identifiers: Which columns hold which kind of identifier, in the order of asking. Default: columns
            that are named after a kind.
        social_profile: Columns of profiles, in place of identifiers. Those that are given so are asked in
            the order given. Default: none.
        email: Columns of e-mail addresses, likewise. Default: none.
        phone: Columns of phone numbers, likewise. Default: none.
        person: Which columns hold the name and company of the person that a row is about. They are
            compared here and never sent. Default: none.
        default_region: Two-letter country of the phone numbers that have no country code. Default: those
            numbers are not used.
        max_credits: Credits that one run may spend. Default: no cap.
        over_budget: What to do if the plan may cost more than max_credits: stop buys in order up to it,
            refuse buys nothing.
        max_age: Buy contacts again that are older than this. Default: never.
        retry_misses_after: Ask again for identifiers that were not found, if that was longer ago than
            this. Default: never.
        partition_size: Identifiers in one request, 1 to 1000.
        requests_per_minute: Requests a minute, shared by all runs on one ledger. The vendor refuses more
            than 200.
        max_credits_at_risk: How many identifiers may be in flight or in doubt at once.
        max_credits_per_day: Credits that all runs on the ledger together may spend in a day of UTC. A cap
            that was set on the ledger itself holds as well. Default: no cap.
        max_credits_per_month: Credits that all runs on the ledger together may spend in a month of UTC. A
            cap that was set on the ledger itself holds as well. Default: no cap.
        timeout: Seconds that one request may take, from its first byte to the last byte of the reply.
        in_doubt: What to do about identifiers that may have been paid for without an answer: hold does
            not ask for them again, resend does so in the next run, and may pay twice.
        price: Price of one credit. Costs are then shown in money. Default: none, and costs are in credits.
        accept_clock: Buy even if this machine's clock is far off the ledger's or the API's.
        aliases: Kinds of identifiers inside a bought contact that answer later rows at no cost.
        prefix: What the name of every added column starts with.
        columns: Contact columns to keep. Default: all.
        lists: How columns with several values are written: list as lists, json as JSON text, for
            databases without arrays. A CSV has JSON text either way.
        progress: True or False for a bar, or a function that is called with the Report so far. Default: a
            bar on a terminal or in a notebook.

    Raises:
        ConfigError: a setting is wrong.
        LedgerError: the ledger cannot be trusted to remember.

    """

    # For `help` and notebooks; type checkers go by `EnricherOptions`.
    __signature__ = signature()

    def __init__(self, **options: Unpack[EnricherOptions]) -> None:
        self._settings = read_settings(**options)
        self._added_schema = arrow_schema(
            prefix=self._settings.prefix,
            columns=self._settings.columns,
            lists=self._settings.lists,
            with_agrees=self._settings.person is not None,
        )
        self._client = Client(
            base_url=self._settings.base_url,
            api_key=self._settings.api_key,
            timeout=self._settings.timeout,
            proxy=self._settings.proxy,
            ca_bundle=self._settings.ca_bundle,
        )
        self._lazy_ledger = LazyLedger(self._settings)
        self.report = Report()
        self.on_stopping: Callable[[str], None] | None = None
        """Called when a signal stops a run, with what it still waits for; by default that is said above the bar."""
        self.config_file: Path | None = None
        """The file with settings that was read, if one was."""
        self._runs: list[Run] = []
        """The runs that have not ended."""
        self._watch = Watch(opening=lambda: self.opening)
        if self._lazy_ledger.is_there:
            try:
                self._check_clock()
            except BaseException:
                self._lazy_ledger.close()
                raise

    @classmethod
    def from_config(
        cls, path: str | os.PathLike[str] | None = None, **options: Unpack[EnricherOptions]
    ) -> Self:
        """An enricher with the settings of a file, by default of `exactbuyer.toml` in the working directory.

        What is given here comes before what the environment says, and that before the file. Paths in the file are
        taken from its folder. Which file was read is logged, and is `config_file`.

        Raises:
            ConfigError: there is no such file, it has a setting that is not known, or it holds a key.

        """
        config = read_config(path)
        if config is None:
            raise ConfigError(
                f"there is no {CONFIG_FILE} in the working directory; name a file, or make one with eb-dagster init"
            )
        LOGGER.info("settings from %s", config.said)
        settings = config.options()
        if options.keys() & {*FIELD_TYPES}:
            # The columns that are given stand for all that the file names.
            settings.pop("identifiers", None)
        enricher = cls(**cast("EnricherOptions", {**settings, **options}))
        enricher.config_file = config.file
        return enricher

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take in what is in flight, then let go of the ledger."""
        try:
            while self._runs:
                self._runs[-1].note_early_end("it was interrupted")
                self._runs[-1].end()
        finally:
            self._lazy_ledger.close()

    def suppress(self, identifiers: Iterable[tuple[FieldType, str]]) -> int:
        """Keep people from ever being sent or handed out, by (kind, text) in any spelling.

        Returns how many identifiers were not suppressed before. Only keyed hashes are kept. Runs that are
        under way hold to it too, in whatever process.

        Raises:
            InputError: a text is no identifier of its kind; its position is named, not its value.

        """
        return privacy.suppress(self._ledger, identifiers, default_region=self._settings.default_region)

    def unsuppress(self, identifiers: Iterable[tuple[FieldType, str]]) -> int:
        """Take people off the suppression list again. Returns how many identifiers were on it."""
        return privacy.unsuppress(self._ledger, identifiers, default_region=self._settings.default_region)

    def forget(self, field_type: FieldType, text: str | Iterable[str]) -> privacy.Forgotten:
        """Remove a person, or each of several, from the ledger and from the tables that it published.

        What remains is a keyed hash, so that nobody buys the person again. What could not be searched is
        named in the result.
        """
        return privacy.forget(self._ledger, field_type, text, default_region=self._settings.default_region)

    def reject(self, field_type: FieldType, text: str | Iterable[str]) -> int:
        """Take a person's word that the contact found by this identifier is somebody else's.

        It answers no more for it, and the identifier is not asked again; what was paid stays, and the contact goes
        on answering for its other identifiers. Returns how many contacts that were.

        Raises:
            InputError: a text is no identifier of its kind.

        """
        return privacy.reject(self._ledger, field_type, text, default_region=self._settings.default_region)

    def plan(self, frame: Any, *, kind: FieldType | None = None) -> Plan:
        """What enriching this table would ask and cost at most. Sends nothing, and makes no ledger.

        Takes what `enrich_dataframe` and `enrich_batches` take.
        """
        source, columns = self._read(frame, kind=kind)
        plan = make_plan(self._setup_to_read, source, columns)
        return replace(plan, price=self._settings.price)

    def explain(self, frame: Any, *, kind: FieldType | None = None) -> Any:
        """Every cell that is not used or not asked: a table of row (counted from 1), column and reason.

        No value is in it. Takes what `plan` takes; of pandas it comes back as pandas, else as an Arrow table.
        """
        source, columns = self._read(frame, kind=kind)
        source = source.held()
        table = make_explanation(self._setup_to_read, source, columns)
        return table.to_pandas() if isinstance(source, PandasSource) else table

    @overload
    def enrich_dataframe(self, frame: OfPandas, *, kind: FieldType | None = None) -> pd.DataFrame: ...
    @overload
    def enrich_dataframe(self, frame: Any, *, kind: FieldType | None = None) -> Any: ...

    def enrich_dataframe(self, frame: Any, *, kind: FieldType | None = None) -> Any:
        """Return the frame with the status and contact columns added.

        Every row is there once, in the same order and with the same index; the columns of the
        input are untouched. Of pandas, the report is in `.attrs["eb_report"]` as a dict. Polars
        frames come back as Polars; Arrow tables, DuckDB relations and whatever else has
        `__arrow_c_stream__` as Arrow tables.

        A Series, a list or an array is taken as a table of that one column. `kind` says what it holds, as in
        `enrich_dataframe(["ada@firm.example"], kind="email")`; a Series that is called `email`, `phone` or
        `social_profile` says it by its name.

        Raises:
            InputError: no identifier columns, values that are not text, or a clash of names.
            OverBudget, Refused, Busy, OutcomeUnknown, LedgerError: see `eb_dagster.errors`.

        """
        named = as_table(frame, kind=kind, identifiers=self._settings.identifiers)
        source = source_of(named.table)
        if source is None:
            raise InputError(
                "enrich_dataframe takes a pandas or Polars dataframe, an Arrow table, a DuckDB relation, a Series "
                f"or a list, not {how_to_give(frame)}"
            )
        # Read to its end before anything is sent: what fails there has cost nothing.
        source = source.held()
        columns = self._columns(source.names, named.identifiers)
        self._check_clash(source.names)
        new_columns = self._added_table(source, columns)
        if isinstance(source, PandasSource):
            return self._beside_pandas(source.frame, new_columns)
        if isinstance(source, PolarsSource):
            return source.with_columns(new_columns)
        table = source.read_all()
        schema = joined_schema(table.schema, new_columns.schema)
        return pa.Table.from_arrays([*table.columns, *new_columns.columns], schema=schema)

    def enrich_batches(self, batches: Any) -> pa.RecordBatchReader:
        """Enrich a stream: anything with `__arrow_c_stream__`, or an iterable of RecordBatch.

        Rows leave in the order they came, with the status and contact columns added; nothing is
        sent before the first batch is read, and memory holds a window of rows, not the table.
        """
        source = _stream(batches)
        # Of the schema: an index that has a name is a column there.
        columns = self._columns(source.schema.names, self._settings.identifiers)
        self._check_clash(source.schema.names)
        source.check(columns)
        if self._settings.over_budget == "refuse":
            source = source.held()
            self._refuse_over_budget(source, columns)
        schema = joined_schema(source.schema, self._added_schema)

        def add_columns(chunks: Chunks, again: Callable[[], Chunks] | None) -> Iterator[pa.RecordBatch]:
            return self._run(chunks, columns.layout, rows=source.rows, again=again)

        return pa.RecordBatchReader.from_batches(schema, beside_inputs(source, columns, schema, add_columns))

    def update_batches(
        self, batches: Any, enriched: Any, *, key: str, is_text: bool = False
    ) -> pa.RecordBatchReader:
        """Bring an enriched table up to date with the leads of today, row by row by the column `key`.

        Takes two tables that `enrich_batches` takes: the leads, and the result of an earlier enrichment. Rows that
        are new or have other identifiers are asked, and so are those without an answer and those that are due
        (`max_age`). All others are kept, and so are rows that are no longer in the leads; of each, the ledger's word
        counts first, and nobody is kept who is suppressed, forgotten, rejected or shared by now. Rows leave in the
        order of the earlier table, the new ones at the end. Both tables are held in memory.

        Args:
            batches: the leads of today.
            enriched: the table as it was enriched before, with the prefix that this enricher has; None if there is
                none yet, so that all rows are new.
            key: the column that tells the rows of both tables apart. It is required in every row, and unique.
            is_text: whether all cells of `enriched` are texts, as they are in a CSV.

        Raises:
            InputError: the key is blank or repeated, or `enriched` was not enriched before.

        """
        source = _stream(batches)
        columns = self._columns(source.schema.names, self._settings.identifiers)
        self._check_clash(source.schema.names)
        source.check(columns)
        leads = source.read_all()
        if enriched is None:
            earlier = nothing_enriched(leads, self._added_schema)
        else:
            table = _stream(enriched).read_all()
            earlier = read_enriched(table, self._added_schema, prefix=self._settings.prefix, is_text=is_text)
        update = Update(
            setup=self._setup,
            columns=columns,
            rows=keyed_rows(leads, earlier.others, key=key),
            earlier=earlier,
            run=lambda chunks, rows, again: self._run(chunks, columns.layout, rows=rows, again=again),
            report=lambda: self.report,
            open_runs=self._runs,
            refuse=lambda rows: self._refuse_over_budget(rows, columns),
        )
        return pa.RecordBatchReader.from_batches(update.schema, update.batches())

    def enrich_parquet(
        self,
        source: str | os.PathLike[str] | ObjectPath,
        target: str | os.PathLike[str] | ObjectPath,
        *,
        update: str | os.PathLike[str] | ObjectPath | None = None,
        key: str | None = None,
    ) -> Report:
        """Enrich one Parquet file into another, which is written whole or not at all.

        Each may be an object, as in s3://bucket/folder/table.parquet. With `update`, an earlier result (such as
        the target itself) is brought up to date, row by row by the column `key`: see `update_batches`. If it is not
        there yet, all rows are new.
        """
        if (update is None) != (key is None):
            raise ConfigError("update= and key= go together; give both, or neither")
        source_path, path = place(source), place(target)
        self.check_target(path, source=source_path)
        leads = parquet_source(source_path)
        if update is None or key is None:
            reader = self.enrich_batches(leads)
        else:
            reader = self.update_batches(leads, self.earlier_table(place(update)), key=key)
        self._publisher.write(reader, path)
        return self.report

    def write(self, reader: pa.RecordBatchReader, target: str | os.PathLike[str] | ObjectPath) -> int:
        """Publish enriched batches as a Parquet table. Returns the rows."""
        path = place(target)
        self.check_target(path)
        return self._publisher.write(reader, path)

    def revisions(self, schema: pa.Schema) -> Callable[[], Revision | None]:
        """To be asked before an enriched table of this schema is published: what takes out who was suppressed since."""
        return self._publisher.revisions(schema)

    def earlier_table(self, path: Place) -> Source | None:
        """A Parquet table of this ledger's that is to be brought up to date; None if it is not there yet."""
        return self._publisher.earlier(path)

    def check_earlier_text(self) -> None:
        """Refuse to bring a CSV up to date if nobody knows from which address its contacts are."""
        self._publisher.check_earlier_text()

    def note_published(self, path: Place) -> None:
        """Remember where contacts are written, so that `forget` knows of them."""
        self._publisher.note_published(path)

    def check_target(self, path: Place, *, source: Place | None = None) -> None:
        """Refuse a path that cannot be written, the source or the ledger, or a table that another ledger has paid for."""
        self._publisher.check_target(path, source=source)

    @property
    def _publisher(self) -> Publisher:
        return Publisher(
            settings=self._settings,
            ledger=self._ledger,
            added_schema=self._added_schema,
            report=lambda: self.report,
        )

    # Before a run

    @property
    def opening(self) -> Opening:
        """From whom this buys, by which ledger, and what the caps leave: to be said before anything is bought."""
        return opening_of(self._settings, self._lazy_ledger.to_read())

    @property
    def _ledger(self) -> Ledger:
        return self._lazy_ledger.to_write()

    @property
    def _setup(self) -> Setup:
        return self._setup_of(self._ledger)

    @property
    def _setup_to_read(self) -> Setup:
        return self._setup_of(self._lazy_ledger.to_read())

    def _setup_of(self, ledger: Ledger) -> Setup:
        return Setup(
            settings=self._settings, ledger=ledger, client=self._client, added_schema=self._added_schema
        )

    def _check_clock(self) -> None:
        # A clock that runs years ahead makes everything look old enough to be bought again.
        has_ages = self._settings.max_age is not None and not self._settings.accept_clock
        newest = self._lazy_ledger.to_read().last_time() if has_ages else None
        if newest is not None and time.time() - newest > _LONGEST_PAUSE_IN_USE.total_seconds():
            raise LedgerError(
                "by this machine's clock, the ledger was last used more than two years ago, and max_age "
                "would buy everything again. Check the clock; if it is right, choose accept_clock"
            )

    def _read(self, table: Any, *, kind: FieldType | None) -> tuple[Source, InputColumns]:
        """What reads a table, a column or a stream, and the columns of it that are read."""
        named = as_table(table, kind=kind, identifiers=self._settings.identifiers)
        source = _stream(named.table)
        return source, self._columns(source.names, named.identifiers)

    def _columns(self, names: Sequence[str], identifiers: IdentifierColumns | None) -> InputColumns:
        return InputColumns.find(
            names,
            identifiers=identifiers,
            person=self._settings.person,
            default_region=self._settings.default_region,
        )

    def _check_clash(self, names: Sequence[str]) -> None:
        clashes = sorted(set(names) & set(self._added_schema.names))
        if clashes:
            if prefix_of_enriched(names) is not None:
                raise InputError(
                    f"the input is the result of an enrichment: it has columns {shown_list(clashes[:3])} and more. Give "
                    "the table of leads; to bring a result up to date, name it as the one to update. To enrich it all "
                    "the same, choose another prefix"
                )
            raise InputError(f"the input already has columns {shown_list(clashes)}; choose another prefix")

    def _refuse_over_budget(self, source: Source, columns: InputColumns) -> None:
        if self._settings.over_budget != "refuse":
            return
        cap = self._settings.max_credits
        credits_at_most = make_plan(self._setup_to_read, source, columns).credits_at_most
        if cap is not None and credits_at_most > cap:
            raise OverBudget(
                f"this may cost {counted(credits_at_most, 'credit')}, max_credits is {cap:,}. Raise "
                'it, shrink the input, or choose over_budget="stop"'
            )

    # The run

    def _run(
        self, chunks: Chunks, layout: Layout, *, rows: int | None, again: Callable[[], Chunks] | None
    ) -> Iterator[pa.RecordBatch]:
        run = Run(self._setup, open_runs=self._runs, on_stopping=self.on_stopping)
        self.report = run.report
        run.report.price = self._settings.price
        yield from self._watch.over(run, run.added_columns(chunks, layout, rows=rows, again=again))

    def _added_table(self, source: Source, columns: InputColumns) -> pa.Table:
        """The added columns of a whole table, without those who were suppressed while it was made."""
        self._refuse_over_budget(source, columns)

        def chunks() -> Chunks:
            return chunks_of(source, columns)

        withholder = self._publisher.withholder()
        batches = self._run(chunks(), columns.layout, rows=source.rows, again=chunks)
        table = pa.Table.from_batches(batches, schema=self._added_schema)
        if (listed := withholder.changed_list()) is not None:
            offered = [row for chunk in chunks() for row in chunk]
            table = withholder.withhold(table, offered, listed)
        return table

    def _beside_pandas(self, frame: pd.DataFrame, new_columns: pa.Table) -> pd.DataFrame:
        import pandas as pd

        contract = enriched_contacts(
            prefix=self._settings.prefix,
            columns=self._settings.columns,
            lists=self._settings.lists,
            with_agrees=self._settings.person is not None,
        )
        columns = contract.validate(to_pandas(new_columns))
        columns.index = frame.index
        enriched = pd.concat([frame, columns], axis="columns")
        enriched.attrs = {**frame.attrs, "eb_report": self.report.to_dict()}
        return enriched


def _stream(table: Any) -> Source:
    """What reads a table or a stream of batches."""
    if is_no_table(table):
        raise InputError(f"give a table or Arrow data, not {how_to_give(table)}")
    source = source_of(table)
    if source is not None:
        return source
    if not isinstance(table, Iterable):
        raise InputError(
            f"enrich_batches takes Arrow data, not {type(table).__name__}; give it a table or a reader"
        )
    return batches_source(cast("Iterable[object]", table))


@overload
def enrich_dataframe(
    frame: OfPandas, *, kind: FieldType | None = None, **options: Unpack[EnricherOptions]
) -> pd.DataFrame: ...
@overload
def enrich_dataframe(
    frame: Any, *, kind: FieldType | None = None, **options: Unpack[EnricherOptions]
) -> Any: ...


def enrich_dataframe(frame: Any, *, kind: FieldType | None = None, **options: Unpack[EnricherOptions]) -> Any:
    """Enrich a single dataframe, Series or list. Takes the keywords of `Enricher`.

    As in `enrich_dataframe(leads, email="Mail", phone="Cell", max_credits=500)`, or
    `enrich_dataframe(leads["Mail"], kind="email")`.
    """
    with Enricher(**options) as enricher:
        return enricher.enrich_dataframe(frame, kind=kind)
