"""Which mailboxes are nobody's own."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eb_dagster.identifiers.arrays import text_array
from eb_dagster.identifiers.role_mailboxes import ROLES, are_role_mailboxes, is_role_mailbox


@pytest.mark.parametrize(
    "local",
    ["info", "info+x", "info2", "sales-uk", "sales_emea", "no-reply", "noreply", "do.not.reply", "press-office", "customer.service",
     "human-resources", "mailer-daemon", "list-request", "kontakt", "büro", "vertrieb", "contato", "ventas", "administracion",
     "compta", "direction", "biuro", "sekretariat", "rechnung", "contacto", "commercial", "jobs", "hr", "hello", "billing",
     "amministrazione", "инфо", "bilgi", "eigyo"],
)  # fmt: skip
def test_a_role_is_told_in_several_languages(local: str) -> None:
    assert is_role_mailbox(f"{local}@firm.example")


@pytest.mark.parametrize(
    "local",
    ["jane", "jane.doe", "sales.smith", "jane-sales", "j.info", "informant", "uk", "2", "a.b", "team.jane", "jane+info",
     "hellopeter", "-", "infos.jane"],
)  # fmt: skip
def test_a_name_beside_a_role_is_a_persons(local: str) -> None:
    assert not is_role_mailbox(f"{local}@firm.example")


def test_each_group_of_roles_names_its_source_and_is_written_as_addresses_are() -> None:
    for source, words in ROLES:
        assert source
        assert all(word == word.lower() and word.isalnum() for word in words)


WORDS = st.sampled_from(
    ["info", "sales", "no", "reply", "jane", "uk", "2", "büro", "emea", "front", "desk", ""]
)


@given(st.lists(st.lists(WORDS | st.sampled_from("._-+"), min_size=1).map("".join)))
@example(["info+x", "jane+info", "do.not.reply+x", "front_desk", "in.fo", "-", "+"])
def test_the_roles_of_a_column_are_those_of_each_alone(locals_: list[str]) -> None:
    emails = [f"{local}@info.sales.example" for local in locals_]
    assert are_role_mailboxes(text_array(emails)).tolist() == [is_role_mailbox(email) for email in emails]


def test_a_million_addresses_are_told_quickly() -> None:
    import time

    started = time.thread_time()
    for number in range(100_000):
        is_role_mailbox(f"jane.doe{number}@firm.example")
    assert time.thread_time() - started < 2
