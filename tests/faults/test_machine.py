"""The state machine in a short form; `python -m tests.faults.machine --long` is the long one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from eb_dagster.api.reply import NoReply, Reply
from tests.faults import machine
from tests.faults.machine_vendor import Wire


def test_whatever_the_vendor_does_nobody_is_paid_for_twice_and_nobody_is_forgotten(seed: int):
    tale = machine.run_in_parallel(steps=300, seed=seed)
    assert tale.breaks == []
    assert tale.steps > 225
    assert tale.charges > 100
    assert len(tale.ends) > 15


class Liar(Wire):
    """A client that calls a request free whose bytes had left."""

    def send(self, form: bytes) -> Reply | NoReply:
        reply = super().send(form)
        return NoReply(False, reply.reason) if isinstance(reply, NoReply) else reply


class BuyingWithALiar(machine.Buying):
    wire_type = Liar

    def _wire(self, script: Iterable[str], **settings: Any) -> Wire:
        return super()._wire(["reset after", *script], **settings)


def test_a_client_that_calls_a_charged_request_free_is_found_out(seed: int):
    with pytest.raises(AssertionError, match="charged 2 times"):
        machine.run(steps=200, seed=seed, machine=BuyingWithALiar)
