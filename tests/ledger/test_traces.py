import decimal
import json
from typing import Any

import pyarrow as pa
import pytest

from eb_dagster.identifiers.canonical import canonical
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.traces import Traces


def traces(kind: Any, text: str, *, region: str | None = None) -> Traces:
    identifier = canonical(kind, text, default_region=region)
    assert isinstance(identifier, Identifier), identifier
    return Traces(
        [identifier], key_of=lambda other: f"{other.field_type} {other.value}".encode(), default_region=region
    )


@pytest.mark.parametrize(
    ("kind", "person", "text"),
    [
        ("email", "jane@firm.example", "jane@firm.example"),
        ("email", "jane@firm.example", "Jane Doe <JANE@Firm.example>, boss"),
        ("email", "jane@firm.example", "write to jane@firm.example."),
        ("email", "jane@firm.example", "'jane@firm.example'"),
        ("email", "jane@firm.example", "jane%40firm.example"),
        ("email", "jane@firm.example", "jane%2540firm.example"),
        ("email", "jane@firm.example", "https://firm.example/?email=jane%40firm.example&x=1"),
        ("email", "jane@firm.example", "https://firm.example/?email=jane@firm.example#top"),
        ("email", "jane@firm.example", "mailto:jane@firm.example?subject=Hi"),
        ("email", "jane@firm.example", "jane&#64;firm.example"),
        ("email", "jane@firm.example", r'{"note":"a\njane\u0040firm.example"}'),
        ("email", "jane@firm.example", "jane+news@firm.example"),
        ("email", "jane@firm.example", "jane%2Bnews%40firm.example"),
        ("email", "o'brien@firm.example", "o'brien@firm.example"),
        ("email", "jane@münchen.example", "jane@xn--mnchen-3ya.example"),
        ("email", "jane@xn--mnchen-3ya.example", "JANE@MÜNCHEN.example"),
        ("email", "jürgen@firm.example", r'"j\u00fcrgen@firm.example"'),
        ("email", "jürgen@firm.example", "j%C3%BCrgen@firm.example"),
        ("email", "ü@firm.example", "ü@firm.example"),
        ("social_profile", "linkedin.com/in/jane", "https://www.linkedin.com/in/jane/"),
        ("social_profile", "linkedin.com/in/jane", "see https://de.linkedin.com/in/Jane?trk=x."),
        ("social_profile", "linkedin.com/in/jane", "/in/jane"),
        ("social_profile", "linkedin.com/in/jane", "linkedin.com/in/jane/details/experience"),
        ("social_profile", "linkedin.com/in/jane", "https%3A%2F%2Fwww.linkedin.com%2Fin%2Fjane"),
        ("social_profile", "linkedin.com/in/jane", "https://a.example/?u=https://linkedin.com/in/jane"),
        ("social_profile", "linkedin.com/in/jürgen-m", "linkedin.com/in/j%C3%BCrgen-m"),
        ("social_profile", "linkedin.com/in/jane", r'{"url":"https:\/\/linkedin.com\/in\/jane"}'),
        ("social_profile", "x.com/jane", "x.com/jane/status/1"),
        ("social_profile", "github.com/ada", "(github.com/ada)"),
        ("phone", "+4917055501451", "0170 5550 1451"),
        ("phone", "+4917055501451", "+49 (170) 5550-1451"),
        ("phone", "+4917055501451", "call 0049 170 55501451 or write"),
        ("phone", "+4917055501451", "4917055501451"),
        ("phone", "+17734749362", "(773) 474-9362"),
        ("phone", "+17734749362", "1-773-474-9362"),
    ],
)  # fmt: skip
def test_a_person_is_found_in_every_spelling(kind, person, text):
    found = traces(kind, person)
    assert found.texts(["nobody", text]).tolist() == [False, True]
    assert found.may_be_in(json.dumps(text).encode())


@pytest.mark.parametrize(
    ("kind", "person", "text"),
    [
        ("email", "jane@firm.example", "jane@firm.example.br"),
        ("email", "jane@firm.com", "jane@firm.com.br"),
        ("email", "jane@firm.com", "jane@firm.company"),
        ("email", "jane@firm.com", "mary.jane@firm.com"),
        ("email", "jane@firm.com", "mary-jane@firm.com, mary_jane@firm.com, maryjane@firm.com"),
        ("email", "jane@firm.com", "jane@my.firm.com jane@my-firm.com"),
        ("email", "brien@firm.com", "o'brien@firm.com"),
        ("email", "news@firm.com", "jane+news@firm.com"),
        ("social_profile", "x.com/jane", "x.com/jane.doe"),
        ("social_profile", "x.com/jane", "x.com/jane-doe x.com/jane_doe x.com/janes"),
        ("social_profile", "x.com/jane", "max.com/jane"),
        ("social_profile", "github.com/ada", "gist.github.com/ada"),
        ("social_profile", "github.com/ada", "notgithub.com/ada"),
        ("social_profile", "linkedin.com/in/jane", "linkedin.com/in/jane-doe"),
        ("social_profile", "linkedin.com/in/jane", "linkedin.com/company/jane"),
        ("phone", "+4917055501451", "+49170555014511"),
        ("phone", "+17734749362", "+447734749362"),
        ("phone", "+4917055501451", "order 917055501451"),
    ],
)  # fmt: skip
def test_a_neighbour_is_not_taken_for_the_person(kind, person, text):
    assert traces(kind, person).texts([text]).tolist() == [False]


@pytest.mark.parametrize("region", [None, "US"])
def test_a_national_number_is_read_as_of_the_country_of_the_person_or_the_region_given(region):
    assert traces("phone", "+49 170 5550145", region=region).texts(["0170/5550145"]).tolist() == [True]


WHO = "jane@firm.example"
TEXTS = [None, "bo@firm.example", WHO]


class _Tagged(pa.ExtensionType):
    def __init__(self) -> None:
        super().__init__(pa.string(), "eb_dagster.tests.tagged")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage: pa.DataType, _serialized: bytes) -> "_Tagged":
        return cls()


def columns() -> dict[str, Any]:
    binary = [None if text is None else text.encode() for text in TEXTS]
    return {
        "text": pa.array(TEXTS),
        "large text": pa.array(TEXTS, pa.large_string()),
        "a view of text": pa.array(TEXTS, pa.string_view()),
        "a dictionary": pa.array(TEXTS).dictionary_encode(),
        "bytes": pa.array(binary),
        "large bytes": pa.array(binary, pa.large_binary()),
        "a view of bytes": pa.array(binary, pa.binary_view()),
        "fixed bytes": pa.array([None, b"bo@firm.example  ", WHO.encode()], pa.binary(17)),
        "bytes of UTF-16": pa.array([None if text is None else text.encode("utf-16") for text in TEXTS]),
        "a list": pa.array([None, ["x"], ["x", WHO]], pa.list_(pa.string())),
        "a large list": pa.array([None, ["x"], ["x", WHO]], pa.large_list(pa.string())),
        "a fixed list": pa.array([None, ["x", "y"], ["x", WHO]], pa.list_(pa.string(), 2)),
        "a list view": pa.array([None, ["x"], ["x", WHO]], pa.list_view(pa.string())),
        "a list of views": pa.array([None, ["x"], ["x", WHO]], pa.list_(pa.string_view())),
        "a map": pa.array([None, [("x", "y")], [("x", WHO)]], pa.map_(pa.string(), pa.string())),
        "the keys of a map": pa.array([None, [("x", 1)], [(WHO, 1)]], pa.map_(pa.string(), pa.int8())),
        "a struct": pa.array([None, {"a": "x"}, {"a": WHO}]),
        "a list of structs": pa.array([None, [{"a": "x"}], [{"a": WHO}]]),
        "a struct of maps": pa.array(
            [None, {"a": [("x", "y")]}, {"a": [("x", WHO)]}],
            pa.struct([("a", pa.map_(pa.string(), pa.string()))]),
        ),
        "an extension": pa.ExtensionArray.from_storage(_Tagged(), pa.array(TEXTS)),
        "run-end encoded": pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3]), pa.array(TEXTS)),
    }  # fmt: skip


@pytest.mark.parametrize("name", columns())
def test_a_person_is_found_in_a_column_of_every_type(name):
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2, 3]), columns()[name]], names=["id", name])
    found = traces("email", WHO)
    assert found.rows(batch).tolist() == [False, False, True]
    assert found.rows(batch.slice(1)).tolist() == [False, True]
    assert found.rows(batch.slice(0, 2)).tolist() == [False, False]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([None, 17734749360, 17734749362]),
        pa.array([None, 7734749360, 7734749362]),
        pa.array([None, 17734749360.0, 17734749362.0]),
        pa.array([None, decimal.Decimal(17734749360), decimal.Decimal(17734749362)]),
    ],
)
def test_a_phone_that_a_table_keeps_as_a_number_is_found(column):
    batch = pa.RecordBatch.from_arrays([column], names=["phone"])
    assert traces("phone", "+17734749362").rows(batch).tolist() == [False, False, True]


def test_what_has_no_letters_to_look_for_is_found_all_the_same():
    found = traces("email", "ü@firm.example")
    assert found.may_be_in(b"anything")
    column: Any = [None, "ü@firm.example", "ö@firm.example"]
    assert found.texts(column).tolist() == [False, True, False]
