"""The parts of the README that are made from the code. `python -m tests.readme` writes them anew."""

from collections.abc import Iterator
from pathlib import Path

import click

from eb_dagster import errors
from eb_dagster.cli.commands import EXIT_CODES, main
from eb_dagster.contacts import schema

README = Path(__file__).parents[1] / "README.md"


def text() -> str:
    return README.read_text("utf-8")


def error_table() -> str:
    """Every error with the first line of what it says of itself."""
    tree = errors.EnrichError.__subclasses__()
    public = [one for one in tree if one.__module__ == errors.__name__]
    rows = [f"| `{one.__name__}` | {(one.__doc__ or '').partition(chr(10))[0]} |" for one in public]
    return "\n".join(["| error | what happened, what to do |", "|---|---|", *rows])


def exit_codes() -> str:
    return "\n".join(
        ["| exit code | |", "|--:|---|", *(f"| {code} | {words} |" for code, words in EXIT_CODES.items())]
    )


def commands() -> str:
    """Every command with its options, as its `--help` tells them."""
    return "\n\n".join("\n".join(_describe(path, command)) for path, command in _walk(main, "eb-dagster"))


def _walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, each in sorted(command.commands.items()):
        yield from _walk(each, f"{path} {name}")


def _describe(path: str, command: click.Command) -> Iterator[str]:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    options = [one for one in command.params if isinstance(one, click.Option)]
    yield f"`{' '.join([path, *(one.metavar or str(one.name).upper() for one in arguments)])}`: {_line(command.help)}"
    if options:
        yield from ("", "| option | |", "|---|---|")
    for one in options:
        default = f" [{one.default}]" if one.show_default else ""
        yield f"| `{_spelt(one)}` | {_line(one.help)}{default} |"


def _spelt(option: click.Option) -> str:
    # A bar would end the cell of a table.
    choices = option.type.choices if isinstance(option.type, click.Choice) else []
    value = "" if option.is_flag else " " + (option.metavar or "/".join(choices) or option.type.name.upper())
    return ", ".join(sorted(option.opts, key=len)) + value.replace("|", " or ").removesuffix(" RANGE")


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "/")


PARTS = {
    "columns": schema.markdown_table,
    "errors": error_table,
    "exit codes": exit_codes,
    "commands": commands,
}


def with_parts(readme: str) -> str:
    """The README with every part as the code has it."""
    for name, make in PARTS.items():
        before, opening, rest = readme.partition(f"<!-- {name}: made by `python -m tests.readme` -->\n")
        _, closing, after = rest.partition(f"\n<!-- /{name} -->")
        if not (opening and closing):
            raise ValueError(f"README.md has no place for the part {name!r}")
        readme = before + opening + make() + closing + after
    return readme


if __name__ == "__main__":
    README.write_text(with_parts(text()), encoding="utf-8")
