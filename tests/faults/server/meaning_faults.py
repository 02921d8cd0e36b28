"""A reply that can be read and says something else than was asked."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

from .exchange import Exchange
from .people import Json, contact_of
from .registry import fault

Arrangement = tuple[list[Json], Any]
"""The records of a reply, and the count that it tells; None tells the right one."""


@fault
def rearranged(exchange: Exchange, how: str) -> None:
    exchange.read_and_charge()
    records, count = ARRANGEMENTS[how](exchange)
    told = {} if count is None else {"records_enriched": count}
    exchange.reply_json(exchange.body(records, **told))


def _each_record(change: Callable[[Json], Json]) -> Callable[[Exchange], Arrangement]:
    return lambda exchange: ([change(record) for record in exchange.records()], None)


def _each_contact(change: Callable[[Json], Json]) -> Callable[[Exchange], Arrangement]:
    def change_record(record: Json) -> Json:
        contact = record["enriched_contact"]
        return record if contact is None else {**record, "enriched_contact": change(contact)}

    return _each_record(change_record)


def _in_each_contact(**fields: Any) -> Callable[[Exchange], Arrangement]:
    return _each_contact(lambda contact: {**contact, **fields})


def _echo(change: Callable[[str], Any]) -> Callable[[Exchange], Arrangement]:
    return _each_record(lambda record: {**record, "value": change(record["value"])})


def _in_place_of_contact(value: Any) -> Callable[[Exchange], Arrangement]:
    """Put a value in place of each contact, so that who was not found stays null."""
    return _each_record(lambda record: {**record, "enriched_contact": record["enriched_contact"] and value})


def _without(name: str, share: float = 1.0) -> Callable[[Exchange], Arrangement]:
    """Leave a field out of the first records, or of all."""

    def arrange(exchange: Exchange) -> Arrangement:
        records = exchange.records()
        for record in records[: int(len(records) * share)]:
            del record[name]
        return records, None

    return arrange


def _first_found(records: list[Json]) -> Json:
    return next(record for record in records if record["enriched_contact"])


def _shuffled(exchange: Exchange) -> Arrangement:
    records = exchange.records()
    exchange.random.shuffle(records)
    return records, None


def _shifted(exchange: Exchange) -> Arrangement:
    """Let each record stand one place further down; it still says whose it is."""
    records = exchange.records()
    return records[-1:] + records[:-1], None


def _fewer(exchange: Exchange) -> Arrangement:
    return exchange.records()[: len(exchange.asked) * 2 // 3], None


def _never_asked(exchange: Exchange) -> Arrangement:
    strangers = [("email", f"canary.stranger{number}@firm.example") for number in range(5)]
    records = [{"enriched_contact": contact_of(*pair), "value": pair[1]} for pair in strangers]
    return records + exchange.records(), None


def _two_contacts(exchange: Exchange) -> Arrangement:
    """Answer one question by two different people."""
    records = exchange.records()
    other = {**_first_found(records), "enriched_contact": contact_of("email", "canary.other@firm.example")}
    return [*records, other], None


def _one_contact_for_two(exchange: Exchange) -> Arrangement:
    records = exchange.records()
    first, second, *_ = (record for record in records if record["enriched_contact"])
    second["enriched_contact"] = first["enriched_contact"]
    return records, None


def _megabyte(exchange: Exchange) -> Arrangement:
    """Put one value of a megabyte into the first contact."""
    records = exchange.records()
    _first_found(records)["enriched_contact"]["last_name"] = "x" * (1 << 20)
    return records, None


def _without_phones(contact: Json) -> Json:
    return {name: value for name, value in contact.items() if name != "phone_numbers"}


ARRANGEMENTS: dict[str, Callable[[Exchange], Arrangement]] = {
    "other order": _shuffled,
    "shifted": _shifted,
    "fewer": _fewer,
    "none": lambda exchange: ([], len(exchange.found())),
    "never asked": _never_asked,
    "one twice": lambda exchange: (exchange.records() + exchange.records()[:5], None),
    "two contacts": _two_contacts,
    "one contact for two": _one_contact_for_two,
    "other case": _echo(str.upper),
    "other Unicode form": _echo(lambda value: unicodedata.normalize("NFD", value)),
    "spaces": _echo(lambda value: f"  {value}\n"),
    "no echo": _without("value"),
    "echo missing in some": _without("value", 0.3),
    "echo null": _echo(lambda _: None),
    "echo in an object": _echo(lambda value: {"email": value}),
    "no contact field": _without("enriched_contact"),
    "new fields": _in_each_contact(score=7, tags=[1, None, {"a": []}]),
    "changed types": _in_each_contact(
        emails="a@b.example",
        location="Paris",
        employment=[1, 2],
        phone_numbers={"E164": 17734745555},
        education=7,
    ),
    "contact a text": _in_place_of_contact("Canaryname as text"),
    "contact an empty object": _each_contact(lambda _: {}),
    "contact false": _each_record(
        lambda record: {**record, "enriched_contact": record["enriched_contact"] or False}
    ),
    "wrong count": lambda exchange: (exchange.records(), 3),
    "count a text": lambda exchange: (exchange.records(), "many"),
    "count huge": lambda exchange: (exchange.records(), 10**30),
    "formula": _in_each_contact(last_name="=cmd|'/C calc'!A0", gender="@SUM(1)"),
    "NUL": _in_each_contact(last_name="a\0b", gender="\0"),
    "megabyte": _megabyte,
    "required missing": _each_contact(_without_phones),
}
