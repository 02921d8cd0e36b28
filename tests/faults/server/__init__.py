"""A vendor with every fault of the catalogue, in a process of its own.

It shares no line with the package, so that one mistake cannot hide on both sides: it is written from
the vendor's documents alone, on bare sockets. A charge is on disk before a byte of the reply leaves.

    folder/<case>.json    what goes wrong at which request; may be replaced at any time
    folder/<case>.jsonl   what happened: arrived, asked, charged, left

A case's address is http://127.0.0.1:<port>/<case>/v1/bulk-enrich. The identifier decides who is found
and what the contact says, so that anybody can tell whether a row holds its own person.

    people                who is found
    exchange              one request, and ways to answer it
    connection_faults     the request or the reply is lost on the way
    reply_faults          a complete reply that cannot be read
    size_faults           a reply that is too large or too slow
    meaning_faults        a reply that can be read and says something else than was asked
    limits                the rate limit and its page
    vendor                what all requests share: scripts, journals, counts
    doors                 the ports, opened and shut by orders over a socket
"""
