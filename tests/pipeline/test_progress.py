"""The bar of `Enricher` itself: in a notebook, on a terminal, and where nobody looks."""

import sys
from types import ModuleType

import pandas as pd
import pytest


def enrich(stand_in, enricher, progress) -> None:
    leads = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(30)]})
    enricher(stand_in(match_rate=1.0), progress=progress).enrich_dataframe(leads)


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook's kernel looks like to a program: its package is there, and no terminal."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))


def test_a_bar_counts_rows_and_shows_requests_and_matches(stand_in, enricher, capsys):
    enrich(stand_in, enricher, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Enriching: 100%" in shown.err
    assert "30/30" in shown.err
    assert "requests=1, credits=30, matched=30" in shown.err
    assert "firm.example" not in shown.err


@pytest.mark.usefixtures("notebook")
def test_a_notebook_has_one_without_asking(stand_in, enricher, capsys):
    enrich(stand_in, enricher, progress=None)
    assert "Enriching: 100%" in capsys.readouterr().err


@pytest.mark.usefixtures("notebook")
def test_nobody_has_one_who_wants_none(stand_in, enricher, capsys):
    enrich(stand_in, enricher, progress=False)
    assert capsys.readouterr().err == ""


def test_a_log_has_none(stand_in, enricher, capsys):
    enrich(stand_in, enricher, progress=None)
    assert capsys.readouterr().err == ""
