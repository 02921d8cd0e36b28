"""A local stand-in for ExactBuyer's bulk API, billing and all.

It imports nothing else of the package, so that one mistake cannot hide on both sides. It does what the
vendor documents, and it fails on request in the ways that the real API may fail. Its people are made up
from the identifier, the same ones every time.

A request goes through `form`, `people`, `bill` and `reply`, as `app` calls them.

- `app`: what each address answers
- `form`: reads what a request asks for
- `people`, `vocabulary`: made-up people, and the words for them
- `bill`: every request and charge, on disk before the reply leaves
- `reply`: writes the reply, spoiled as the fault says
- `faults`: what can go wrong on request
- `server`: the socket
- `page`: a page with the bill and the faults, live
- `stand_in`: `running`, `serve` and `create_app`
- `pytest_plugin`: a running sandbox for one test

`app`, `reply` and `server` need the extra `sandbox` (Flask). The other files do not.
"""

from eb_dagster.sandbox.faults import FAULTS, Fault
from eb_dagster.sandbox.stand_in import Sandbox, Settings, create_app, running, serve, wait_for_interrupt

__all__ = ["FAULTS", "Fault", "Sandbox", "Settings", "create_app", "running", "serve", "wait_for_interrupt"]
