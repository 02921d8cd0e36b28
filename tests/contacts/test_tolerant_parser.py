import copy
import json
import math
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eb_dagster.contacts.contact import Contact
from eb_dagster.contacts.parser import is_utf8
from eb_dagster.contacts.tolerant_parser import read_contact, read_odd_contact
from tests.contacts.readings import flat, held, left_over, named, read, to_arrow

# Open shapes


@pytest.mark.parametrize(
    ("given_as", "phones"),
    [
        ("+1", ["+1"]),
        (["+1", None, "", "+1"], ["+1"]),
        ({"E164": "+1"}, ["+1"]),
        ([{"e164": "+1"}, {"number": 2}, {"phone": "3"}, "4"], ["+1", "2", "3", "4"]),
        ([], None),
        (None, None),
        ({}, None),
    ],
)
def test_phones_may_be_texts_objects_or_one_of_them(given_as, phones):
    contact = read({"phone_numbers": given_as})
    row = named(contact)
    assert row["phones"] == phones
    assert row["phone"] == (phones[0] if phones else None)
    assert (row["other"], contact.drift) == (None, ())


@pytest.mark.parametrize("key", ["emails", "work_emails", "personal_emails", "current_work_email"])
@pytest.mark.parametrize(
    "entry", ["a@x.example", {"email": "a@x.example"}, {"address": "a@x.example", "email": None}]
)
@pytest.mark.parametrize("in_list", [True, False])
def test_addresses_may_be_texts_or_objects(key, entry, in_list):
    contact = read({key: [entry] if in_list else entry})
    assert (contact.texts["email"], contact.drift, contact.unknown_keys) == (("a@x.example",), (), ())
    assert named(contact)["other"] is None


def test_an_entry_that_holds_more_stays_whole_so_that_what_it_says_keeps_its_address():
    given_as = {"emails": [{"email": "a@x.example", "type": "work"}, "b@x.example"]}
    contact = read(given_as)
    assert contact.texts["email"] == ("a@x.example", "b@x.example")
    assert contact.unknown_keys == ("emails[].type",)
    assert left_over(given_as) == {"emails": [{"email": "a@x.example", "type": "work"}]}


@pytest.mark.parametrize(
    ("value", "text"),
    [(250, "250"), (250.0, "250"), (2.5, "2.5"), (10**30, "1" + "0" * 30), (0, "0"), (-1, "-1")],
)
def test_a_number_becomes_text_where_text_is_due(value, text):
    contact = read({"employment": {"size": value}})
    assert named(contact)["company_size"] == text
    assert (named(contact)["other"], contact.drift) == (None, ())


def test_text_is_kept_exactly():
    assert flat({"full_name": "  ÁDA\u0000 \n"})["full_name"] == "  ÁDA\u0000 \n"


def test_an_unexpected_type_goes_to_other_and_is_counted():
    reading = read_contact(b'{"full_name": {"first": "Ada"}, "foo": 1}')
    assert reading.drift == ("full_name",)
    assert reading.unknown_keys == ("foo",)
    assert json.loads(reading.other or b"") == {"full_name": {"first": "Ada"}, "foo": 1}


@pytest.mark.parametrize(
    ("contact", "path"),
    [
        ({"gender": True}, "gender"),
        ({"location": "Brno"}, "location"),
        ({"employment": [{"name": "a"}, {"name": "b"}]}, "employment"),
        ({"employment": {"job": "Buyer"}}, "employment.job"),
        ({"employment": {"job": {"levels": [{"name": "senior"}]}}}, "employment.job.levels"),
        ({"location": {"city": ["Brno"]}}, "location.city"),
        ({"phone_numbers": [{"E164": {"n": 1}}]}, "phone_numbers"),
        ({"emails": [False]}, "emails"),
        ({"social_profiles": [[1]]}, "social_profiles"),
        ({"education": 7}, "education"),
    ],
)
def test_what_no_column_can_take_is_kept_as_it_came(contact, path):
    assert read(contact).drift == (path,)
    assert left_over(contact) == contact


def test_an_object_that_is_the_only_entry_of_a_list_is_read():
    contact = {"location": [{"city": "Brno", "zone": 1}], "employment": [{"job": [{"title": "t"}]}]}
    row = flat(contact)
    assert (row["city"], row["job_title"]) == ("Brno", "t")
    assert left_over(contact) == {"location": [{"zone": 1}]}


def test_unknown_keys_are_told_with_their_path_and_without_values():
    contact = read({"employment": {"foo": 1, "job": {"bar": None}}, "seniority_score": {"baz": 1}})
    assert contact.unknown_keys == ("employment.job.bar", "employment.foo", "seniority_score")


@pytest.mark.parametrize(
    "key", ["ada@x.example", "id12345678", "k" * 41, "Ada Alder", "Žofie", "linkedin.com/in/ada"]
)
def test_a_key_that_looks_like_data_is_not_told(key):
    contact = read({key: 1, "employment": {key: 2}})
    assert set(contact.unknown_keys) == {"?", "employment.?"}
    assert json.loads(named(contact)["other"]) == {key: 1, "employment": {key: 2}}


def test_education_is_a_list_of_json_however_it_came():
    assert flat({"education": {"school": "Žilina"}})["education"] == '[{"school":"Žilina"}]'
    assert flat({"education": {"school": "Žilina"}})["school_name"] == "Žilina"
    assert flat({"experiences": "ten years"})["experiences"] == '["ten years"]'
    assert flat({"education": [], "experiences": {}})["education"] is None
    schools = [None, {"school": None}, {"school": {"name": ""}}, {"school": {"name": "There"}}]
    assert flat({"education": schools})["school_name"] == "There"


@pytest.mark.parametrize(
    ("contact", "other"),
    [('"text"', '"text"'), ("7", "7"), ("[1,2]", "[1,2]"), ("[[{}]]", "[[{}]]"), ("[]", None)],
)
def test_a_contact_that_is_no_object_is_kept_whole(contact, other):
    reading = read_contact(contact.encode())
    assert (named(reading)["other"], reading.drift) == (other, ("contact",))


def test_a_contact_in_a_list_of_one_is_read():
    contact = read([{"full_name": "Ada"}])
    assert (named(contact)["full_name"], contact.drift) == ("Ada", ())


def test_no_contact_is_no_drift():
    assert read_contact(b"null").drift == read_contact(b"{}").drift == ()
    assert set(named(read_contact(b"null")).values()) == {None}


# Broken and hostile JSON


@pytest.mark.parametrize("raw", [b"", b"{", b"<html>", b'{"a": 1} x', b"\xff", b"nul"])
def test_only_what_is_no_json_is_refused(raw):
    with pytest.raises(ValueError, match="not JSON"):
        read_contact(raw)


def test_the_refusal_does_not_carry_the_contact():
    with pytest.raises(ValueError, match="not JSON") as refusal:
        read_contact(b'{"full_name": "Canary"')
    assert "Canary" not in repr(vars(refusal.value)) + str(refusal.value)
    assert refusal.value.__suppress_context__


def test_not_a_number_goes_to_other_as_text_so_that_other_stays_json():
    reading = read_contact(b'{"full_name": NaN, "score": [-Infinity, 1e999], "education": [NaN]}')
    row = named(reading)
    assert row["full_name"] is None
    assert strict_json(row["other"]) == {"full_name": "NaN", "score": ["-Infinity", "1e999"]}
    assert strict_json(row["education"]) == ["NaN"]
    assert reading.drift == ("not_finite", "full_name")


def test_a_lone_surrogate_is_replaced_and_counted():
    raw = rb'{"full_name": "A\ud800", "first_name": "\ud83d\ude00", "last_name": "\\ud800", "\udc00": 1}'
    reading = read_contact(raw)
    row = named(reading)
    assert (row["full_name"], row["first_name"]) == ("A\ufffd", "😀")
    assert row["last_name"] == r"\ud800"
    assert json.loads(row["other"]) == {"\ufffd": 1}
    assert reading.drift == ("damaged_text",)
    to_arrow(reading)


def test_bad_utf_8_is_replaced_and_counted():
    reading = read_contact(b'{"full_name": "A\xff"}')
    assert (named(reading)["full_name"], reading.drift) == ("A\ufffd", ("damaged_text",))


@pytest.mark.parametrize("name", ["education", "experiences"])
def test_bad_utf_8_in_a_list_is_replaced_and_counted(name):
    reading = read_contact(b'{"%b": [{"title": "A\xff"}]}' % name.encode())
    assert (json.loads(named(reading)[name]), reading.drift) == ([{"title": "A\ufffd"}], ("damaged_text",))


def test_integers_of_any_size_are_kept():
    digits = "9" * 5000
    raw = b'{"full_name": 123456789012345678901234567890, "big": ' + digits.encode() + b"}"
    row = named(read_contact(raw))
    assert row["full_name"] == "123456789012345678901234567890"
    assert digits in row["other"]


@pytest.mark.parametrize("depth", [1_100, 100_000])
def test_a_contact_that_is_too_deep_is_kept_as_it_came(depth):
    raw = b'{"full_name": "Ada", "a": ' + b"[" * depth + b"]" * depth + b"}"
    reading = read_contact(raw)
    assert (named(reading)["other"], reading.drift) == (raw.decode(), ("too_deep",))


def test_a_damaged_contact_that_is_too_deep_is_kept_as_it_came():
    for depth in (300, 600, 900, 5_000):
        raw = b'{"full_name": "Ada", "a": ' + b"[" * depth + b"NaN" + b"]" * depth + b"}"
        assert "NaN" in named(read_contact(raw))["other"]


def test_of_two_equal_keys_the_last_wins():
    assert named(read_contact(b'{"full_name": "a", "full_name": "b"}'))["full_name"] == "b"


def test_a_megabyte_and_a_nul_pass():
    text = "x" * 1_000_000
    row = flat({"full_name": text, "first_name": "a\x00b", "new": text})
    assert (row["full_name"], row["first_name"]) == (text, "a\x00b")
    assert json.loads(row["other"]) == {"new": text}


# Nothing is lost

_text = st.text(st.characters(codec="utf-8"), max_size=6)
_scalar = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text
_entry_key = st.sampled_from(
    ["E164", "number", "email", "address", "network", "url", "type", "school", "name"]
)
_section_key = st.sampled_from(
    ["city", "country", "name", "domain", "website", "size", "job", "title", "levels", "new"]
)
_json = st.recursive(
    _scalar,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_entry_key, inner, max_size=3)
        | st.dictionaries(_section_key, inner, max_size=3)
        | st.dictionaries(_text, inner, max_size=2)
    ),
    max_leaves=10,
)
_key = st.sampled_from([
    "full_name", "gender", "emails", "work_emails", "personal_emails", "phone_numbers", "new",
    "current_work_email", "current_personal_email", "social_profiles", "location", "employment",
    "education", "experiences",
])  # fmt: skip
_contacts = st.dictionaries(_key, _json, max_size=6)


@given(_contacts)
@example({"phone_numbers": [{"E164": "+1", "number": "2"}]})
@example({"employment": {"domain": "a", "website": "b", "job": {"levels": [None, 1, 2]}}})
@example({"emails": [{"email": "a", "address": "a", "type": 0}], "gender": False})
def test_nothing_that_was_paid_for_is_lost(contact):
    kept = set(leaves_of_columns(read(contact)))
    lost = [leaf for leaf in leaves(contact) if leaf not in kept and as_text(leaf) not in kept]
    assert lost == []


@given(_contacts | _json)
def test_every_shape_fits_the_arrow_schema(contact):
    to_arrow(read(contact))


@given(_contacts)
def test_a_shape_reads_the_same_from_damaged_json(contact):
    damaged = {**contact, "nan": math.nan}
    clean, other = named(read(contact)), named(read(damaged))
    clean_rest, other_rest = clean.pop("other"), json.loads(other.pop("other"))
    assert other_rest.pop("nan") == "NaN"
    assert other_rest == json.loads(clean_rest or "{}")
    for name in ("education", "experiences"):
        assert json.loads(other.pop(name) or "0") == json.loads(clean.pop(name) or "0")
    assert other == clean


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8")))
def test_bytes_are_read_or_refused(raw):
    try:
        to_arrow(read_contact(raw))
    except ValueError as error:
        assert str(error) == "the contact is not JSON"  # noqa: PT017 - most are


@pytest.mark.parametrize("read", [read_contact, read_odd_contact])
def test_of_several_the_first_counts(read):
    networks = ("linkedin", "twitter", "facebook", "github")
    profiles = [
        {"network": network, "url": f"{network}.com/{suffix}"}
        for suffix in ("", 1, 2, 3)
        for network in networks
    ]
    for profile in profiles[:4]:
        profile["url"] = ""
    contact = {
        "social_profiles": profiles,
        "phone_numbers": [{"E164": None}, {"E164": "+1"}, {"E164": "+2"}],
        "work_emails": ["", "w1@x.example", "w2@x.example"],
        "personal_emails": [None, "p1@x.example", "p2@x.example"],
        "employment": {"job": {"levels": ["", "first", "second"]}},
        "education": [{"school": {"name": ""}}, {"school": {"name": "One"}}, {"school": {"name": "Two"}}],
    }
    row = named(read(json.dumps(contact).encode()))
    assert [row[f"{network}_url"] for network in networks] == [f"{network}.com/1" for network in networks]
    assert (row["phone"], row["work_email"], row["personal_email"]) == ("+1", "w1@x.example", "p1@x.example")
    assert (row["job_level"], row["school_name"]) == ("first", "One")


# The plain path and the one for odd shapes, side by side with a slow reading written for clarity

_plain_text = (
    st.none()
    | _text
    | st.sampled_from(["", " ", "=1+1", "NUL\x00", "Žofie", "雅子", "😀", 'a"b\\c', "é" * 999])
)
_odd = st.one_of(
    _json,
    st.sampled_from([
        10**30, 2**64, -(2**63), 0, 0.0, 2.5, 1e300, math.nan, math.inf, True, [], {}, [[]], [None],
        ["a", 1, None], {"E164": "+1", "number": "+2"}, {"email": "a", "address": "b"}, {"address": "c"},
        [{"city": "d"}], "\ud800", "2020-13-45", "", None,
    ]),
)  # fmt: skip


def _object(**fields):
    return st.fixed_dictionaries({}, optional=fields)


_texts = st.lists(_plain_text, max_size=3)
_network = st.sampled_from(["linkedin", "LinkedIn", "x", "twitter", "facebook", "github", "xing", "", None])
_url = st.sampled_from(
    ["linkedin.com/in/a", "https://x.com/b", "https://cz.linkedin.com/in/c", "https://[", "", None]
)
_plain = _object(
    full_name=_plain_text,
    first_name=_plain_text,
    gender=_plain_text,
    current_work_email=_plain_text,
    current_personal_email=_plain_text,
    work_emails=_texts,
    personal_emails=_texts,
    emails=_texts,
    phone_numbers=st.lists(_object(E164=_plain_text), max_size=3),
    social_profiles=st.lists(_object(network=_network, url=_url), max_size=3),
    location=st.none() | _object(city=_plain_text, region=_plain_text, country=_plain_text),
    employment=_object(
        name=_plain_text,
        domain=st.sampled_from(["larch.example", "", None]),
        website=st.sampled_from(["larch.example", "www.larch.example", "", None]),
        size=st.integers(0, 10**6) | _plain_text,
        start_date=_plain_text,
        job=_object(title=_plain_text, levels=_texts | _plain_text, start_date=_plain_text),
    ),
    education=st.lists(
        _object(school=_object(name=_plain_text) | _plain_text, year=st.integers()), max_size=2
    ),
    experiences=st.lists(_object(title=_plain_text, company=_json), max_size=2),
)


@st.composite
def _likely(draw):
    """A contact of the plain shape, or one with a few oddities put anywhere in it."""
    contact = draw(_plain)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 1, 2]))):
        place = draw(st.sampled_from(list(containers(contact))))
        # A copy, for the next oddity may be put into this one.
        odd = copy.deepcopy(draw(_odd))
        if isinstance(place, list):
            place.insert(draw(st.integers(0, len(place))), odd)
        else:
            place[draw(st.sampled_from([*place, "new", "skills", "ada@x.example", "size", "emails"]))] = odd
    return contact


def containers(value):
    if isinstance(value, dict | list):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from containers(item)


_spelling = st.fixed_dictionaries({
    "ensure_ascii": st.booleans(), "indent": st.sampled_from([None, None, 1]),
    "separators": st.sampled_from([(",", ":"), (", ", ": ")]),
})  # fmt: skip


def spelled(contact: object, spelling: dict) -> bytes:
    return json.dumps(contact, **spelling).encode("utf-8", "surrogatepass")


def facts(contact: Contact) -> tuple:
    """All that a contact says, by whichever path it was read."""
    return named(contact), contact.texts, contact.unknown_keys, contact.drift


@settings(max_examples=400)
@given(_likely(), _spelling)
@example({"education": [{"school": "a", "gpa": 1}], "experiences": [{"x": "\ud800"}]}, {})
@example({"employment": {"job": {"levels": ["a", "", "b"], "start_date": ""}, "start_date": None}}, {})
@example({"employment": {"size": 10**400, "domain": "", "website": "w"}, "new": 1, "newer": None}, {})
def test_both_paths_read_the_same(contact, spelling):
    raw = spelled(contact, spelling)
    assert facts(read_contact(raw)) == facts(read_odd_contact(raw))
    # What is known to be UTF-8 as a part of a reply reads the same.
    assert facts(read_contact(raw, is_text=is_utf8(raw))) == facts(read_contact(raw))


@settings(max_examples=400)
@given(_likely(), _spelling)
def test_columns_are_what_a_slow_and_clear_reading_finds(contact, spelling):
    raw = spelled(contact, spelling)
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    found = read_contact(raw)
    row = named(found)
    expected, fields = clear_reading(json.loads(raw))
    assert {name: row[name] for name in expected} == expected
    assert held(found) == fields


@pytest.mark.parametrize(
    "raw",
    [
        b'{"full_name": "a", "full_name": null}',
        b'{"full_name": 5, "full_name": "a"}',
        b'{"full_name": "A\xff"}',
        b'{"experiences": [{"a": "\xff"}]}',
        b'{"experiences": [{"a": 1e999, "b": 1.50}]}',
        b'{"education": [{"gpa": 1e999, "school": {"name": "b"}}]}',
        b'{"education": [ ], "experiences": [ {"a": 1} ]}',
        b'{"education": [{"school": 7}, {"school": "c"}]}',
        b'{"employment": {"size": 250.0}}',
        b'{"employment": {"size": ' + b"9" * 5000 + b"}}",
        b'{"skills": 1e999}',
        b'{"experiences": [{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}]}",
        b' {"full_name" : "a" } ',
        b'{"\xff": 1}',
        b"[null]",
    ],
)
def test_both_paths_read_the_same_of_what_python_would_not_write(raw):
    assert facts(read_contact(raw)) == facts(read_odd_contact(raw))


def clear_reading(contact: object) -> tuple[dict, set[str]]:
    """Every column but `other` and the two of JSON, and which required fields are held."""
    contact = section(contact)
    place, employer = section(contact.get("location")), section(contact.get("employment"))
    job = section(employer.get("job"))
    emails = {key: texts(contact.get(key), "email", "address") for key in _EMAIL_SOURCES}
    works = emails["current_work_email"] + emails["work_emails"]
    personals = emails["current_personal_email"] + emails["personal_emails"]
    current = emails["current_work_email"] + emails["current_personal_email"]
    all_emails = distinct([*current, *works, *personals, *emails["emails"]])
    phones = distinct(texts(contact.get("phone_numbers"), "E164", "e164", "number", "phone"))
    profiles = [
        entry for entry in map(profile, entries(contact.get("social_profiles"))) if any(entry.values())
    ]
    row = {name: text(contact.get(name)) for name in ("full_name", "first_name", "last_name", "gender")}
    row |= {name: text(place.get(name)) for name in ("city", "region", "country")}
    row |= {
        "work_email": first(works), "personal_email": first(personals), "emails": all_emails or None,
        "phone": first(phones), "phones": phones or None, "social_profiles": profiles or None,
        "job_title": text(job.get("title")), "job_level": first(texts(job.get("levels"))),
        "company_name": text(employer.get("name")), "company_size": text(employer.get("size")),
        "company_domain": text(employer.get("domain")) or text(employer.get("website")),
        "company_industry": text(employer.get("industry")),
        "linkedin_url": first([entry["url"] for entry in profiles if network_of(entry) == "linkedin" and entry["url"]]),
        "twitter_url": first([entry["url"] for entry in profiles if network_of(entry) in ("twitter", "x") and entry["url"]]),
        "github_url": first([entry["url"] for entry in profiles if network_of(entry) == "github" and entry["url"]]),
    }  # fmt: skip
    has = {
        "email": all_emails, "work_email": works, "personal_email": personals, "phone": phones,
        "social_profile": profiles,
    }  # fmt: skip
    return row, {name for name, values in has.items() if values}


_EMAIL_SOURCES = (
    "current_work_email", "current_personal_email", "work_emails", "personal_emails", "emails",
)  # fmt: skip


def section(value: object) -> dict:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else {}


def entries(value: object) -> list:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def text(value: object) -> str | None:
    if isinstance(value, bool) or value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


def texts(value: object, *keys: str) -> list[str]:
    found: list[Any] = [
        first([text(entry.get(key)) for key in keys if text(entry.get(key))])
        if isinstance(entry, dict)
        else text(entry)
        for entry in entries(value)
    ]
    return [item for item in found if item]


def profile(entry: object) -> dict:
    if isinstance(entry, dict):
        return {"network": text(entry.get("network")), "url": text(entry.get("url"))}
    return {"network": None, "url": text(entry)}


def network_of(entry: dict) -> str | None:
    if entry["network"]:
        return entry["network"].lower()
    try:
        host = urlsplit(entry["url"] if "//" in entry["url"] else "//" + entry["url"]).hostname or ""
    except ValueError:
        return None
    name = ".".join(host.split(".")[-2:])
    return name.removesuffix(".com") if name.endswith(".com") else None


def first(values: list) -> object:
    return values[0] if values else None


def distinct(values: list) -> list:
    return list(dict.fromkeys(values))


def leaves(value):
    """Every scalar that says something, with its type, for 1 == True."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif value is not None and value != "":
        yield type(value), value


def as_text(leaf):
    kind, value = leaf
    if kind is float:
        return str, str(int(value)) if value.is_integer() else repr(value)
    return str, str(value) if kind is int else None


def leaves_of_columns(contact):
    row: dict[str, Any] = named(contact)
    for name, value in row.items():
        if name in ("education", "experiences", "other") and value is not None:
            value = json.loads(value)
        yield from leaves(value)


def strict_json(text):
    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)
