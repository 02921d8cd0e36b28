"""What was asked, what was answered and what it cost: durable, and the coordinator of all processes.

- `ledger`: one request after another: claimed, stored, in doubt, ended
- `schema`: the tables and their version
- `connection`, `sqlite`, `postgresql`: open a database, and refuse one that cannot be trusted to remember
- `process_locks`: whether the process behind a claim still lives
- `request_rows`: one row of the table of requests: states, keys, outcomes, checksums
- `entries`: the identifiers of one request, packed in bytes
- `key_hashes`: keyed hashes, by which people are known without their names
- `reply_store`, `encryption`: raw replies as they are stored, sealed if there is a key
- `replies`: notes in the ledger what a kept reply says
- `kept_columns`: contacts kept as columns beside their reply
- `aliases`: what is noted of a contact for later rows
- `companions`: which identifiers stood beside which, and so which are shared
- `rejections`: a user's word that a contact is not an identifier's
- `suppression`: who must never be sent or handed out
- `lookup`: what the requests say about some keys
- `known_keys`: the result of that, in arrays
- `recent_requests`: the keys of the newest requests, kept from claim to claim
- `key_search`: finds some keys among the packed keys of requests
- `key_index`, `key_segments`, `key_index_check`: which requests hold which keys; its rows; whether it is right
- `budget`, `counters`: what is spent and left; counted with each change of a request
- `slots`: the moments to send that all processes share
- `reconcile`: the bookkeeping: bought, in doubt, decided
- `privacy`, `forgetting`: what people may ask for; how they are found in requests and taken out
- `traces`: where texts and tables name a person
- `publications`, `published_tables`: where tables were published; people taken out of them
- `copying`: moves a whole ledger to another database
"""
