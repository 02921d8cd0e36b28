import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from tests.benchmarks.goals import GOALS, Goal, table
from tests.benchmarks.jobs import place
from tests.benchmarks.pacing import rate, refused
from tests.benchmarks.payloads import REPLY_RECORDS, lead, make_template
from tests.benchmarks.server import running


def test_the_command_measures_and_prints_every_goal():
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--tiny"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()[4 : 4 + len(GOALS)]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [goal.what for goal in GOALS]
    measured = [row for row in rows if "–" not in row.split(" | ")[3]]
    assert len(measured) == 6


def test_the_users_scripts_find_the_contacts_that_a_run_finds(tmp_path):
    with running(tmp_path) as server, place(tmp_path, server, 2_000) as here:
        here.ours()
        expected = read(here.folder / "ours.parquet", prefix="eb_")
        assert 1_300 < sum(name is not None for name in expected["full_name"]) < 1_500
        for script in ("polars_first", "orjson_first"):
            here.script(script)
            assert read(here.folder / f"{script}.parquet") == expected
        for script in ("polars_known", "duckdb_known"):
            here.join(script, here.contacts())
            assert read(here.folder / f"{script}.parquet", prefix="eb_") == expected


def read(table: Path, *, prefix: str = "") -> dict[str, list[str | None]]:
    """Who stands in which row, by what all of the scripts call alike."""
    columns = ("full_name", "city", "company_domain", "company_size", "job_title", "photo_url")
    found = pq.read_table(table).sort_by("id")
    return {name: found[prefix + name].to_pylist() for name in columns}


def test_a_goal_is_judged_by_its_mark():
    assert Goal("a", "", "≥", 2).passes(2)
    assert not Goal("a", "", "≤", 2).passes(2.1)
    assert Goal("a", "").passes(1) is None
    name = next(goal.name for goal in GOALS if goal.bound == "≤" and goal.mark is not None)
    assert "✓" in table({name: 0.0}, form="short")
    missed = table({name: 1e9}, form="short")
    assert "✗" in missed
    assert "Missed: 1" in missed


def test_replies_are_seeded_and_the_same_packed():
    echoes = [lead(number).encode() for number in range(REPLY_RECORDS)]
    template = make_template(7)
    plain = template.reply(echoes)
    assert plain == make_template(7).reply(echoes)
    assert gzip.decompress(template.reply_gzip(echoes)) == plain
    assert gzip.decompress(template.reply_gzip(echoes[:3])) == template.reply(echoes[:3])


def test_replies_are_shaped_as_the_vendors():
    reply = json.loads(make_template(1).reply([lead(number).encode() for number in range(REPLY_RECORDS)]))
    found = [entry["enriched_contact"] for entry in reply["contacts"] if entry["enriched_contact"]]
    assert [entry["value"] for entry in reply["contacts"]] == [
        lead(number) for number in range(REPLY_RECORDS)
    ]
    assert reply["records_enriched"] == len(found)
    assert 650 < len(found) < 750
    size = sum(
        len(json.dumps(contact, separators=(",", ":"), ensure_ascii=False).encode()) for contact in found
    )
    assert 2_200 < size / len(found) < 2_600
    assert any("seniority_score" in contact for contact in found)
    assert any(contact["location"] is None for contact in found)
    assert any("education" not in contact for contact in found)


def test_a_moving_window_refuses_what_is_too_fast():
    quick, even = ([interval * number for number in range(500)] for interval in (0.29, 0.303))
    assert refused(quick, most=200, window=60) == 300
    assert refused(even, most=200, window=60) == 0
    assert round(rate(even)) == 198
