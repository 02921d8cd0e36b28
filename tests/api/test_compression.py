import gzip
import time
import tracemalloc
import zlib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eb_dagster.api import compression
from eb_dagster.api.compression import MOST_DECODED_BYTES, inflate


def test_a_wrong_checksum_does_not_take_the_data():
    compressed = gzip.compress(b"hello")
    assert inflate(compressed, "gzip") == (b"hello", True)
    assert inflate(compressed[:-8] + bytes(8), "gzip") == (b"hello", False)


def test_a_body_that_broke_off_gives_what_is_there_and_is_not_whole():
    text = b"".join(b"%d hello " % number for number in range(500))
    compressed = gzip.compress(text)
    for end in range(len(compressed)):
        found, is_whole = inflate(compressed[:end], "gzip")
        assert text.startswith(found)
        assert not is_whole
    assert len(found) == len(text)


def test_a_body_of_several_members_that_broke_off_is_not_whole():
    first, second = gzip.compress(b"hello "), gzip.compress(b"world")
    for end in range(len(first) + 1, len(first + second)):
        found, is_whole = inflate((first + second)[:end], "gzip")
        assert b"hello world".startswith(found)
        assert found.startswith(b"hello ")
        assert not is_whole
    damaged = first + second[:-8] + bytes(8) + gzip.compress(b"!")
    assert inflate(damaged, "gzip") == (b"hello world", False)


def test_the_cap_holds_over_all_members():
    part = gzip.compress(bytes(MOST_DECODED_BYTES // 2 + 1), 1)
    found, is_whole = inflate(part + part, "gzip")
    assert (len(found), is_whole) == (MOST_DECODED_BYTES, False)
    exact = gzip.compress(bytes(MOST_DECODED_BYTES // 2), 1)
    found, is_whole = inflate(exact * 2 + gzip.compress(b"more"), "gzip")
    assert (len(found), is_whole) == (MOST_DECODED_BYTES, False)


def test_members_without_end_are_given_up_soon():
    started = time.thread_time()
    found, is_whole = inflate(gzip.compress(b"") * 2_000_000, "gzip")
    assert (found, is_whole) == (b"", False)
    assert time.thread_time() - started < 5


RESERVED_FLAGS = 0b1110_0000


@pytest.mark.parametrize("flag", [0x20, 0x40, 0x80, RESERVED_FLAGS])
def test_a_flag_that_stands_for_nothing_does_not_take_the_data(flag):
    compressed = bytearray(gzip.compress(b"hello " * 10))
    compressed[3] |= flag
    assert inflate(bytes(compressed), "gzip") == (b"hello " * 10, True)


@settings(max_examples=300, deadline=None)
@given(
    text=st.binary(max_size=60).flatmap(lambda pattern: st.integers(1, 200).map(lambda times: pattern * times)),
    position=st.floats(0, 1), keep=st.booleans(), put=st.binary(max_size=8),
)  # fmt: skip
def test_whatever_is_damaged_is_inflated_at_once_as_it_is_bit_by_bit(text, position, keep, put):
    compressed = gzip.compress(text)
    cut = round(position * len(compressed))
    # Cut off, with something put in or over what was there, or with more at the end.
    body = compressed[:cut] + put + (compressed[cut + len(put) :] if keep else b"")
    # Flags that stand for nothing: the one reader passes over them, the other refuses them.
    assume(len(body) < 4 or not body[3] & RESERVED_FLAGS)
    at_once = inflate(body, "gzip")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compression, "_inflated_at_once", lambda _: None)
        assert inflate(body, "gzip") == at_once


@pytest.mark.parametrize("told", [1, MOST_DECODED_BYTES])
def test_a_body_that_lies_about_its_size_gets_no_more_room_than_others(told: int):
    machine, megabyte = zlib.compressobj(1, wbits=31), bytes(2**20)
    compressed = b"".join([machine.compress(megabyte) for _ in range(MOST_DECODED_BYTES // 2**18)])
    compressed += machine.flush()[:-4] + told.to_bytes(4, "little")
    tracemalloc.start()
    found, is_whole = inflate(compressed, "gzip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(found), is_whole) == (MOST_DECODED_BYTES, False)
    assert peak < 3 * MOST_DECODED_BYTES


def test_a_body_that_inflates_without_end_is_cut_and_not_whole():
    found, is_whole = inflate(gzip.compress(bytes(MOST_DECODED_BYTES + 1)), "gzip")
    assert (len(found), is_whole) == (MOST_DECODED_BYTES, False)
