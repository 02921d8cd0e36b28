"""What SQLAlchemy compiles is compiled once in a process of the tests, and not again for each of their ledgers.

An engine keeps what it has compiled, and each ledger has an engine of its own. Thousands of ledgers are
opened here, some of them by processes that live for a second: they would compile for a third of their time.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event


class Compiled(dict[tuple[Any, ...], Any]):
    """Compiled statements of all engines, by the kind of database in place of the engine's own dialect."""

    def get(self, key: tuple[Any, ...], default: Any = None, /) -> Any:
        return super().get(_of_any_engine(key), default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        super().__setitem__(_of_any_engine(key), compiled)


def _of_any_engine(key: tuple[Any, ...]) -> tuple[Any, ...]:
    dialect, *statement = key
    return type(dialect), *statement


_COMPILED = Compiled()


def share() -> None:
    """Let every engine of this process find what was compiled for another one."""
    event.listen(sa.Engine, "set_connection_execution_options", _offer)


def _offer(_connection: sa.Connection, options: dict[str, Any]) -> None:
    options["compiled_cache"] = _COMPILED
