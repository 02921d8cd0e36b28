"""Every error that the package can raise, provoked and read.

`pytest -s tests/messages` prints the page.
"""

import ast
import re
import traceback
from contextlib import ExitStack
from pathlib import Path

import pytest

import eb_dagster
from eb_dagster import EnrichError
from tests.messages import api, definitions, files, ledger, settings, spark, tables, updates, warehouse
from tests.messages.scene import KEY, Act, Scene

PACKAGE = Path(eb_dagster.__file__).parent


CANARIES = (KEY, "canary.example", "canary-secret")

PARTS = (settings, tables, files, api, ledger, definitions, updates, warehouse, spark)
PROVOCATIONS = [provocation for part in PARTS for provocation in part.PROVOCATIONS.items()]

NEXT = re.compile(
    r"(?i)\b(ask|cast|check|choose|chmod|compare|copy|correct|drop|give|leave|lower|make|mend|move|name|open|pass|"
    r"pip install|put|raise|read|remove|rename|report|restore|run|save|say|see|set|look|top up|upgrade|use|write)\b"
)
SPENT = re.compile(
    r"[.?] (Nothing was sent|Nothing was charged|Nothing was changed|Nobody was suppressed|Nothing was forgotten|Nothing was bought|Whatever was bought is in the ledger|This run was charged [\d,]+ credits?.*)$"
)

# What is raised and not provoked here, by a part of its source, and why.
NOT_PROVOKED = {
    "could not be carried over": "needs a disk that fails; tests/faults/storage.py",
    "there is no ledger in that database yet": "a plan goes on with an empty one",
    "cannot be read there; check its permissions": "root may read everything",
    "the ledger is on a network file system": "needs a mount; tests/ledger reads tables of mounts",
    "a PostgreSQL ledger needs psycopg": "needs an environment without psycopg",
    "which needs libraries": "needs an environment without them",
    "which needs cryptography": "needs an environment without cryptography",
    "SQLite would not promise": "no SQLite here refuses WAL on a local disk",
    "PostgreSQL is read-only there": "needs a replica",
    "cannot note who claims": "needs a disk that fails between two calls; tests/faults/storage.py",
    "is not the same in the copy": "needs a disk that loses what was written to it",
    "damaged(": "one message, whatever is damaged; some of it is provoked",
    "its log still holds": "needs a reader at that very moment",
    "was opened before a fork": "needs a fork, which threads forbid; tests/faults/test_crashes.py forks",
    "is there and cannot be read: check the disk": "needs a disk that fails while it is read",
    "is there and cannot be read: no permission": "root may read everything",
    "is gone, and its {path.name}-wal": "shown by tests/ledger/test_connection.py",
    "which keeps nothing; name a file": "shown by tests/ledger/test_connection.py",
    "was emptied: it has been used": "shown by tests/ledger/test_connection.py",
    "leads to no schema for the ledger's tables": "shown by tests/ledger/test_connection.py",
    "were dropped by a purge": "shown by tests/ledger/test_reconcile.py",
    "could not be written ({type(error).__name__})": "needs a disk that fails",
    "is there already, and a backup replaces nothing": "shown by tests/ledger/test_reconcile.py",
    "an export is a Parquet file; choose": "shown by tests/cli/test_ledger.py",
    "was changed since it was written; look for": "forget names the file instead; tests/cli/test_forgetting.py",
    "give a number of days, such as 90": "raised anew with the name of the file of settings",
    "is copied by PostgreSQL itself": "shown by tests/ledger/test_reconcile.py",
    "only what was charged can be asked again": "shown by tests/ledger/test_reconcile.py",
    "encrypted with an earlier key": "shown by tests/ledger/test_encryption.py",
    "replies are encrypted: set {VARIABLE}": "shown by tests/ledger/test_encryption.py",
    "is not that of the ledger's replies; set it to the one": "shown by tests/ledger/test_encryption.py",
    "is not a key; set it to 32 random bytes": "shown by tests/ledger/test_encryption.py",
    "more than a day behind the newest request": "shown by tests/ledger/test_ledger.py",
    "this machine's clock is {abs": "shown by tests/pipeline/test_purchase.py",
    "the reply of request {request_id} is damaged in the ledger": "a checksum finds it first",
    "no permission to write in its folder": "root may write everything",
    "cannot write {path}: {error.strerror}": "needs a disk that fails",
    "the ledger of this executor is not": "needs a cluster; tests/test_spark.py has one",
    "{self} cannot {what}": "needs an object store; tests/tables/test_object_stores.py has one",
    "the query's database needs a driver": "needs an environment without DuckDB's or Snowflake's",
    "the query returns no table": "from a DuckDB before 2",
    "a spreadsheet is read and written": "needs an environment without the extra",
    "a sheet has room for {MOST_ROWS": "needs a million rows; tests/cli/test_formats.py has the check before",
    "what read stdout went away": "needs a pipe that breaks",
    "Azure needs a library of its own": "needs an environment without the extra",
    "the rows cannot be kept on disk": "needs a disk that fails",
    "cannot be copied to read it": "needs a disk that fails",
    "the tables are partitioned, but this run": "shown by tests/definitions/test_contact_tables.py",
    "source is a definition of several assets": "Dagster's own words are in its error",
    "the warehouse refused": "needs a database that takes the contacts and refuses what comes after",
}  # fmt: skip


def raise_sites() -> dict[tuple[str, int], str]:
    """Every place that raises one of our errors: file and line, with its source."""
    # Some places choose the error first and raise it as `kind`; `damaged` makes one.
    names = {kind.__name__ for kind in subclasses(EnrichError)} | {"kind", "damaged"}
    found: dict[tuple[str, int], str] = {}
    for file in PACKAGE.rglob("*.py"):
        source = file.read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and getattr(node.exc.func, "id", "") in names
            ):
                found[str(file), node.lineno] = ast.get_source_segment(source, node) or ""
    return found


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(below) for below in kind.__subclasses__()))


def origins(error: BaseException) -> set[tuple[str, int]]:
    frames = traceback.extract_tb(error.__traceback__)
    return {(frame.filename, frame.lineno or 0) for frame in frames}


def faults_of(text: str, charged: int) -> list[str]:
    """What is wrong with a message."""
    found = [f"shows {canary}" for canary in CANARIES if canary in text]
    ending = SPENT.search(text)
    if ending is None:
        return [*found, "does not end with what was spent"]
    if not NEXT.search(text[: ending.start()]):
        found.append("does not say what to do")
    if "\n" in text or ".." in text.replace("…", "") or len(text) > 520:
        found.append("is no sentence, or too long")
    told = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", ending[1])] or [0]
    if not told[0] <= charged <= sum(told):
        found.append(f"tells {told}, and {charged} were charged")
    return found


def raised(act: Act, scene: Scene) -> BaseException:
    try:
        act(scene)
    except Exception as error:
        # Dagster wraps an error of a resource in one of its own.
        return error.__cause__ if isinstance(error.__cause__, EnrichError) else error
    return AssertionError("nothing was raised")


def is_explained(source: str) -> bool:
    return any(text in source for text in NOT_PROVOKED)


def test_every_error_says_what_happened_what_was_spent_and_what_to_do(tmp_path, postgresql):
    unseen, faults, page = raise_sites(), [], []
    for number, (what, act) in enumerate(PROVOCATIONS):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as monkeypatch, ExitStack() as stack:
            monkeypatch.delenv("EXACTBUYER_API_KEY", raising=False)
            scene = Scene(folder, stack, postgresql, monkeypatch)
            error = raised(act, scene)
            charged = scene.credits() - scene.credits_before
        text = f"{type(error).__name__}: {error}"
        page.append(f"{what}\n    {text}\n")
        faults += [f"{what}: {fault}: {text}" for fault in faults_of(text, charged)]
        for site in origins(error):
            unseen.pop(site, None)
    print("\n" + "\n".join(page))
    missing = [(site, source) for site, source in unseen.items() if not is_explained(source)]
    assert not faults, "\n".join(faults)
    assert missing == []


def test_every_provocation_has_a_name_of_its_own():
    names = [name for name, _ in PROVOCATIONS]
    assert len(set(names)) == len(names)


def test_the_list_of_what_is_not_provoked_is_not_stale():
    sources = list(raise_sites().values())
    assert [text for text in NOT_PROVOKED if not any(text in source for source in sources)] == []
