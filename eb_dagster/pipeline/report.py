"""What a run did and what it cost, in counts: no person is in it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from eb_dagster.contacts.schema import Status
from eb_dagster.errors import counted
from eb_dagster.pipeline.facts import html_table, money, one_row, text_table, unusable_facts
from eb_dagster.pipeline.run_log import warn_caller

if TYPE_CHECKING:
    import pandas as pd

    from eb_dagster.pipeline.plan import Plan


@dataclass(slots=True, kw_only=True)
class Report:
    """The figures of one run. Credits are the vendor's: one for each record found."""

    rows: int = 0
    """Rows that have left, with their answers. A run that ended early may have read more."""
    rows_read: int = 0
    identifiers: int = 0
    """Distinct identifiers in canonical form, counted within each window of rows."""
    invalid: Counter[str] = field(default_factory=Counter[str])
    """Rows without a usable identifier, by reason."""
    unusable: Counter[str] = field(default_factory=Counter[str])
    """Cells, or parts of cells, that were passed over, by reason; their row may be fine."""
    suppressed: int = 0
    folded: int = 0
    """Identifiers that stood in more than one row and were one question."""
    from_ledger: int = 0
    """Rows answered without a request in this run."""
    requests: int = 0
    replies: int = 0
    """Requests that were answered and read, so far."""
    answers: int = 0
    """Identifiers in these replies."""
    matched: int = 0
    not_found: int = 0
    not_asked: int = 0
    in_doubt: int = 0
    unreadable: int = 0
    matched_by: Counter[str] = field(default_factory=Counter[str])
    """Matched rows by the kind of identifier that answered: what each step added."""
    answered_by: Counter[str] = field(default_factory=Counter[str])
    """Rows by each kind of identifier that found the person or missed: what each step was asked."""
    filled: Counter[str] = field(default_factory=Counter[str])
    """Rows that hold a value, by contact column."""
    credits_charged: int = 0
    """Grows while the run goes on; at the end it is what the ledger says."""
    credits_in_doubt: int = 0
    credits_saved: int = 0
    """Matched rows that cost nothing: one credit each if every row had been sent."""
    extra_records: int = 0
    """Records that answered nothing that was asked; dropped."""
    wrong_counts: int = 0
    """Replies whose `records_enriched` is not the number of contacts in them."""
    failed_records: int = 0
    """Records that carried an error in place of an answer: not charged, and asked again by the next run."""
    refusals: int = 0
    """Times the API said 429."""
    drift: Counter[str] = field(default_factory=Counter[str])
    """Fields whose value had an unexpected type and went to `other`."""
    new_fields: Counter[str] = field(default_factory=Counter[str])
    """Fields that no column takes; they are in `other`."""
    contradicted: int = 0
    """Rows for which somebody else was found, as by a shared phone; among those not found."""
    agrees: int = 0
    """Matched rows whose contact has the row's name, where columns with names are given."""
    disagrees: int = 0
    """Matched rows whose contact has another name."""
    kept: int = 0
    """Rows of a table that was updated that did not have to be asked, or are no longer in the input."""
    gone: int = 0
    """Those of them that are no longer in the input."""
    is_read_first: bool = True
    """Whether the whole table was read for shared identifiers first. A stream knows what it has read."""
    stopped: str | None = None
    """Why sending stopped before everything was asked, if it did."""
    ended_early: str | None = None
    """Why the run ended before all of its rows had left, if it did: then no table was made of it."""
    retries: Counter[str] = field(default_factory=Counter[str])
    """Requests that were sent again, by the reason: nothing was charged for the vain attempt."""
    seconds: float = 0.0
    price: float | None = None
    """Of one credit, if it was given: costs are then in money."""

    @property
    def cost(self) -> float | None:
        """What the run was charged, in money; None without a price."""
        return None if self.price is None else round(self.credits_charged * self.price, 6)

    @property
    def unfinished(self) -> str | None:
        """What is missing of an answer to every row, in words; None if nothing is.

        Rows that nobody may ask for, such as those of a shared phone, are not missing.
        """
        rows = [
            f"{counted(count, 'row')} {(was if count == 1 else were)} {what}"
            for count, was, were, what in (
                (self.not_asked, "was", "were", "not asked"),
                (self.in_doubt, "is", "are", "in doubt"),
                (self.unreadable, "is", "are", "unreadable"),
            )
            if count
        ]
        if self.ended_early:
            in_doubt = (
                f", with {counted(self.credits_in_doubt, 'credit')} more in doubt"
                if self.credits_in_doubt
                else ""
            )
            rows = [
                f"{counted(self.credits_charged, 'credit')} {'was' if self.credits_charged == 1 else 'were'} charged{in_doubt}. What was bought is in the ledger and in no "
                "table yet: run again, which costs nothing for it"
            ]
        if not rows:
            return None
        why = (
            f"the run ended before its rows, because {self.ended_early}" if self.ended_early else self.stopped
        )
        return f"{why or 'not every row has an answer'}: {', '.join(rows)}"

    @property
    def spent(self) -> str:
        """What the run has spent, in words."""
        doubt = (
            f", with {counted(self.credits_in_doubt, 'credit')} more in doubt"
            if self.credits_in_doubt
            else ""
        )
        if not (self.credits_charged or doubt):
            return "Nothing was charged"
        return (
            f"This run was charged {counted(self.credits_charged, 'credit')}{doubt}; what was bought is in the ledger, and running again "
            "asks only for the rest"
        )

    @property
    def match_rate(self) -> float | None:
        """Matched among the rows whose answer is known; None without any."""
        known = self.matched + self.not_found
        return self.matched / known if known else None

    def count_status(self, status: Status, rows: int) -> None:
        """Count rows that ended so; except those that are invalid, which `invalid` counts by reason."""
        if status != "invalid":
            setattr(self, status, getattr(self, status) + rows)

    def to_dict(self, *, price: float | None = None) -> dict[str, Any]:
        """The report as plain numbers, texts and dicts."""
        plain: dict[str, Any] = {}
        for column in fields(self):
            value = getattr(self, column.name)
            plain[column.name] = dict(cast("Counter[str]", value)) if isinstance(value, Counter) else value
        plain["match_rate"] = self.match_rate
        price = plain["price"] = self.price if price is None else price
        if price is not None:
            plain["cost"] = round(self.credits_charged * price, 6)
        return plain

    def to_frame(self) -> pd.DataFrame:
        """The report as a dataframe of one row, with a column for each figure and each part, as `matched_by.email`.

        Those of several runs can be put below each other with `pandas.concat`.
        """
        return one_row(self.to_dict())

    def save(self, path: str | os.PathLike[str], *, plan: Plan | None = None) -> None:
        """Write the report as a web page of its own, which shows no person. It takes the place of an earlier report.

        With the plan, the page compares the two.

        Raises:
            InputError: the name does not end in .html, or there is another file of that name.

        """
        from eb_dagster.pipeline.html_report import report_page, save_page

        save_page(report_page(self, plan=plan), Path(path))

    def facts(self, *, price: float | None = None) -> list[tuple[str, str]]:
        """The report line by line; with the price of a credit, what it cost."""
        price = self.price if price is None else price
        # What became of rows is not told of a run without a table: most of them had no time to become anything.
        facts = self._facts_of_early_end() if self.ended_early else self._facts_of_rows()
        facts += [
            ("requests", f"{self.requests:,}"),
            ("credits charged", f"{self.credits_charged:,}"),
            *([] if self.ended_early else [("credits saved", f"{self.credits_saved:,}")]),
            ("credits in doubt", f"{self.credits_in_doubt:,}"),
        ]
        if self.retries:
            facts.append(("requests sent again", _most_common(self.retries)))
        if price is not None:
            facts.append(("cost", money(self.credits_charged, price)))
        facts += [
            ("unexpected types", _most_common(self.drift)),
            ("new fields", _most_common(self.new_fields)),
            ("seconds", f"{self.seconds:.1f}"),
        ]
        if not self.is_read_first:
            facts.append(
                ("shared identifiers", "known by the rows before, and by the ledger: a stream is read once")
            )
        if self.stopped:
            facts.append(("stopped", self.stopped))
        return facts

    def _facts_of_early_end(self) -> list[tuple[str, str]]:
        return [
            ("ended early", f"because {self.ended_early}: no table was made"),
            ("rows read", f"{self.rows_read:,}"),
            ("distinct identifiers", f"{self.identifiers:,}"),
            (
                "bought, and in no table yet",
                f"{counted(self.credits_charged, 'contact')}, which another run takes for nothing",
            ),
        ]

    def _facts_of_rows(self) -> list[tuple[str, str]]:
        return [
            ("rows", self._rows),
            ("distinct identifiers", f"{self.identifiers:,}"),
            *self._answer_facts(),
            *unusable_facts(self.invalid, self.unusable),
            ("rows suppressed", f"{self.suppressed:,}"),
            ("rows not asked", f"{self.not_asked:,}"),
            ("rows in doubt", f"{self.in_doubt:,}"),
            ("rows unreadable", f"{self.unreadable:,}"),
            ("repeats (asked once)", f"{self.folded:,}"),
            ("rows answered from the ledger", f"{self.from_ledger:,}"),
            *self._update_facts(),
        ]

    def _answer_facts(self) -> list[tuple[str, str]]:
        """How many rows were found and not found, and by which kinds of identifiers."""
        rate = "unknown" if self.match_rate is None else f"{self.match_rate:.1%}"
        facts = [("rows matched", f"{self.matched:,} ({rate} of the rows with an answer)")]
        most_asked_first = sorted(
            self.answered_by | self.matched_by, key=lambda kind: -self.answered_by[kind]
        )
        for kind in most_asked_first:
            rows = f"{self.matched_by[kind]:,} of {counted(self.answered_by[kind], 'row')} that asked it"
            facts.append((f"  by {kind}", rows))
        facts.append(("rows not found", f"{self.not_found:,}"))
        if self.contradicted:
            facts.append(("  found, but somebody else", f"{self.contradicted:,}"))
        if compared := self.agrees + self.disagrees:
            facts.append(("names agree, of those compared", f"{self.agrees:,} of {compared:,}"))
        return facts

    def _update_facts(self) -> list[tuple[str, str]]:
        """Of a table that was updated, how many rows were kept."""
        if not self.kept:
            return []
        gone = [("  no longer in the input", f"{self.gone:,}")] if self.gone else []
        return [("rows kept as they were", f"{self.kept:,}"), *gone]

    @property
    def _rows(self) -> str:
        read = f" of {self.rows_read:,} that were read" if self.rows_read > self.rows else ""
        return f"{self.rows:,}{read}"

    def __str__(self) -> str:
        return text_table(self.facts())

    def _repr_html_(self) -> str:
        return html_table(self.facts(), title="Report")


def warn_of_rest(report: Report) -> None:
    """Warn of rows without an answer: a table with holes looks like a finished one."""
    if report.unfinished is not None:
        warn_caller(report.unfinished)


def _most_common(counter: Counter[str]) -> str:
    if not counter:
        return "0"
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common(8))
