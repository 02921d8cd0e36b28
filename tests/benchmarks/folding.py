"""Canonical form and folding of e-mail addresses."""

from __future__ import annotations

import random
from collections.abc import Callable

import pyarrow as pa

from eb_dagster.identifiers.canonical import canonical, canonical_thoroughly
from eb_dagster.identifiers.columns import Layout
from eb_dagster.identifiers.model import Identifier
from eb_dagster.identifiers.rows import read_batch
from tests.benchmarks.clocks import interleaved, ratio

LAYOUT = Layout("wide", (("email", "email"),))


def make_addresses(count: int) -> list[str]:
    """Addresses of which a fifth come again, a tenth shout, and a few are wrapped or no addresses."""
    chance = random.Random(4)
    made: list[str] = []
    for number in range(count):
        if made and chance.random() < 0.2:
            made.append(chance.choice(made))
            continue
        text = f"{chance.choice(('ada', 'boris.b', 'chloe+x'))}.{number}@{chance.choice(('larch', 'maple'))}{number % 997}.example"
        kind = chance.random()
        if kind < 0.1:
            text = text.upper()
        elif kind < 0.15:
            text = f" {text} "
        elif kind < 0.16:
            text = chance.choice(("", "n/a", f"Ada <{text}>", f"ädä{number}@märkte.example"))
        made.append(text)
    return made


def fold(addresses: pa.RecordBatch) -> set[Identifier]:
    """What the package does, in pieces as it reads them."""
    found: set[Identifier] = set()
    for start in range(0, addresses.num_rows, 8_192):
        for row in read_batch(addresses.slice(start, 8_192), LAYOUT, default_region=None):
            found.update(row.identifiers)
    return found


def fold_with_dict(addresses: list[str], read: Callable[[str], Identifier | str]) -> set[Identifier]:
    known: dict[str, Identifier | str] = {}
    for text in addresses:
        if text not in known:
            known[text] = read(text)
    return {identifier for identifier in known.values() if isinstance(identifier, Identifier)}


def measure(*, rounds: int, addresses: int) -> dict[str, float]:
    made = make_addresses(addresses)
    batch = pa.record_batch({"email": made})
    seconds = interleaved(
        {
            "ours": lambda: fold(batch),
            "libraries": lambda: fold_with_dict(made, lambda text: canonical_thoroughly("email", text, None)),
            "dict": lambda: fold_with_dict(made, lambda text: canonical("email", text)),
        },
        rounds=rounds,
    )
    return {
        "fold": ratio(seconds["libraries"], seconds["ours"]),
        "fold_dict": ratio(seconds["dict"], seconds["ours"]),
    }
