"""The parts of README.md and docs/ that are made from the code. `python -m tests.documents` writes them anew."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from eb_dagster import errors
from eb_dagster.cli.commands import main
from eb_dagster.cli.outcome import EXIT_CODES
from eb_dagster.contacts import schema

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"

PART = re.compile(
    r"(?P<opening>^<!-- (?P<name>[a-z ]+): made by `python -m tests\.documents` -->\n)"
    r".*?"
    r"(?P<closing>^<!-- /(?P=name) -->$)",
    re.DOTALL | re.MULTILINE,
)
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """The README and every page of docs/."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def snippets(language: str) -> list[str]:
    """Every snippet of a language, once: what is copied into a page from another one is left out."""
    written = (PART.sub("", page.read_text("utf-8")) for page in pages())
    return [
        fence["text"] for text in written for fence in FENCE.finditer(text) if fence["language"] == language
    ]


def beginning() -> str:
    """What the README says first, with its links as they are inside docs/."""
    _, _, text = README.read_text("utf-8").partition("\n")
    said, _, _ = text.partition("\n## Read on\n")
    return said.replace("](docs/", "](").strip()


def error_table() -> str:
    """Every error with the first line of its docstring."""
    tree = errors.EnrichError.__subclasses__()
    public = [error for error in tree if error.__module__ == errors.__name__]
    rows = [f"| `{error.__name__}` | {(error.__doc__ or '').partition(chr(10))[0]} |" for error in public]
    return "\n".join(["| error | what happened, what to do |", "|---|---|", *rows])


def exit_codes() -> str:
    rows = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return "\n".join(["| exit code | |", "|--:|---|", *rows])


def commands() -> str:
    """Every command with its options, as its `--help` shows them."""
    return "\n\n".join("\n".join(_describe(path, command)) for path, command in _walk(main, "eb-dagster"))


def _walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, subcommand in sorted(command.commands.items()):
        yield from _walk(subcommand, f"{path} {name}")


def _describe(path: str, command: click.Command) -> Iterator[str]:
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    options = [param for param in command.params if isinstance(param, click.Option)]
    names = [argument.metavar or str(argument.name).upper() for argument in arguments]
    yield f"### {path}"
    yield ""
    yield f"`{' '.join([path, *names])}`: {_line(command.help)}"
    if options:
        yield from ("", "| option | |", "|---|---|")
    for option in options:
        default = f" [{option.default}]" if option.show_default else ""
        yield f"| `{_spelling(option)}` | {_line(option.help)}{default} |"


def _spelling(option: click.Option) -> str:
    # A bar would end the cell of a table.
    choices = option.type.choices if isinstance(option.type, click.Choice) else []
    value = "" if option.is_flag else " " + (option.metavar or "/".join(choices) or option.type.name.upper())
    return ", ".join(sorted(option.opts, key=len)) + value.replace("|", " or ").removesuffix(" RANGE")


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "/")


PARTS = {
    "beginning": beginning,
    "columns": schema.markdown_table,
    "errors": error_table,
    "exit codes": exit_codes,
    "commands": commands,
}


def part_names(text: str) -> list[str]:
    return [part["name"] for part in PART.finditer(text)]


def with_parts(text: str) -> str:
    """A page with every part of it as the code has it."""
    return PART.sub(lambda part: f"{part['opening']}{PARTS[part['name']]()}\n{part['closing']}", text)


if __name__ == "__main__":
    for page in pages():
        text = page.read_text("utf-8")
        page.write_text(with_parts(text), encoding="utf-8")
