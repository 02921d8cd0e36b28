"""Facts as names and values, line by line: as text, as HTML for a notebook, and how some of them read."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    import pandas as pd

Facts: TypeAlias = Sequence[tuple[str, str]]
"""Names and values."""


def money(credit_count: int, price: float) -> str:
    """What that many credits cost, and how that was worked out."""
    return f"{credit_count * price:,.2f} ({credit_count:,} at {price:g})"


_REASONS: Final = {
    "shared": "shared by several people",
    "role_mailbox": "mailbox of a role, such as info@",
    "blank": "nothing in it",
    "control_characters": "control characters in it",
    "field_type": "field_type of no known kind",
    "email_syntax": "not an e-mail address, or pieces of one",
    "email_too_long": "longer than an e-mail address can be",
    "phone_no_region": "phone number without a country code",
    "phone_not_possible": "phone number of an impossible length",
    "phone_spreadsheet_number": "phone number that a spreadsheet has rounded",
    "phone_syntax": "not a phone number, or pieces of one",
    "phone_two_readings": "phone number that may have lost its + (write it before the country code)",
    "phone_too_long": "longer than a phone number can be",
    "profile_not_a_person": "profile that is not a person's",
    "profile_query": "profile with an unknown query in its address",
    "profile_short_link": "short link (put in the address that it leads to)",
    "profile_syntax": "not the address of a profile, or pieces of one",
    "profile_too_long": "longer than the address of a profile can be",
}


def reason_in_words(reason: str) -> str:
    """Why something is not used, as a person reads it."""
    return _REASONS.get(reason, reason)


def unusable_facts(invalid: Mapping[str, int], unusable: Mapping[str, int]) -> list[tuple[str, str]]:
    """How many rows have no usable identifier, and what in any row cannot be used, by reason."""
    blank = f", {invalid['blank']:,} of them blank" if invalid.get("blank") else ""
    facts = [("rows without a usable identifier", f"{sum(invalid.values()):,}{blank}")]
    if unusable:
        facts.append(("rows with a value that cannot be used", ""))
    most_first = sorted(unusable.items(), key=lambda item: -item[1])
    for reason, count in most_first:
        advice = " (give default_region)" if reason == "phone_no_region" else ""
        facts.append((f"  {reason_in_words(reason)}", f"{count:,}{advice}"))
    return facts


def _split_number(value: str) -> tuple[str, str]:
    """The number at the start of a value, and the words after it."""
    head, space, rest = value.partition(" ")
    return (head, space + rest) if head[:1].isdigit() or not rest else ("", value)


def text_table(facts: Facts) -> str:
    """The facts in two columns, with the numbers aligned."""
    name_width = max(len(name) for name, _ in facts)
    number_width = max(len(_split_number(value)[0]) for _, value in facts)
    lines: list[str] = []
    for name, value in facts:
        number, rest = _split_number(value)
        lines.append(f"{name:<{name_width}}  {number:>{number_width}}{rest}".rstrip())
    return "\n".join(lines)


def html_table(facts: Facts, *, title: str) -> str:
    """The facts as a small table for a notebook, in the notebook's colors and fonts."""
    name_style = "text-align:left;font-weight:normal;padding:2px 16px 2px 0;opacity:.75"
    value_style = "text-align:left;padding:2px 0;font-variant-numeric:tabular-nums;white-space:pre-wrap"
    number_style = f"{value_style};text-align:right;font-weight:600"
    rows: list[str] = []
    for name, value in facts:
        number, rest = _split_number(value)
        # A name that is indented is a part of the line above it.
        indent = (len(name) - len(name.lstrip())) * 8
        rows.append(
            f"<tr><th scope='row' style='{name_style};padding-left:{indent}px'>{html.escape(name.strip())}</th>"
            f"<td style='{number_style}'>{html.escape(number)}</td>"
            f"<td style='{value_style}'>{html.escape(rest)}</td></tr>"
        )
    caption = "caption-side:top;text-align:left;font-weight:600;padding-bottom:4px;color:inherit"
    return (
        f"<table style='border-collapse:collapse'><caption style='{caption}'>{html.escape(title)}</caption>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def one_row(plain: Mapping[str, Any]) -> pd.DataFrame:
    """Plain values as a dataframe of one row. Of a value that has parts, each is a column, as `matched_by.email`."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, Mapping):
            parts = cast("Mapping[str, Any]", value)
            columns |= {f"{name}.{part}": part_value for part, part_value in parts.items()}
        else:
            columns[name] = value
    return pd.DataFrame([columns])
