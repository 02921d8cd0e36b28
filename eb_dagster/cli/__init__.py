"""The shell: `eb-dagster …`.

- `commands`, `groups`: the list of commands, and how they are grouped
- `options`, `config`: options that are settings; their defaults from a file
- `spelling`: messages name the shell's options in place of Python's keywords
- `init`, `doctor`: a first `exactbuyer.toml`; whether all that a run needs is there
- `enrich`, `update`: `plan` and `enrich`; `--update`
- `inputs`, `formats`, `targets`: what is read, in which forms, and what may be written
- `outcome`, `next_steps`: what is printed at the end with the exit code; what to do then
- `ledger`, `doubts`: look into a ledger and decide; what is in doubt
- `people`, `people_files`: `forget`, `reject` and `suppress`; lists of people
- `dbt`: sources of dbt
- `sandbox`: the stand-in for the API
"""

from eb_dagster.cli.commands import main as main
