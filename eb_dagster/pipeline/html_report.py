"""One run as a web page of its own: no script, no network, and no person in it. It reads well on a phone and in print."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from eb_dagster.errors import InputError, counted
from eb_dagster.pipeline.plan import Plan
from eb_dagster.pipeline.report import Report
from eb_dagster.tables.atomic_file import published, telling_of

_MOST_BARS: Final = 15

# Statuses, the best first, and the style that colors each.
_OUTCOMES: Final = (
    ("matched", "found"),
    ("not_found", "missed"),
    ("not_asked", "unasked"),
    ("invalid", "invalid"),
    ("suppressed", "suppressed"),
    ("in_doubt", "doubt"),
    ("unreadable", "unreadable"),
)
# A plain key of the vendor's JSON is not a person's data. A key of another shape might be.
_PLAIN_PATH: Final = re.compile(r"[A-Za-z_][\w.\[\]-]{0,60}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    share: float
    """Of the longest possible bar, from 0 to 1."""
    text: str


def report_page(
    report: Report, *, plan: Plan | None = None, price: float | None = None, made_at: datetime | None = None
) -> str:
    """The page as HTML. With the price of a credit, costs are shown in money."""
    time = (made_at or datetime.now(UTC)).astimezone(UTC)
    price = report.price if price is None else price
    sections = [_tiles(report, price)]
    if not report.ended_early:
        # Of a run without a table, the rows had no time to become anything.
        sections += [
            _section("What became of the rows", _outcomes(report), "Shares are of all rows."),
            _section("Match rate by identifier", _identifiers(report), _IDENTIFIERS_NOTE),
            _section("Fill rate by column", _columns(report), "Of the rows that were found."),
        ]
    sections += [
        _section("Cost and savings", _costs(report, plan, price), _COSTS_NOTE),
        _section("Drift", _drift(report), _DRIFT_NOTE),
        _section("All figures", _figures(report, price)),
    ]
    why = report.unfinished or report.stopped
    words = f"Stopped early: {why}" if report.stopped else (why or "")[:1].upper() + (why or "")[1:]
    stopped = f"<p class='stopped' role='alert'>{html.escape(words)}.</p>" if why else ""
    return _PAGE.format(
        style=_STYLE, made_at=f"{time:%Y-%m-%d %H:%M} UTC", stopped=stopped, body="\n".join(sections)
    )


def write_page(page: str, path: Path) -> None:
    """Write a page; it is there whole or not at all."""
    with telling_of(path), published(path) as sink:
        sink.write(page.encode())


def save_page(page: str, path: Path) -> None:
    """Write a page, but over nothing that is not an earlier one.

    Raises:
        InputError: the name does not end in .html, or there is another file of that name.

    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError("a report is saved as a web page; give it a name that ends in .html")
    if path.exists() and not is_page(path):
        raise InputError(f"{path} exists and is no earlier report; choose another name for this one")
    write_page(page, path)


def is_page(path: Path) -> bool:
    """Whether the file is a report of ours."""
    with path.open("rb") as file:
        return b'<meta name="generator" content="eb_dagster">' in file.read(512)


_IDENTIFIERS_NOTE: Final = (
    "Of the rows whose identifier of that kind was answered. A row asks the next kind only after a miss."
)
_COSTS_NOTE: Final = (
    "In credits, one for each record found. Saved is what the repeats in the input and the contacts "
    "bought before would have cost."
)
_DRIFT_NOTE: Final = (
    "Fields that came in another type than expected, or that no column takes. Nothing of them is lost: "
    "they are in the column <code>other</code>."
)


def _section(title: str, content: str, note: str = "") -> str:
    paragraph = f"<p class='note'>{note}</p>" if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{paragraph}{content}</section>"


def _tiles(report: Report, price: float | None) -> str:
    rate = "–" if report.match_rate is None else f"{report.match_rate:.1%}"

    def credits_of(count: int) -> tuple[str, str]:
        credits_ = counted(count, "credit")
        return (f"{count:,}", credits_.split()[1]) if price is None else (f"{count * price:,.2f}", credits_)

    rows = report.rows_read if report.ended_early else report.rows
    found = f"{report.matched:,} of {counted(report.matched + report.not_found, 'row')} with an answer"
    tiles = [
        (
            "Rows read" if report.ended_early else "Rows",
            f"{rows:,}",
            f"{report.identifiers:,} distinct identifiers",
        ),
        ("In no table yet", f"{report.credits_charged:,}", "contacts that were bought")
        if report.ended_early
        else ("Match rate", rate, found),
        ("Charged", *credits_of(report.credits_charged)),
        ("In doubt", *credits_of(report.credits_in_doubt))
        if report.ended_early
        else ("Saved", *credits_of(report.credits_saved)),
    ]
    return "<div class='tiles'>{}</div>".format(
        "".join(
            f"<div><span>{name}</span><strong>{value}</strong><span>{below}</span></div>"
            for name, value, below in tiles
        )
    )


def _outcomes(report: Report) -> str:
    counts = {name: getattr(report, name) for name, _ in _OUTCOMES}
    counts["invalid"] = report.invalid.total()
    if not report.rows:
        return _nothing("No row was finished.")
    parts: list[str] = []
    legend: list[str] = []
    for name, style in _OUTCOMES:
        count = counts[name]
        if not count:
            continue
        label = f"{name.replace('_', ' ')}: {count:,} ({count / report.rows:.1%})"
        parts.append(f"<i class='{style}' style='flex-grow:{count}'></i>")
        legend.append(f"<li><i class='{style}'></i>{label}</li>")
    # The list below says the same in words.
    return (
        f"<div class='stack' aria-hidden='true'>{''.join(parts)}</div><ul class='key'>{''.join(legend)}</ul>"
    )


def _identifiers(report: Report) -> str:
    bars: list[_Bar] = []
    for kind, asked in report.answered_by.most_common():
        if asked:
            rate = report.matched_by[kind] / asked
            bars.append(_Bar(kind.replace("_", " "), rate, f"{rate:.1%} of {asked:,}"))
    return _bars(bars) if bars else _nothing("Nothing was answered.")


def _columns(report: Report) -> str:
    if not report.matched:
        return _nothing("No contact was found.")
    bars = [
        _Bar(name, count / report.matched, f"{count / report.matched:.0%} ({count:,})")
        for name, count in report.filled.most_common()
    ]
    return _bars(bars)


def _costs(report: Report, plan: Plan | None, price: float | None) -> str:
    amounts = [
        ("charged", report.credits_charged),
        ("saved", report.credits_saved),
        ("in doubt", report.credits_in_doubt),
    ]
    if plan is not None:
        amounts.append(("planned at most", plan.spends_at_most))
    most = max(amount for _, amount in amounts) or 1
    bars: list[_Bar] = []
    for name, amount in amounts:
        text = f"{amount:,}" if price is None else f"{amount * price:,.2f} ({amount:,})"
        bars.append(_Bar(name, amount / most, text))
    return _bars(bars)


def _drift_bars(title: str, counter: Mapping[str, int]) -> str:
    paths: Counter[str] = Counter()
    for path, count in counter.items():
        paths[path if _PLAIN_PATH.fullmatch(path) else "(a key of another shape)"] += count
    most = max(paths.values())
    shown = paths.most_common(_MOST_BARS)
    bars = [_Bar(path, count / most, f"{count:,}") for path, count in shown]
    more = len(paths) - len(shown)
    rest = f"<p class='note'>and {more:,} more</p>" if more else ""
    return f"<h3>{title}</h3>{_bars(bars)}{rest}"


def _drift(report: Report) -> str:
    parts: list[str] = []
    for title, counter in (("Unexpected types", report.drift), ("New fields", report.new_fields)):
        if counter:
            parts.append(_drift_bars(title, counter))
    return "".join(parts) or _nothing("None: every field was of the expected type and has its column.")


def _figures(report: Report, price: float | None) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(name.strip())}</th><td>{html.escape(value)}</td></tr>"
        for name, value in report.facts(price=price)
        if name not in ("unexpected types", "new fields")
    )
    return f"<table>{rows}</table>"


def _nothing(text: str) -> str:
    return f"<p>{text}</p>"


def _bars(bars: Sequence[_Bar]) -> str:
    lines: list[str] = []
    for bar in bars:
        width = 100 * max(0.0, min(1.0, bar.share))
        lines.append(
            f"<li><span>{html.escape(bar.label)}</span>"
            f"<span class='track' aria-hidden='true'><i class='found' style='width:{width:.1f}%'></i></span>"
            f"<span class='value'>{html.escape(bar.text)}</span></li>"
        )
    return f"<ul class='bars'>{''.join(lines)}</ul>"


_STYLE: Final = """
:root { color-scheme: light dark; --back: #fcfcfb; --text: #0b0b0b; --soft: #52514e; --line: #e1e0d9;
  --track: #efeee9; --found: #2a78d6; --missed: #a9a79c; --unasked: #d3d1c6; --invalid: #eda100;
  --suppressed: #4a3aa7; --doubt: #e34948; --unreadable: #8c2f2e; }
@media screen and (prefers-color-scheme: dark) { :root { --back: #1a1a19; --text: #fff; --soft: #c3c2b7; --line: #383835;
  --track: #2a2a28; --found: #3987e5; --missed: #7d7b72; --unasked: #55544e; --invalid: #c98500;
  --suppressed: #9085e9; --doubt: #e66767; --unreadable: #b3504f; } }
body { margin: 0 auto; padding: 32px 24px 64px; max-width: 760px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 17px; margin: 40px 0 4px; } h3 { font-size: 14px; margin: 16px 0 4px; }
.note, header p { color: var(--soft); margin: 0 0 12px; font-size: 13px; }
.stopped { border-left: 4px solid var(--doubt); padding: 4px 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 20px; }
.tiles div { border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; display: grid; align-content: start; }
.tiles span { color: var(--soft); font-size: 13px; } .tiles strong { font-size: 24px; overflow-wrap: anywhere; }
ul { list-style: none; padding: 0; margin: 0; } .bars { font-size: 13px; }
.bars li { display: grid; grid-template-columns: minmax(0, 11em) 1fr minmax(0, 11em); gap: 2px 12px; align-items: center;
  padding: 3px 0; overflow-wrap: anywhere; }
.track { display: block; height: 14px; border-radius: 3px; background: var(--track); overflow: hidden; }
.track i { display: block; height: 100%; border-radius: 3px; }
.value { color: var(--soft); font-variant-numeric: tabular-nums; }
.stack { display: flex; gap: 2px; height: 28px; } .stack i { flex: 0 1 0; min-width: 2px; border-radius: 3px; }
.key { margin: 12px 0 0; display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 13px; }
.key i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
.found { background: var(--found); } .missed { background: var(--missed); }
.unasked { background: var(--unasked); }
.invalid { background: var(--invalid); }
.suppressed { background: var(--suppressed); }
.doubt { background: var(--doubt); }
.unreadable { background: var(--unreadable); }
table { width: 100%; overflow-wrap: anywhere; border-collapse: collapse; font-size: 13px; } th { text-align: left; font-weight: normal; color: var(--soft); }
th, td { vertical-align: top; padding: 3px 24px 3px 0; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
@media (max-width: 480px) { body { padding: 20px 16px 40px; } .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .bars li { grid-template-columns: 1fr auto; } .track { grid-row: 2; grid-column: 1 / -1; } }
@media print { body { max-width: none; padding: 0; } section { break-inside: avoid; } h2 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="eb_dagster">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Enrichment report</title>
<style>{style}</style>
</head>
<body>
<main>
<header><h1>Enrichment report</h1><p>{made_at}</p></header>
{stopped}
{body}
</main>
</body>
</html>
"""
