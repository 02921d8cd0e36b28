"""Made-up leads and the replies to them: seeded, and shaped as the vendor's contacts are known to be."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

REPLY_RECORDS: Final = 1000
FOUND: Final = 0.7
# One contact in this many has keys that no column knows.
NEW_KEYS_EVERY: Final = 50

_FIRST = [
    "Ada",
    "Boris",
    "Chloé",
    "Dörte",
    "Emil",
    "Farah",
    "Gökçe",
    "Hana",
    "Igor",
    "Jürgen",
    "Kofi",
    "Łucja",
    "Mei",
    "Núria",
    "Olga",
    "雅子",
    "Zoë",
]
_LAST = [
    "Alder",
    "Birch",
    "Černý",
    "Dubois",
    "Elm",
    "Fernández",
    "Göransson",
    "Hawthorn",
    "Ito",
    "Jansen",
    "Žižka",
    "Laurel",
    "王",
]
_TITLES = [
    "Buyer",
    "Head of Sales",
    "Ingénieur logiciel",
    "Data Engineer",
    "Geschäftsführerin",
    "VP Marketing",
    "Owner",
]
_LEVELS = ("senior", "manager", "director", "owner", "entry", "vp")
_TREES = ["larch", "maple", "rowan", "hazel", "alder", "birch", "willow", "cedar", "aspen", "linden"]
_INDUSTRIES = [
    "forestry",
    "software",
    "hospital & health care",
    "märkte",
    "banking",
    "logistics and supply chain",
]
_CITIES = (
    ("Brno", "South Moravia", "Czechia"), ("São Paulo", "São Paulo", "Brazil"), ("Austin", "Texas", "United States"),
    ("Zürich", "Zürich", "Switzerland"), ("東京", "東京都", "Japan"), ("Leeds", "England", "United Kingdom"),
)  # fmt: skip
_SCHOOLS = [
    "Masaryk University",
    "ETH Zürich",
    "University of Leeds",
    "Universidade de São Paulo",
    "Austin College",
]
_WORDS = [
    "led",
    "a",
    "team",
    "of",
    "foresters",
    "across",
    "three",
    "regions",
    "cut",
    "the",
    "cost",
    "of",
    "each",
    "survey",
    "by",
    "half",
    "and",
    "brought",
    "inventory",
    "rowan",
    "onto",
    "one",
    "système",
    "d'information",
    "that",
    "every",
    "partner",
    "could",
    "read",
    "für",
    "Märkte",
    "in",
    "Österreich",
    "budget",
    "plans",
    "hiring",
    "quarterly",
    "targets",
    "customers",
    "negotiation",
    "pipeline",
    "safety",
    "training",
    "audits",
    "logistics",
    "harvest",
]


def lead(number: int) -> str:
    """The e-mail address of a lead. All have the same length, so that a reply can be prepared."""
    return f"lead{number:09d}@firm.example"


def make_leads(path: Path, rows: int, *, first: int = 0, copies: int = 1) -> None:
    """A Parquet file of leads, written in pieces; each stands in it so many times, far apart."""
    schema = pa.schema([("id", pa.int64()), ("email", pa.string())])
    distinct = max(rows // copies, 1)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 100_000):
            numbers = range(start, min(start + 100_000, rows))
            emails = [lead(first + number % distinct) for number in numbers]
            writer.write_table(pa.table({"id": list(numbers), "email": emails}, schema=schema))


def contact(chance: random.Random) -> dict[str, Any]:
    """One made-up contact of some 2.4 KB as JSON."""
    first, last = chance.choice(_FIRST), chance.choice(_LAST)
    number = chance.randrange(10**7)
    tree = chance.choice(_TREES)
    firm = f"{tree}{number % 9973}.example"
    handle = f"{tree}.{number}"
    city, region, country = chance.choice(_CITIES)
    made: dict[str, Any] = {
        "full_name": f"{first} {last}",
        "first_name": first,
        "last_name": last,
        "gender": chance.choice(("female", "male", None)),
        "current_work_email": f"{handle}@{firm}",
        "current_personal_email": f"{handle}@mail.example" if chance.random() < 0.6 else None,
        "work_emails": [f"{handle}@{firm}", f"{tree}@{firm}"],
        "personal_emails": [f"{handle}@mail.example"] if chance.random() < 0.6 else [],
        "phone_numbers": [{"E164": f"+1512{chance.randrange(10**7):07d}"} for _ in range(chance.randrange(4))],
        "social_profiles": [
            {"network": "linkedin", "url": f"linkedin.com/in/{handle}"},
            {"network": "twitter", "url": f"twitter.com/{tree}{number}"},
            {"network": "facebook", "url": f"facebook.com/{handle}"},
        ][: chance.randrange(1, 4)],
        "location": {"city": city, "region": region, "country": country} if chance.random() < 0.9 else None,
        "employment": {
            "name": f"{tree.title()} & Söhne {number % 97}",
            "domain": firm,
            "size": chance.choice((250, "51-200", 10_000, None)),
            "industry": chance.choice(_INDUSTRIES),
            "linkedin_url": f"linkedin.com/company/{tree}{number % 9973}",
            "profile_pic_url": f"https://images.example/{chance.getrandbits(160):040x}.jpg",
            "job": {"title": chance.choice(_TITLES), "levels": [chance.choice(_LEVELS)]},
        },
        "education": [
            {
                "school": {"name": chance.choice(_SCHOOLS), "domain": "school.example"},
                "degrees": ["bachelor of science"],
                "start_date": f"{1980 + number % 30}-09",
                "end_date": f"{1984 + number % 30}-06",
            }
            for _ in range(chance.randrange(3))
        ],
        "experiences": [
            {
                "company": {"name": f"{chance.choice(_TREES).title()} {index}", "size": "11-50", "industry": "forestry"},
                "title": chance.choice(_TITLES),
                "start_date": f"{1990 + index}-01",
                "end_date": None,
                "location": {"city": chance.choice(_CITIES)[0]},
                "summary": " ".join(chance.choices(_WORDS, k=chance.randrange(12, 34))),
            }
            for index in range(chance.randrange(2, 8))
        ],
    }  # fmt: skip
    if chance.random() < 0.3:
        made["employment"]["start_date"] = f"{2000 + number % 25}-0{1 + number % 9}"
    if chance.random() < 0.2:
        made["employment"]["website"] = f"https://www.{firm}"
    for key in ("gender", "education", "experiences", "current_personal_email", "personal_emails"):
        if chance.random() < 0.1:
            del made[key]
    if chance.random() < 1 / NEW_KEYS_EVERY:
        made["seniority_score"] = number % 100
        made["skills"] = ["forestry", "söll", "surveys"]
    return made


@dataclass(frozen=True, slots=True)
class Template:
    """A reply without its echoes: a piece of JSON before each of them, plain and compressed.

    The compressed pieces are deflate blocks that end at whole bytes, and echoes go between them as
    stored blocks. So any number of different replies is made without compressing one again.
    """

    plain: tuple[bytes, ...] = field(repr=False)
    compressed: tuple[bytes, ...] = field(repr=False)
    found: tuple[bool, ...]

    def reply(self, echoes: Sequence[bytes]) -> bytes:
        """The JSON text of a reply with these echoes."""
        pieces = [piece for pair in zip(self.plain, echoes, strict=False) for piece in pair]
        return b"".join((*pieces, self._end(len(echoes))))

    def reply_gzip(self, echoes: Sequence[bytes]) -> bytes:
        """The same, compressed. Every echo must be as long as `lead` makes them."""
        stored = [_stored(echo) for echo in echoes]
        pieces = [piece for pair in zip(self.compressed, stored, strict=False) for piece in pair]
        plain = self.reply(echoes)
        end = _stored(self._end(len(echoes))) + _LAST_BLOCK
        check = struct.pack("<II", zlib.crc32(plain), len(plain) & 0xFFFFFFFF)
        return b"".join((_GZIP_HEADER, *pieces, end, check))

    def _end(self, records: int) -> bytes:
        return b'"}],"records_enriched":%d}' % sum(self.found[:records])


def make_template(seed: int) -> Template:
    """A reply of 1000 records, of which 70 % are found. Text is escaped to ASCII where `seed` is even."""
    chance = random.Random(seed)
    found = tuple(chance.random() < FOUND for _ in range(REPLY_RECORDS))
    plain: list[bytes] = []
    for is_found in found:
        text = json.dumps(
            contact(chance) if is_found else None, separators=(",", ":"), ensure_ascii=seed % 2 == 0
        )
        start = '"},' if plain else '{"contacts":['
        plain.append(f'{start}{{"enriched_contact":{text},"value":"'.encode())
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    compressed: list[bytes] = []
    for piece in plain:
        compressed.append(packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH))
        # The echo will be here. JSON does not have these bytes, so no later block refers to them.
        packer.compress(bytes(chance.randrange(0xF8, 0x100) for _ in lead(0)))
        packer.flush(zlib.Z_SYNC_FLUSH)
    return Template(tuple(plain), tuple(compressed), found)


_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST_BLOCK: Final = b"\x01\x00\x00\xff\xff"


def _stored(data: bytes) -> bytes:
    return b"\x00" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data
