import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.parquet import check_writable, read_metadata, write_parquet

SCHEMA = pa.schema([("n", pa.int64())])


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch({"n": list(numbers)}, schema=SCHEMA)


def test_batches_become_one_private_file(tmp_path):
    path = tmp_path / "table.parquet"
    assert write_parquet([batch(1, 2), batch(3)], path, schema=SCHEMA, metadata=lambda: {"ledger": "x"}) == 3
    assert pq.read_table(path)["n"].to_pylist() == [1, 2, 3]
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_metadata(path) == {"schema_version": "1", "ledger": "x"}
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"


def test_an_error_leaves_the_old_table_and_nothing_else(tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet([batch(1)], path, schema=SCHEMA)

    def broken():
        yield batch(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parquet(broken(), path, schema=SCHEMA)
    assert pq.read_table(path)["n"].to_pylist() == [1]
    assert [one.name for one in tmp_path.iterdir()] == ["table.parquet"]


def test_a_torn_file_of_a_dead_process_is_cleared(tmp_path):
    torn = tmp_path / ".table.parquet.dead.tmp"
    torn.write_bytes(b"PAR1")
    write_parquet([], tmp_path / "table.parquet", schema=SCHEMA)
    assert not torn.exists()


def test_what_is_no_parquet_file_is_not_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError):
        read_metadata(tmp_path / "notes.txt")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError):
        check_writable(tmp_path)
