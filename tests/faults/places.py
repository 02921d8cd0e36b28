"""The vendor's process, and all that is logged, printed or raised during a case."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .server.people import KEY

ROOT = Path(__file__).parents[2]
CANARIES = re.compile(r"canary|\+?1?773-?474-?\d{4}", re.IGNORECASE)
"""What must not appear anywhere: the key and every made-up person contain one of these."""


class VendorProcess:
    """The server's process: scripts go in, journals come out. It can be handed to other processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "netrc").write_text("machine 127.0.0.1 login canary password canary\n")
        self._process: subprocess.Popen[str] | None = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server", str(folder.resolve())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._control = int(self._process.stdout.readline())
        self.port = self.open()
        self.elsewhere = self.open(name="elsewhere")
        """The port of another host, to which nobody should connect."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_process": None}

    def _tell(self, **order: Any) -> dict[str, Any]:
        with (
            socket.create_connection(("127.0.0.1", self._control)) as connection,
            connection.makefile("rw") as lines,
        ):
            lines.write(json.dumps(order) + "\n")
            lines.flush()
            answer = json.loads(lines.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def open(
        self,
        *,
        port: int = 0,
        manner: str = "plain",
        first: int = 0,
        certificate: str = "",
        name: str = "door",
    ) -> int:
        """Open a port; the first so many connections are received in an odd manner."""
        answer = self._tell(
            do="open", port=port, manner=manner, first=first, certificate=certificate, name=name
        )
        return answer["port"]

    def shut(self, port: int) -> None:
        self._tell(do="shut", port=port)

    def url(self, case: str, *, port: int | None = None, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{port or self.port}/{case}"

    def script(self, case: str, **script: Any) -> None:
        """Set what happens from now on; without settings, all goes well."""
        draft = self.folder / f"{case}.draft"
        draft.write_text(json.dumps(script))
        draft.rename(self.folder / f"{case}.json")

    def limit(self, case: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{case}.json").read_text())["limit"]

    def events(self, case: str, *, since: int = 0) -> list[dict[str, Any]]:
        path = self.folder / f"{case}.jsonl"
        if not path.exists():
            return []
        # The last line is left out: it is empty, or still being written.
        *lines, _ = path.read_bytes()[since:].split(b"\n")
        return [json.loads(line) for line in lines if line]

    def mark(self, case: str) -> int:
        """How long the journal is now."""
        path = self.folder / f"{case}.jsonl"
        return path.stat().st_size if path.exists() else 0

    def stop(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Heard:
    """Everything that was logged, warned of, printed or raised."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.warnings: list[str] = []

    def hear_error(self, error: BaseException) -> None:
        self.texts.append("".join(traceback.format_exception(error)))
        pending: list[BaseException | None] = [error]
        seen: set[int] = set()
        while pending:
            current = pending.pop()
            if current is None or id(current) in seen:
                continue
            seen.add(id(current))
            self.texts.append(f"{current} {current!r} {getattr(current, '__notes__', '')}")
            pending += [current.__cause__, current.__context__]

    def leaks(self) -> list[str]:
        """Where the key or people appear in it, each with the text around it."""
        found: list[str] = []
        for text in self.texts:
            found += [text[max(0, hit.start() - 60) : hit.end() + 20] for hit in CANARIES.finditer(text)]
        return found


class _Listener(logging.Handler):
    def __init__(self, texts: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(f"{record.getMessage()} {record.exc_text or ''}")
        if record.exc_info:
            self._texts.append("".join(traceback.format_exception(*record.exc_info)))


@contextlib.contextmanager
def listening() -> Iterator[Heard]:
    """Collect what this process says during the block, at the most verbose level."""
    heard = Heard()
    root = logging.getLogger()
    level, listener = root.level, _Listener(heard.texts)
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            warnings.simplefilter("always")
            yield heard
    finally:
        root.removeHandler(listener)
        root.setLevel(level)
        heard.warnings = [str(warning.message) for warning in caught]
        heard.texts += [*heard.warnings, out.getvalue(), err.getvalue()]


def names_below(folder: Path) -> str:
    return "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*"))


def holds_key(folder: Path) -> bool:
    """Whether the API key is in any file below this folder."""
    return any(KEY.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def wait_for(condition: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """Wait until the condition gives a true value, and return it."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise TimeoutError("it did not happen")
        time.sleep(0.01)
    return value
