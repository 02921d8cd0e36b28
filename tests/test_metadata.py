import base64
from collections import Counter
from xml.etree import ElementTree

from eb_dagster import Report
from eb_dagster.metadata import add_up, figures_in, named, picture, report_figures

ROWS = {"matched": 700, "not_found": 100, "suppressed": 20, "not_asked": 50, "in_doubt": 70, "unreadable": 10}


def drawn(report: Report) -> ElementTree.Element:
    text = picture(report).value
    # Dagster hides a longer one behind a click.
    assert len(text) < 1000
    encoded = text.removeprefix("![rows](data:image/svg+xml;base64,").removesuffix(")")
    return ElementTree.fromstring(base64.b64decode(encoded))


def test_the_picture_has_a_bar_for_each_status_and_stays_short():
    report = Report(rows=1_000, invalid=Counter(blank=50), **ROWS)
    _, *bars = [one.tag.rpartition("}")[2] for one in drawn(report).iter()]
    assert bars.count("path") == bars.count("tspan") == 7


def test_the_picture_of_nothing_is_empty():
    assert len(list(drawn(Report()).iter())) == 2


def test_figures_are_numbers_with_the_telling_ones_first():
    report = Report(rows=1_000, credits_charged=5, invalid=Counter(blank=1, email_syntax=2), **ROWS)
    figures = report_figures(report)
    assert list(figures)[:2] == ["match_rate", "credits_charged"]
    assert figures["invalid"] == 3
    assert figures["match_rate"] == 0.875
    assert all(isinstance(one, int | float) for one in figures.values())


def test_a_kind_that_found_nobody_counts_as_zero():
    report = Report(rows=3, matched_by=Counter(email=1), answered_by=Counter(email=1, phone=2))
    assert {name: one for name, one in report_figures(report).items() if name.startswith("matched_")} == {
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


def test_figures_come_back_from_the_page():
    class Value:
        def __init__(self, value):
            self.value = value

    shown = {
        name: Value(value)
        for name, value in {**named({"rows": 5}), "exactbuyer/plan": "| |", "other": 3}.items()
    }
    assert figures_in(shown) == {"rows": 5}
