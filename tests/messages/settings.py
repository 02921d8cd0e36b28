"""Settings that are refused."""

from datetime import timedelta

from tests.messages.scene import Provocations

PROVOCATIONS: Provocations = {
    "no key": lambda s: s.enrich(api_key=" "),
    "a key with odd letters": lambda s: s.enrich(api_key="canary-secret-ü"),
    "an address that is none": lambda s: s.enrich(base_url="https://a:b"),
    "an address without a host": lambda s: s.enrich(base_url="api"),
    "an address with a password": lambda s: s.enrich(base_url="https://me:canary-secret@a.example"),
    "an address of another kind": lambda s: s.enrich(base_url="ftp://a.example"),
    "plain http to elsewhere": lambda s: s.enrich(base_url="http://a.example"),
    "a proxy without a port": lambda s: s.enrich(proxy="http://canary-secret"),
    "a proxy that is no address": lambda s: s.enrich(proxy="http://canary-secret:x"),
    "a proxy of another kind": lambda s: s.enrich(proxy="socks5://me:canary-secret@a.example:1080"),
    "authorities that are none": lambda s: s.enrich(ca_bundle=s.file("a.pem", b"canary")),
    "required fields as a text": lambda s: s.enrich(required_fields="email"),
    "columns as a text": lambda s: s.enrich(columns="city"),
    "an unknown required field": lambda s: s.enrich(required_fields=["fax"]),
    "an unknown choice": lambda s: s.enrich(over_budget="ask"),
    "a partition size that is no number": lambda s: s.enrich(partition_size="all"),
    "a partition size too large": lambda s: s.enrich(partition_size=2000),
    "no timeout": lambda s: s.enrich(timeout=0),
    "a prefix that is no text": lambda s: s.enrich(prefix=3),
    "columns that are no list": lambda s: s.enrich(columns=3),
    "identifiers that name no kind": lambda s: s.enrich(identifiers="email"),
    "identifiers that name no column": lambda s: s.enrich(identifiers={"email": None}),
    "a bar that is none": lambda s: s.enrich(progress="x"),
    "a ledger that is named and empty": lambda s: s.enrich(ledger=""),
    "an age that is a number": lambda s: s.enrich(max_age=90),
    "an age of zero": lambda s: s.enrich(max_age=timedelta(0)),
    "an unknown column": lambda s: s.enrich(columns=["fax"]),
    "the region UK": lambda s: s.enrich(default_region="UK"),
    "a region that is none": lambda s: s.enrich(default_region="Bavaria"),
    "an unknown kind of identifier": lambda s: s.enrich(identifiers={"fax": "email"}),
    "no identifier named": lambda s: s.enrich(identifiers={"email": []}),
    "a person that is a text": lambda s: s.enrich(person="Name"),
    "a person of unknown parts": lambda s: s.enrich(person={"fax": "Name"}),
    "a person of several columns": lambda s: s.enrich(person={"name": ["Name"]}),
    "a person of a company alone": lambda s: s.enrich(person={"company": "Firm"}),
    "a column named twice": lambda s: s.enrich(identifiers={"email": ["email", "email"]}),
}
