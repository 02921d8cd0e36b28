"""The tests' own PostgreSQL: that it waits for a slow machine, and says at once what failed."""

import contextlib
import time
from pathlib import Path

import psycopg
import pytest

from tests.databases import NotUp, PostgreSQL


def program(postgresql: PostgreSQL, *, does: str) -> Path:
    """A server that does something first."""
    # Where the user whom PostgreSQL runs as may read.
    file = postgresql.folder.parent / "postgres"
    file.write_text(f'#!/bin/sh\n{does}\nexec "{postgresql.programs / "postgres"}" "$@"\n')
    file.chmod(0o755)
    return file


def test_a_slow_start_is_waited_for(own_postgresql):
    own_postgresql.down()
    own_postgresql.up(program=program(own_postgresql, does="sleep 3"))
    assert own_postgresql.run("SELECT 1") == [(1,)]


def test_a_slow_start_is_told_from_one_that_failed(own_postgresql):
    own_postgresql.down()
    with pytest.raises(NotUp, match="still starting after 1 s"):
        own_postgresql.up(patience=1, program=program(own_postgresql, does="sleep 4"))
    ends = time.monotonic() + 120
    while not answers(own_postgresql):
        assert time.monotonic() < ends
        time.sleep(0.2)


def answers(postgresql: PostgreSQL) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        return postgresql.run("SELECT 1") == [(1,)]
    return False


def test_a_start_that_failed_says_why_at_once_and_can_be_tried_again(own_postgresql):
    own_postgresql.down()
    with pytest.raises(NotUp, match=r"(?s)failed to start; the end of its log:.*no disk"):
        own_postgresql.up(program=program(own_postgresql, does="echo no disk; exit 1"))
    own_postgresql.up()
    assert own_postgresql.run("SELECT 1") == [(1,)]
