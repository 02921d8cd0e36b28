"""Errors as values."""

import pickle

import pytest

from eb_dagster import errors


@pytest.mark.parametrize("kind", [errors.InputError, errors.Busy, errors.LedgerError])
def test_an_error_can_be_sent_to_another_process(kind):
    error = kind("fix it")
    error.spent = "3 credits were charged"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, "fix it. 3 credits were charged")


def test_a_refusal_keeps_its_status_on_the_way():
    assert pickle.loads(pickle.dumps(errors.Refused("top up", status=403))).status == 403
