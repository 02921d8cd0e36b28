"""Results that cannot be brought up to date, and settings in a file."""

from typing import Any

import pandas as pd

from eb_dagster import Enricher
from eb_dagster.api.client import Client
from eb_dagster.cli import init, update
from eb_dagster.cli.inputs import Reading, open_table
from eb_dagster.settings.config_file import read_config
from tests.messages.scene import Act, Provocations, Scene, leads


def result(scene: Scene) -> pd.DataFrame:
    """What an enrichment made, before what is provoked."""
    with scene.enricher() as enricher:
        made = enricher.enrich_dataframe(keyed())
    scene.credits_before = scene.credits()
    return made


def keyed(**columns: Any) -> pd.DataFrame:
    return leads(2).assign(**{"id": ["1", "2"], **columns})


def updating(today: pd.DataFrame | None = None, *, key: str = "id", **columns: Any) -> Act:
    def act(scene: Scene) -> None:
        earlier = result(scene).assign(**columns)
        scene.enricher().update_batches(keyed() if today is None else today, earlier, key=key)

    return act


def with_another_prefix(scene: Scene) -> None:
    earlier = result(scene)
    scene.enricher(prefix="x_").update_batches(keyed(), earlier, key="id")


def with_columns_of_one_name(scene: Scene) -> None:
    earlier = result(scene)
    twice = scene.file("twice.csv", b"email,id,id\na@canary.example,1,1\n")
    scene.enricher().update_batches(open_table(twice, Reading()).reader(), earlier, key="id")


def with_another_type(scene: Scene) -> None:
    earlier = result(scene).assign(note="x")
    # Row 2 is gone, so that its note would have to be a number.
    scene.enricher().update_batches(keyed(note=1).head(1), earlier, key="id")


def of_another_ledger(scene: Scene) -> None:
    keyed().to_parquet(scene.folder / "contacts.parquet")
    scene.enricher().earlier_table(scene.folder / "contacts.parquet")


def text_of_two_addresses(scene: Scene) -> None:
    result(scene)
    base_url = f"{scene.api.url if scene.api else ''}/other"
    scene.enricher(base_url=base_url).check_earlier_text()


def enriching_a_result(scene: Scene) -> None:
    made = result(scene)
    scene.enricher().enrich_dataframe(made)


def result_in_the_shell(scene: Scene) -> None:
    path = scene.folder / "contacts.csv"
    result(scene).to_csv(path, index=False)
    update.refuse_result(open_table(path, Reading()), path, prefix="eb_")


def initializing(leads_file: str, config_file: str = "new.toml") -> Act:
    def act(scene: Scene) -> None:
        path = scene.file("leads.csv", leads_file.encode())
        command = init.init
        assert command.callback is not None
        table = open_table(path, Reading())
        answers = init._Answers(init._proposed(table))
        init._write(answers, scene.folder / config_file, table)

    return act


def config(text: str) -> Act:
    return lambda scene: read_config(scene.file("exactbuyer.toml", text.encode()))


def from_no_config(scene: Scene) -> None:
    scene.monkeypatch.chdir(scene.folder)
    Enricher.from_config()


def nobody_answers(_: Scene) -> None:
    Client(base_url="http://127.0.0.1:9", api_key="", timeout=5.0).reach()


PROVOCATIONS: Provocations = {
    "a key that no column is": updating(key="idd"),
    "a key that is blank in places": updating(keyed(id=["1", ""])),
    "a key that is repeated": updating(keyed(id=["1", "1"])),
    "a key of fractions": updating(keyed(id=[0.5, 1.5])),
    "an update without a key": lambda s: s.enricher().enrich_parquet("a.parquet", "b.parquet", update="b.parquet"),
    "columns of one name in an update": with_columns_of_one_name,
    "a column that has changed its type": with_another_type,
    "a result with other things in our columns": updating(eb_enriched_at="soon"),
    "a table to update that is no result": lambda s: s.enricher().update_batches(keyed(), keyed(), key="id"),
    "a result of another prefix": with_another_prefix,
    "a result that another ledger paid for": of_another_ledger,
    "a result as text of a ledger with two addresses": text_of_two_addresses,
    "a result in place of leads": enriching_a_result,
    "a result in place of leads in the shell": result_in_the_shell,
    "a file to init that needs no settings": initializing("field_type,value\nemail,a@firm.example\n"),
    "a file to init without identifiers": initializing("a,b\n1,2\n"),
    "settings that are to be no TOML": initializing("email\na@firm.example\n", "new.txt"),
    "settings that are there": lambda s: init._confirm_replacing(s.file("exactbuyer.toml"), asks=False),
    "no file of settings": lambda s: read_config(s.folder / "nowhere.toml"),
    "no file of settings in the working directory": from_no_config,
    "a folder as a file of settings": lambda s: read_config(s.folder),
    "settings that are no TOML": config("max_credits 5"),
    "a key in a file of settings": config('api_key = "canary-key-1234"'),
    "a password in a file of settings": config('password = "canary-secret"'),
    "a password in an address in a file of settings": config('ledger = "postgresql://me:canary-secret@db.example/x"'),
    "a setting in a file that there is not": config("max_credit = 5"),
    "a setting in a file that is wrong": config("max_credits = -1"),
    "an age in a file that is no number": config('max_age_days = "90"'),
    "columns in a file that are no table": config('identifiers = "Email"'),
    "a kind in a file that there is not": config("[identifiers]\nemial = 'Email'"),
    "an address where nobody answers": nobody_answers,
}  # fmt: skip
