"""An S3 of this machine's own: moto's server in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests

KEYS = {
    "AWS_ACCESS_KEY_ID": "canary-access", "AWS_SECRET_ACCESS_KEY": "canary-secret",
    "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip
# An answer of this status to each request whose method, path and query match.
Fault = tuple[str, int]


class ObjectStore:
    """The server as its administrator sees it."""

    def __init__(self, url: str, control: Connection) -> None:
        self.url, self._control = url, control

    def make_bucket(self, name: str) -> None:
        requests.put(f"{self.url}/{name}", timeout=10).raise_for_status()

    def objects(self, bucket: str) -> dict[str, int]:
        """Every object of the bucket, with its size."""
        text = requests.get(f"{self.url}/{bucket}", timeout=10).text
        return {
            key: int(size) for key, size in re.findall(r"<Key>(.*?)</Key>.*?<Size>(\d+)</Size>", text, re.S)
        }

    def body(self, bucket: str, key: str) -> bytes:
        return requests.get(f"{self.url}/{bucket}/{key}", timeout=10).content

    def uploads(self, bucket: str) -> int:
        """How many uploads are under way."""
        return requests.get(f"{self.url}/{bucket}?uploads", timeout=10).text.count("<UploadId>")

    def clear(self) -> None:
        requests.post(f"{self.url}/moto-api/reset", timeout=10).raise_for_status()

    def fails(self, *faults: Fault) -> None:
        self._control.send(faults)
        self._control.recv()


@contextmanager
def running() -> Iterator[ObjectStore]:
    with _served(_serve) as control:
        yield ObjectStore(control.recv(), control)


@contextmanager
def _served(serve: Callable[[Connection], None]) -> Iterator[Connection]:
    """A server in a process of its own. Gives the end of the pipe by which it is told what to do."""
    # It is not forked, because the tests have threads.
    context = multiprocessing.get_context("spawn")
    own_end, other_end = context.Pipe()
    process = context.Process(target=serve, args=(other_end,), daemon=True)
    process.start()
    try:
        yield own_end
    finally:
        process.terminate()
        process.join()
        own_end.close()


def _serve(control: Connection) -> None:
    import logging
    import threading

    os.environ.update(KEYS)
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    real: Any = DomainDispatcherApplication(create_backend_app)
    faults: list[Fault] = []

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        asked = "{REQUEST_METHOD} {PATH_INFO}?{QUERY_STRING}".format_map(environ)
        for pattern, status in faults:
            if re.search(pattern, asked):
                is_chunked = "HTTP_TRANSFER_ENCODING" in environ
                environ["wsgi.input"].read(-1 if is_chunked else int(environ.get("CONTENT_LENGTH") or 0))
                start(f"{status} Fault", [("Content-Length", "0")])
                return [b""]
        return real(environ, start)

    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    control.send(f"http://127.0.0.1:{server.server_port}")
    while True:
        faults[:] = control.recv()
        control.send(None)


# Others


@contextmanager
def google() -> Iterator[str]:
    """The address of a Google Cloud Storage of this machine's own, with the bucket `crm`."""
    with _served(_serve_google) as control:
        address = control.recv()
        requests.post(
            f"{address}/storage/v1/b?project=x", json={"name": "crm"}, timeout=10
        ).raise_for_status()
        yield address


def _serve_google(control: Connection) -> None:
    import logging
    import sys

    from gcp_storage_emulator.server import create_server

    logging.disable(logging.CRITICAL)
    # It prints every request.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the process ends
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True)
    server.start()
    control.send(f"http://127.0.0.1:{port}")
    control.recv()


AZURITE = "EB_DAGSTER_AZURITE"
"""Names the program azurite-blob (npm install azurite), which is not on every machine."""
# The account that every Azurite has; both are published.
AZURE_KEYS = {
    "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
    "AZURE_STORAGE_ACCOUNT_KEY": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "AZURE_ALLOW_HTTP": "true",
}  # fmt: skip


@contextmanager
def azure(folder: Path) -> Iterator[str]:
    """The address of an Azure Blob Storage of this machine's own, with the container `crm`."""
    import pyarrow.fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        os.environ[AZURITE],
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
        "--location",
        folder,
    ]
    with subprocess.Popen([*words, "--blobPort", str(port)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            while b"successfully listens" not in process.stdout.readline():
                assert process.poll() is None
            authority = f"127.0.0.1:{port}"
            # pyarrow-stubs do not know of the schemes.
            settings: dict[str, Any] = {
                "account_name": AZURE_KEYS["AZURE_STORAGE_ACCOUNT_NAME"],
                "account_key": AZURE_KEYS["AZURE_STORAGE_ACCOUNT_KEY"],
                "blob_storage_authority": authority,
                "dfs_storage_authority": authority,
                "blob_storage_scheme": "http",
                "dfs_storage_scheme": "http",
            }
            pyarrow.fs.AzureFileSystem(**settings).create_dir("crm")
            yield f"http://{authority}/devstoreaccount1"
        finally:
            process.terminate()
