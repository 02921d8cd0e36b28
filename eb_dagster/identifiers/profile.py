"""Profiles in social networks: their one spelling, and how cells and columns hold them.

A part of an address that says who it is must never be dropped. So a query is dropped only if its keys are
known to track; with any other key, the address is no identifier. A page that is no person's is none either.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlsplit

from eb_dagster.identifiers.characters import CONTROL, WRAPPING
from eb_dagster.identifiers.grammar import (
    LINE_BREAKS,
    SPACE,
    HalfOfAValue,
    Piece,
    Separator,
    Token,
    bracketed,
    is_comment,
    is_formula,
    list_items,
    parts_of,
    tokens_of,
    without_wrapping,
)
from eb_dagster.identifiers.model import Kind, NotAnIdentifier, Trait
from eb_dagster.identifiers.networks import (
    HOST_PREFIX,
    HOSTS,
    LANGUAGE_PREFIX,
    LINKEDIN_HOST,
    LINKEDIN_MEMBER,
    LINKEDIN_OLD_CODE,
    LINKEDIN_PREFIXES,
    LINKEDIN_TRACKING,
    NETWORK_BY_HOST,
    NETWORKS,
    REDIRECTORS,
    SHORTENERS,
    TRACKING,
    Network,
)

if TYPE_CHECKING:
    # Arrow is imported with the first table.
    from eb_dagster.identifiers.arrays import Array, Codes

_VANITY_FOLDER: Final = "linkedin.com/in/"


def is_vanity(value: str) -> bool:
    """Whether a canonical profile is a LinkedIn name that its owner chose. Two of these can be compared.

    An opaque member id, which begins with a capital A, may be the same person's.
    """
    return value.startswith(_VANITY_FOLDER) and not value.startswith("A", len(_VANITY_FOLDER))


def are_vanity(values: Array) -> Array:
    """The same for a column of canonical profiles."""
    import pyarrow.compute as pc

    is_opaque = pc.starts_with(values, f"{_VANITY_FOLDER}A")
    return pc.and_not(pc.starts_with(values, _VANITY_FOLDER), is_opaque)


def _is_of_network(value: str) -> bool:
    """Whether a canonical profile is one of a known network. Any other page may be a firm's."""
    return value.partition("/")[0] in HOSTS


_DOTLESS: Final = tuple(f"{network.host}/" for network in NETWORKS if network.ignores_dots)


def _key_form(value: str) -> str:
    if not value.startswith(_DOTLESS):
        return value
    host, _, name = value.partition("/")
    return f"{host}/{name.replace('.', '')}"


def _may_fold(values: Array) -> Array:
    import pyarrow.compute as pc

    return reduce(pc.or_, [pc.starts_with(values, start) for start in _DOTLESS])


# ---- plain addresses ----------------------------------------------------------------------------

_PLAIN_LINKEDIN: Final = re.compile(
    # Without the ids that keep their case, and without "me", which is whoever is logged in. The usual languages,
    # sub-pages and tracking are among them: one in three addresses has some.
    r"(?:https?://)?(?:[a-z]{1,3}\.)?linkedin\.com/in/"
    r"((?!a[a-z][a-z]aa|me(?:[/?]|\Z))[a-z0-9](?:[a-z0-9_.-]{0,198}[a-z0-9_-])?)"
    r"(?:/[a-z]{2}|/[a-z]{2}-[a-z]{2}|/details/[a-z]{2,20})?/?"
    r"(?:\?(?:(?:trk|originalsubdomain|locale|lang|src|utm_[a-z]{2,12})=[a-z0-9_-]*(?:&(?=[a-z])|\Z))+)?\Z",
    re.ASCII | re.IGNORECASE,
)
_PLAIN_OTHER: Final = re.compile(
    r"(?:https?://)?(?:www\.)?((?:twitter|x|facebook|github|instagram)\.com)/([a-z0-9_.-]{0,198}[a-z0-9])/?\Z",
    re.ASCII | re.IGNORECASE,
)


def _plain_form(text: str) -> str | None:
    if (found := _PLAIN_LINKEDIN.match(text)) is not None:
        return f"{_VANITY_FOLDER}{found[1].lower()}"
    if (found := _PLAIN_OTHER.match(text)) is not None:
        network = NETWORK_BY_HOST[found[1].lower()]
        name = found[2].lower()
        return None if name in network.not_people else f"{network.host}/{name}"
    return None


# An address of this form is canonical already, unless it may be a member's id or is one of those of nobody.
_CANONICAL: Final = (
    r"\A(?:linkedin\.com/in/[a-z0-9](?:[a-z0-9_.-]*[a-z0-9_-])?"
    r"|(?:twitter|facebook|github|instagram)\.com/[a-z0-9_.-]*[a-z0-9])\z"
)
_MAX_CANONICAL_LENGTH: Final = 198
_MAY_BE_MEMBER: Final = r"\Alinkedin\.com/in/a[a-z][a-z]aa"


def _plain_column(texts: Array) -> Array:
    """The plain forms of many addresses, ten times as fast. Only those that are canonical are among them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from eb_dagster.identifiers.arrays import number_scalar

    is_canonical = pc.and_(
        pc.match_substring_regex(texts, _CANONICAL),
        pc.less_equal(pc.binary_length(texts), number_scalar(_MAX_CANONICAL_LENGTH)),
    )
    is_canonical = pc.and_not(is_canonical, pc.match_substring_regex(texts, _MAY_BE_MEMBER))
    is_canonical = pc.and_not(is_canonical, pc.is_in(texts, value_set=_not_people()))
    return pc.if_else(is_canonical, texts, pa.NULL)


@cache
def _not_people() -> Array:
    from eb_dagster.identifiers.arrays import text_array

    pages = [f"{network.host}/{name}" for network in NETWORKS for name in sorted(network.not_people)]
    return text_array([f"{_VANITY_FOLDER}me", *pages])


# ---- every address ------------------------------------------------------------------------------

_MAX_REDIRECTS: Final = 4
# What copies leave inside an address and nobody sees. Joiners stay: some names need them.
_UNSEEN: Final = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
_WEB_SCHEMES: Final = re.compile(r"\A(?:https?:/+)*/*", re.IGNORECASE)
_LINKEDIN_PATH: Final = re.compile(r"\A/?in/", re.IGNORECASE)
_WWW: Final = re.compile(r"\A(?:www\.)+")
_HOST: Final = re.compile(r"\A[\w-]+(?:\.[\w-]+)*\.[^\W\d_][\w-]+\Z")
_END_MARKS: Final = ".,;:!" + WRAPPING
# "in/ada&trk=x": a query whose question mark was lost.
_LOST_QUERY: Final = re.compile(r"&(?=\w+=)")
_PROOFPOINT_HOSTS: Final = ("urldefense.com", "urldefense.proofpoint.com")
_ARCHIVED: Final = re.compile(r"/web/[^/]+/(?=https?:)")
_NUMBER: Final = re.compile(r"[0-9]+")
_NAME_IN_QUERY: Final = re.compile(r"[\w.-]+", re.ASCII)
_NOT_IN_A_NAME: Final = re.compile(r"[\s/?#%@\\()\[\]\"<>\ufffd]")
_LETTER_OR_DIGIT: Final = re.compile(r"[^\W_]")


def _canonical_form(text: str, _default_region: str | None) -> str:
    for _ in range(_MAX_REDIRECTS):
        host, address = _split(text)
        target = _redirect_target(host, address)
        if target is None:
            return _read(host, address)
        text = target
    raise NotAnIdentifier("profile_syntax")


def _split_query(text: str) -> SplitResult:
    try:
        address = urlsplit("//" + text)
    except ValueError:
        raise NotAnIdentifier("profile_syntax") from None
    if not address.query and (found := _LOST_QUERY.search(address.path)):
        path, query = address.path[: found.start()], address.path[found.end() :]
        return address._replace(path=path, query=query)
    return address


def _split(text: str) -> tuple[str, SplitResult]:
    text = _UNSEEN.sub("", text)
    if _LINKEDIN_PATH.match(text):
        text = "linkedin.com/" + text.lstrip("/")
    text = _WEB_SCHEMES.sub("", text).rstrip(_END_MARKS)
    if re.search(r"\s", text):
        raise NotAnIdentifier("profile_syntax")
    address = _split_query(text)
    host = _WWW.sub("", unicodedata.normalize("NFC", address.netloc.lower()).rstrip("."))
    # No user info and no port: neither "@" nor ":" is part of a host.
    if not _HOST.match(host):
        raise NotAnIdentifier("profile_syntax")
    return host, address


def _redirect_target(host: str, address: SplitResult) -> str | None:
    """The address that this one leads to, if it says so itself."""
    if host in SHORTENERS:
        raise NotAnIdentifier("profile_short_link")
    if host in _PROOFPOINT_HOSTS:
        return _proofpoint_target(address)
    if host == "web.archive.org" and (found := _ARCHIVED.match(address.path)):
        return address.path[found.end() :]
    return _target_in_query(host, address)


def _target_in_query(host: str, address: SplitResult) -> str | None:
    for redirector in REDIRECTORS:
        if address.path.startswith(redirector.path_start) and redirector.host.match(host):
            target = _first_value(address.query, redirector.keys)
            if target is not None:
                is_path = re.match(r"/(?!/)", target) is not None
                return host + target if is_path else target
    return None


def _first_value(query: str, keys: Sequence[str]) -> str | None:
    values = parse_qs(query)
    return next((values[key][0] for key in keys if key in values), None)


def _proofpoint_target(address: SplitResult) -> str | None:
    # Proofpoint writes addresses in two ways: with "-" for "%" and "_" for "/", or between two underscores.
    if address.path.startswith("/v2/"):
        target = _first_value(address.query, ("u",)) or ""
        return unquote(target.replace("-", "%").replace("_", "/")) or None
    found = re.match(r"/v3/__(.*)__(?:;|\Z)", address.path)
    # A star stands for characters that are given elsewhere.
    return None if found is None or "*" in found[1] else found[1]


def _read(host: str, address: SplitResult) -> str:
    if host == "linkedin.com" or host.endswith(".linkedin.com"):
        return _read_linkedin(host, address)
    network = _network_of(host)
    return _read_page(host, address) if network is None else _read_person(network, address)


def _network_of(host: str) -> Network | None:
    site = HOST_PREFIX.sub("", host)
    if site in NETWORK_BY_HOST:
        return NETWORK_BY_HOST[site]
    network = NETWORK_BY_HOST.get(LANGUAGE_PREFIX.sub("", site))
    return network if network is not None and network.has_languages else None


def _read_page(host: str, address: SplitResult) -> str:
    """The canonical form of a page outside the known networks."""
    # This is how programs in a browser write a path.
    if address.fragment.startswith(("/", "!")):
        raise NotAnIdentifier("profile_query")
    _check_query(address.query, frozenset())
    path = address.path.rstrip("/" + _END_MARKS)
    if not path:
        raise NotAnIdentifier("profile_syntax")
    return host + path


def _check_query(query: str, known: frozenset[str]) -> None:
    """Refuse a query with a key that is not known to be of no importance."""
    try:
        keys = [key.lower() for key, _ in parse_qsl(query, keep_blank_values=True)]
    except ValueError:
        raise NotAnIdentifier("profile_query") from None
    for key in keys:
        if key.partition("[")[0] not in known and not TRACKING.fullmatch(key):
            raise NotAnIdentifier("profile_query")


def _steps(path: str) -> list[str]:
    try:
        return [unquote(step, errors="strict") for step in path.split("/") if step]
    except UnicodeDecodeError:
        raise NotAnIdentifier("profile_syntax") from None


def _read_person(network: Network, address: SplitResult) -> str:
    path = address.path
    if address.fragment.startswith("!/"):
        # "twitter.com/#!/ada", as it was written once.
        path = address.fragment[1:]
    steps = _steps(path)
    if not steps:
        raise NotAnIdentifier("profile_syntax")
    identity, key = _identity(network, steps, address.query)
    _check_query(address.query, network.tracking | {key})
    return f"{network.host}/{identity}"


def _identity(network: Network, steps: Sequence[str], query: str) -> tuple[str, str]:
    """Who it is, and the key of the query that says so, which may be empty."""
    path = "/".join(steps).lower()
    if any(path == known.path for known in network.queries):
        return _identity_in_query(network, path, query)
    if steps[0].lower() in network.numbered_folders and _NUMBER.fullmatch(steps[-1]) and len(steps) < 4:
        return steps[-1], ""
    return _named_identity(network, steps), ""


def _identity_in_query(network: Network, path: str, query: str) -> tuple[str, str]:
    values = parse_qs(query)
    for known in network.queries:
        if path == known.path and known.key in values:
            value = values[known.key][0]
            pattern = _NUMBER if known.key.endswith("id") else _NAME_IN_QUERY
            if not pattern.fullmatch(value):
                break
            return known.folder + value.lower(), known.key
    raise NotAnIdentifier("profile_syntax")


def _named_identity(network: Network, steps: Sequence[str]) -> str:
    in_folder = _identity_in_folder(network, steps)
    if in_folder is not None:
        return in_folder
    return _identity_of_name(network, steps)


def _identity_of_name(network: Network, steps: Sequence[str]) -> str:
    first, *rest = steps
    has_at_sign = first.startswith("@")
    if network.needs_at_sign and not has_at_sign:
        raise NotAnIdentifier("profile_not_a_person")
    steps = [first.removeprefix("@"), *rest]
    if has_at_sign and (network.needs_at_sign or network.folders):
        return "@" + _name(network, steps, folds_case=network.folds_case)
    if first.lower() in network.not_people or (network.folders and not network.not_people):
        raise NotAnIdentifier("profile_not_a_person")
    return _name(network, steps, folds_case=network.folds_case)


def _identity_in_folder(network: Network, steps: Sequence[str]) -> str | None:
    folders = dict.fromkeys(network.folders, network.folds_case) | dict.fromkeys(network.cased_folders, False)
    for folder, folds_case in folders.items():
        depth = folder.count("/") + 1
        if "/".join(steps[:depth]).lower() == folder and len(steps) > depth:
            return f"{folder}/{_name(network, steps[depth:], folds_case=folds_case)}"
    return None


def _name(network: Network, steps: Sequence[str], *, folds_case: bool) -> str:
    name = _spelled_name(steps[0], folds_case=folds_case)
    if not name:
        raise NotAnIdentifier("profile_syntax")
    if len(steps) > 1 and "*" not in network.tabs and steps[1].lower() not in network.tabs:
        raise NotAnIdentifier("profile_not_a_person")
    return name


def _spelled_name(step: str, *, folds_case: bool) -> str:
    """The one spelling of a name in an address; empty if it is none."""
    if CONTROL.search(step):
        return ""
    name = unicodedata.normalize("NFC", _UNSEEN.sub("", step)).strip(WRAPPING).rstrip(_END_MARKS)
    if folds_case:
        name = unicodedata.normalize("NFC", name.lower())
    return "" if _NOT_IN_A_NAME.search(name) or not _LETTER_OR_DIGIT.search(name) else name


# ---- LinkedIn -----------------------------------------------------------------------------------


def _read_linkedin(host: str, address: SplitResult) -> str:
    if not LINKEDIN_HOST.match(host):
        raise NotAnIdentifier("profile_not_a_person")
    value = _linkedin_person(_steps(address.path))
    _check_query(address.query, LINKEDIN_TRACKING)
    return value


def _linkedin_person(steps: list[str]) -> str:
    while len(steps) > 1 and steps[0].lower() in LINKEDIN_PREFIXES:
        del steps[0]
    if not steps:
        raise NotAnIdentifier("profile_syntax")
    folder = steps[0].lower()
    if folder == "in":
        # What follows the name is a language or a sub-page.
        return _linkedin_vanity(steps[1:2])
    if folder == "pub" and steps[1:2] != ["dir"]:
        return _linkedin_old(steps[1:5])
    if folder in ("sales", "talent", "recruiter"):
        return _linkedin_member(steps)
    raise NotAnIdentifier("profile_not_a_person")


def _linkedin_vanity(steps: Sequence[str]) -> str:
    name = _linkedin_name(steps[0]) if steps else ""
    if name == "me":
        # LinkedIn's address for whoever is logged in.
        raise NotAnIdentifier("profile_not_a_person")
    if not name:
        raise NotAnIdentifier("profile_syntax")
    return f"{_VANITY_FOLDER}{name}"


def _linkedin_member(steps: Sequence[str]) -> str:
    # Sales Navigator and Recruiter name a member by the id, and after commas how it was found.
    for folder, step in itertools.pairwise(steps):
        member = step.partition(",")[0]
        if folder.lower() in ("lead", "people", "profile") and LINKEDIN_MEMBER.fullmatch(member):
            return f"{_VANITY_FOLDER}{member}"
    raise NotAnIdentifier("profile_not_a_person")


def _linkedin_old(steps: Sequence[str]) -> str:
    # linkedin.com/pub/jane-doe/1a/2b/3c: people who share a name differ in what follows it.
    name, *codes = [_linkedin_name(step) for step in steps] or [""]
    if not name or len(codes) != 3 or not all(LINKEDIN_OLD_CODE.match(code) for code in codes):
        raise NotAnIdentifier("profile_syntax")
    return "/".join(("linkedin.com/pub", name, *codes))


def _linkedin_name(step: str) -> str:
    is_member = LINKEDIN_MEMBER.fullmatch(_UNSEEN.sub("", step).strip(WRAPPING)) is not None
    return _spelled_name(step, folds_case=not is_member)


# ---- cells --------------------------------------------------------------------------------------

# A comma stays inside an address, and so do brackets.
_TOKEN: Final = re.compile(
    rf"(?P<angle><[^<>]*+>)|(?P<round>(?:\([^()]*+\)|\[[^\[\]]*+\])(?=[\s,;|]|\Z))|(?P<quote>\"[^\"]*+\")"
    rf"|(?P<hard>;(?!!!)|[|{LINE_BREAKS}])|(?P<comma>,(?=\s|\Z))|(?P<space>{SPACE}++)"
    rf"|(?P<word>(?:[^\s,;|<>\"]|[\x1c-\x1f]|,(?!\s|\Z)|;(?=!!))++)"
)
_START: Final = re.compile(r"(?:https?:|www\.|//)", re.IGNORECASE)
_LINKEDIN_START: Final = re.compile(r"/?in/.", re.IGNORECASE)
_HOST_START: Final = re.compile(r"((?:[\w-]++\.)+[\w-]++)\.?(?:[/?#]|\Z)")
_MAIL: Final = re.compile(r"[^\s@/]++@[\w-]++\.\w")
_OTHER_SCHEME: Final = re.compile(r"([a-z][\w+-]*+):(?=.)", re.IGNORECASE)
# A comma before another address, and not inside one, as "…/sales/lead/ACwAA…,NAME_SEARCH".
_COMMA_BETWEEN: Final = re.compile(r",(?=https?:|www\.|(?:[\w-]++\.)++[\w-]++/|/?in/)", re.IGNORECASE)
_COMMA_INSIDE: Final = re.compile(r"[^?#]*?,(?!-)")
_MEMBER_PATH: Final = re.compile(r"linkedin\.com/(?:sales|talent|recruiter)/", re.IGNORECASE)


def _pieces_of_cell(text: str) -> list[Piece]:
    pieces: list[Piece] = []
    for item in list_items(text):
        first = Separator.COMMA if pieces else Separator.HARD
        for token in tokens_of(_COMMA_BETWEEN.sub(", ", item), _TOKEN, first=first):
            pieces += _pieces_of_token(token)
    return pieces


def _split_cell(cell: str, _is_profile: Callable[[str], bool]) -> list[str]:
    text = without_wrapping(cell, lambda part: "@" not in part and "." in part)
    if is_formula(text):
        return [text]
    pieces = _pieces_of_cell(text)
    if any(_could_be_one(*pair) for pair in itertools.pairwise(pieces)):
        raise HalfOfAValue
    return parts_of(pieces, lambda _phrase, _is_name: True)


def _could_be_one(first: Piece, second: Piece) -> bool:
    """Whether two addresses could be the halves of one, as "www.linked in.com/in/jane" has them."""
    if not (first.kind == second.kind == "value"):
        return False
    return second.separator <= Separator.SPACE and not first.is_end_certain and not second.is_start_certain


def _pieces_of_token(token: Token) -> list[Piece]:
    if token.kind == "word":
        text = token.text.strip(WRAPPING)
        return [_piece_of_word(text, token.separator)] if text else []
    parts = _split_cell(token.inner, _is_address)
    values = [part for part in parts if _is_address(part)]
    if values:
        return bracketed(parts, values, separator=token.separator)
    return [] if is_comment(token) else [Piece("words", token.inner, token.separator)]


def _is_address(text: str) -> bool:
    host = _HOST_START.match(text)
    has_path = host is not None and host[0] != host[1]
    return has_path or _START.match(text) is not None or _LINKEDIN_START.match(text) is not None


def _piece_of_word(text: str, separator: Separator) -> Piece:
    has_start = _START.match(text) is not None
    host = _HOST_START.match(text)
    if not has_start and host is None and (scheme := _OTHER_SCHEME.match(text)) is not None:
        return _piece_behind_scheme(text, scheme, separator)
    if not has_start and _MAIL.match(text):
        return Piece("other", text, separator)
    return _piece_of_host(text, host, separator, has_start=has_start)


def _piece_of_host(text: str, host: re.Match[str] | None, separator: Separator, *, has_start: bool) -> Piece:
    is_known = host is not None and _is_network_host(host[1].lower())
    if is_known or _is_address(text):
        return _address_piece(text, separator, is_start_certain=has_start or is_known)
    # A host without a path is nobody, but "jane.doe" may look like one.
    is_host = host is not None and separator is Separator.HARD
    return Piece("other" if is_host else "words", text, separator)


def _piece_behind_scheme(text: str, scheme: re.Match[str], separator: Separator) -> Piece:
    rest = text[scheme.end() :]
    if not _is_address(rest) or scheme[1].lower() in ("mailto", "tel", "ftp"):
        return Piece("other", text, separator)
    return _address_piece(rest, separator, is_start_certain=True)


def _address_piece(text: str, separator: Separator, *, is_start_certain: bool) -> Piece:
    if _COMMA_INSIDE.match(text) and not _MEMBER_PATH.search(text):
        raise HalfOfAValue
    return Piece("value", text, separator, is_start_certain=is_start_certain)


def _is_network_host(host: str) -> bool:
    return any(host == known or host.endswith(f".{known}") for known in HOSTS)


def _traits(values: Array) -> Codes:
    import numpy as np

    from eb_dagster.identifiers.arrays import flags_in

    return np.where(flags_in(are_vanity(values)), np.int8(Trait.VANITY), np.int8(Trait.PROFILE))


KIND: Final = Kind(
    field_type="social_profile",
    slug="profile",
    max_length=2048,
    without_scheme=str,
    plain_form=_plain_form,
    plain_column=_plain_column,
    canonical_form=_canonical_form,
    key_form=_key_form,
    may_fold=_may_fold,
    trait=lambda value: Trait.VANITY if is_vanity(value) else Trait.PROFILE,
    traits=_traits,
    split_cell=_split_cell,
    recognized_columns=("social_profile", "linkedin_url"),
    likely_column=re.compile(
        r"linked.?in(?!.*(?:connections|bio|member|headline|title|follow|industry|summary))|profile.?url"
        r"|(?:twitter|facebook|github|instagram|xing|tiktok)\W{0,3}(?:url|profile|link)"
    ),
    likely_value=re.compile(r"[./]"),
    is_telling=_is_of_network,
)
