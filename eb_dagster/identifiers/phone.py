"""Phone numbers: their one spelling, which is E.164, and how cells and columns hold them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

import phonenumbers

from eb_dagster.errors import ConfigError
from eb_dagster.identifiers.characters import WRAPPING
from eb_dagster.identifiers.grammar import (
    LINE_BREAKS,
    MAX_PARTS,
    HalfOfAValue,
    is_blank,
    list_items,
    without_wrapping,
)
from eb_dagster.identifiers.model import Kind, NotAnIdentifier, Trait

if TYPE_CHECKING:
    # Arrow is imported with the first table.
    from eb_dagster.identifiers.arrays import Array, Codes


def check_region(region: str) -> str:
    """Give back a country code that phonenumbers knows, in upper case, or raise `ConfigError`."""
    known = str(region).strip().upper()
    if known == "UK":
        raise ConfigError('default_region: the two-letter code of the United Kingdom is "GB"; use that')
    if known not in phonenumbers.SUPPORTED_REGIONS:
        raise ConfigError('default_region is not a country: choose a two-letter code such as "US" or "DE"')
    return known


def _without_scheme(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    return unquote(rest.lstrip("/")) if colon and scheme.lower() == "tel" else text


# ---- plain numbers ------------------------------------------------------------------------------

_INTERNATIONAL: Final = re.compile(r"\+[1-9][0-9]{6,14}\Z", re.ASCII)
# These tell the calling code, and the first digit behind it.
_START_OF_INTERNATIONAL: Final = re.compile(r"\+[1-9][0-9]{3}\Z", re.ASCII)
_START_LENGTH: Final = 5


def _plain_form(text: str) -> str | None:
    """The number itself, if phonenumbers would give it back as it is, by its own tables."""
    plan = _numbering_plan(text[1:4]) if _INTERNATIONAL.match(text) else None
    if plan is None or len(text) not in plan.lengths:
        return None
    has_prefix = plan.national_prefix is not None and plan.national_prefix.match(text[plan.start :])
    return None if has_prefix else text


class _NumberingPlan(NamedTuple):
    start: int
    """Where the national number begins."""
    lengths: frozenset[int]
    """Of whole numbers."""
    national_prefix: re.Pattern[str] | None
    """What the library would remove from the start of the national number."""


@cache
def _numbering_plan(digits: str) -> _NumberingPlan | None:
    """The plan of numbers that begin with these three digits."""
    # No calling code is the beginning of another.
    for length in (1, 2, 3):
        region = phonenumbers.region_code_for_country_code(int(digits[:length]))
        plan = phonenumbers.PhoneMetadata.metadata_for_region(region, None)
        if plan is not None and plan.general_desc is not None:
            start = length + 1
            lengths = frozenset(start + national for national in plan.general_desc.possible_length)
            prefix = plan.national_prefix_for_parsing
            return _NumberingPlan(start, lengths, re.compile(prefix) if prefix else None)
    return None


def _plain_column(texts: Array) -> Array:
    """The plain forms of many numbers, five times as fast. Those of countries with long prefixes are not among them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from eb_dagster.identifiers.arrays import flag_array, numbers_in, text_scalar

    texts = texts.fill_null(text_scalar(""))
    start = pc.utf8_slice_codeunits(texts, 0, _START_LENGTH).dictionary_encode()
    starts = start.dictionary.to_pylist()
    lengths = numbers_in(pc.binary_length(texts))
    most = int(lengths.max(initial=0)) + 1
    # Numbers of one start and one length are all plain, or none is.
    kinds, kind_of = np.unique(numbers_in(start.indices) * most + lengths, return_inverse=True)
    is_plain = [_are_plain(starts[kind // most], kind % most) for kind in kinds.tolist()]
    is_plain = flag_array(np.array(is_plain, dtype=np.bool_)[kind_of])
    is_number = pc.match_substring_regex(texts, r"\A\+[1-9][0-9]{6,14}\z")
    return pc.if_else(pc.and_(is_number, is_plain), texts, pa.NULL)


def _are_plain(start: str, length: int) -> bool:
    """Whether all numbers are certainly plain that begin with this and have this length."""
    plan = _numbering_plan(start[1:4]) if _START_OF_INTERNATIONAL.match(start) else None
    if plan is None or length not in plan.lengths:
        return False
    prefix = "" if plan.national_prefix is None else plan.national_prefix.pattern
    return not prefix or (prefix.isdigit() and start[plan.start] != prefix[0])


# ---- every number -------------------------------------------------------------------------------

# A spreadsheet has rounded these: the last digits are gone.
_SPREADSHEET_NUMBER: Final = re.compile(r"[\d.,]\s?[eE]\s?\+?\d")
_FLOAT: Final = re.compile(r"(\+?\d{5,})\.0\Z")
# "773 474 9362 (office)", "773 474 9362 mobile"; but "1 800 FLOWERS" is all number.
_LABEL: Final = re.compile(r"(?<=\d\d\d\d)\s*(?:\([^()\d]+\)|\s[^\W\d_]\D*)\Z")
_START: Final = re.compile(r"[+＋\d]")
# Other people's addresses, masked digits (773-474-XXXX, 030 1234**), and URLs that contain a number.
# The library would skip the odd characters and give somebody else's number.
# "901820/21" are two numbers, of which the second is given by its end only.
_NOT_A_PHONE: Final = re.compile(r"[@_*?…\r\n\u2028\u2029]|x{2}|\A[^\d+＋]*[/=]|/\s?\d{1,3}\Z", re.IGNORECASE)
_LETTER: Final = re.compile(r"[^\W\d_]")
_PUNCTUATION: Final = re.compile(r"[\s().\-/‐-―]")
_VANITY: Final = re.compile(r"[+＋]?1?\d{3,7}[a-z]{3,7}\d{0,4}", re.IGNORECASE)


def _canonical_form(text: str, default_region: str | None) -> str:
    region = None if default_region is None else check_region(default_region)
    if _SPREADSHEET_NUMBER.search(text):
        raise NotAnIdentifier("phone_spreadsheet_number")
    text = _FLOAT.sub(r"\1", _LABEL.sub("", text.replace("\t", " ")))
    number = _parse(text, region)
    if not _is_possible(number):
        raise NotAnIdentifier("phone_not_possible")
    value = _e164(number)
    # A number that the library reads differently once it is written out has two readings.
    again = phonenumbers.parse(value, None)
    if _e164(again) != value or not _is_possible(again):
        raise NotAnIdentifier("phone_not_possible")
    if _may_lack_its_plus(text, number):
        raise NotAnIdentifier("phone_two_readings")
    return value


def _names_country(text: str, start: str) -> bool:
    return start in "+＋" or "phone-context" in text


def _parse(text: str, region: str | None) -> phonenumbers.PhoneNumber:
    start = _START.search(text)
    if start is None or _NOT_A_PHONE.search(text):
        raise NotAnIdentifier("phone_syntax")
    try:
        number = phonenumbers.parse(text, region, keep_raw_input=True)
    except phonenumbers.NumberParseException as error:
        has_no_country = error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE
        lacks_region = has_no_country and region is None and not _names_country(text, start[0])
        raise NotAnIdentifier("phone_no_region" if lacks_region else "phone_syntax") from None
    if number.extension is None and _has_stray_letters(text[start.start() :], number):
        raise NotAnIdentifier("phone_syntax")
    return number


def _has_stray_letters(text: str, number: phonenumbers.PhoneNumber) -> bool:
    # The library dials all letters: "+49 30 1234-home" would be another subscriber. Letters count as
    # digits only in numbers like 1-800-FLOWERS, in the one country code with one length of number.
    text = text.partition(";")[0]
    if not _LETTER.search(text):
        return False
    vanity = _VANITY.fullmatch(_PUNCTUATION.sub("", text))
    return number.country_code != 1 or vanity is None


def _is_possible(number: phonenumbers.PhoneNumber) -> bool:
    reason = phonenumbers.is_possible_number_with_reason(number)
    return reason == phonenumbers.ValidationResult.IS_POSSIBLE


def _e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _may_lack_its_plus(text: str, number: phonenumbers.PhoneNumber) -> bool:
    """Whether a number that was read as one of the default region is as likely another, without its +.

    A table that was saved from a spreadsheet has lost it everywhere.
    """
    digits = phonenumbers.normalize_digits_only(text).removesuffix(number.extension or "")
    is_without_country = number.country_code_source == phonenumbers.CountryCodeSource.FROM_DEFAULT_COUNTRY
    plan = _numbering_plan(digits[:3]) if is_without_country and not digits.startswith("0") else None
    if plan is None or len("+" + digits) not in plan.lengths:
        return False
    other = phonenumbers.parse("+" + digits, None)
    if _e164(other) == _e164(number) or not phonenumbers.is_valid_number(other):
        return False
    if not phonenumbers.is_valid_number(number) or digits.startswith(str(number.country_code)):
        return True
    # A landline without the zero that it is written with is less likely than a mobile without its +.
    region = phonenumbers.region_code_for_number(number)
    return (
        region is not None
        and phonenumbers.ndd_prefix_for_region(region, True) == "0"
        and phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.FIXED_LINE
        and phonenumbers.number_type(other) == phonenumbers.PhoneNumberType.MOBILE
    )


# ---- cells --------------------------------------------------------------------------------------

# Not at the ";" of "tel:030123;ext=5", nor at the decimal comma of a number that was rounded.
_BOUNDARY: Final = re.compile(
    rf"(?:,(?!\d++E\+\d)|[|{LINE_BREAKS}])++|;(?!\s?(?:ext|isub|phone-context)=)"
    rf"|\s(?:or|and|oder|und|ou|et|o|y|e|&)\s|(?<=\d)\s++(?=[+])|(?<=[\d)])\s++(?=\(\+)",
    re.IGNORECASE,
)
_SLASH: Final = re.compile(r"\s/\s")
_EXTENSION: Final = re.compile(
    r"\W*+(?:extension|extn?|x|durchwahl|dw|app|int|poste|anexo|ramal|nebenstelle)\W*+\d{1,7}\W*+\Z",
    re.IGNORECASE,
)
_DIGITS_OF_A_NUMBER: Final = 7
_INTERNATIONAL_START: Final = re.compile(r"\W*+(?:\+|00|tel:)", re.IGNORECASE)
_TRUNK_START: Final = re.compile(r"[^\w+]*+0")


def _split_cell(cell: str, is_phone: Callable[[str], bool]) -> list[str]:
    text = without_wrapping(cell, _looks_like_a_phone)
    parts = [part for item in list_items(text) for part in _split_item(item.replace(":::", "\n"))]
    if len(parts) > MAX_PARTS or any(_could_be_one(*pair, is_phone) for pair in pairwise(parts)):
        raise HalfOfAValue
    return parts


def _looks_like_a_phone(text: str) -> bool:
    return "@" not in text and "://" not in text and _count_digits(text) >= _DIGITS_OF_A_NUMBER


def _split_item(item: str) -> list[str]:
    parts = [part for group in _BOUNDARY.split(item) for part in _split_at_slash(group)]
    # An extension belongs to the number before it, which is asked without it.
    return [part for part in parts if part.strip(WRAPPING) and not _EXTENSION.match(part)]


def _split_at_slash(text: str) -> list[str]:
    # "0170 / 5550145" is one number, and so may be "030 901820 / 21".
    parts = _SLASH.split(text)
    return parts if all(_count_digits(part) >= _DIGITS_OF_A_NUMBER for part in parts) else [text]


def _count_digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def _could_be_one(first: str, second: str, is_phone: Callable[[str], bool]) -> bool:
    """Whether two parts could be the halves of one number."""
    if _INTERNATIONAL_START.match(second) or is_blank(first) or is_blank(second):
        return False
    fewest_digits = min(_count_digits(first), _count_digits(second))
    if fewest_digits == 0:
        return False
    may_be_two = fewest_digits >= _DIGITS_OF_A_NUMBER and _TRUNK_START.match(second) is not None
    if may_be_two and is_phone(first) and is_phone(second):
        return False
    return is_phone(f"{first.strip(WRAPPING)} {second.strip(WRAPPING)}")


def _traits(values: Array) -> Codes:
    import numpy as np

    return np.full(len(values), Trait.PHONE, dtype=np.int8)


KIND: Final = Kind(
    field_type="phone",
    slug="phone",
    max_length=64,
    without_scheme=_without_scheme,
    plain_form=_plain_form,
    plain_column=_plain_column,
    canonical_form=_canonical_form,
    key_form=str,
    trait=lambda _value: Trait.PHONE,
    traits=_traits,
    split_cell=_split_cell,
    recognized_columns=("phone",),
    likely_column=re.compile(
        r"phone|(?<!auto)mobile|(?:^|[^a-z])(?:cell|tel|direct dial)(?:[^a-z]|$)|telefon"
    ),
    likely_value=re.compile(r"(?:\d\D{0,3}){6}"),
)
