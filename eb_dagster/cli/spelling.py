"""Messages name settings by their keywords in Python; the shell shows its own options in their place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from eb_dagster.errors import counted as counted
from eb_dagster.settings import SETTINGS

# Keywords that are ordinary words, too: of these, only the one that a message is about is surely the setting.
_WORDS: Final = ("columns", "prefix", "proxy")
_PHRASES: Final = {
    "set proxy=… or EB_DAGSTER_PROXY": "set --proxy or EB_DAGSTER_PROXY",
    "pass api_key=… or set EXACTBUYER_API_KEY": "set EXACTBUYER_API_KEY",
    "choose another prefix": "choose another --prefix",
}


def _spellings() -> dict[str, str]:
    # A keyword without an underscore may also be an ordinary word of a message.
    keywords = [setting for setting in SETTINGS.values() if "_" in setting.name]
    spellings = {
        setting.name: " or ".join([*setting.flags, *filter(None, [setting.variable])]) for setting in keywords
    }
    return {name: spelling for name, spelling in spellings.items() if spelling}


_SPELLINGS: Final = {**_PHRASES, **_spellings(), **{word: f"--{word}" for word in _WORDS}}
# What stands in quotes is somebody's own, such as the name of a column, and an apostrophe is no quote.
_QUOTED: Final = r"(?<!\w)'(?:[^'\\\n]|\\.)*'(?!\w)|(?<!\w)\"(?:[^\"\\\n]|\\.)*\"|`[^`\n]*`"
_SUBJECT: Final = rf"(?:\A|\A\w+: )(?P<subject>{'|'.join(_WORDS)})(?=:| is | has | holds )"
# Part of a path, or of the name of a file, it is none either.
_KEYWORD: Final = (
    rf"(?<![\w./\\-])(?P<name>{'|'.join(map(re.escape, [*_PHRASES, *_spellings()]))})(?![\w/\\-]|\.\w)"
    r"(?P<sign>=(?=[\w\"']))?"
)
_NAMED: Final = re.compile(f"{_QUOTED}|{_SUBJECT}|{_KEYWORD}")


def in_options(text: str) -> str:
    """A message with the shell's options in place of Python's keywords."""

    def spelled(found: re.Match[str]) -> str:
        if name := found["subject"]:
            return found[0].removesuffix(name) + _SPELLINGS[name]
        if name := found["name"]:
            # Of `max_credits=5`, the shell makes `--max-credits 5`.
            return _SPELLINGS[name] + (" " if found["sign"] else "")
        return found[0]

    return _NAMED.sub(spelled, text)


def facts_in_options(facts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The lines of a plan or a report, likewise."""
    return [(in_options(name), in_options(value)) for name, value in facts]


def counted_with_verb(count: int, noun: str) -> str:
    """Likewise, with a verb: 1 row is, 2 rows are."""
    return f"{counted(count, noun)} {'is' if count == 1 else 'are'}"
