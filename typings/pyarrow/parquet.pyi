from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import IO, Any

from pyarrow import BufferReader, NativeFile, RecordBatch, Schema, Table, _Closing

_File = str | PathLike[str] | IO[bytes] | NativeFile

class ColumnChunkMetaData:
    compression: str
    encodings: tuple[str, ...]
    is_stats_set: bool
    path_in_schema: str
    total_compressed_size: int
    total_uncompressed_size: int

class RowGroupMetaData:
    num_columns: int
    num_rows: int
    total_byte_size: int
    def column(self, i: int) -> ColumnChunkMetaData: ...

class FileMetaData:
    metadata: dict[bytes, bytes] | None
    num_columns: int
    num_row_groups: int
    num_rows: int
    def row_group(self, i: int) -> RowGroupMetaData: ...

class ParquetFile(_Closing):
    metadata: FileMetaData
    num_row_groups: int
    schema_arrow: Schema
    def __init__(
        self,
        source: _File,
        *,
        memory_map: bool = False,
        buffer_size: int = 0,
        pre_buffer: bool = False,
        page_checksum_verification: bool = False,
    ) -> None: ...
    def close(self, force: bool = False) -> None: ...
    def iter_batches(
        self,
        batch_size: int = 65536,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        use_threads: bool = True,
    ) -> Iterator[RecordBatch]: ...
    def read(self, columns: Sequence[str] | None = None, use_threads: bool = True) -> Table: ...
    def read_row_group(
        self, i: int, columns: Sequence[str] | None = None, use_threads: bool = True
    ) -> Table: ...

class ParquetWriter(_Closing):
    def __init__(
        self,
        where: _File,
        schema: Schema,
        *,
        compression: str | Mapping[str, str] = "snappy",
        compression_level: int | None = None,
        use_dictionary: bool | Sequence[str] = True,
        dictionary_pagesize_limit: int | None = None,
        write_statistics: bool | Sequence[str] = True,
        store_schema: bool = True,
        write_page_checksum: bool = False,
    ) -> None: ...
    def add_key_value_metadata(self, key_value_metadata: Mapping[str, str]) -> None: ...
    def close(self) -> None: ...
    def write(self, table_or_batch: Table | RecordBatch, row_group_size: int | None = None) -> None: ...
    def write_batch(self, batch: RecordBatch, row_group_size: int | None = None) -> None: ...
    def write_table(self, table: Table, row_group_size: int | None = None) -> None: ...

def read_metadata(where: _File) -> FileMetaData: ...
def read_schema(where: _File) -> Schema: ...
def read_table(
    source: _File | BufferReader,
    *,
    columns: Sequence[str] | None = None,
    use_threads: bool = True,
    schema: Schema | None = None,
    filters: Any = None,
    partitioning: str | None = "hive",
) -> Table: ...
def write_table(
    table: Table,
    where: _File,
    row_group_size: int | None = None,
    *,
    compression: str = "snappy",
    compression_level: int | None = None,
    store_schema: bool = True,
    use_dictionary: bool | Sequence[str] = True,
) -> None: ...
