"""Every setting once: its name, type, default, check and help.

Types stand in `ResourceOptions`, `AssetOptions` and `EnricherOptions`, where type checkers and editors find
them; all else stands in `SETTINGS`. The keywords of `Enricher`, the fields of the resource, the parameters of
the asset factory and of the component, and the options of the shell are made from the two, or compared with
them by `tests/settings/test_table.py`.

- `checks`: checks of single settings
- `kinds`: `email=`, `phone=` and `social_profile=` in place of `identifiers={…}`
- `environment`: what the environment says where a setting is not given
- `config_file`: `exactbuyer.toml`
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, Unpack

from eb_dagster.api.rate_limit import REQUESTS_PER_MINUTE
from eb_dagster.errors import closest, shown
from eb_dagster.settings import checks
from eb_dagster.settings.checks import PERSON_PARTS as PERSON_PARTS
from eb_dagster.settings.checks import Age, Choice, PositiveNumber, WholeNumber, YesOrNo
from eb_dagster.settings.checks import days as days
from eb_dagster.settings.environment import (
    BASE_URL_VARIABLE,
    CA_BUNDLE_VARIABLE,
    KEY_VARIABLE,
    LEDGER_VARIABLE,
    PROXY_VARIABLE,
    read_api_key,
    read_base_url,
    read_ca_bundle,
    read_ledger,
    read_proxy,
)
from eb_dagster.settings.environment import VENDOR_URL as VENDOR_URL
from eb_dagster.settings.environment import endpoint_of as endpoint_of
from eb_dagster.settings.environment import is_sandbox as is_sandbox
from eb_dagster.settings.kinds import KIND_KEYWORDS as KIND_KEYWORDS
from eb_dagster.settings.kinds import KindOptions
from eb_dagster.settings.kinds import with_identifiers as with_identifiers

if TYPE_CHECKING:
    from eb_dagster.contacts.schema import ListsChoice
    from eb_dagster.identifiers.model import FieldType

OverBudgetChoice = Literal["stop", "refuse"]
InDoubtChoice = Literal["hold", "resend"]


class ResourceOptions(TypedDict, total=False):
    """What a project chooses once, for all its tables: the keywords of `ExactBuyerResource`."""

    api_key: str | None
    base_url: str | None
    ledger: str | os.PathLike[str] | None
    proxy: str | None
    ca_bundle: str | os.PathLike[str] | None
    requests_per_minute: float
    max_credits_at_risk: int
    max_credits_per_day: int | None
    max_credits_per_month: int | None
    timeout: float
    in_doubt: InDoubtChoice
    price: float | None


class AssetOptions(TypedDict, total=False):
    """What is chosen for each table: the keywords of the asset factory and of the component."""

    required_fields: str | Sequence[str]
    identifiers: Mapping[FieldType, str | Sequence[str]] | None
    person: Mapping[str, str] | None
    default_region: str | None
    max_credits: int | None
    over_budget: OverBudgetChoice
    max_age: timedelta | None
    retry_misses_after: timedelta | None
    partition_size: int
    aliases: Sequence[FieldType]
    prefix: str
    columns: Sequence[str] | None
    lists: ListsChoice


class TableOptions(AssetOptions, KindOptions, total=False):
    """The same, with the columns of each kind as keywords."""


class EnricherOptions(ResourceOptions, TableOptions, total=False):
    """All keywords of `Enricher` and `enrich_dataframe`."""

    accept_clock: bool
    progress: bool | Callable[[Any], None] | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The checked settings of an enrichment. `SETTINGS` says what each one means."""

    api_key: str = field(repr=False)
    base_url: str
    # The address of a database may hold a password, and so may that of a proxy.
    ledger: str | os.PathLike[str] = field(repr=False)
    proxy: str | None = field(repr=False)
    ca_bundle: str | None
    required_fields: tuple[str, ...]
    identifiers: Mapping[FieldType, str | Sequence[str]] | None
    person: Mapping[str, str] | None
    default_region: str | None
    max_credits: int | None
    over_budget: OverBudgetChoice
    max_age: timedelta | None
    retry_misses_after: timedelta | None
    partition_size: int
    requests_per_minute: float
    max_credits_at_risk: int
    max_credits_per_day: int | None
    max_credits_per_month: int | None
    timeout: float
    in_doubt: InDoubtChoice
    price: float | None
    accept_clock: bool
    aliases: tuple[FieldType, ...]
    prefix: str
    columns: tuple[str, ...] | None
    lists: ListsChoice
    progress: bool | Callable[..., None] | None


Check = WholeNumber | PositiveNumber | Choice | YesOrNo | Age | Callable[[str, Any], object]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting, and how each place that offers it calls and explains it."""

    name: str
    """The keyword in Python."""
    help: str
    check: Check
    """Called with the name and what was given. Returns it as `Settings` holds it, or raises `ConfigError`."""
    default: object = None
    unset: str | None = None
    """What the default None means, in words."""
    variable: str | None = None
    """The environment variable that is read if the setting is not given."""
    flags: tuple[str, ...] = ()
    """The options of the shell that set it; none if the shell does not offer it."""
    metavar: str | None = None
    """How the shell's help shows the value of these options."""
    is_secret: bool = False
    is_offered_at_launch: bool = False
    """Whether whoever launches a Dagster run may choose it in place of the asset."""

    @property
    def plain_name(self) -> str:
        """The name where only a number can stand: in YAML, at launch and in the shell."""
        return f"{self.name}_days" if isinstance(self.check, Age) else self.name

    @property
    def description(self) -> str:
        """The help, with what holds if the setting is not given."""
        return self.help if self.unset is None else f"{self.help} Default: {self.unset}."

    def in_python(self, plain: Any) -> Any:
        """What stands under `plain_name`, as Python's keyword takes it."""
        return days(self.plain_name, plain) if isinstance(self.check, Age) else plain

    def read(self, given: object) -> object:
        """Check what was given. None stands for the default, or for what the environment says."""
        if given is None and self.default is None and self.variable is None:
            return None
        return self.check(self.name, given)


_COLUMN: Final = "COLUMN"

_TABLE: Final = (
    Setting(
        name="api_key",
        help="The vendor's API key.",
        unset=f"${KEY_VARIABLE}",
        variable=KEY_VARIABLE,
        check=checks.Text(read_api_key),
        is_secret=True,
    ),
    Setting(
        name="base_url",
        help="Address of the API: https, or plain http to this machine.",
        unset=f"${BASE_URL_VARIABLE}, then the vendor's",
        variable=BASE_URL_VARIABLE,
        check=checks.Text(read_base_url),
        flags=("--base-url",),
        metavar="URL",
    ),
    Setting(
        name="ledger",
        help="Path or database URL of the ledger, which remembers what was bought.",
        unset=f"${LEDGER_VARIABLE}, then a file in your data folder",
        variable=LEDGER_VARIABLE,
        check=checks.Text(read_ledger),
        flags=("--ledger",),
        metavar="PATH|URL",
        is_secret=True,
    ),
    Setting(
        name="proxy",
        help="HTTP proxy between this machine and the API, as http://host:port.",
        unset=f"${PROXY_VARIABLE}, then none",
        variable=PROXY_VARIABLE,
        check=checks.Text(read_proxy),
        flags=("--proxy",),
        metavar="URL",
        is_secret=True,
    ),
    Setting(
        name="ca_bundle",
        help="PEM file of certificate authorities to trust besides the usual ones.",
        unset=f"${CA_BUNDLE_VARIABLE}, then none",
        variable=CA_BUNDLE_VARIABLE,
        check=checks.Text(read_ca_bundle),
        flags=("--ca-bundle",),
        metavar="FILE.pem",
    ),
    Setting(
        name="required_fields",
        help="Fields that a contact must have to count as found, and to be charged.",
        default=(),
        check=checks.read_required_fields,
        flags=("--required",),
        metavar="FIELD,…",
    ),
    Setting(
        name="identifiers",
        help="Which columns hold which kind of identifier, in the order of asking.",
        unset="columns that are named after a kind",
        check=checks.read_identifiers,
        flags=("--social-profile", "--email", "--phone"),
        metavar=_COLUMN,
    ),
    Setting(
        name="person",
        help="Which columns hold the name and company of the person that a row is about. They are compared here "
        "and never sent.",
        unset="none",
        check=checks.read_person,
        flags=("--name", "--first-name", "--last-name", "--company"),
        metavar=_COLUMN,
    ),
    Setting(
        name="default_region",
        help="Two-letter country of the phone numbers that have no country code.",
        unset="those numbers are not used",
        check=checks.read_region,
        flags=("--region",),
        metavar="US",
    ),
    Setting(
        name="max_credits",
        help="Credits that one run may spend.",
        unset="no cap",
        check=WholeNumber(least=0),
        flags=("--max-credits",),
        is_offered_at_launch=True,
    ),
    Setting(
        name="over_budget",
        help="What to do if the plan may cost more than max_credits: stop buys in order up to it, refuse buys "
        "nothing.",
        default="stop",
        check=Choice(("stop", "refuse")),
        flags=("--over-budget",),
    ),
    Setting(
        name="max_age",
        help="Buy contacts again that are older than this.",
        unset="never",
        check=Age(),
        flags=("--max-age-days",),
        metavar="DAYS",
        is_offered_at_launch=True,
    ),
    Setting(
        name="retry_misses_after",
        help="Ask again for identifiers that were not found, if that was longer ago than this.",
        unset="never",
        check=Age(),
        flags=("--retry-misses-after-days",),
        metavar="DAYS",
    ),
    Setting(
        name="partition_size",
        help="Identifiers in one request, 1 to 1000.",
        default=1000,
        check=checks.read_partition_size,
    ),
    Setting(
        name="requests_per_minute",
        help="Requests a minute, shared by all runs on one ledger. The vendor refuses more than 200.",
        default=REQUESTS_PER_MINUTE,
        check=PositiveNumber(),
        flags=("--requests-per-minute",),
    ),
    Setting(
        name="max_credits_at_risk",
        help="How many identifiers may be in flight or in doubt at once.",
        default=20_000,
        check=WholeNumber(least=1),
    ),
    Setting(
        name="max_credits_per_day",
        help="Credits that all runs on the ledger together may spend in a day of UTC. A cap that was set on the "
        "ledger itself holds as well.",
        unset="no cap",
        check=WholeNumber(least=0),
    ),
    Setting(
        name="max_credits_per_month",
        help="Credits that all runs on the ledger together may spend in a month of UTC. A cap that was set on the "
        "ledger itself holds as well.",
        unset="no cap",
        check=WholeNumber(least=0),
    ),
    Setting(
        name="timeout",
        help="Seconds that one request may take, from its first byte to the last byte of the reply.",
        default=300.0,
        check=PositiveNumber(),
    ),
    Setting(
        name="in_doubt",
        help="What to do about identifiers that may have been paid for without an answer: hold does not ask for them "
        "again, resend does so in the next run, and may pay twice.",
        default="hold",
        check=Choice(("hold", "resend")),
        flags=("--in-doubt",),
    ),
    Setting(
        name="price",
        help="Price of one credit. Costs are then shown in money.",
        unset="none, and costs are in credits",
        check=checks.read_price,
        flags=("--price",),
        metavar="0.05",
    ),
    Setting(
        name="accept_clock",
        help="Buy even if this machine's clock is far off the ledger's or the API's.",
        default=False,
        check=YesOrNo(),
        flags=("--accept-clock",),
    ),
    Setting(
        name="aliases",
        help="Kinds of identifiers inside a bought contact that answer later rows at no cost.",
        default=("email", "social_profile"),
        check=checks.read_aliases,
    ),
    Setting(
        name="prefix",
        help="What the name of every added column starts with.",
        default="eb_",
        check=checks.read_text,
        flags=("--prefix",),
    ),
    Setting(
        name="columns",
        help="Contact columns to keep.",
        unset="all",
        check=checks.read_list,
        flags=("--columns",),
        metavar="COLUMN,…",
    ),
    Setting(
        name="lists",
        help="How columns with several values are written: list as lists, json as JSON text, for databases without "
        "arrays. A CSV has JSON text either way.",
        default="list",
        check=Choice(("list", "json")),
        flags=("--lists",),
    ),
    Setting(
        name="progress",
        help="True or False for a bar, or a function that is called with the Report so far.",
        unset="a bar on a terminal or in a notebook",
        check=checks.read_progress,
    ),
)

SETTINGS: Final[Mapping[str, Setting]] = {setting.name: setting for setting in _TABLE}


def read_settings(**options: Unpack[EnricherOptions]) -> Settings:
    """Check what was given, and fill in the rest from the environment and the defaults.

    Raises:
        ConfigError: a setting is wrong.
        TypeError: there is no such setting.

    """
    from eb_dagster.contacts.schema import select

    for name in options:
        if name not in SETTINGS and name not in KIND_KEYWORDS:
            raise TypeError(f"there is no setting {shown(name)}{_suggestion(name)}")
    given = with_identifiers(options)
    values: dict[str, Any] = {
        name: setting.read(given.get(name, setting.default)) for name, setting in SETTINGS.items()
    }
    # Raises if there are no such columns.
    select(values["columns"], prefix=values["prefix"])
    return Settings(**values)


def _suggestion(name: str) -> str:
    from eb_dagster.identifiers.columns import likely_kind

    keywords = keyword_defaults()
    meant = closest(name, keywords) or likely_kind(name)
    return f"; did you mean {meant}?" if meant else f"; choose from {list(keywords)}"


def keyword_defaults() -> dict[str, object]:
    """All keywords of `Enricher` with their defaults. Those of the kinds follow `identifiers`, for which they stand."""
    defaults: dict[str, object] = {}
    for name, setting in SETTINGS.items():
        defaults[name] = setting.default
        if name == "identifiers":
            defaults |= dict.fromkeys(KIND_KEYWORDS)
    return defaults


def signature() -> Signature:
    """The keywords with their defaults, as `help` and notebooks show them."""
    return Signature(
        [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=_annotation(name))
            for name, default in keyword_defaults().items()
        ]
    )


def _annotation(name: str) -> str:
    reference = EnricherOptions.__annotations__[name]
    return getattr(reference, "__forward_arg__", str(reference))
