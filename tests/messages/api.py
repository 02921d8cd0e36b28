"""An API that refuses, or that cannot be reached."""

import socket
from typing import Any

from tests.faults.certificates import make_certificates
from tests.messages.scene import Act, Provocations, Scene, leads
from tests.vendors import answering


def nothing(_values: list[str]) -> bytes:
    return b""


def answer(code: int, headers: dict[str, str] | None = None) -> Act:
    def act(scene: Scene) -> Any:
        with answering(nothing, status=code, headers=headers) as vendor:
            scene.enrich(base_url=vendor.url)

    return act


def distrust_a_certificate(scene: Scene) -> Any:
    certificate = make_certificates(scene.folder)["unknown"]
    with answering(nothing, certificate=certificate) as vendor:
        scene.enrich(base_url=vendor.url)


def refuse_at_the_proxy(code: int) -> Act:
    def act(scene: Scene) -> Any:
        with answering(nothing, status=code) as vendor:
            proxy = vendor.url.replace("//", "//me:canary-secret@")
            scene.enrich(base_url="https://127.0.0.1:9", proxy=proxy)

    return act


def find_no_certificates(scene: Scene) -> Any:
    scene.monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(scene.folder / "nowhere"))
    scene.enrich(base_url="https://127.0.0.1")


def connect_to_nobody(scene: Scene) -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    scene.enrich(base_url=f"http://127.0.0.1:{port}")


PROVOCATIONS: Provocations = {
    "401": lambda s: s.enrich(faults="401@1"),
    "403 at the start": lambda s: s.enrich(faults="403@1"),
    "403 in mid-run": lambda s: s.enrich(
        leads(40), partition_size=20, max_credits_at_risk=20, faults="403@2"
    ),
    "400": lambda s: s.enrich(faults="400@1"),
    "413": lambda s: s.enrich(faults="413@1"),
    "404": answer(404),
    "a redirect": answer(307, {"Location": "http://127.0.0.1:9/"}),
    "429 for good": answer(429, {"Retry-After": "100"}),
    "connection refused": connect_to_nobody,
    "a certificate that is not trusted": distrust_a_certificate,
    "no certificates there": find_no_certificates,
    "a proxy that asks for a password": refuse_at_the_proxy(407),
    "a proxy that lets nobody there": refuse_at_the_proxy(403),
    "a proxy that cannot get there": refuse_at_the_proxy(502),
    "as much in doubt as is allowed": lambda s: s.enrich(
        leads(60), partition_size=20, max_credits_at_risk=20, faults="502@2"
    ),
}
