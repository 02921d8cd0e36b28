from typing import Any

import pytest

from eb_dagster import ConfigError, Enricher
from eb_dagster.settings import endpoint_of, read_base_url


@pytest.mark.parametrize(
    "given",
    [
        "https://api.exactbuyer.com",
        "https://api.exactbuyer.com:443",
        "https://api.exactbuyer.com.",
        "https://api.exactbuyer.com.:443/",
        "HTTPS://API.ExactBuyer.com/",
        "https://api.exactbuyer.com//",
        "https://api.exactbuyer.com/v1",
        "https://api.exactbuyer.com:/v1/",
        "https://api.exactbuyer.com//v1//",
    ],
)
def test_one_address_has_one_spelling(given):
    assert read_base_url(given) == "https://api.exactbuyer.com"


@pytest.mark.parametrize(
    "given",
    [
        "http://127.0.0.1", "http://127.0.0.1:80", "http://localhost", "http://LOCALHOST.:80/", "http://[::1]",
        "http://[0:0:0:0:0:0:0:1]:80", "http://[::ffff:127.0.0.1]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["", "/", "/v1", "//v1/"])
def test_this_machine_has_one_memory_under_each_of_its_names(given, path):
    assert endpoint_of(read_base_url(given + path)) == "http://127.0.0.1/v1/bulk-enrich"


def test_other_ports_paths_and_machines_are_other_endpoints():
    several = ["http://127.0.0.1:8000", "http://127.0.0.1:8001", "http://127.0.0.2:8000", "http://127.0.0.1:8000/a",
               "https://127.0.0.1:8000", "https://api.exactbuyer.com", "https://exactbuyer.com"]  # fmt: skip
    assert len({endpoint_of(read_base_url(url)) for url in several}) == len(several)


def test_the_address_that_is_called_is_the_one_that_was_given():
    assert read_base_url("http://localhost:8000") == "http://localhost:8000"
    assert read_base_url("http://[::1]:8000") == "http://[::1]:8000"


@pytest.mark.parametrize("setting", ["max_age", "retry_misses_after"])
def test_an_age_of_zero_is_refused_with_what_to_give_instead(setting, tmp_path):
    from datetime import timedelta

    zero: dict[str, Any] = {setting: timedelta(0)}
    with pytest.raises(ConfigError, match=rf"{setting} is zero.*timedelta\(minutes=1\)"):
        Enricher(api_key="k", ledger=tmp_path / "l.db", **zero)
    assert not (tmp_path / "l.db").exists()


def test_whether_a_clock_is_accepted_is_yes_or_no(tmp_path):
    yes: Any = "yes"
    with pytest.raises(ConfigError, match="accept_clock"):
        Enricher(api_key="k", ledger=tmp_path / "l.db", accept_clock=yes)
