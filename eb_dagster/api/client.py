"""The API at its address: what is sent there and with what, and whether it can be reached.

Only what sends loads requests, which takes longer than everything else here. So it is loaded once something is
to be sent, and neither for a plan nor for rows that the ledger knows.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from eb_dagster.api.certificates import check_bundle
from eb_dagster.api.envelope import CONTENT_TYPE, PATH
from eb_dagster.api.reply import NoReply, Reply
from eb_dagster.errors import Busy

if TYPE_CHECKING:
    from eb_dagster.api.connections import Connections

_PROXY_VARIABLES: Final = tuple(
    spelled for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY") for spelled in (name, name.lower())
)


class Client:
    """Posts forms to the bulk endpoint, each once. Safe to use from many threads."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        timeout: float,
        proxy: str | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        self.url = base_url + PATH
        self._timeout = timeout
        # Plain http is for this machine only, so it never goes through a proxy.
        self._proxies = {"https": proxy} if proxy and self.url.startswith("https:") else {}
        self._ca_bundle = ca_bundle
        if ca_bundle is not None:
            # A bundle that cannot be read is refused before anything else happens.
            check_bundle(ca_bundle)
        self._headers = {
            "X-API-Key": api_key,
            "Content-Type": CONTENT_TYPE,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }
        self._connections: Connections | None = None
        self._lock = threading.Lock()

    def open(self) -> Connections:
        """Load what sends, if it is not there yet. Opens no connection."""
        with self._lock:
            if self._connections is None:
                from eb_dagster.api.connections import Connections

                self._connections = Connections(
                    url=self.url,
                    headers=self._headers,
                    timeout=self._timeout,
                    proxies=self._proxies,
                    ca_bundle=self._ca_bundle,
                )
            return self._connections

    def send(self, form: bytes) -> Reply | NoReply:
        """Post one form, once, within the deadline.

        Raises `ConfigError` when the server's certificate cannot be trusted, or a proxy will not connect.
        """
        return self.open().post(form)

    def reach(self) -> float | None:
        """Ask the address for its header alone, without key or people: its time, if it tells. Costs nothing.

        Raises:
            ConfigError: the server's certificate cannot be trusted, or a proxy will not connect.
            Busy: nobody answers.

        """
        reply = self.open().head(self.url.removesuffix(PATH) + "/")
        if isinstance(reply, NoReply):
            raise Busy(f"nobody answers at that address ({reply.reason}). {self.unreachable}")
        return reply.date

    @property
    def unreachable(self) -> str:
        """What to look at when the API cannot be reached."""
        if self._proxies:
            return "Check base_url, proxy and the network, then run again"
        ignored = [name for name in _PROXY_VARIABLES if os.environ.get(name)]
        if not ignored or not self.url.startswith("https:"):
            return "Check base_url and the network, then run again"
        verb = "is" if len(ignored) == 1 else "are"
        return (
            f"{' and '.join(ignored)} {verb} ignored here: if the API is reached "
            "by way of a proxy, set proxy=… or EB_DAGSTER_PROXY; else check base_url and the network, then run again"
        )

    def abort(self) -> None:
        """Cut every connection that is open. What is cut off is in doubt."""
        if self._connections is not None:
            self._connections.abort()
