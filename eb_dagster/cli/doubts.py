"""What is in doubt, for a person: what to look for on the vendor's bill, and deciding one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from eb_dagster.cli.spelling import counted

if TYPE_CHECKING:
    from eb_dagster.ledger.ledger import Ledger
    from eb_dagster.ledger.reconcile import Decision, Doubt

_CHOICES: Final[dict[str, Decision | None]] = {
    "c": "charged",
    "n": "resend",
    "w": "write-off",
    "s": None,
}
_QUESTION: Final = (
    "  (c) the bill has it: it counts as spent\n"
    "  (n) the bill does not have it: the next run asks again\n"
    "  (w) nobody can tell: it is written off, and never asked again\n"
    "  (s) skip: decide later\n"
    "  (q) quit\n"
)


def bill_lines(doubt: Doubt) -> list[str]:
    """What to look for on the vendor's bill."""
    before, most = doubt.credits_before, doubt.credits_before + doubt.at_risk
    return [
        f"request {doubt.request}, sent {doubt.sent_at:%Y-%m-%d %H:%M:%S} UTC: {counted(doubt.asked, 'identifier')} asked, "
        f"up to {counted(doubt.at_risk, 'credit')} in doubt ({doubt.reason})",
        f"  on the bill, around that time: {counted(before, 'credit')} before it if nothing else is in doubt; "
        f"still {before:,} after it if it was not charged, up to {most:,} if it was",
    ]


def list_open(doubts: Sequence[Doubt]) -> None:
    """Say what is open, and what to type."""
    for doubt in doubts:
        for line in bill_lines(doubt):
            click.echo(line)
    number = doubts[0].request
    click.echo(
        "compare with the vendor's bill, then decide about each, for example:\n"
        f"  eb-dagster ledger resolve {number} --charged     the bill has it\n"
        f"  eb-dagster ledger resolve {number} --resend      the bill does not have it: the next run asks again\n"
        f"  eb-dagster ledger resolve {number} --write-off   nobody can tell: never ask again\n"
        "on a terminal, eb-dagster ledger resolve takes you through them"
    )


def lead_through(ledger: Ledger, doubts: Sequence[Doubt]) -> None:
    """Ask about each open request, one after the other. Each decision stands at once."""
    decided = 0
    for number, doubt in enumerate(doubts, start=1):
        click.echo(f"\n{number} of {len(doubts)}")
        for line in bill_lines(doubt):
            click.echo(line)
        click.echo(_QUESTION, nl=False)
        choice: str = click.prompt(
            "What does the bill say?", type=click.Choice([*_CHOICES, "q"]), default="s"
        )
        if choice == "q":
            break
        decided += _decide(ledger, doubt, _CHOICES[choice])
    left = len(doubts) - decided
    click.echo(f"decided about {counted(decided, 'request')}; {counted(left, 'request')} still open")


def _decide(ledger: Ledger, doubt: Doubt, decision: Decision | None) -> bool:
    from eb_dagster.ledger import reconcile

    if decision is None:
        return False
    credit_count: int | None = None
    ask_again = False
    if decision == "charged":
        credit_count = click.prompt(
            "  How many credits does the bill have for it?",
            type=click.IntRange(0, doubt.at_risk),
            default=doubt.at_risk,
        )
        ask_again = click.confirm(
            "  Ask again in the next run all the same? It may be paid for twice", default=False
        )
    count = reconcile.resolve(ledger, [doubt.request], decision, credits=credit_count, ask_again=ask_again)
    click.echo(f"  done: {counted(count, 'identifier')} {_after(decision, ask_again=ask_again)}")
    return True


def _after(decision: Decision, *, ask_again: bool) -> str:
    if decision == "resend" or ask_again:
        return "will be asked again by the next run"
    return "will never be asked again"
