import re
import time

import click

from eb_dagster.pipeline.progress import Forecast, shell_display, shell_words
from eb_dagster.pipeline.report import Report
from tests.cli.shell import leads


def test_a_line_tells_how_far_it_is_where_there_is_no_terminal(stand_in, shell):
    leads(30)
    done = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv")
    assert done.said.splitlines()[-1] == "100%  1 request, 30 credits of 30 asked"


def test_the_words_beside_the_bar_leave_room_for_it_on_80_columns():
    for asked, seconds in ((1_000, 5), (1_000_000, 300), (10_000_000, 3_000)):
        forecast = Forecast(asked)
        for done in (0.3, 0.5):
            now = time.monotonic() - seconds * (1 - done)
            rows, found = round(asked * done), round(asked * done * 0.7)
            report = Report(rows=rows, replies=rows // 1000, answers=rows, credits_charged=found)
            forecast.note(report, now=now)
        words = shell_words(forecast, report, now=time.monotonic(), is_short=True)
        assert " left" in words
        assert len(f"100% |{'#' * 10}| {words} [1:00:00]") <= 80, words


def test_nothing_is_said_twice_where_there_is_no_terminal(capsys):
    report = Report(rows=30, replies=1, answers=30, credits_charged=30)
    with shell_display(30, max_credits=None, say=lambda line: click.echo(line, err=True)) as bar:
        bar(report)
        bar(report)
    assert capsys.readouterr().err == "100%  1 request, 30 credits of 30 asked\n"


def test_a_terminal_of_80_columns_shows_the_whole_line_with_a_bar(stand_in, terminal):
    leads(20)
    _, shown = terminal(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", columns=80)
    frames = [frame for frame in re.split(r"[\r\n]", shown) if "20 credits" in frame and "% |" in frame]
    assert frames
    for frame in frames:
        assert re.fullmatch(
            r" *\d+% \|.{10,}\| 1 request, 20 credits of 20 asked(?:, \d+ s left)? \[\d\d:\d\d\] *", frame
        ), frame
        assert len(frame) <= 80
