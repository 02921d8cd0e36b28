"""Checks of single settings."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from eb_dagster import ConfigError
from eb_dagster.settings import AssetOptions, ResourceOptions, Settings, read_settings

WHOLE = (
    "max_credits",
    "partition_size",
    "max_credits_at_risk",
    "max_credits_per_day",
    "max_credits_per_month",
)
DECIMAL = ("price", "timeout", "requests_per_minute")


def read(**given: Any) -> Settings:
    return read_settings(api_key="k", base_url="http://127.0.0.1:9", ledger="/l.db", **given)


def test_these_are_all_settings_that_are_numbers():
    declared = {**ResourceOptions.__annotations__, **AssetOptions.__annotations__}
    # As they are written: "int | None".
    kinds = {
        name: {word.strip() for word in kind.__forward_arg__.split("|")} for name, kind in declared.items()
    }
    assert set(WHOLE) == {name for name, kind in kinds.items() if "int" in kind}
    assert set(DECIMAL) == {name for name, kind in kinds.items() if "float" in kind}


@pytest.mark.parametrize("name", [*WHOLE, *DECIMAL])
@pytest.mark.parametrize("given", [pd.Series([3, 4]).sum(), np.int32(7), np.uint8(7)])
def test_a_whole_number_of_numpy_is_one(name, given):
    number = getattr(read(**{name: given}), name)
    # A plain one, which a report can be written with.
    assert (number, type(number) in (int, float)) == (7, True)


@pytest.mark.parametrize("name", DECIMAL)
@pytest.mark.parametrize("given", [np.float32(0.5), np.float64(0.5), np.float16(0.5)])
def test_a_decimal_number_of_numpy_is_one(name, given):
    number = getattr(read(**{name: given}), name)
    assert (number, type(number)) == (0.5, float)


@pytest.mark.parametrize("name", [*WHOLE, *DECIMAL])
@pytest.mark.parametrize(
    "given", [True, np.True_, np.array([7]), np.timedelta64(7, "D"), np.float64("nan"), "7"]
)
def test_what_only_looks_like_a_number_is_refused(name, given):
    with pytest.raises(ConfigError, match=f"^{name} is "):
        read(**{name: given})


def test_a_number_of_numpy_is_shown_as_people_write_it():
    with pytest.raises(ConfigError, match=r"max_credits is 2\.5; choose a whole number"):
        read(max_credits=np.float64(2.5))
    with pytest.raises(ConfigError, match=r"partition_size is 2000; choose a number from 1 to 1000"):
        read(partition_size=np.int64(2000))


@pytest.mark.parametrize("name", DECIMAL)
@pytest.mark.parametrize("given", [1e9, 10**30, float("inf")])
def test_a_number_that_is_too_large_is_told_the_bound(name, given):
    with pytest.raises(ConfigError, match=r"below 1,000,000,000"):
        read(**{name: given})


@pytest.mark.parametrize("prefix", ["eb_\n", "\t", "a\0", "\x1b[1m", "eb\u2028"])
def test_a_prefix_holds_nothing_that_breaks_a_line(prefix):
    with pytest.raises(ConfigError, match="prefix holds a line break, a tab or another character") as told:
        read(prefix=prefix)
    assert prefix not in str(told.value)


def test_a_prefix_is_any_text_that_can_be_seen():
    assert [read(prefix=prefix).prefix for prefix in ("", "é ", "eb-")] == ["", "é ", "eb-"]


@pytest.mark.parametrize("name", ["api_key", "base_url", "ledger", "proxy", "ca_bundle"])
def test_an_address_a_path_or_a_key_that_is_no_text_is_refused_and_not_shown(name):
    given: dict[str, Any] = {"api_key": "k", "base_url": "http://127.0.0.1:9", "ledger": "/l.db", name: 4242}
    with pytest.raises(ConfigError, match=f"^{name} is of type int; give it as text") as told:
        read_settings(**given)
    assert "4242" not in str(told.value)
