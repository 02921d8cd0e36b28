"""A vendor that knows people: each identifier is answered with the person that it was given to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd

from tests.vendors import answering, records

COLUMNS = ("name", "social_profile", "email", "phone")
DESK = "+12025550100"


class Vendor:
    """`answers` gives a contact by the value that is asked for; `asked` counts what was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, Mapping[str, Any]] = {}
        self.asked: Counter[str] = Counter()

    def knows(self, contact: Mapping[str, Any], *values: str) -> None:
        """Answer each of these values with this contact."""
        self.answers |= dict.fromkeys(values, contact)

    @property
    def credits(self) -> int:
        """What was charged: one credit for each time that somebody was found."""
        return sum(count for value, count in self.asked.items() if value in self.answers)

    def reply(self, values: Sequence[str]) -> dict[str, Any]:
        self.asked.update(values)
        return records(*({"value": value, "enriched_contact": self.answers.get(value)} for value in values))


def contact(
    name: str, *, profile: str = "", emails: list[str] | None = None, phones: list[str] | None = None
) -> dict[str, Any]:
    """A contact as the vendor gives it."""
    return {
        "full_name": name,
        "emails": emails or [],
        "phone_numbers": [{"E164": phone} for phone in phones or []],
        "social_profiles": [{"network": "linkedin", "url": profile}] if profile else [],
    }


@contextmanager
def vendor() -> Iterator[Vendor]:
    """A vendor on this machine, until the end of the block."""
    knowing = Vendor()
    with answering(knowing.reply) as api:
        knowing.url = api.url
        yield knowing


def people(frame: pd.DataFrame) -> list[str | None]:
    """Whom each row got, by name."""
    return [None if pd.isna(name) else name for name in frame["eb_full_name"]]
