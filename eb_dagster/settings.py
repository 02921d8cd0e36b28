"""The settings of an enrichment, checked before anything else happens."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import quote, unquote, urlsplit

from eb_dagster.api.envelope import MOST_IDENTIFIERS, PATH, REQUIRED_FIELDS
from eb_dagster.contacts.schema import ListsChoice, select
from eb_dagster.errors import ConfigError, shown, shown_list
from eb_dagster.identifiers.columns import listed
from eb_dagster.identifiers.model import FIELD_TYPES, FieldType
from eb_dagster.identifiers.names import check_installed
from eb_dagster.identifiers.phone import check_region

VENDOR_URL = "https://api.exactbuyer.com"
"""The vendor's documented address."""

OverBudgetChoice = Literal["stop", "refuse"]
InDoubtChoice = Literal["hold", "resend"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be chosen about an enrichment. See `Enricher` for what each one means."""

    api_key: str = field(repr=False)
    base_url: str
    required_fields: tuple[str, ...]
    identifiers: Mapping[FieldType, str | Sequence[str]] | None
    default_region: str | None
    max_credits: int | None
    over_budget: OverBudgetChoice
    max_age: timedelta | None
    retry_misses_after: timedelta | None
    partition_size: int
    requests_per_minute: float
    max_credits_at_risk: int
    timeout: float
    in_doubt: InDoubtChoice
    aliases: tuple[FieldType, ...]
    prefix: str
    columns: tuple[str, ...] | None
    progress: bool | Callable[..., None] | None
    max_credits_per_day: int | None = None
    max_credits_per_month: int | None = None
    person: Mapping[str, str] | None = field(default=None)
    lists: ListsChoice = "list"
    # Its address may carry a password.
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    accept_clock: bool = False

    def __post_init__(self) -> None:
        _check_prefix(self.prefix)
        _check_identifiers(self.identifiers)
        _check_names("required_fields", self.required_fields, REQUIRED_FIELDS)
        _check_names("aliases", self.aliases, FIELD_TYPES)
        _check_choice("over_budget", self.over_budget, get_args(OverBudgetChoice))
        _check_choice("in_doubt", self.in_doubt, get_args(InDoubtChoice))
        _check_choice("lists", self.lists, get_args(ListsChoice))
        _check_whole("partition_size", self.partition_size, least=1, most=MOST_IDENTIFIERS)
        _check_whole("max_credits_at_risk", self.max_credits_at_risk, least=1)
        for name in ("max_credits", "max_credits_per_day", "max_credits_per_month"):
            if (most := getattr(self, name)) is not None:
                _check_whole(name, most, least=0)
        _check_positive("requests_per_minute", self.requests_per_minute)
        _check_positive("timeout", self.timeout)
        _check_age("max_age", self.max_age)
        _check_age("retry_misses_after", self.retry_misses_after)
        _check_person(self.person)
        _check_choice("accept_clock", self.accept_clock, (True, False))
        select(self.columns, prefix=self.prefix)
        if not (self.progress is None or isinstance(self.progress, bool) or callable(self.progress)):
            raise ConfigError(f"progress is {shown(self.progress)}; give True, False, None or a function")


def read_api_key(given: str | None) -> str:
    """The key as given, else $EXACTBUYER_API_KEY."""
    key = (given if given is not None else os.environ.get("EXACTBUYER_API_KEY", "")).strip()
    if not key:
        raise ConfigError("no API key: pass api_key=… or set EXACTBUYER_API_KEY")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("the API key holds characters that no HTTP header can carry; copy it again")
    return key


def read_base_url(given: str | None) -> str:
    """The address as given, else $EXACTBUYER_BASE_URL, else the vendor's, in one spelling.

    The key and the people go there, so it is https, or plain http to this very machine.
    """
    text = (given or os.environ.get("EXACTBUYER_BASE_URL") or VENDOR_URL).strip()
    try:
        parts = urlsplit(text)
        host, port = _host_of(parts.hostname or ""), parts.port
    except ValueError:
        raise ConfigError(
            "base_url is no address; set it to one such as https://api.exactbuyer.com"
        ) from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError("base_url carries a user name or password; leave them out, and use api_key")
    if parts.query or parts.fragment or not host:
        raise ConfigError("base_url is no address; set it to one such as https://api.exactbuyer.com")
    if parts.scheme not in ("https", "http"):
        raise ConfigError("base_url has another scheme; use https://")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError("base_url is plain http, which is for this machine only (127.0.0.1); use https://")
    where = host if port in (None, _USUAL_PORTS[parts.scheme]) else f"{host}:{port}"
    path = re.sub("/+", "/", parts.path).rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{where}{path}"


_PROXY_SHAPE = "give it as http://host:port, or http://user:password@host:port with special characters as %XX"


def read_proxy(given: str | None) -> str | None:
    """The proxy as given, else $EB_DAGSTER_PROXY, in one spelling; None for none, which an empty text is too.

    Raises `ConfigError` without any of it: it may hold a password.
    """
    text = (os.environ.get("EB_DAGSTER_PROXY", "") if given is None else given).strip()
    if not text:
        return None
    setting = "EB_DAGSTER_PROXY" if given is None else "proxy"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{setting} is no address; {_PROXY_SHAPE}") from None
    if "://" in text and parts.scheme != "http":
        raise ConfigError(
            f"{setting} has another scheme than http, which a proxy is asked by; {_PROXY_SHAPE}"
        )
    is_all = parts.path in ("", "/") and not parts.query and not parts.fragment
    if "://" not in text or port is None or not is_all or not _HOST.fullmatch(host):
        raise ConfigError(f"{setting} is not the address of a proxy; {_PROXY_SHAPE}")
    user = ""
    if parts.username is not None or parts.password is not None:
        user = ":".join(quote(unquote(one or ""), safe="") for one in (parts.username, parts.password)) + "@"
    return f"http://{user}{f'[{host}]' if ':' in host else host}:{port}"


def read_ca_bundle(given: str | os.PathLike[str] | None) -> str | None:
    """The file of certificates as given, else $EB_DAGSTER_CA_BUNDLE; None for none, which an empty text is too."""
    named = os.fspath(os.environ.get("EB_DAGSTER_CA_BUNDLE", "") if given is None else given)
    # It is read again when the first request goes, maybe in another folder.
    return str(Path(named).expanduser().absolute()) if named else None


_HOST = re.compile(r"[\w.-]+|[0-9a-f.:]+")


def endpoint_of(base_url: str) -> str:
    """What the ledger calls an address that `read_base_url` gave: this machine has several names, and one memory."""
    parts = urlsplit(base_url)
    if parts.hostname not in ("localhost", "::1"):
        return base_url + PATH
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://127.0.0.1{port}{parts.path}{PATH}"


def read_ledger(given: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    """The ledger as given, else $EB_DAGSTER_LEDGER, else a file in the user's data folder.

    One that is named and empty was meant, and another would pay for everything again.
    """
    named = os.environ.get("EB_DAGSTER_LEDGER") if given is None else given
    if named is not None:
        if not os.fspath(named):
            raise ConfigError(
                f"{'EB_DAGSTER_LEDGER' if given is None else 'ledger'} is empty: name a path or a database "
                "URL, or leave it out for a file in your data folder"
            )
        return named
    import platformdirs

    return platformdirs.user_data_path("eb_dagster") / "ledger.db"


def read_settings(
    *,
    api_key: str | None,
    base_url: str | None,
    required_fields: Sequence[str],
    aliases: Sequence[FieldType],
    columns: Sequence[str] | None,
    default_region: str | None,
    proxy: str | None,
    ca_bundle: str | os.PathLike[str] | None,
    **others: Any,
) -> Settings:
    """Check what was given and fill in what comes from the environment."""
    for name, given in {"required_fields": required_fields, "aliases": aliases, "columns": columns}.items():
        _check_list(name, given)
    return Settings(
        api_key=read_api_key(api_key),
        base_url=read_base_url(base_url),
        proxy=read_proxy(proxy),
        ca_bundle=read_ca_bundle(ca_bundle),
        required_fields=tuple(dict.fromkeys(required_fields)),
        aliases=tuple(dict.fromkeys(aliases)),
        columns=None if columns is None else tuple(columns),
        default_region=None if default_region is None else check_region(default_region),
        **others,
    )


_USUAL_PORTS: Final = {"https": 443, "http": 80}


def _host_of(name: str) -> str:
    """A host in one spelling: small letters, no dot at the end, an address in its shortest form."""
    name = name.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    address = getattr(address, "ipv4_mapped", None) or address
    return f"[{address.compressed}]" if address.version == 6 else address.compressed


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_list(setting: str, given: object) -> None:
    if isinstance(given, str):
        raise ConfigError(f"{setting} is one text; give it as a list: [{shown(given)}]")
    if given is not None and not isinstance(given, Iterable):
        raise ConfigError(f"{setting} is no list; give it as a list of names, not {shown(given)}")


def _check_prefix(given: object) -> None:
    if not isinstance(given, str):
        raise ConfigError(f'prefix is {shown(given)}; give a text such as "eb_"')


def _check_identifiers(given: object) -> None:
    shape = 'identifiers must name columns by kind, as in {"email": ["Work email", "Email"]}'
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise ConfigError(f"{shape}, not be of type {type(given).__name__}")
    for kind, names in cast("Mapping[object, object]", given).items():
        if not isinstance(names, Iterable):
            raise ConfigError(f"{shape}; {shown(kind)} names none")


PERSON_PARTS: Final = ("name", "first_name", "last_name", "company")


def _check_person(given: object) -> None:
    if given is None:
        return
    shape = 'person must name columns, as in {"name": "Full name", "company": "Company"}'
    if not isinstance(given, Mapping):
        raise ConfigError(f"{shape}, not be of type {type(given).__name__}")
    named = cast("Mapping[object, object]", given)
    if unknown := len(named.keys() - set(PERSON_PARTS)):
        raise ConfigError(f"{shape}; {unknown} of its keys are not known: choose from {listed(PERSON_PARTS)}")
    if not all(isinstance(column, str) and column for column in named.values()):
        raise ConfigError(f"{shape}; each part is one column")
    if not named.keys() & {"name", "first_name", "last_name"}:
        raise ConfigError(f"{shape}; a company alone is nobody's name")
    check_installed()


def _check_names(setting: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(f"{setting}: {shown_list(unknown)} not known; choose from {list(known)}")


def _check_choice(setting: str, given: object, known: Sequence[object]) -> None:
    if given not in known:
        raise ConfigError(f"{setting} is {shown(given)}; choose from {list(known)}")


def _check_whole(setting: str, given: object, *, least: int, most: int | None = None) -> None:
    span = f"at least {least}" if most is None else f"from {least} to {most}"
    if isinstance(given, bool) or not isinstance(given, int):
        raise ConfigError(f"{setting} is {shown(given)}; choose a whole number {span}")
    if given < least or (most is not None and given > most):
        raise ConfigError(f"{setting} is {shown(given)}; choose a number {span}")


def _check_positive(setting: str, given: object) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 1e9:
        raise ConfigError(f"{setting} is {shown(given)}; choose a number above 0")


def _check_age(setting: str, given: object) -> None:
    if given is None:
        return
    if not (isinstance(given, timedelta) and given >= timedelta(0)):
        raise ConfigError(
            f"{setting} is {shown(given)}; give a timedelta such as timedelta(days=90), or None"
        )
    if not given:
        raise ConfigError(
            f"{setting} is zero, by which nothing that was paid for would ever count; give a timedelta such as "
            "timedelta(minutes=1) to ask again now, or None to never do"
        )
