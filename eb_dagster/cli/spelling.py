"""Messages name settings by their keywords in Python; the shell shows its own options in their place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from eb_dagster.errors import counted as counted
from eb_dagster.settings import SETTINGS

_PHRASES: Final = {
    "columns:": "--columns:",
    "set proxy=… or EB_DAGSTER_PROXY": "set --proxy or EB_DAGSTER_PROXY",
    "pass api_key=… or set EXACTBUYER_API_KEY": "set EXACTBUYER_API_KEY",
    "prefix is": "--prefix is",
    "choose another prefix": "choose another --prefix",
}


def _spellings() -> dict[str, str]:
    # A keyword without an underscore may also be an ordinary word of a message.
    keywords = [setting for setting in SETTINGS.values() if "_" in setting.name]
    spellings = {
        setting.name: " or ".join([*setting.flags, *filter(None, [setting.variable])]) for setting in keywords
    }
    return {name: spelling for name, spelling in spellings.items() if spelling}


_SPELLINGS: Final = {**_PHRASES, **_spellings()}
_KEYWORD: Final = re.compile(
    rf"(?<![\w-])(?P<name>{'|'.join(map(re.escape, _SPELLINGS))})(?!\w)(?P<sign>=(?=[\w\"']))?"
)


def in_options(text: str) -> str:
    """A message with the shell's options in place of Python's keywords."""

    def spelled(found: re.Match[str]) -> str:
        # Of `max_credits=5`, the shell makes `--max-credits 5`.
        return _SPELLINGS[found["name"]] + (" " if found["sign"] else "")

    return _KEYWORD.sub(spelled, text)


def facts_in_options(facts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The lines of a plan or a report, likewise."""
    return [(in_options(name), in_options(value)) for name, value in facts]


def counted_with_verb(count: int, noun: str) -> str:
    """Likewise, with a verb: 1 row is, 2 rows are."""
    return f"{counted(count, noun)} {'is' if count == 1 else 'are'}"
