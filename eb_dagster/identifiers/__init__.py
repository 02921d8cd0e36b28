"""What may be asked for: emails, phones and profiles, and how cells and columns hold them.

- `model`: the types: an identifier, what one row offers, and everything in which the kinds differ
- `kinds`: the table of kinds
- `email`, `phone`, `profile`: each kind's spelling, its key, and how cells and columns hold it
- `canonical`: one canonical spelling of each identifier, and the key that all its spellings share
- `mailboxes`: which mail providers deliver several spellings to one mailbox
- `role_mailboxes`: mailboxes that are a role's and nobody's own, such as `info@`
- `company_domains`: which e-mail domains are a company's
- `networks`: the social networks, as data: hosts, spellings, and what is no person
- `names`: whether two spellings can be one person's name
- `characters`: characters that stand around a value or look like others
- `grammar`: how exports and people write several values into one cell
- `cells`: what one cell offers
- `rows`: what each row of a table offers
- `offers`: what rows offer, in arrays
- `columns`: which columns of a table hold identifiers
- `contract`: the pandera contract of the input
- `texts`: the texts of a pandas or Arrow column, whatever its encoding
- `arrays`: Arrow arrays from Python's values, without pandas
"""
