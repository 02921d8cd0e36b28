from datetime import timedelta
from enum import Enum
from typing import Self

from pyarrow import NativeFile

class FileType(Enum):
    NotFound = 0
    Unknown = 1
    File = 2
    Directory = 3

class FileInfo:
    path: str
    size: int | None
    type: FileType

class FileSystem:
    @classmethod
    def from_uri(cls, uri: str) -> tuple[Self, str]: ...
    def create_dir(self, path: str, *, recursive: bool = True) -> None: ...
    def delete_file(self, path: str) -> None: ...
    def get_file_info(self, paths_or_selector: str) -> FileInfo: ...
    def open_input_file(self, path: str) -> NativeFile: ...
    def open_input_stream(self, path: str, compression: str | None = "detect") -> NativeFile: ...
    def open_output_stream(self, path: str, compression: str | None = "detect") -> NativeFile: ...

class GcsFileSystem(FileSystem):
    def __init__(
        self,
        *,
        anonymous: bool = False,
        scheme: str = "https",
        endpoint_override: str | None = None,
        retry_time_limit: timedelta | None = None,
    ) -> None: ...

class AzureFileSystem(FileSystem):
    def __init__(self, account_name: str, *, account_key: str | None = None) -> None: ...

class LocalFileSystem(FileSystem): ...
