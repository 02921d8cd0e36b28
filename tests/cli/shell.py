"""What the tests of the shell share."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-c", "from eb_dagster.cli import main; main(prog_name='eb-dagster')"]
CANARY = "canary@firm.example"


@dataclass
class Ran:
    code: int
    out: str
    said: str

    @property
    def json(self):
        return json.loads(self.out)


def leads(count: int, *, name: str = "leads.csv") -> None:
    lines = [f"p{number}@firm.example,{number:03}" for number in range(count)]
    Path(name).write_text("\n".join(["Email,n", *lines, ""]))
