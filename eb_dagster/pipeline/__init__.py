"""Rows in, rows out: what to ask, claim, send, take in, and how each row ends.

- `run`: the order in which things happen
- `watch`: a run from its first word to its last, also if it ends early
- `opening`: what is said before anything is bought
- `lazy_ledger`: a ledger that is made by the first run and never by a plan
- `offers`: what rows offer, each key once
- `eligibility`: the right person: what may be asked, and which contacts may answer for a row
- `lookup`: what the ledger knew of keys, in arrays
- `plan`: what would be asked and can cost at most; it sends and stores nothing
- `purchase`: looks up, claims, sends and takes in, inside the limits
- `sender`: the threads that send, and store what comes back
- `shutdown`: a run that is told to stop first takes in what is in flight
- `window`: the rows that are open: what is asked next, and who waits for whom
- `keys`: the keys that open rows offer: what is known, and where the answer is
- `table`: entries with fields, an array for each field
- `namesakes`: rows of one name and company: one is asked, the others are held back
- `rows`: how rows end
- `ended`: how the rows of a block ended, in arrays
- `output`: the columns that are added to rows that have ended
- `publication`: publishes tables, without those who were suppressed meanwhile
- `update`: brings an enriched table up to date
- `explain`: which cells are not used or not asked, and why
- `facts`: facts as names and values, line by line
- `report`, `html_report`: what a run did and cost; the same as a web page
- `progress`: how far a run is
- `run_log`: a run in the log
- `telemetry`: a run as a span and metrics of OpenTelemetry
"""
