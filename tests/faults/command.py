"""The command line of one part of the campaign: `python -m tests.faults.PART [--long] [--seed N]`."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

Rows = list[tuple[str, str]]
"""Figures of one table, each with its name."""


def main(description: str | None, figures: Callable[..., Rows]) -> None:
    """Print the figures of a part."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    for name, value in figures(options.long, seed=options.seed):
        print(f"{name:<45} {value}")


def chosen_seed(seed: int | None) -> int:
    """The seed, or one drawn at random. It is among the figures, so that a run can be repeated."""
    return random.SystemRandom().randrange(2**32) if seed is None else seed
