"""Figures that say how the code reads. `python -m tests.measures` prints them.

`python -m tests.measures --places` also lists where the limits are not held.

- A file's lines are all its lines. Rates are per 1,000 of them.
- A function's body is what follows its docstring, to its last line. A function that is defined inside another
  is counted by itself, and again as a part of the outer one.
- Complexity is 1, plus 1 for each `if`, `for`, `while`, `except`, `case`, conditional expression and
  comprehension, for each `if` in a comprehension, and for each `and` and `or`.
- Tokens are names, operators, numbers and strings. A code line is one on which at least one of them begins.
- A cast is a call of `typing.cast`. Arrow's method of that name converts values, and does not count.
- An `Any` is each use of the name, without its import.
- Imports are pairs of files of which one imports the other.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("eb_dagster", "tests")

MOST_FILE_LINES: Final = 600
MOST_README_LINES: Final = 180
MOST_COMPLEXITY: Final = 15
MOST_MEAN_COMPLEXITY: Final = 3.2
MOST_CASTS_RATE: Final = 2.0
MOST_ANY_RATE: Final = 10.0
MOST_UNFORMATTED_RATE: Final = 0.5

# Words that say nothing, or that only their author can explain. A leading underscore does not excuse them.
FORBIDDEN_NAMES: Final = frozenset(
    {
        "added",
        "at",
        "books",
        "findings",
        "mine",
        "one",
        "owners",
        "packed",
        "rights",
        "settled",
        "vault",
        "who",
    }
)
# Keywords of another library, which a file of ours has to spell as the library does: Dagster's `AssetSpec(owners=…)`.
FOREIGN_KEYWORDS: Final = frozenset({("eb_dagster/definitions/assets.py", "owners")})
FORBIDDEN_FILE_NAMES: Final = FORBIDDEN_NAMES | {"base", "handler", "helpers", "manager", "utils"}

_CODE_TOKENS: Final = frozenset({tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING})
_UNFORMATTED: Final = "# fmt: skip"
_UNCHECKED: Final = ("# type: ignore", "# pyright: ignore")
_BRANCHES: Final = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.match_case,
)


@dataclass(frozen=True)
class Function:
    """One function or method."""

    name: str
    place: str
    body_lines: int
    complexity: int


@dataclass(frozen=True)
class SourceFile:
    """One file of Python."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        return list(tokenize.generate_tokens(io.StringIO(self.text).readline))

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def functions(self) -> list[Function]:
        return [
            Function(
                name=node.name,
                place=self.place(node.lineno),
                body_lines=_body_lines(node),
                complexity=_complexity(node),
            )
            for node in self.nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]

    @property
    def code_tokens(self) -> int:
        return sum(token.type in _CODE_TOKENS for token in self.tokens)

    @property
    def code_lines(self) -> int:
        return len({token.start[0] for token in self.tokens if token.type in _CODE_TOKENS})

    @property
    def casts(self) -> int:
        calls = [node.func for node in self.nodes if isinstance(node, ast.Call)]
        return sum(ast.unparse(function) in ("cast", "typing.cast") for function in calls)

    @property
    def anys(self) -> int:
        return sum(isinstance(node, ast.Name) and node.id == "Any" for node in self.nodes)

    @property
    def forbidden_names(self) -> list[tuple[int, str]]:
        """Each forbidden name where it is given to something, with its line."""
        stem = self.path.stem
        found = [(1, stem)] if stem in FORBIDDEN_FILE_NAMES else []
        for node in self.nodes:
            found += [(line, name) for line, name in _given_names(node) if self._is_forbidden(name)]
        return sorted(found)

    def _is_forbidden(self, name: str) -> bool:
        return name.lstrip("_") in FORBIDDEN_NAMES and (self.shown_path, name) not in FOREIGN_KEYWORDS

    def comments(self, *beginnings: str) -> int:
        """How many comments begin so."""
        comments = [token.string for token in self.tokens if token.type == tokenize.COMMENT]
        return sum(any(beginning in comment for beginning in beginnings) for comment in comments)

    @property
    def shown_path(self) -> str:
        shown = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return shown.as_posix()

    def place(self, line: int) -> str:
        return f"{self.shown_path}:{line}"


@dataclass(frozen=True)
class Measures:
    """The figures of all files of one folder."""

    folder: Path
    files: Sequence[SourceFile]

    @cached_property
    def functions(self) -> list[Function]:
        return [function for file in self.files for function in file.functions]

    @cached_property
    def lines(self) -> list[int]:
        return [file.lines for file in self.files]

    @property
    def mean_complexity(self) -> float:
        return statistics.mean(function.complexity for function in self.functions)

    @property
    def tokens_per_code_line(self) -> float:
        return sum(file.code_tokens for file in self.files) / sum(file.code_lines for file in self.files)

    @property
    def casts_rate(self) -> float:
        return self._rate(file.casts for file in self.files)

    @property
    def any_rate(self) -> float:
        return self._rate(file.anys for file in self.files)

    @property
    def unformatted_rate(self) -> float:
        return self._rate(file.comments(_UNFORMATTED) for file in self.files)

    @property
    def unchecked_rate(self) -> float:
        return self._rate(file.comments(*_UNCHECKED) for file in self.files)

    @property
    def long_files(self) -> list[str]:
        """The files above the limit, with their lines."""
        return [f"{file.place(1)} {file.lines} lines" for file in self.files if file.lines > MOST_FILE_LINES]

    @property
    def complex_functions(self) -> list[str]:
        """The functions above the limit, with their complexity."""
        return [
            f"{function.place} {function.name} has complexity {function.complexity}"
            for function in self.functions
            if function.complexity > MOST_COMPLEXITY
        ]

    @property
    def forbidden_names(self) -> list[str]:
        """Where a name is given that the style forbids."""
        return [f"{file.place(line)} {name}" for file in self.files for line, name in file.forbidden_names]

    @property
    def imports(self) -> int:
        """How many pairs of files there are of which one imports the other."""
        modules = {_module_name(file.path, self.folder) for file in self.files}
        return len(
            {
                (file.path, imported)
                for file in self.files
                for node in file.nodes
                if isinstance(node, ast.ImportFrom)
                for imported in _imported_modules(node, modules)
            }
        )

    def _rate(self, counts: Iterable[int]) -> float:
        return 1000 * sum(counts) / sum(self.lines)


def measure(folder: Path) -> Measures:
    """Read all Python files below a folder."""
    paths = sorted(folder.rglob("*.py"))
    return Measures(folder, [SourceFile(path, path.read_text("utf-8")) for path in paths])


def readme_lines() -> int:
    return len((ROOT / "README.md").read_text("utf-8").splitlines())


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    has_docstring = ast.get_docstring(node, clean=False) is not None
    statements = node.body[1:] if has_docstring else node.body
    if not statements:
        return 0
    last_line = statements[-1].end_lineno or statements[-1].lineno
    return last_line - statements[0].lineno + 1


def _complexity(function: ast.AST) -> int:
    return 1 + sum(_branches(node) for node in ast.walk(function))


def _branches(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, _BRANCHES))


def _given_names(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The names of variables, attributes, parameters, functions and classes that are made here."""
    match node:
        case ast.Name(ctx=ast.Store()):
            yield node.lineno, node.id
        case ast.Attribute(ctx=ast.Store()):
            yield node.lineno, node.attr
        case ast.arg():
            yield node.lineno, node.arg
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.lineno, node.name.lower()
        case ast.alias(asname=str()):
            yield node.lineno, str(node.asname)
        case ast.ExceptHandler(name=str()):
            yield node.lineno, str(node.name)
        case ast.MatchAs(name=str()):
            yield node.lineno, str(node.name)
        case _:
            pass


def _module_name(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported_modules(node: ast.ImportFrom, modules: set[str]) -> Iterator[str]:
    """What `from a import b` imports: the file a/b where there is one, else a."""
    module = node.module or ""
    for alias in node.names:
        submodule = f"{module}.{alias.name}"
        if submodule in modules:
            yield submodule
        elif module in modules:
            yield module


# What is printed


def _percentile_90(values: Iterable[int]) -> int:
    ordered = sorted(values)
    return ordered[int(0.9 * len(ordered))]


def _figures(measures: Measures) -> list[str]:
    bodies = [function.body_lines for function in measures.functions]
    return [
        f"{len(measures.files)} · {statistics.median(measures.lines):.0f} · {max(measures.lines)}",
        f"{sum(measures.lines)}",
        f"{len(measures.functions)}",
        f"{statistics.median(bodies):.0f} / {_percentile_90(bodies)}",
        f"{measures.mean_complexity:.2f} / {max(function.complexity for function in measures.functions)}",
        f"{measures.tokens_per_code_line:.1f}",
        f"{measures.casts_rate:.1f}",
        f"{measures.any_rate:.1f}",
        f"{measures.unformatted_rate:.1f}",
        f"{measures.unchecked_rate:.1f}",
        f"{len(measures.forbidden_names)}",
        f"{measures.imports}",
    ]


_ROWS: Final = (
    ("files · median · longest", f"≤ {MOST_FILE_LINES}"),
    ("lines", ""),
    ("functions", ""),
    ("median / 90th percentile body", ""),
    ("mean / highest complexity", f"≤ {MOST_MEAN_COMPLEXITY} / {MOST_COMPLEXITY}"),
    ("tokens a code line", ""),
    ("`cast` in 1,000 lines", f"≤ {MOST_CASTS_RATE:g}"),
    ("`Any` in 1,000 lines", f"≤ {MOST_ANY_RATE:g}"),
    ("`fmt: skip` in 1,000 lines", f"≤ {MOST_UNFORMATTED_RATE:g}"),
    ("`type: ignore` and `pyright: ignore` in 1,000 lines", ""),
    ("forbidden names", "0"),
    ("imports between files", ""),
)


def table(several: Sequence[Measures]) -> str:
    """All figures as a table of Markdown, a column for each folder."""
    head = ["", *(measures.folder.name for measures in several), "limit for eb_dagster"]
    columns = [_figures(measures) for measures in several]
    rows = [[name, *figures, limit] for (name, limit), *figures in zip(_ROWS, *columns, strict=True)]
    lines = [head, ["---", *("--:" for _ in several), "---"], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Print figures that say how the code reads.")
    parser.add_argument("--places", action="store_true", help="list where the limits are not held")
    parser.add_argument("folders", nargs="*", type=Path, default=[ROOT / folder for folder in FOLDERS])
    options = parser.parse_args()
    several = [measure(folder) for folder in options.folders]
    print(table(several))
    print(f"\nREADME.md has {readme_lines()} lines of at most {MOST_README_LINES}.")
    if options.places:
        for measures in several:
            print(
                "\n".join(["", *measures.long_files, *measures.complex_functions, *measures.forbidden_names])
            )


if __name__ == "__main__":
    main()
