"""E-mail addresses: their one spelling, and how cells and columns hold them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from eb_dagster.identifiers.characters import WRAPPING
from eb_dagster.identifiers.grammar import (
    LINE_BREAKS,
    SPACE,
    HalfOfAValue,
    Phrase,
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
from eb_dagster.identifiers.mailboxes import DOTLESS, OTHER_DOMAINS, without_dots, without_tag
from eb_dagster.identifiers.model import Kind, NotAnIdentifier, Trait
from eb_dagster.identifiers.role_mailboxes import are_role_mailboxes, is_role_mailbox

if TYPE_CHECKING:
    # Arrow is imported with the first table.
    from eb_dagster.identifiers.arrays import Array, Codes


def _without_scheme(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() == "mailto":
        # "mailto://" is wrong and not rare.
        return unquote(rest.lstrip("/").partition("?")[0])
    # Exchange lists its addresses as "SMTP:" and "smtp:".
    return rest if colon and scheme.lower() == "smtp" else text


# ---- plain addresses ----------------------------------------------------------------------------

# In lower case already, and too short for any part to be too long. Without "--" there is no Punycode.
_PLAIN_DOMAIN: Final = r"(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}"
_PLAIN_LOCAL: Final = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_OTHERS: Final = "|".join(map(re.escape, OTHER_DOMAINS))
_PLAIN: Final = re.compile(rf"{_PLAIN_LOCAL}@(?!(?:{_OTHERS})\Z){_PLAIN_DOMAIN}", re.ASCII)
# An address whose provider may deliver it to the mailbox of another spelling.
_TAGGED: Final = re.compile(rf"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@{_PLAIN_DOMAIN}", re.ASCII)
_MAX_PLAIN_LENGTH: Final = 64
_PLAIN_SPACE: Final = " \t\r\n"


def _plain_form(text: str) -> str | None:
    text = text.strip(_PLAIN_SPACE).lower()
    if len(text) > _MAX_PLAIN_LENGTH:
        return None
    if _PLAIN.fullmatch(text):
        return text
    return without_tag(text) if _TAGGED.fullmatch(text) else None


def _plain_column(texts: Array) -> Array:
    """The plain forms of many addresses, four times as fast. Tagged addresses are not among them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from eb_dagster.identifiers.arrays import number_scalar

    column = pc.ascii_lower(pc.ascii_trim(texts, characters=_PLAIN_SPACE))
    is_plain = pc.and_(
        pc.match_substring_regex(column, rf"\A{_PLAIN_LOCAL}@{_PLAIN_DOMAIN}\z"),
        pc.less_equal(pc.binary_length(column), number_scalar(_MAX_PLAIN_LENGTH)),
    )
    for domain in OTHER_DOMAINS:
        is_plain = pc.and_not(is_plain, pc.ends_with(column, f"@{domain}"))
    return pc.if_else(is_plain, column, pa.NULL)


def _may_fold(values: Array) -> Array:
    import pyarrow.compute as pc

    return reduce(pc.or_, [pc.ends_with(values, ending) for ending in DOTLESS])


def _traits(values: Array) -> Codes:
    import numpy as np

    return np.where(are_role_mailboxes(values), np.int8(Trait.ROLE), np.int8(Trait.EMAIL))


# ---- every address ------------------------------------------------------------------------------

# The library refuses these names whatever it is told. A miss is free, so they may be asked.
_RESERVED: Final = re.compile(r"(?<=.)\.(?:arpa|invalid|local|localhost|onion|test)\Z")
_STAND_IN: Final = ".example"


def _canonical_form(text: str, _default_region: str | None) -> str:
    # Lower-cased before it is checked, so that what was checked is what is sent.
    local, _, domain = unicodedata.normalize("NFC", text.lower()).rpartition("@")
    if not local:
        raise NotAnIdentifier("email_syntax")
    # Nearly every address is plain, and most processes never need the library.
    import email_validator

    domain = domain.rstrip(".")
    reserved = _RESERVED.search(domain)
    if reserved is not None:
        domain = domain[: reserved.start()] + _STAND_IN
    try:
        checked = email_validator.validate_email(
            f"{local}@{domain}",
            allow_smtputf8=True,
            allow_quoted_local=False,
            allow_domain_literal=False,
            # Asks for a dot and for a last label that ends in a letter; no DNS.
            globally_deliverable=True,
            check_deliverability=False,
        )
    # `EmailNotValidError` and all that `idna` raises.
    except ValueError:
        raise NotAnIdentifier("email_syntax") from None
    ascii_domain = checked.ascii_domain
    if reserved is not None:
        ascii_domain = ascii_domain.removesuffix(_STAND_IN) + reserved[0]
    return without_tag(f"{checked.local_part}@{ascii_domain}")


# ---- cells --------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(
    rf"(?P<angle><[^<>]*+>)|(?P<round>\([^()]*+\)|\[[^\[\]]*+\])|(?P<quote>\"[^\"]*+\")|(?P<hard>[;|{LINE_BREAKS}])"
    rf"|(?P<comma>,)|(?P<space>{SPACE}++)|(?P<word>(?:[^\s,;|<>()\[\]\"]|[\x1c-\x1f])++)"
)
_MAILTO: Final = re.compile(r"(mailto:[^?\s<>;|]*+)(?:\?[^\s<>]*+)?", re.IGNORECASE)
_MAIL_SCHEME: Final = re.compile(r"(?:mailto:/*|smtp:)", re.IGNORECASE)
# What Exchange lists beside the addresses of a mailbox.
_OTHER_PROXY: Final = re.compile(
    r"(?:x[45]00|ex|sip|spo|eum|notes|ccmail|msmail|gwise|fax|rfax|ums|im):", re.IGNORECASE
)
_LABEL: Final = re.compile(
    r"(?:(?:e-?mails?|mail|correo|courriel|work|home|office|business|private|privat|personal|main|other|primary|secondary"
    r"|direct|arbeit|beruflich|gesch[äa]e?ftlich|pro|perso|email address)[ _-]?\d?):(?=.)",
    re.IGNORECASE,
)
# A URL, or one part of an X.400 address.
_OTHER: Final = re.compile(r"[a-z][a-z0-9+.-]*:.|www\.|[a-z0-9]{1,5}=", re.IGNORECASE)
# A domain continues with a dot or with a short last label.
_DOMAIN_END: Final = re.compile(r"[a-z0-9-]{1,4}\Z", re.IGNORECASE)


def _split_cell(cell: str, _is_email: Callable[[str], bool]) -> list[str]:
    text = without_wrapping(cell, lambda part: "@" in part)
    if is_formula(text):
        return [text]
    pieces: list[Piece] = []
    for item in list_items(text):
        pieces += _pieces_of(item, first=Separator.COMMA if pieces else Separator.HARD)
    return parts_of(pieces, _could_end_a_domain)


def _could_end_a_domain(phrase: Phrase, is_name: bool) -> bool:
    if phrase.text[0] in ".-_" or phrase.before <= Separator.SPACE:
        return True
    if is_name:
        return False
    return phrase.before is Separator.COMMA or _DOMAIN_END.match(phrase.text) is not None


def _pieces_of(text: str, *, first: Separator) -> list[Piece]:
    # The query may hold other people's addresses, as in ?cc=; the list before it may have commas.
    text = _MAILTO.sub(lambda found: found[1].replace(",", ",mailto:"), text)
    pieces: list[Piece] = []
    is_skipping = False
    for token in tokens_of(text, _TOKEN, first=first):
        # An Exchange address of another kind may hold anything up to the next hard separator.
        if token.separator is Separator.HARD:
            is_skipping = False
        if token.kind == "word" and _OTHER_PROXY.match(token.text):
            is_skipping = True
        if not is_skipping:
            pieces += _pieces_of_token(token)
    return pieces


def _pieces_of_token(token: Token) -> list[Piece]:
    if token.kind == "word":
        return _pieces_of_word(token.text.strip(WRAPPING), token.separator)
    has_at, inner = "@" in token.text, token.inner
    if token.kind == "quote":
        return [Piece("value" if has_at else "words", inner, token.separator)] if inner else []
    if has_at:
        parts = _split_cell(inner, _has_at)
        return bracketed(parts, list(filter(_has_at, parts)), separator=token.separator)
    return [] if is_comment(token) else [Piece("words", inner, token.separator)]


def _has_at(text: str) -> bool:
    # After "mailto:", it may be encoded.
    return "@" in text or "%40" in text


def _pieces_of_word(text: str, separator: Separator) -> list[Piece]:
    if not text or _MAIL_SCHEME.fullmatch(text):
        return []
    if _MAIL_SCHEME.match(text):
        if not _has_at(text):
            raise HalfOfAValue
        return [Piece("value", text, separator, is_start_certain=True)]
    if "@" not in text:
        return [Piece("other" if _OTHER.match(text) else "words", text, separator)]
    return [_piece_of_address(text, separator)]


def _piece_of_address(text: str, separator: Separator) -> Piece:
    if (label := _LABEL.match(text)) is not None:
        return Piece("value", text[label.end() :], separator, is_start_certain=True)
    is_other = ":" in text.partition("@")[0] and _OTHER.match(text) is not None
    return Piece("other" if is_other else "value", text, separator)


KIND: Final = Kind(
    field_type="email",
    slug="email",
    max_length=254,
    without_scheme=_without_scheme,
    plain_form=_plain_form,
    plain_column=_plain_column,
    canonical_form=_canonical_form,
    key_form=without_dots,
    may_fold=_may_fold,
    trait=lambda value: Trait.ROLE if is_role_mailbox(value) else Trait.EMAIL,
    traits=_traits,
    split_cell=_split_cell,
    recognized_columns=("email",),
    likely_column=re.compile(r"e-?mail|(?:^|[^a-z])mail$"),
    likely_value=re.compile("[@\uff20]"),
)
