import errno
import os

import pytest

from eb_dagster import errors
from eb_dagster.definitions.materialize import failure, partition_file

KEYS = ["a", "a/b", "a%2Fb", "../../x", ".", "..", "", "x" * 300, "x" * 299 + "y", "día 1", "a\nb", "a|b"]


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (errors.Busy("the API stayed busy"), True),
        (errors.Refused("insufficient credits", status=403), False),
        (errors.ConfigError("wrong"), False),
        (errors.InputError("wrong"), False),
        (errors.OverBudget("too much"), False),
        (errors.OutcomeUnknown("too much in doubt"), False),
        (errors.LedgerError("not this one"), False),
        (MemoryError(), True),
    ],
)
def test_only_what_may_pass_by_itself_is_retried(error, retried):
    assert failure(raised(error), {}).allow_retries is retried


def test_our_own_errors_are_told_in_their_own_words():
    told = failure(raised(errors.Refused("insufficient credits", status=403)), {"credits_charged": 5})
    assert told.description == "Refused: insufficient credits. Nothing was sent"
    assert told.metadata["exactbuyer/credits_charged"].value == 5


def test_the_text_of_a_foreign_error_is_withheld():
    told = str(failure(raised(ValueError("jane@canary.example")), {}).description)
    assert "ValueError at test_materialize.py:" in told
    assert "canary" not in told


def test_what_the_system_says_is_told():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/jane@canary.example")
    told = str(failure(raised(full), {}).description)
    assert "No space left on device" in told
    assert "canary" not in told


def test_every_partition_has_a_file_name_of_its_own():
    names = [partition_file(key) for key in KEYS]
    assert len(set(names)) == len(KEYS)
    assert not [
        name for name in names if "/" in name or name.startswith("..") or len(os.fsencode(name)) > 255
    ]
