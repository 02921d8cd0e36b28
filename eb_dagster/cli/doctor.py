"""`eb-dagster doctor`: whether everything that a run needs is there. Nothing is bought."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from eb_dagster.cli.config import config_option
from eb_dagster.cli.options import refuse_password, setting_option
from eb_dagster.cli.spelling import counted, in_options
from eb_dagster.cli.targets import ledger_file

if TYPE_CHECKING:
    from eb_dagster.settings import EnricherOptions, Settings

_GOOD: Final = "✓"
_BAD: Final = "✗"
_NOTE: Final = "!"
_SHORTEST_KEY: Final = 8
_PLACEHOLDER: Final = re.compile(r"(?i)your|api.?key|xxx|change.?me|todo|<|>|\$|\.\.\.|…")
_PACKAGES: Final = ("dagster", "pandas", "pyarrow", "sqlalchemy", "requests")

Finding = tuple[str, str, str]
"""A mark, what was looked at, and what was found or what to do."""


@click.command(short_help="Check key, address, ledger and the rest. Buys nothing.")
@setting_option("ledger")
@setting_option("base_url")
@setting_option("proxy", callback=refuse_password)
@setting_option("ca_bundle")
@config_option()
def doctor(**given: Any) -> None:
    """Check that everything a run needs is there: each thing with a tick, or with what to do. Buys nothing.

    The key is never sent. Exit code 0 if all is well, 1 if not.
    """
    bad: list[str] = []
    for mark, what, found in _checks(given):
        click.echo(f"{mark} {what}: {in_options(found)}")
        if mark == _BAD:
            bad.append(what)
    if bad:
        click.echo(f"{counted(len(bad), 'thing')} to fix: {', '.join(bad)}. Nothing was bought")
        sys.exit(1)
    click.echo("all is well. Nothing was bought")


def _checks(given: dict[str, Any]) -> Iterator[Finding]:
    from eb_dagster import __version__
    from eb_dagster.errors import EnrichError
    from eb_dagster.settings import read_settings

    yield (
        _GOOD,
        "versions",
        ", ".join([f"eb_dagster {__version__}", f"Python {platform.python_version()}", *_versions()]),
    )
    yield _key()
    try:
        # The key has a finding of its own.
        settings = read_settings(**cast("EnricherOptions", {**given, "api_key": "not-a-key"}))
    except EnrichError as error:
        yield _BAD, "settings", str(error.args[0])
        return
    yield from _address(settings)
    yield from _ledger(settings)
    yield _folder()


def _versions() -> Iterator[str]:
    for package in _PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def _key() -> Finding:
    from eb_dagster.errors import EnrichError
    from eb_dagster.settings.environment import KEY_VARIABLE, read_api_key

    try:
        key = read_api_key(None)
    except EnrichError as error:
        return _BAD, "key", str(error.args[0])
    if any(character.isspace() or character in "\"'" for character in key):
        return _BAD, "key", f"{KEY_VARIABLE} holds a blank or a quote; copy the key again, without them"
    if key != "sandbox" and (len(key) < _SHORTEST_KEY or _PLACEHOLDER.search(key)):
        return _NOTE, "key", f"{KEY_VARIABLE} is set, but looks like a placeholder; check that it is your key"
    return (
        _GOOD,
        "key",
        f"{KEY_VARIABLE} is set and looks plausible. Only the first run shows whether the vendor accepts it",
    )


def _address(settings: Settings) -> Iterator[Finding]:
    from eb_dagster.api.client import Client
    from eb_dagster.errors import EnrichError
    from eb_dagster.settings import is_sandbox

    name = f"the sandbox at {settings.base_url}" if is_sandbox(settings.base_url) else settings.base_url
    try:
        client = Client(
            base_url=settings.base_url,
            api_key="",
            timeout=20.0,
            proxy=settings.proxy,
            ca_bundle=settings.ca_bundle,
        )
        address_time = client.reach()
    except EnrichError as error:
        yield _BAD, "address", f"{name}: {error.args[0]}"
        return
    yield _GOOD, "address", f"{name} answers"
    if settings.base_url.startswith("https:"):
        own = f", with your authorities in {settings.ca_bundle}" if settings.ca_bundle else ""
        yield _GOOD, "TLS", f"its certificate is trusted{own}"
    yield _GOOD, "proxy", "through the one that is set" if settings.proxy else _no_proxy()
    yield from _clock(address_time)


def _no_proxy() -> str:
    ignored = [name for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY") if os.environ.get(name)]
    return f"none; {ignored[0]} is ignored here" if ignored else "none"


def _clock(address_time: float | None) -> Iterator[Finding]:
    from eb_dagster.pipeline.purchase import FARTHEST_OFF

    if address_time is None:
        yield _NOTE, "clock", "the API did not tell the time, so this machine's could not be compared"
        return
    seconds = abs(time.time() - address_time)
    if seconds > FARTHEST_OFF:
        yield _BAD, "clock", f"this machine's clock is {seconds:,.0f} s off the API's; set it"
    else:
        yield _GOOD, "clock", f"within {max(1, round(seconds))} s of the API's"


def _ledger(settings: Settings) -> Iterator[Finding]:
    from eb_dagster.errors import EnrichError
    from eb_dagster.ledger import reconcile
    from eb_dagster.ledger.connection import shown_url
    from eb_dagster.ledger.ledger import Ledger
    from eb_dagster.pipeline.purchase import FARTHEST_OFF
    from eb_dagster.settings import endpoint_of

    try:
        file = ledger_file(os.fspath(settings.ledger))
        if file is not None and not file.exists():
            yield _no_ledger(file)
            return
        with closing(
            Ledger(settings.ledger, endpoint=endpoint_of(settings.base_url), must_exist=True)
        ) as ledger:
            place, requests, newest = (
                shown_url(ledger.database.url),
                ledger.last_request(),
                ledger.last_time(),
            )
            doubts = len(reconcile.doubts(ledger))
    except EnrichError as error:
        yield _BAD, "ledger", str(error.args[0])
        return
    if newest is not None and newest - time.time() > FARTHEST_OFF:
        yield _BAD, "ledger", f"{place}: its newest request is later than this machine's clock; set the clock"
        return
    yield _GOOD, "ledger", f"{place}, {counted(requests, 'request')}"
    if doubts:
        yield _NOTE, "in doubt", f"{counted(doubts, 'request')} to decide about: eb-dagster ledger resolve"


def _no_ledger(file: Path) -> Finding:
    folder = next((parent for parent in file.parents if parent.exists()), file.parent)
    if not os.access(folder, os.W_OK | os.X_OK):
        found = f"{file} is not there, and cannot be made: no permission in {folder}; name another path"
        return _BAD, "ledger", found
    found = f"{file} is not there yet; the first run makes it. If you have bought before, name that ledger"
    return _NOTE, "ledger", found


def _folder() -> Finding:
    from eb_dagster.errors import EnrichError
    from eb_dagster.tables.atomic_file import check_writable

    try:
        check_writable(Path.cwd() / ".eb_dagster-doctor.csv", makes_folder=False)
    except EnrichError as error:
        return _BAD, "folder", str(error.args[0])
    return _GOOD, "folder", f"{Path.cwd()} can be written"
