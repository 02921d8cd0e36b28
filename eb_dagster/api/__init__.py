"""The vendor's interface: its JSON, the one socket, whether money may be gone, and the pace.

- `envelope`: the request form and the parsed reply; the only file that knows the API's JSON
- `client`: the API at its address; what is sent there and with what
- `connections`: sends a request; the only file that opens a socket, and that loads requests
- `certificates`: which certificates a server is checked with
- `reply`: what came back, or that nothing did
- `compression`: undoes the content encodings of a reply, within fixed bounds
- `outcome`: whether money may be gone, by what left and what came back
- `rate_limit`: even spacing of requests, shared by every process on one ledger
"""
