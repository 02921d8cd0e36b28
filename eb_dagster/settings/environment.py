"""What the environment says where a setting is not given, in one spelling each: key, address, ledger, proxy."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from eb_dagster.errors import ConfigError

VENDOR_URL: Final = "https://api.exactbuyer.com"
"""The vendor's documented address."""

KEY_VARIABLE: Final = "EXACTBUYER_API_KEY"
BASE_URL_VARIABLE: Final = "EXACTBUYER_BASE_URL"
LEDGER_VARIABLE: Final = "EB_DAGSTER_LEDGER"
PROXY_VARIABLE: Final = "EB_DAGSTER_PROXY"
CA_BUNDLE_VARIABLE: Final = "EB_DAGSTER_CA_BUNDLE"

_USUAL_PORTS: Final = {"https": 443, "http": 80}
_HOST: Final = re.compile(r"[\w.-]+|[0-9a-f.:]+")
_NO_BASE_URL: Final = f"base_url is not an address; set it to one such as {VENDOR_URL}"
_PROXY_SHAPE: Final = (
    "give it as http://host:port, or http://user:password@host:port with special characters as %XX"
)


def read_api_key(given: str | None) -> str:
    """The key as given, else $EXACTBUYER_API_KEY."""
    key = (given if given is not None else os.environ.get(KEY_VARIABLE, "")).strip()
    if not key:
        raise ConfigError(f"no API key: pass api_key=… or set {KEY_VARIABLE}")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("the API key holds characters that no HTTP header can carry; copy it again")
    return key


def read_base_url(given: str | None) -> str:
    """The address as given, else $EXACTBUYER_BASE_URL, else the vendor's, in one spelling.

    The key and the people go there, so it is https, or plain http to this very machine.
    """
    text = (given or os.environ.get(BASE_URL_VARIABLE) or VENDOR_URL).strip()
    try:
        parts = urlsplit(text)
        host, port = _host_of(parts.hostname or ""), parts.port
    except ValueError:
        raise ConfigError(_NO_BASE_URL) from None
    _check_base_url(parts, host)
    address = host if port in (None, _USUAL_PORTS[parts.scheme]) else f"{host}:{port}"
    path = re.sub("/+", "/", parts.path).rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{address}{path}"


def _check_base_url(parts: SplitResult, host: str) -> None:
    if parts.username is not None or parts.password is not None:
        raise ConfigError("base_url carries a user name or password; leave them out, and use api_key")
    if parts.query or parts.fragment or not host:
        raise ConfigError(_NO_BASE_URL)
    _check_scheme(parts, host)


def _check_scheme(parts: SplitResult, host: str) -> None:
    if parts.scheme not in _USUAL_PORTS:
        raise ConfigError("base_url has another scheme; use https://")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError("base_url is plain http, which is for this machine only (127.0.0.1); use https://")


def is_sandbox(base_url: str) -> bool:
    """Whether an address from `read_base_url` is this machine's, where only a stand-in for the API can be."""
    return _is_loopback(urlsplit(base_url).hostname or "")


def endpoint_of(base_url: str) -> str:
    """What the ledger calls an address from `read_base_url`: one name for this machine, which has several."""
    from eb_dagster.api.envelope import PATH

    parts = urlsplit(base_url)
    if parts.hostname not in ("localhost", "::1"):
        return base_url + PATH
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://127.0.0.1{port}{parts.path}{PATH}"


def read_proxy(given: str | None) -> str | None:
    """The proxy as given, else $EB_DAGSTER_PROXY, in one spelling. An empty text means no proxy, as None does.

    Raises `ConfigError` that shows nothing of it, because it may hold a password.
    """
    text = (os.environ.get(PROXY_VARIABLE, "") if given is None else given).strip()
    if not text:
        return None
    return _parse_proxy(text, setting=PROXY_VARIABLE if given is None else "proxy")


def _split_proxy(text: str, *, setting: str) -> tuple[SplitResult, str, int | None]:
    try:
        parts = urlsplit(text)
        return parts, parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{setting} is not an address; {_PROXY_SHAPE}") from None


def _parse_proxy(text: str, *, setting: str) -> str:
    parts, host, port = _split_proxy(text, setting=setting)
    has_scheme = "://" in text
    if has_scheme and parts.scheme != "http":
        raise ConfigError(f"{setting} has another scheme than http; {_PROXY_SHAPE}")
    if not has_scheme or port is None or _has_path(parts) or not _HOST.fullmatch(host):
        raise ConfigError(f"{setting} is not the address of a proxy; {_PROXY_SHAPE}")
    address = f"[{host}]" if ":" in host else host
    return f"http://{_user_of(parts)}{address}:{port}"


def _has_path(parts: SplitResult) -> bool:
    return parts.path not in ("", "/") or bool(parts.query or parts.fragment)


def _user_of(parts: SplitResult) -> str:
    if parts.username is None and parts.password is None:
        return ""
    user = _quoted_again(parts.username)
    password = _quoted_again(parts.password)
    return f"{user}:{password}@"


def _quoted_again(text: str | None) -> str:
    return quote(unquote(text or ""), safe="")


def read_ca_bundle(given: str | os.PathLike[str] | None) -> str | None:
    """The file of certificates as given, else $EB_DAGSTER_CA_BUNDLE. An empty text means none, as None does."""
    path = os.fspath(os.environ.get(CA_BUNDLE_VARIABLE, "") if given is None else given)
    # The file is read again when the first request is sent, maybe from another working directory.
    return str(Path(path).expanduser().absolute()) if path else None


def read_ledger(given: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    """The ledger as given, else $EB_DAGSTER_LEDGER, else a file in the user's data folder.

    An empty name is refused: somebody meant a ledger, and another one would pay for everything again.
    """
    named = os.environ.get(LEDGER_VARIABLE) if given is None else given
    if named is None:
        import platformdirs

        return platformdirs.user_data_path("eb_dagster") / "ledger.db"
    if not os.fspath(named):
        setting = LEDGER_VARIABLE if given is None else "ledger"
        raise ConfigError(
            f"{setting} is empty: name a path or a database URL, or leave it out for a file in your data folder"
        )
    return named


def _host_of(name: str) -> str:
    """A host in one spelling: lower case, no dot at the end, an address in its shortest form."""
    name = name.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    if isinstance(address, ipaddress.IPv4Address):
        return address.compressed
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped.compressed
    return f"[{address.compressed}]"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
