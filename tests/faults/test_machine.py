"""The state machine in a short form; `python -m tests.faults.machine --long` is the long one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from eb_dagster.api.client import NoReply, Reply
from tests.faults import machine


def test_whatever_the_vendor_does_nobody_is_paid_for_twice_and_nobody_is_forgotten(seed: int):
    tale = machine.run_in_parallel(steps=1_000, seed=seed)
    assert tale.breaks == []
    assert tale.steps > 750
    assert tale.charges > 150
    assert len(tale.ends) > 15


class Liar(machine.Wire):
    """A client that calls a request free whose bytes had left."""

    def send(self, form: bytes) -> Reply | NoReply:
        reply = super().send(form)
        return NoReply(False, reply.reason) if isinstance(reply, NoReply) else reply


class BuyingWithALiar(machine.Buying):
    def _wire(self, script: Iterable[str], *, in_doubt: str = "hold", buys_again: bool = False) -> Liar:
        fates = ["reset after", *script]
        return Liar(self._vendor, fates, is_resending=in_doubt == "resend", buys_again=buys_again)


def test_a_client_that_calls_a_charged_request_free_is_found_out(seed: int):
    with pytest.raises(AssertionError, match="charged 2 times"):
        machine.run(steps=200, seed=seed, machine=BuyingWithALiar)
