import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from eb_dagster.errors import ConfigError
from eb_dagster.tables.atomic_file import check_writable, published


def test_missing_folders_are_made_for_their_owner_only(tmp_path):
    path = tmp_path / "a" / "b" / "table.parquet"
    check_writable(path)
    assert not path.exists()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    with published(path) as sink:
        sink.write(b"mine")
    assert path.stat().st_mode & 0o777 == 0o600
    check_writable(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="it is a folder"):
        check_writable(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "t.parquet", tmp_path / "file" / "deeper" / "t.parquet"):
        with pytest.raises(ConfigError, match="a part of its folder is a file"):
            check_writable(path)


def test_a_device_is_not_replaced():
    with pytest.raises(ConfigError, match="not a regular file"):
        check_writable(Path("/dev/null"))


def test_links_in_a_loop_lead_nowhere(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ConfigError, match="leads nowhere"):
        check_writable(tmp_path / "a")


def test_a_folder_that_cannot_be_made_is_told():
    with pytest.raises(ConfigError, match=r"cannot write /proc/none/table\.parquet"):
        check_writable(Path("/proc/none/table.parquet"))


def test_a_folder_that_takes_no_files_is_told_whatever_its_permissions_say():
    # On Linux, the superuser may write there, by its permissions.
    for path in ("/proc/table.parquet", "/sys/table.parquet"):
        with pytest.raises(ConfigError, match=f"cannot write {path}: "):
            check_writable(Path(path))


def test_asking_whether_a_table_can_be_written_leaves_nothing(tmp_path):
    check_writable(tmp_path / "table.parquet")
    assert not list(tmp_path.iterdir())


REFUSED = """
import os, sys
from pathlib import Path
from eb_dagster.errors import ConfigError
from eb_dagster.tables.atomic_file import check_writable

os.chdir(sys.argv[1])
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for path in ("locked/table.parquet", "locked/new/table.parquet"):
    try:
        check_writable(Path(path))
    except ConfigError as error:
        print(error)
"""


def test_a_folder_without_permission_is_told():
    # Root may write anywhere, so it asks as nobody, who cannot pass the folders above tmp_path.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "locked").mkdir(mode=0o555)
        asked = subprocess.run(
            [sys.executable, "-c", REFUSED, folder], check=True, capture_output=True,
            text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
    assert asked.stdout.count("no permission to write in its folder") == 2
