"""A local stand-in for ExactBuyer's bulk API, billing and all.

It imports nothing else of the package, so that one mistake cannot hide on both sides. It does what the
vendor documents, and it fails on request in the ways that the real API may fail. Its people are made up
from the identifier, the same ones every time.

    form → people → bill → reply        what one request goes through, as `app` calls it
    server                              the socket
    stand_in                            `running`, `serve` and `create_app`

`app`, `reply` and `server` need the extra `sandbox` (Flask). The other files do not.
"""

from eb_dagster.sandbox.faults import FAULTS, Fault
from eb_dagster.sandbox.stand_in import Sandbox, Settings, create_app, running, serve, wait_for_interrupt

__all__ = ["FAULTS", "Fault", "Sandbox", "Settings", "create_app", "running", "serve", "wait_for_interrupt"]
