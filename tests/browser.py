"""A headless Chromium, driven over its own protocol."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

SECONDS = 60.0


def program() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """The only tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._asked = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._asked += 1
        self._connection.send(json.dumps({"id": self._asked, "method": method, "params": params}))
        while (answer := json.loads(self._connection.recv(timeout=SECONDS))).get("id") != self._asked:
            pass
        return answer["result"]

    def value(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def text(self) -> str:
        return self.value("document.body ? document.body.innerText : ''") or ""

    def wait_for(self, *words: str) -> str:
        """The text of the page, once it holds all of these."""
        return self._until(
            lambda: (shown := self.text()) and all(word in shown for word in words) and shown, words
        )

    def click(self, words: str, *, with_shift: bool = False) -> None:
        """Click on the innermost element with this text, once there is one."""
        find = (
            "[...document.querySelectorAll('button, a, [role=tab]')]"
            f".filter(one => one.innerText.trim() === {json.dumps(words)} && !one.disabled).pop()"
        )
        event = f"new MouseEvent('click', {{bubbles: true, shiftKey: {json.dumps(with_shift)}}})"
        self._until(
            lambda: self.value(f"(one => one ? (one.dispatchEvent({event}), true) : false)({find})"), words
        )

    def wait_until(self, script: str, what: str) -> None:
        """Wait until the script gives a true value."""
        self._until(lambda: self.value(script), what)

    def _until(self, done: Callable[[], Any], what: Any) -> Any:
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            if found := done():
                return found
            time.sleep(0.2)
        raise AssertionError(f"the page does not show {what}: {self.text()[:3000]}")


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start a browser with a profile of its own; it ends with the block."""
    options = (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1700,1500",
        f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank",
    )  # fmt: skip
    with subprocess.Popen(
        [program() or "chromium", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            with connect(_address(folder), max_size=None, proxy=None) as connection:
                yield Page(connection)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _address(folder: Path) -> str:
    """The address of the tab. Chromium writes its port into a file once it listens."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
            port = int((folder / "DevToolsActivePort").read_text().split()[0])
            tabs = requests.get(f"http://127.0.0.1:{port}/json", timeout=10).json()
            return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        time.sleep(0.2)
    raise AssertionError("Chromium did not start")
