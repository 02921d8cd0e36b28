import ast
from pathlib import Path

ORDER = [
    "errors", "names", "characters", "mailboxes", "networks", "cells", "role_mailboxes", "mail_providers", "identifiers", "wire", "pacer", "client", "packed", "database", "findings", "settled", "eligible", "plan", "owners", "vault",
    "ledger", "companions", "contacts", "object_store", "publication", "parquet", "report", "forecast", "report_page", "settings", "purchase", "namesakes", "added", "traces", "rejection", "rights", "books",
    "signals", "frames", "explain", "enrich", "encodings", "delimited", "resource", "upstream", "metadata", "history", "checks", "materialize",
    "assets", "component", "ledger_commands", "warehouse", "spark", "cli",
]  # fmt: skip
PACKAGE = Path(__file__).parents[1] / "eb_dagster"


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("eb_dagster."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "eb_dagster":
            found |= {alias.name for alias in node.names if (PACKAGE / f"{alias.name}.py").exists()}
    return found


def test_every_file_has_its_place():
    assert {file.stem for file in PACKAGE.glob("*.py")} == {*ORDER, "__init__", "sandbox"}


def test_imports_run_in_one_direction():
    against = [
        (name, other)
        for at, name in enumerate(ORDER)
        for other in imports(PACKAGE / f"{name}.py") - {"sandbox"}
        if ORDER.index(other) >= at
    ]
    assert against == []


def test_the_sandbox_imports_nothing_of_the_package():
    files = list((PACKAGE / "sandbox").glob("*.py"))
    assert files
    assert set().union(*map(imports, files)) <= {"sandbox"}
