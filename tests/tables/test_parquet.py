import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster.contacts.schema import arrow_schema
from eb_dagster.errors import InputError
from eb_dagster.tables.parquet import open_parquet, read_batches, read_metadata, write_parquet

SCHEMA = pa.schema([("n", pa.int64())])


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch({"n": list(numbers)}, schema=SCHEMA)


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_batches_become_one_private_file(tmp_path):
    path = tmp_path / "table.parquet"
    rows = write_parquet([batch(1, 2), batch(3)], path, schema=SCHEMA, metadata={"ledger": "x"})
    assert rows == 3
    assert pq.read_table(path)["n"].to_pylist() == [1, 2, 3]
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_metadata(path) == {"schema_version": "1", "ledger": "x"}
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"
    assert names_in(tmp_path) == ["table.parquet"]


def test_added_texts_have_no_least_value_and_all_else_has_one(tmp_path):
    path = tmp_path / "table.parquet"
    added = arrow_schema(columns=["city", "emails"])
    schema = pa.schema([pa.field("id", pa.string()), pa.field("n", pa.int64()), *added])
    write_parquet(
        [pa.RecordBatch.from_pylist([{"id": "a", "n": 1, "eb_status": "matched", "eb_from_ledger": False, "eb_city": "Brno", "eb_emails": ["a@firm.example"]}], schema)],
        path, schema=schema,
    )  # fmt: skip
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {column.path_in_schema for column in columns if column.is_stats_set} == {
        "id", "n", "eb_matched", "eb_from_ledger", "eb_enriched_at",
    }  # fmt: skip
    assert pq.read_table(path, filters=[("id", ">", "a")]).num_rows == 0


def test_no_batches_make_a_table_without_rows(tmp_path):
    path = tmp_path / "table.parquet"
    assert write_parquet([], path, schema=SCHEMA) == 0
    assert pq.read_table(path).schema.equals(SCHEMA)
    assert read_metadata(path) == {"schema_version": "1"}


def test_facts_may_be_asked_for_when_all_batches_have_passed(tmp_path):
    passed = []

    def batches():
        for number in range(3):
            passed.append(number)
            yield batch(number)

    def facts():
        return {"request": str(len(passed))}

    write_parquet(batches(), tmp_path / "t.parquet", schema=SCHEMA, metadata=facts)
    assert read_metadata(tmp_path / "t.parquet") == {"schema_version": "1", "request": "3"}


def test_facts_of_an_input_table_do_not_pass_for_those_of_the_output(tmp_path):
    inherited = SCHEMA.with_metadata({"eb_dagster.ledger.ledger": "old", "owner": "me"})
    path = tmp_path / "table.parquet"
    write_parquet([batch(1)], path, schema=inherited, metadata={"request": "7"})
    assert read_metadata(path) == {"schema_version": "1", "request": "7"}
    assert pq.read_schema(path).metadata[b"owner"] == b"me"


def test_small_batches_are_joined_and_large_ones_cut_into_even_row_groups(tmp_path):
    path = tmp_path / "table.parquet"
    batches = [batch(*range(7)), batch(), batch(7), batch(*range(8, 20)), batch(20, 21)]
    write_parquet(batches, path, schema=SCHEMA, row_group_rows=5)
    facts = pq.read_metadata(path)
    sizes = [facts.row_group(index).num_rows for index in range(facts.num_row_groups)]
    assert sizes == [5, 5, 5, 5, 2]
    assert pq.read_table(path)["n"].to_pylist() == list(range(22))


def test_batches_are_let_go_as_they_are_written(tmp_path):
    def batches():
        start = pa.total_allocated_bytes()
        for number in range(200):
            yield pa.record_batch({"n": pa.array(range(number, number + 10_000))}, schema=SCHEMA)
            held.append(pa.total_allocated_bytes() - start)

    held: list[int] = []
    write_parquet(batches(), tmp_path / "t.parquet", schema=SCHEMA, row_group_rows=20_000)
    assert max(held[100:]) <= max(held[:100]) * 1.1


def test_an_error_leaves_the_old_table_and_nothing_else(tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet([batch(1)], path, schema=SCHEMA)

    def broken():
        yield batch(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parquet(broken(), path, schema=SCHEMA)
    assert pq.read_table(path)["n"].to_pylist() == [1]
    assert names_in(tmp_path) == ["table.parquet"]


def test_facts_that_cannot_be_told_leave_the_old_table(tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet([batch(1)], path, schema=SCHEMA)
    with pytest.raises(ZeroDivisionError):
        write_parquet([batch(2)], path, schema=SCHEMA, metadata=lambda: {"x": str(1 / 0)})
    assert pq.read_table(path)["n"].to_pylist() == [1]
    assert names_in(tmp_path) == ["table.parquet"]


def test_a_batch_of_another_schema_leaves_the_old_table(tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet([batch(1)], path, schema=SCHEMA)
    with pytest.raises(pa.ArrowException):
        write_parquet([pa.record_batch({"m": [1]})], path, schema=SCHEMA)
    assert pq.read_table(path)["n"].to_pylist() == [1]
    assert names_in(tmp_path) == ["table.parquet"]


def test_what_is_being_written_is_private_and_hidden_and_cleared_by_nobody(tmp_path):
    path = tmp_path / "table.parquet"
    seen: list[str] = []

    def batches():
        yield batch(1)
        (temporary,) = tmp_path.iterdir()
        assert temporary.stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.glob("*.parquet")) == []
        write_parquet([batch(5)], path, schema=SCHEMA)
        seen.extend(names_in(tmp_path))
        yield batch(2)

    write_parquet(batches(), path, schema=SCHEMA)
    assert len(seen) == 2
    assert pq.read_table(path)["n"].to_pylist() == [1, 2]
    assert names_in(tmp_path) == ["table.parquet"]


KILLED = """
import os, sys, signal
from pathlib import Path
import pyarrow as pa
from eb_dagster.tables.parquet import write_parquet

SCHEMA = pa.schema([("n", pa.int64())])

def batches():
    for _ in range(5):
        yield pa.record_batch({"n": list(range(1000))}, schema=SCHEMA)
    os.kill(os.getpid(), signal.SIGKILL)

write_parquet(batches(), Path(sys.argv[1]), schema=SCHEMA, row_group_rows=1000)
"""


def test_a_killed_writer_leaves_the_old_table_and_the_next_write_clears_up(tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet([batch(1)], path, schema=SCHEMA)
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        env={**os.environ, "PYTHONPATH": str(root)}, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    (torn,) = [name for name in names_in(tmp_path) if name != "table.parquet"]
    assert (tmp_path / torn).stat().st_size > 0
    assert pq.read_table(path)["n"].to_pylist() == [1]

    write_parquet([batch(2)], path, schema=SCHEMA)
    assert names_in(tmp_path) == ["table.parquet"]
    assert pq.read_table(path)["n"].to_pylist() == [2]


IMPATIENT = """
import os, signal, sys, threading, time
import pyarrow as pa
from pathlib import Path
from eb_dagster.tables.parquet import write_parquet

batch = pa.record_batch({"text": [os.urandom(400).hex() for _ in range(40_000)]})

def batches():
    yield batch
    yield batch
    # The second one is being compressed, for some tenths of a second.
    for seconds in (0.005, 0.015, 0.025):
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
    if sys.argv[2] == "fails":
        raise RuntimeError("the run failed")
    time.sleep(5)

try:
    write_parquet(batches(), Path(sys.argv[1]), schema=batch.schema, row_group_rows=40_000)
except BaseException as error:
    while True:
        try:
            time.sleep(0.2)
            break
        except KeyboardInterrupt:
            pass
    print(type(error).__name__)
"""


@pytest.mark.parametrize("how", ["waits", "fails"])
def test_one_ctrl_c_after_the_other_closes_no_file_that_is_being_written(tmp_path, how):
    path = tmp_path / "table.parquet"
    write_parquet([batch(1)], path, schema=SCHEMA)
    done = subprocess.run([sys.executable, "-c", IMPATIENT, path, how], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "KeyboardInterrupt\n", "")
    assert pq.read_table(path)["n"].to_pylist() == [1]
    assert names_in(tmp_path) == ["table.parquet"]


def test_a_table_may_have_any_name_that_its_file_system_takes(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.parquet"))
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert write_parquet([batch(1)], path, schema=SCHEMA) == 1


def test_a_torn_file_of_a_dead_process_is_cleared(tmp_path):
    torn = tmp_path / ".table.parquet.dead.tmp"
    torn.write_bytes(b"PAR1")
    others = [tmp_path / ".other.parquet.dead.tmp", tmp_path / ".table.parquet.mine"]
    for other in others:
        other.write_bytes(b"PAR1")
    write_parquet([], tmp_path / "table.parquet", schema=SCHEMA)
    assert not torn.exists()
    assert all(other.exists() for other in others)


def test_a_link_keeps_pointing_where_it_does(tmp_path):
    target, link = tmp_path / "data" / "real.parquet", tmp_path / "link.parquet"
    target.parent.mkdir()
    write_parquet([batch(1)], target, schema=SCHEMA)
    link.symlink_to(target)
    write_parquet([batch(2)], link, schema=SCHEMA)
    assert link.is_symlink()
    assert pq.read_table(target)["n"].to_pylist() == [2]
    assert names_in(target.parent) == ["real.parquet"]


def test_the_longest_name_a_file_may_have_can_be_written(tmp_path):
    path = tmp_path / ("ž" * 123 + ".parquet")
    write_parquet([batch(1)], path, schema=SCHEMA)
    assert names_in(tmp_path) == [path.name]


def test_metadata_of_no_file_is_none_and_of_a_foreign_table_empty(tmp_path):
    assert read_metadata(tmp_path / "absent.parquet") is None
    pq.write_table(pa.table({"n": [1]}), tmp_path / "foreign.parquet")
    assert read_metadata(tmp_path / "foreign.parquet") == {}


@pytest.mark.parametrize("content", [b"", b"mine", b"PAR1" + b"x" * 100 + b"PAR1"])
def test_what_is_no_parquet_file_is_told(tmp_path, content):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(InputError, match="not a Parquet file"):
        read_metadata(tmp_path / "notes.txt")


def test_a_file_is_read_in_order_in_pieces_that_end_with_their_row_group(tmp_path):
    pq.write_table(pa.table({"n": range(10)}), tmp_path / "t.parquet", row_group_size=4)
    with open_parquet(tmp_path / "t.parquet") as file:
        assert [batch["n"].to_pylist() for batch in read_batches(file, 3)] == [
            [0, 1, 2], [3], [4, 5, 6], [7], [8, 9],
        ]  # fmt: skip


def test_what_reading_holds_does_not_grow_with_the_number_of_row_groups(tmp_path):
    def most_held(groups: int) -> int:
        path = tmp_path / f"{groups}.parquet"
        texts = [f"{number:040}" for number in range(10_000)]
        with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
            for _ in range(groups):
                writer.write_table(pa.table({"text": texts}))
        before, most = pa.total_allocated_bytes(), 0
        with open_parquet(path) as file:
            for _ in read_batches(file, 1_000):
                most = max(most, pa.total_allocated_bytes() - before)
        return most

    assert most_held(60) < 2 * most_held(3)
