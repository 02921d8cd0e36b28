import base64
from collections import Counter
from typing import Any
from xml.etree import ElementTree

from eb_dagster import Report
from eb_dagster.definitions.metadata import (
    add_up,
    column_schema,
    figures_in,
    named,
    picture,
    plotted,
    report_figures,
    spent_figures,
)

ROWS: dict[str, Any] = {
    "matched": 700,
    "not_found": 100,
    "suppressed": 20,
    "not_asked": 50,
    "in_doubt": 70,
    "unreadable": 10,
}


def drawn(report: Report) -> ElementTree.Element:
    text = picture(report).value
    # Dagster hides a longer one behind a click.
    assert len(text) < 1000
    encoded = text.removeprefix("![rows](data:image/svg+xml;base64,").removesuffix(")")
    return ElementTree.fromstring(base64.b64decode(encoded))


def test_the_picture_has_a_bar_for_each_status_and_stays_short():
    report = Report(rows=1_000, invalid=Counter(blank=50), **ROWS)
    _, *bars = [element.tag.rpartition("}")[2] for element in drawn(report).iter()]
    assert bars.count("path") == bars.count("tspan") == 7


def test_the_picture_of_nothing_is_empty():
    assert len(list(drawn(Report()).iter())) == 2


def test_figures_are_numbers():
    report = Report(rows=1_000, credits_charged=5, invalid=Counter(blank=1, email_syntax=2), **ROWS)
    figures = report_figures(report)
    assert figures["invalid"] == 3
    assert figures["match_rate"] == 0.875
    assert all(isinstance(figure, int | float) for figure in figures.values())


def test_what_nobody_would_plot_is_kept_beside_what_is_plotted():
    report = Report(rows=1_000, refusals=2, matched_by=Counter(email=1), answered_by=Counter(email=1), **ROWS)
    figures = {**report_figures(report), "input_rows": 1_000}
    shown = plotted(figures)
    numbers = [name for name, value in shown.items() if isinstance(value, int | float)]
    assert numbers[:2] == ["exactbuyer/match_rate", "exactbuyer/credits_charged"]
    assert "exactbuyer/matched_email" in numbers
    # Each of them moves in some healthy table, or is the first thing to look at when it does not stay zero.
    assert len(numbers) == 14
    assert not {"exactbuyer/refusals", "exactbuyer/rows", "exactbuyer/input_rows"} & set(numbers)
    assert shown["exactbuyer/figures"].value == figures
    read = figures_in(
        {name: value if hasattr(value, "value") else Value(value) for name, value in shown.items()}
    )
    assert read == figures


def test_what_a_failed_run_spent_is_plotted_in_one_line_with_what_others_did():
    figures = report_figures(Report(**ROWS))
    assert set(named(spent_figures(figures))) <= set(plotted(figures))


class Value:
    """As the page keeps a number."""

    def __init__(self, value):
        self.value = value


def test_the_column_schema_has_lists_as_they_are_written():
    kinds = {}
    for lists in ("list", "json"):
        columns = column_schema({}, {"lists": lists}).columns
        kinds[lists] = {column.name: column.type for column in columns}["eb_emails"]
    assert kinds == {"list": "list<item: string>", "json": "string"}


def test_a_kind_that_found_nobody_counts_as_zero():
    report = Report(rows=3, matched_by=Counter(email=1), answered_by=Counter(email=1, phone=2))
    assert {
        name: figure for name, figure in report_figures(report).items() if name.startswith("matched_")
    } == {
        "matched_email": 1,
        "matched_phone": 0,
    }


def test_the_figures_of_partitions_add_up_and_rates_do_not():
    parts = [
        {"matched": 1, "not_found": 1, "match_rate": 0.5},
        {"matched": 4, "not_found": 0, "match_rate": 1.0},
    ]
    assert add_up(parts) == {"matched": 5, "not_found": 1, "match_rate": 5 / 6}
    assert add_up([{"matched": 0, "not_found": 0}, {"matched": 0, "not_found": 0}]) == {
        "matched": 0,
        "not_found": 0,
    }


def test_figures_come_back_from_a_page_of_an_older_release():
    shown = {
        name: Value(value)
        for name, value in {**named({"rows": 5}), "exactbuyer/plan": "| |", "other": 3}.items()
    }
    assert figures_in(shown) == {"rows": 5}
