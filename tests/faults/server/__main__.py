"""`python -m tests.faults.server FOLDER` prints the port of its control, and works until its input ends."""

from __future__ import annotations

import sys
from pathlib import Path

from .doors import Control
from .vendor import Vendor


def main() -> None:
    control = Control(Vendor(Path(sys.argv[1])))
    print(control.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
