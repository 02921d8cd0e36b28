"""A row gets its own person, or nobody."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from eb_dagster import ConfigError, Enricher, ExactBuyerResource, InputError, build_enriched_contacts_asset
from eb_dagster.cli import main
from eb_dagster.contacts import schema
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.privacy import purge
from tests.people import DESK, contact, people

ANN = contact("Ann", profile="linkedin.com/in/ann", emails=["ann@corp.example"], phones=[DESK])
BOB = contact("Bob", profile="linkedin.com/in/bob", emails=["bob@corp.example"], phones=[DESK])
CID = contact("Cid", profile="linkedin.com/in/cid", emails=["cid@corp.example", "info@corp.example"])


def test_who_has_a_profile_is_asked_by_it_though_a_colleague_has_the_same_desk_phone(api, enrich):
    api.knows(ANN, DESK)
    api.knows(BOB, "linkedin.com/in/bob")
    found = enrich(("Ann", "", "", DESK), ("Bob", "linkedin.com/in/bob", "bob@corp.example", DESK))
    assert people(found)[1] == "Bob"


def test_a_phone_comes_last_whatever_the_order_of_the_columns(api, enrich):
    api.knows(ANN, DESK)
    api.knows(BOB, "bob@corp.example")
    found = enrich(("Bob", "", "bob@corp.example", DESK), identifiers={"phone": "phone", "email": "email"})
    assert people(found) == ["Bob"]
    assert DESK not in api.asked


def test_the_same_in_two_runs(api, enrich):
    api.knows(ANN, DESK)
    api.knows(BOB, "linkedin.com/in/bob")
    enrich(("Ann", "", "", DESK))
    found = enrich(("Bob", "linkedin.com/in/bob", "bob@corp.example", DESK))
    assert people(found) == ["Bob"]


def test_a_mailbox_of_a_role_inside_a_contact_answers_for_nobody(api, enrich):
    api.knows(CID, "linkedin.com/in/cid")
    api.knows(BOB, "linkedin.com/in/bob")
    enrich(("Cid", "linkedin.com/in/cid", "", ""))
    found = enrich(("Bob", "linkedin.com/in/bob", "info@corp.example", ""), ("", "", "info@corp.example", ""))
    assert people(found) == ["Bob", None]
    assert list(found["eb_status"]) == ["matched", "not_found"]
    assert api.asked["info@corp.example"] == 1


def test_a_mailbox_of_a_role_is_asked_only_for_a_row_that_offers_nothing_else(api, enrich):
    found = enrich(
        ("Bob", "linkedin.com/in/bob", "info@corp.example", ""), ("", "", "sales@corp.example", "")
    )
    assert set(api.asked) == {"linkedin.com/in/bob", "sales@corp.example"}
    assert found.attrs["report"].unusable["role_mailbox"] == 1


def test_a_row_with_a_suppressed_mailbox_is_suppressed_though_that_mailbox_would_not_be_asked(
    api, enrich, where
):
    api.knows(BOB, "linkedin.com/in/bob")
    with Enricher(api_key="key", base_url=api.url, ledger=where, progress=False) as enricher:
        enricher.suppress([("email", "info@corp.example")])
    found = enrich(("Bob", "linkedin.com/in/bob", "info@corp.example", ""))
    assert list(found["eb_status"]) == ["suppressed"]
    assert not api.asked


SHARED = [
    [("", "linkedin.com/in/ann", "", DESK), ("", "linkedin.com/in/bob", "", DESK)],
    [("", "", "ann@corp.example", DESK), ("", "", "bob@corp.example", DESK)],
]


@pytest.mark.parametrize("rows", SHARED)
def test_a_phone_beside_two_people_is_asked_for_nobody(rows, api, enrich):
    api.knows(ANN, DESK)
    found = enrich(*rows, ("Cid", "", "", DESK))
    assert DESK not in api.asked
    assert list(found["eb_status"]) == ["not_found", "not_found", "invalid"]
    report = found.attrs["report"]
    assert report.invalid == {"shared": 1}
    assert report.unusable["shared"] == 3


@pytest.mark.parametrize("rows", SHARED)
def test_the_ledger_remembers_who_stood_beside_a_phone(rows, api, enrich):
    api.knows(ANN, DESK)
    for row in rows:
        enrich(row, aliases=())
    asked = api.asked[DESK]
    found = enrich(("Cid", "", "", DESK))
    assert people(found) == [None]
    assert list(found["eb_status"]) == ["invalid"]
    assert api.asked[DESK] == asked


def test_a_stream_knows_what_it_has_read(api, where):
    rows = pa.table({
        "social_profile": [None, "linkedin.com/in/ann", "linkedin.com/in/bob"], "phone": [DESK, DESK, DESK],
    })  # fmt: skip
    with Enricher(api_key="key", base_url=api.url, ledger=where, progress=False) as enricher:
        enricher.enrich_batches(iter(rows.to_batches())).read_all()
        assert not enricher.report.is_read_first
        enricher.enrich_batches(rows).read_all()
        assert enricher.report.is_read_first


def test_a_phone_of_one_person_with_two_addresses_is_not_shared_once_a_contact_holds_both(api, enrich):
    both = contact("Ann", emails=["ann@corp.example", "ann@new.example"])
    api.knows(both, "ann@corp.example")
    api.knows(ANN, DESK)
    enrich(("Ann", "", "ann@corp.example", DESK))
    enrich(("Ann", "", "ann@new.example", DESK))
    assert enrich(("Ann", "", "", DESK)).loc[0, "eb_full_name"] == "Ann"


def test_nor_is_it_any_more_once_that_contact_is_bought_whoever_asks_then(api, enrich):
    both = contact("Ann", emails=["ann@corp.example", "ann@new.example"])
    api.knows(both, "ann@corp.example")
    api.knows(ANN, DESK)
    # Both rows are read before anything is bought.
    first = enrich(("Ann", "", "ann@corp.example", DESK), ("Ann", "", "ann@new.example", DESK))
    assert first.attrs["report"].unusable["shared"] == 2
    assert people(enrich(("Ann", "", "", DESK))) == ["Ann"]


def test_an_address_beside_two_profiles_is_shared(api, enrich):
    api.knows(ANN, "home@family.example")
    rows = [
        ("", "linkedin.com/in/ann", "home@family.example", ""),
        ("", "linkedin.com/in/bob", "home@family.example", ""),
    ]
    found = enrich(*rows)
    assert "home@family.example" not in api.asked
    assert list(found["eb_status"]) == ["not_found", "not_found"]


@pytest.mark.parametrize(
    "profile", ["linkedin.com/in/ACwAAAAbCdEfGhIjKlMnOpQrStUvWxYz01234", "linkedin.com/pub/ann/1/2/3"]
)
def test_a_profile_that_may_be_the_same_person_s_under_another_name_makes_nothing_shared(
    profile, api, enrich
):
    api.knows(ANN, DESK)
    found = enrich(("", "linkedin.com/in/ann", "", DESK), ("", profile, "", DESK))
    assert people(found) == ["Ann", "Ann"]


def test_an_address_inside_the_contacts_of_two_people_answers_for_nobody_and_is_not_asked(api, enrich):
    home = "home@family.example"
    api.knows(contact("Ann", profile="linkedin.com/in/ann", emails=[home]), "linkedin.com/in/ann", home)
    api.knows(contact("Bob", profile="linkedin.com/in/bob", emails=[home]), "linkedin.com/in/bob")
    enrich(("", "linkedin.com/in/ann", "", ""), ("", "linkedin.com/in/bob", "", ""))
    found = enrich(("", "", home, ""))
    assert list(found["eb_status"]) == ["invalid"]
    assert home not in api.asked


@pytest.mark.parametrize(
    "profile",
    [
        "", "linkedin.com/in/ann", "github.com/ann", "linkedin.com/pub/ann/1/2/3",
        "linkedin.com/in/ACwAAAAbCdEfGhIjKlMnOpQrStUvWxYz01234",
    ],
)  # fmt: skip
def test_what_was_bought_under_an_address_answers_a_row_whose_profile_is_new_for_nothing(
    profile, api, enrich
):
    api.knows(contact("Ann", profile=profile, emails=["ann@corp.example"]), "ann@corp.example")
    enrich(("", "", "ann@corp.example", ""))
    found = enrich(("", "linkedin.com/in/ann", "ann@corp.example", ""))
    assert people(found) == ["Ann"]
    assert "linkedin.com/in/ann" not in api.asked


@pytest.mark.parametrize("profile", ["linkedin.com/in/ann", "github.com/ann"])
def test_contacts_of_one_profile_are_one_person_s_though_the_name_changed(profile, api, enrich):
    home = "ann@home.example"
    for name, email in ("Ann Jones", "ann@corp.example"), ("Ann Smith", "ann@new.example"):
        api.knows(contact(name, profile=profile, emails=[home, email]), email)
        enrich(("", "", email, ""))
    assert people(enrich(("", "", home, ""))) == ["Ann Smith"]
    assert home not in api.asked


def test_but_not_if_that_contact_has_another_profile(api, enrich):
    api.knows(ANN, "team@corp.example")
    api.knows(BOB, "linkedin.com/in/bob")
    enrich(("", "", "team@corp.example", ""))
    found = enrich(("", "linkedin.com/in/bob", "team@corp.example", ""))
    assert people(found) == ["Bob"]


def test_a_phone_whose_contact_has_another_address_at_the_row_s_company_is_another_person_s(api, enrich):
    api.knows(ANN, DESK)
    found = enrich(("Bob", "", "bob@corp.example", DESK))
    assert list(found["eb_status"]) == ["not_found"]
    assert people(found) == [None]
    assert found.attrs["report"].contradicted == 1
    # It was paid for, and stays for its own.
    assert people(enrich(("Ann", "", "ann@corp.example", ""))) == ["Ann"]
    assert api.credits == 1


@pytest.mark.parametrize("email", ["bob@elsewhere.example", "bob@gmail.com"])
def test_an_address_elsewhere_contradicts_nothing(email, api, enrich):
    ann = contact("Ann", emails=["ann@corp.example", "ann@gmail.com"])
    api.knows(ann, DESK)
    assert people(enrich(("Ann", "", email, DESK))) == ["Ann"]


def test_a_plan_reads_what_the_ledger_remembers_and_writes_nothing(api, enrich, where):
    enrich(("", "linkedin.com/in/ann", "", DESK))
    table = pd.DataFrame({"social_profile": ["linkedin.com/in/bob", None], "phone": [DESK, DESK]})
    for _ in range(2):
        with Enricher(api_key="key", base_url=api.url, ledger=where, progress=False) as enricher:
            plan = enricher.plan(table)
            assert (plan.to_ask, plan.to_ask_at_most) == (1, 1)
            assert plan.invalid == {"shared": 1}
    assert enrich(("Cid", "", "", DESK)).loc[0, "eb_status"] == "not_found"


def test_rows_that_say_nothing_new_add_nothing_to_the_ledger(enrich, where):
    def remembered() -> Any:
        with (
            Enricher(api_key="key", base_url="http://127.0.0.1:1", ledger=where, progress=False) as enricher,
            enricher._ledger.database.reading() as connection,
        ):
            return connection.exec_driver_sql("SELECT people, at FROM companions").all()

    rows = [("", "linkedin.com/in/ann", "ann@corp.example", DESK), ("", "", "ann@corp.example", DESK)]
    enrich(*rows)
    before = remembered()
    enrich(*rows, *rows)
    assert len(before) == 2
    assert remembered() == before


def agreement(frame: pd.DataFrame) -> list[bool | None]:
    return [None if pd.isna(verdict) else bool(verdict) for verdict in frame["eb_agrees"]]


def test_whether_contact_and_row_agree_is_told_and_names_are_never_sent(api, named):
    api.knows(contact("Robert Smith"), "bob@corp.example")
    api.knows(contact("Ann Jones"), "eve@corp.example")
    api.knows(contact(""), "cid@corp.example")
    found = named(
        ("Bob Smith", "", "bob@corp.example", ""),
        ("Eve Miller", "", "eve@corp.example", ""),
        ("Cid Corman", "", "cid@corp.example", ""),
        ("", "", "bob@corp.example", ""),
        ("Dee Doe", "", "dee@corp.example", ""),
    )
    assert agreement(found) == [True, False, None, None, None]
    assert not any("Smith" in value for value in api.asked)
    report = found.attrs["report"]
    assert (report.agrees, report.disagrees) == (1, 1)


def test_a_phone_whose_contact_has_another_name_is_another_person_s(api, named):
    api.knows(contact("Ann Jones"), DESK)
    found = named(("Bob Smith", "", "", DESK))
    assert list(found["eb_status"]) == ["not_found"]
    assert agreement(found) == [None]
    assert found.attrs["report"].contradicted == 1


def test_a_phone_beside_two_names_is_shared(api, named):
    api.knows(contact("Ann Jones"), DESK)
    assert (
        list(named(("Bob Smith", "", "", DESK), ("Ann Jones", "", "", DESK))["eb_status"]) == ["invalid"] * 2
    )
    assert DESK not in api.asked


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"name": ["Bob Smith", "Ann Jones"], "phone": [DESK, DESK]}),
        pd.DataFrame(
            {"name": ["Bob Smith", "Ann Jones"], "field_type": ["phone", "phone"], "value": [DESK, DESK]}
        ),
    ],
    ids=["one column of identifiers", "long"],
)
def test_a_phone_beside_two_names_is_shared_though_no_other_identifier_stands_beside_it(api, where, table):
    api.knows(contact("Ann Jones"), DESK)
    with Enricher(
        api_key="key", base_url=api.url, ledger=where, person={"name": "name"}, progress=False
    ) as enricher:
        assert enricher.plan(table).requests == 0
        assert list(enricher.explain(table)["reason"]) == ["shared by several people"] * 2
        assert list(enricher.enrich_dataframe(table)["eb_status"]) == ["invalid"] * 2
        # The ledger remembers it.
        assert list(enricher.enrich_dataframe(table.iloc[1:])["eb_status"]) == ["invalid"]
    assert not api.asked


def test_who_names_no_such_column_is_told(enrich):
    with pytest.raises(InputError, match="no column 'nome'"):
        enrich(("Ann", "", "ann@corp.example", ""), person={"name": "nome"})
    with pytest.raises(ConfigError, match="choose from 'name'"):
        enrich(("Ann", "", "ann@corp.example", ""), person={"full": "name"})
    with pytest.raises(ConfigError, match="company alone"):
        enrich(("Ann", "", "ann@corp.example", ""), person={"company": "name"})


def test_a_contact_that_a_person_rejects_answers_no_more_and_is_not_asked_for_again(api, enrich, where):
    api.knows(ANN, "team@corp.example", "linkedin.com/in/ann")
    assert people(enrich(("", "", "team@corp.example", ""))) == ["Ann"]
    with Enricher(api_key="key", base_url=api.url, ledger=where, progress=False) as enricher:
        assert enricher.reject("email", "Team@corp.example") == 1
        assert enricher.reject("email", "Team@corp.example") == 0
    assert list(enrich(("", "", "team@corp.example", ""))["eb_status"]) == ["not_found"]
    assert api.asked["team@corp.example"] == 1
    # It goes on answering for its others.
    assert people(enrich(("", "linkedin.com/in/ann", "", ""))) == ["Ann"]
    assert api.credits == 1
    # A person's decision outlives the contact.
    with closing(Ledger(where, endpoint="")) as ledger:
        assert purge(ledger, older_than=timedelta(0)) == 1
        assert reconcile.check(ledger) == []
    assert list(enrich(("", "", "team@corp.example", ""))["eb_status"]) == ["not_found"]
    assert api.asked["team@corp.example"] == 1


def test_a_rejected_identifier_stays_so_when_the_contact_is_bought_again(api, enrich, where):
    api.knows(
        contact("Ann", profile="linkedin.com/in/ann", emails=["bob@corp.example"]), "linkedin.com/in/ann"
    )
    enrich(("", "linkedin.com/in/ann", "", ""))
    assert people(enrich(("", "", "bob@corp.example", ""))) == ["Ann"]
    with Enricher(api_key="key", base_url=api.url, ledger=where, progress=False) as enricher:
        assert enricher.reject("email", "bob@corp.example") == 1
    enrich(("", "linkedin.com/in/ann", "", ""), max_age=timedelta(microseconds=1))
    assert list(enrich(("", "", "bob@corp.example", ""))["eb_status"]) == ["not_found"]
    assert api.asked["linkedin.com/in/ann"] == 2


def test_what_is_not_asked_is_explained_cell_by_cell_without_a_value(api, where):
    frame = pd.DataFrame({
        "social_profile": ["linkedin.com/in/ann", "linkedin.com/in/bob", None, None],
        "email": ["info@corp.example", None, "no address", "sales@corp.example"],
        "phone": [DESK, DESK, None, None],
    })  # fmt: skip
    with Enricher(api_key="key", base_url=api.url, ledger=where, progress=False) as enricher:
        told = enricher.explain(frame)
        assert told.to_dict("list") == {
            "row": [1, 1, 2, 3],
            "column": ["email", "phone", "phone", "email"],
            "reason": [
                "mailbox of a role, such as info@", "shared by several people", "shared by several people",
                "not an e-mail address, or pieces of one",
            ],
        }  # fmt: skip
        assert enricher.explain(pa.Table.from_pandas(frame)).to_pylist() == told.to_dict("records")
    assert not api.asked


def test_who_is_forgotten_stands_beside_nobody_any_more(api, enrich, where):
    enrich(("", "linkedin.com/in/ann", "ann@corp.example", DESK), ("", "linkedin.com/in/bob", "", DESK))
    with Enricher(api_key="key", base_url=api.url, ledger=where, progress=False) as enricher:
        ledger = enricher._ledger

        def stands_beside() -> bytes:
            with ledger.database.reading() as connection:
                rows = connection.exec_driver_sql("SELECT key, people FROM companions").all()
                return b"".join(bytes(value) for row in rows for value in row)

        keys = ledger.keys(
            [Identifier("social_profile", "linkedin.com/in/ann"), Identifier("email", "ann@corp.example")]
        )
        assert all(key in stands_beside() for key in keys)
        enricher.forget("social_profile", "linkedin.com/in/ann")
        enricher.forget("email", "ann@corp.example")
        assert not any(key in stands_beside() for key in keys)
        assert ledger.key(Identifier("social_profile", "linkedin.com/in/bob")) in stands_beside()


def test_two_people_of_one_name_and_no_company_are_not_taken_for_one(api, named):
    api.knows(contact("Jane Doe", emails=["jane@corp.example"]), "jane@corp.example")
    found = named(("Jane Doe", "", "jane@corp.example", ""), ("Jane Doe", "", "", DESK), company="")
    assert people(found) == ["Jane Doe", None]


@pytest.mark.parametrize(
    ("name", "asked", "status"), [("Jane Doe", 0, "matched"), ("Ann Jones", 1, "not_found")]
)
def test_a_phone_inside_a_contact_answers_for_a_row_of_the_same_name(name, asked, status, api, named):
    api.knows(contact("Jane Doe", emails=["jane@corp.example"], phones=[DESK]), "jane@corp.example")
    named(("Jane Doe", "", "jane@corp.example", ""))
    found = named((name, "", "", DESK))
    assert list(found["eb_status"]) == [status]
    assert api.asked[DESK] == asked
    assert api.credits == 1


def test_in_dagster_the_share_of_other_names_is_checked_and_shown(api, where, tmp_path):
    api.knows(contact("Ann Jones"), "bob@corp.example")
    leads = pd.DataFrame({"name": ["Bob Smith"], "email": ["bob@corp.example"]})
    asset = build_enriched_contacts_asset(
        name="enriched", source="leads", path=tmp_path / "out.parquet", person={"name": "name"}
    )
    done = dg.materialize(
        [dg.asset(name="leads")(lambda: leads), asset],
        resources={"exactbuyer": ExactBuyerResource(api_key="key", base_url=api.url, ledger=where)},
    )
    assert pq.read_table(tmp_path / "out.parquet").column("eb_agrees").to_pylist() == [False]
    (checked,) = [check for check in done.get_asset_check_evaluations() if check.check_name == "names_agree"]
    assert not checked.passed
    assert checked.severity == dg.AssetCheckSeverity.WARN
    (event,) = done.asset_materializations_for_node("enriched")
    declared: Any = event.metadata["dagster/column_schema"].value
    columns = [column.name for column in declared.columns]
    assert columns[:9] == ["name", "email", *schema.arrow_schema(with_agrees=True).names[:7]]


def test_in_the_shell_names_are_compared_cells_explained_and_contacts_rejected(api, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    api.knows(contact("Ann Jones"), "bob@corp.example")
    leads = 'Person,email,phone\n"Smith, Bob",bob@corp.example,\nAnn Jones,no address,+12025550100\n'
    Path("leads.csv").write_text(leads)
    environment = {
        "EXACTBUYER_API_KEY": "key", "EXACTBUYER_BASE_URL": api.url, "EB_DAGSTER_LEDGER": str(tmp_path / "l.db"),
    }  # fmt: skip

    def shell(*words: str) -> str:
        done = CliRunner().invoke(main, [*words], env=environment)
        assert done.exit_code == 0, done.output
        return done.output

    told = shell("plan", "leads.csv", "--name", "Person", "--explain")
    assert "row 2, email: not an e-mail address, or pieces of one" in told
    shell("enrich", "leads.csv", "--name", "Person", "-o", "out.csv", "--yes")
    assert pd.read_csv("out.csv")["eb_agrees"].tolist() == [False, pytest.approx(float("nan"), nan_ok=True)]
    assert "1 contact will no longer answer" in shell("ledger", "reject", "bob@corp.example")
    shell("enrich", "leads.csv", "-o", "out.csv", "--yes")
    assert pd.read_csv("out.csv")["eb_status"].tolist() == ["not_found", "not_found"]
    assert api.credits == 1


@pytest.mark.parametrize(
    ("email", "status"), [("the.millers@gmail.com", "not_found"), ("eve@corp.example", "matched")]
)
def test_a_mailbox_that_a_household_may_share_is_its_own_only_for_the_same_name(email, status, api, named):
    api.knows(contact("Dan Miller", emails=[email]), email)
    found = named(("Eve Miller", "", email, ""))
    assert list(found["eb_status"]) == [status]
    assert people(found) == ([None] if status == "not_found" else ["Dan Miller"])
