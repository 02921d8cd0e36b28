"""Names that can be one person's, and names that cannot."""

import pytest

from eb_dagster.identifiers.names import RowPerson, agrees, company_key, row_person, tokens

SAME = [
    ("Jane Doe", "jane  DOE"),
    ("Jane Doe", "Doe, Jane"),
    ("Doe Jane", "Jane Doe"),
    ("J. Doe", "Jane Doe"),
    ("Jane M. Doe", "Jane Doe"),
    ("Dr. Jane Doe, PhD", "Jane Doe"),
    ("Bob Smith", "Robert Smith"),
    ("Liz Taylor", "Elizabeth Taylor"),
    ("José García", "Jose Garcia"),
    ("José María García López", "Jose Garcia"),
    ("Jürgen Müller", "Juergen Mueller"),
    ("Jürgen Müller", "Jurgen Muller"),
    ("Søren Ødegård", "Soeren Oedegaard"),
    ("Александр Иванов", "Aleksandr Ivanov"),
    ("Γιώργος Παπαδόπουλος", "Giorgos Papadopoulos"),
    ("张伟", "Wei Zhang"),
    ("Jane Doe-Smith", "Jane Smith"),
    ("Jane Doe", "Jane Doe-Smith"),
    ("Anne-Marie Durand", "Anne Marie Durand"),
    ("Anne-Marie Durand", "Anne Durand"),
    ("Sean O'Brien", "Sean OBrien"),
    ("Piet van der Berg", "Piet Van Der Berg"),
    ("Katherine Jones", "Katharine Jones"),
    ("Łukasz Nowak", "Lukasz Nowak"),
    ("Robert J Miller", "Robert Miller"),
    ("J. Robert Miller", "Robert Miller"),
    ("Robert J. Miller", "Robert James Miller"),
    ("J. R. Miller", "Robert Miller"),
    ("Robert M.", "Robert Miller"),
    ("Hanna Svensson", "Hannah Svensson"),
    ("Anna Ivanova", "Anna Ivanov"),
]
DIFFERENT = [
    ("Ann Smith", "Bob Smith"),
    ("Ann Smith", "Ann Jones"),
    ("Wei Zhang", "Lei Zhang"),
    ("Jane Doe", "John Roe"),
    ("Maria Rossi", "Marco Rossi"),
    ("Jan Novak", "Ján Horváth"),
    ("Ivan Petrov", "Иван Сидоров"),
    ("Robert J Miller", "Jane Miller"),
    ("John A. Smith", "Anna Smith"),
    ("Martin Weber", "Martina Weber"),
    ("Christian Weber", "Christina Weber"),
    ("Alexander Weber", "Alexandra Weber"),
    ("Andrea Rossi", "Andreas Rossi"),
]
UNKNOWN = [("Jane", "Jane Doe"), ("Doe", "Jane Roe"), ("Jane Doe", ""), ("田中太郎", "Taro Tanaka")]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        *((*pair, True) for pair in SAME),
        *((*pair, False) for pair in DIFFERENT),
        *((*pair, None) for pair in UNKNOWN),
    ],
)
def test_whether_two_names_are_one_person_s(ours, theirs, expected):
    assert agrees(RowPerson(ours, ""), full_name=theirs or None, first_name=None, last_name=None) is expected
    if theirs:
        assert agrees(RowPerson(theirs, ""), full_name=ours, first_name=None, last_name=None) is expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Acme GmbH & Co. KG", "ACME"),
        ("Acme, Inc.", "acme"),
        ("Société Générale S.A.", "Societe Generale"),
        ("Muster AG", "Muster Ltd."),
    ],
)
def test_a_company_is_the_same_whatever_its_legal_form(ours, theirs):
    assert company_key(ours) == company_key(theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Acme GmbH", "Apex GmbH"),
        ("Studio 54", "Studio 55"),
        ("3M", "4M"),
        ("AB C", "A BC"),
        ("7-Eleven", "Eleven"),
    ],
)
def test_companies_that_differ_are_not_the_same(ours, theirs):
    assert company_key(ours) != company_key(theirs)


def test_names_that_are_only_spelt_alike_in_latin_letters_are_not_one_person_s():
    first, second = (RowPerson(name, "Acme").hold for name in ("伟 王", "玮 王"))
    assert first is not None
    assert second is not None
    assert first != second


@pytest.mark.parametrize("company", ["Self-Employed", "Freelance", "retired", "N/A", "Unknown", "-"])
def test_what_is_no_company_holds_nobody(company):
    person = row_person(name="Jane Doe", first=None, last=None, company=company)
    assert person is not None
    assert person.hold is None


@pytest.mark.parametrize(
    "name",
    [
        "N/A N/A",
        "[Not Provided]",
        "Unknown Unknown",
        "None None",
        "nan nan",
        "Test Test",
        "First Last",
        "- -",
    ],
)
def test_what_says_only_that_there_is_no_name_is_none(name):
    assert row_person(name=name, first=None, last=None, company="Acme") is None
    first, last = name.split()
    assert row_person(name=None, first=first, last=last, company="Acme") is None


@pytest.mark.parametrize("name", ["Na Li", "Xi Last", "Ann Test"])
def test_a_word_that_says_nothing_may_be_part_of_a_name(name):
    assert row_person(name=name, first=None, last=None, company=None) is not None


def test_rows_of_one_name_and_company_may_be_one_person_s():
    first = row_person(name=None, first="Jane", last="Doe", company="Acme GmbH")
    second = row_person(name="Doe, Jane", first=None, last=None, company="ACME")
    assert first is not None
    assert second is not None
    assert first.hold == second.hold is not None


@pytest.mark.parametrize("name", [None, "", "  ", "Jane"])
def test_a_row_without_a_whole_name_holds_nobody(name):
    person = row_person(name=name, first=None, last=None, company="Acme")
    assert person is None or person.hold is None


def test_a_name_is_shown_by_no_repr():
    assert "Jane" not in repr(RowPerson("Jane Doe", "Acme"))


def test_one_word_says_too_little_to_tell_people_apart():
    assert tokens("Jane") == frozenset()
    assert tokens("Dr. Jane Doe") == {"jane", "doe"}
