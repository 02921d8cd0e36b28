"""A seeded world of people, and a year of tables about them.

People come first: each has names, jobs, addresses, numbers and profiles that change over the year, and a
table's row is about one of them. Nothing here knows the package or the vendor.

What belongs to several people: desk phones and switchboards, role mailboxes (info@, sales@), and the
mailboxes of families. A row that is `shared` offers nothing else, so that nobody can tell whose row it is
from its identifiers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import pandas as pd

WEEKS: Final = 52
REFRESH_WEEKS: Final = 4
"""A refresh follows each fourth week: thirteen a year."""
PAIRS: Final = 10
"""Weeks with a second table, which is enriched at the same time on the same ledger."""

Source = Literal["crm", "event", "dialler"]
Crash = Literal["charged", "free", "torn"]
CRASHES: Final[tuple[Crash, ...]] = ("charged", "torn", "free")

COLUMNS: Final = {"social_profile": "LinkedIn", "email": "Email", "phone": "Phone"}
"""Of a table, by what they hold, in the order of asking. A table may lack some."""

_FIRST: Final = (  # noqa: SIM905 - as a list, three times the lines
    "Robert/Bob William/Bill Katherine/Kate Elizabeth/Liz Michael/Mike James/Jim Jennifer/Jenny Thomas/Tom "
    "Daniel/Dan Matthew/Matt Christopher/Chris Alexander/Alex Benjamin/Ben Samuel/Sam Nicholas/Nick "
    "Margaret/Peggy Susan/Sue Joseph/Joe David/Dave Andrew/Andy Maria Ada Ingrid Yusuf Wei Priya Olga Carlos "
    "Fatima Hiroshi Lena Noah Emma Sofia Liam Chloe Amir Zoe Ivan Aisha Diego Mei Lars Nadia Omar Ruth Hugo Vera"
).split()
_LAST: Final = (  # noqa: SIM905
    "Smith Johnson Brown Garcia Miller Davis Lopez Wilson Anderson Taylor Moore Lee Harris Clark Lewis Walker "
    "Young King Wright Scott Green Baker Adams Nelson Hill Campbell Roberts Turner Phillips Evans Parker "
    "Collins Stewart Morris Rogers Reed Cook Bell Murphy Bailey Cooper Richardson Cox Howard Ward Peterson Gray "
    "Ramirez Watson Brooks Kelly Sanders Price Bennett Wood Barnes Ross Henderson Coleman Jenkins Perry Powell "
    "Long Patterson Hughes Flores Butler Simmons Foster Bryant Russell Griffin Diaz Hayes Nowak Okafor Tanaka "
    "Petrov Haddad Lindgren Moreau Rossi Kowalski Ozturk Svensson Ferrari Nguyen Chen Khan Patel Kim Ito"
).split()
_AREAS: Final = ("212", "312", "415", "617", "773", "206", "303", "512")
_PROVIDERS: Final = ("gmail.com",) * 6 + ("outlook.com", "yahoo.com", "fastmail.com")
_WITH_TAGS: Final = ("gmail.com", "outlook.com", "fastmail.com")


@dataclass(slots=True)
class Company:
    name: str
    domain: str
    pattern: int
    switchboard: str
    roles: tuple[str, ...]
    desk_share: float
    """Rows in which its people stand with a desk phone. Mostly all of an account do, or hardly anyone does."""
    role_share: float
    """The same of a role mailbox."""
    desks: list[str] = field(default_factory=list)
    staff: list[int] = field(default_factory=list)
    addresses: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Job:
    since: int
    company: Company
    email: str
    desk: str


@dataclass(slots=True)
class Person:
    number: int
    first: str
    nick: str
    last: str
    jobs: list[Job]
    profiles: list[tuple[int, str]]
    """Vanity names of LinkedIn, each with its first week: more than one if it was renamed."""
    opaque: str | None
    twitter: str | None
    personal: list[str]
    family: str | None
    mobile: str | None

    def job(self, week: int) -> Job:
        return [job for job in self.jobs if job.since <= week][-1]

    def profile(self, week: int) -> str | None:
        return next((name for since, name in reversed(self.profiles) if since <= week), None)


@dataclass(slots=True)
class Table:
    """One table of the year, and who its rows are about."""

    number: int
    week: int
    source: Source
    is_refresh: bool
    frame: pd.DataFrame
    truth: list[int]
    shared: list[bool]
    """Rows that offer only what belongs to several people."""
    required: tuple[str, ...]
    crash: Crash | None = None
    new_row: int = 0
    """A row whose person stands in no table before: the request that asks for it meets the crash."""


Identifiers = tuple[str | None, str | None, str | None]
"""What a row offers before it is spelled: profile, e-mail, phone."""


class World:
    """People, companies, and the year's tables."""

    def __init__(self, *, people: int, seed: int) -> None:
        self._random = random.Random(f"world {seed}")
        self._phones = 0
        self.companies = [self._company(number) for number in range(max(3, people // 40))]
        self._vanities: set[str] = set()
        self.people: list[Person] = []
        for number in range(people):
            self.people.append(self._person(number))

    def _phone(self) -> str:
        self._phones += 1
        return f"+1{_AREAS[self._phones % len(_AREAS)]}{2_000_000 + self._phones * 7:07d}"

    def _company(self, number: int) -> Company:
        draw = self._random
        name = f"{draw.choice(_LAST)} {draw.choice(('Systems', 'Foods', 'Logistics', 'Labs', 'Partners', 'Energy'))}"
        domain = f"{name.split()[0].lower()}{name.split()[1].lower()}{number}.com"
        roles = ("info", "sales", *(("office",) if draw.random() < 0.2 else ()))
        company = Company(
            name, domain, draw.randrange(3), self._phone(), tuple(f"{role}@{domain}" for role in roles),
            desk_share=0.75 if number % 6 == 3 else 0.02,
            role_share=0.3 if number % 10 == 6 else 0.01,
        )  # fmt: skip
        company.desks = [self._phone() for _ in range(draw.randint(1, 3))]
        return company

    def _person(self, number: int) -> Person:
        draw = self._random
        first, _, nick = draw.choice(_FIRST).partition("/")
        last = draw.choice(_LAST)
        # Some are bigger than others.
        company = self.companies[int(len(self.companies) * draw.random() ** 1.6)]
        other = self.people[draw.choice(company.staff)] if company.staff else None
        if other is not None and draw.random() < 0.012:
            # Twins: two people of one name at one company.
            first, nick, last = other.first, other.nick, other.last
        relative = self.people[-1] if self.people and draw.random() < 0.004 else None
        if relative is not None:
            last = relative.last
        person = Person(number, first, nick, last, [], [], None, None, [], None, self._phone())
        if relative is not None:
            relative.family = relative.family or f"the.{last.lower()}s{number}@{draw.choice(_PROVIDERS)}"
            person.family = relative.family
        self._employ(person, company, since=-100)
        if draw.random() < 0.15:
            self._employ(person, draw.choice(self.companies), since=draw.randint(2, WEEKS))
        if draw.random() < 0.9:
            person.profiles.append((-100, self._vanity(person)))
            if draw.random() < 0.07:
                person.profiles.append((draw.randint(2, WEEKS), self._vanity(person)))
            if draw.random() < 0.05:
                person.opaque = "ACwAA" + "".join(
                    draw.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", k=34)
                )
        if draw.random() < 0.12:
            person.twitter = f"{first.lower()}{last.lower()}{number}"[:40]
        for _ in range(draw.choice((0, 1, 1, 1, 2))):
            local = draw.choice((f"{first}.{last}", f"{first[0]}.{last}", f"{last}.{first}")).lower()
            person.personal.append(f"{local}{number}@{draw.choice(_PROVIDERS)}")
        if draw.random() < 0.15:
            person.mobile = None
        return person

    def _employ(self, person: Person, company: Company, *, since: int) -> None:
        first, last = person.first.lower(), person.last.lower()
        local = (f"{first}.{last}", f"{first[0]}{last}", f"{first}{last[0]}")[company.pattern]
        wanted, more = local, 1
        while wanted in company.addresses:
            more += 1
            wanted = f"{local}{more}"
        company.addresses.add(wanted)
        company.staff.append(person.number)
        desk = company.switchboard if self._random.random() < 0.5 else self._random.choice(company.desks)
        person.jobs.append(Job(since, company, f"{wanted}@{company.domain}", desk))

    def _vanity(self, person: Person) -> str:
        first, last = person.first.lower(), person.last.lower()
        name = self._random.choice((f"{first}-{last}", f"{first}{last}", f"{first}-{last}-{person.number:x}"))
        if name in self._vanities:
            name = f"{first}-{last}-{person.number:x}{len(person.profiles)}"
        self._vanities.add(name)
        return name

    # The year

    def year(self, *, rows: int, seed: int) -> Iterator[list[Table]]:
        """Tables in the order of the year; those of one list are enriched at the same time."""
        draw = random.Random(f"year {seed}")
        pairs = set(draw.sample(range(3, WEEKS), PAIRS))
        size = max(1, rows // (WEEKS + PAIRS + WEEKS // REFRESH_WEEKS))
        sources: Sequence[Source] = ("crm", "event", "dialler")
        rows_of = _Rows(self, draw, share_new=0.9 * len(self.people) / rows)
        number = crashes = 0
        for week in range(WEEKS):
            together: list[Table] = []
            for turn in range(1 + (week in pairs)):
                source = sources[(week + turn) % 3]
                required: tuple[str, ...] = ()
                if draw.random() < 0.2:
                    required = draw.choice((("work_email",), ("phone",), ("email",), ("social_profile",)))
                together.append(rows_of.table(number, week, source, size, required=required))
                number += 1
            if week % 8 == 5 and len(together) == 1:
                together[0].crash = CRASHES[crashes % len(CRASHES)]
                crashes += 1
            yield together
            if week % REFRESH_WEEKS == REFRESH_WEEKS - 1:
                yield [rows_of.table(number, week, "crm", size, required=(), is_refresh=True)]
                number += 1


class _Rows:
    """Makes tables: people who were in one before come again, mostly as they stood there."""

    def __init__(self, world: World, draw: random.Random, *, share_new: float) -> None:
        self._world, self._draw, self._share_new = world, draw, share_new
        self._waiting = _groups(world, draw)
        self._seen: list[list[int]] = []
        self._records: dict[int, list[str | None]] = {}

    def table(
        self, number: int, week: int, source: Source, size: int, *, required: tuple[str, ...], is_refresh: bool = False
    ) -> Table:  # fmt: skip
        people: list[int] = []
        new: list[int] = []
        while len(people) < size:
            before = len(self._seen)
            some = self._some(source, is_refresh=is_refresh)
            if len(self._seen) > before:
                new.append(len(people))
            people += some
        del people[size:]
        rows, shared = [], []
        for number_of_person in people:
            cells, is_shared = self._row(self._world.people[number_of_person], source, week)
            rows.append(cells)
            shared.append(is_shared)
        names = {
            "crm": ["Name", "Company", "LinkedIn", "Email", "Phone"],
            "event": ["Name", "Company", "Email", "Phone"],
            "dialler": ["Name", "Phone"],
        }[source]
        frame = pd.DataFrame(rows, columns=["Name", "Company", "LinkedIn", "Email", "Phone"], dtype=object)
        new_row = new[0] if new else 0
        return Table(
            number, week, source, is_refresh, frame[names], people, shared, required, new_row=new_row
        )  # fmt: skip

    def _some(self, source: Source, *, is_refresh: bool) -> list[int]:
        """Colleagues who stand in a table together, as accounts in a CRM do; to an event they go alone."""
        draw = self._draw
        is_new = not self._seen or (not is_refresh and draw.random() < self._share_new)
        if is_new and self._waiting:
            self._seen.append(self._waiting.pop())
            return self._seen[-1]
        group = draw.choice(self._seen)
        return [draw.choice(group)] if source == "event" else draw.sample(group, (2 * len(group) + 2) // 3)

    def _row(self, person: Person, source: Source, week: int) -> tuple[list[str | None], bool]:
        draw = self._draw
        job = person.job(week)
        plain = {"crm": self._crm, "event": self._event, "dialler": self._dialler}[source](person, week)
        if source == "crm" and person.number in self._records and draw.random() < 0.7:
            profile, email, phone = self._records[person.number]
        else:
            profile, email, phone = plain
            if source == "crm":
                self._records[person.number] = list(plain)
        shared = {job.desk, *job.company.roles, person.family}
        shared |= {value for past in person.jobs for value in (past.desk, *past.company.roles)}
        offered = [value for value in (profile, email, phone) if value is not None]
        is_shared = bool(offered) and all(value in shared for value in offered)
        cells = [
            _spelled(profile, _profile, draw),
            _spelled(email, _email, draw),
            _spelled(phone, _telephone, draw),
        ]
        name = _name(person, draw) if draw.random() > 0.03 else None
        company = job.company.name if draw.random() > 0.1 else None
        return [name, company, *cells], is_shared

    def _crm(self, person: Person, week: int) -> Identifiers:
        draw = self._draw
        profile = None
        if draw.random() < 0.72:
            profile = self._profile_of(person, week)
        email = None
        if draw.random() < 0.85:
            email = self._email_of(person, week, work=0.74)
        phone = None
        if draw.random() < 0.7:
            phone = self._phone_of(person, week)
        return profile, email, phone

    def _event(self, person: Person, week: int) -> Identifiers:
        email = self._email_of(person, week, work=0.55) if self._draw.random() < 0.93 else None
        phone = self._phone_of(person, week) if self._draw.random() < 0.5 else None
        return None, email, phone

    def _dialler(self, person: Person, week: int) -> Identifiers:
        # Who has no mobile is reached at the desk.
        phone = self._phone_of(person, week) or person.job(week).desk
        return None, None, phone if self._draw.random() < 0.98 else None

    def _profile_of(self, person: Person, week: int) -> str | None:
        draw = self._draw
        vanity = person.profile(week)
        if vanity is None or draw.random() < 0.04:
            return f"twitter.com/{person.twitter}" if person.twitter else None
        if person.opaque and draw.random() < 0.4:
            return f"linkedin.com/in/{person.opaque}"
        if len(person.profiles) > 1 and draw.random() < 0.4:
            # As it was before.
            vanity = person.profiles[0][1]
        return f"linkedin.com/in/{vanity}"

    def _email_of(self, person: Person, week: int, *, work: float) -> str | None:
        draw = self._draw
        job = person.job(week)
        if draw.random() < job.company.role_share:
            return draw.choice(job.company.roles)
        if person.family and draw.random() < 0.3:
            return person.family
        if draw.random() < work or not person.personal:
            is_stale = job is not person.jobs[0] and draw.random() < 0.35
            return person.jobs[0].email if is_stale else job.email
        return draw.choice(person.personal)

    def _phone_of(self, person: Person, week: int) -> str | None:
        job = person.job(week)
        if self._draw.random() < job.company.desk_share:
            is_stale = job is not person.jobs[0] and self._draw.random() < 0.2
            return person.jobs[0].desk if is_stale else job.desk
        return person.mobile


def _groups(world: World, draw: random.Random) -> list[list[int]]:
    """People by first employer, up to a dozen together, in any order."""
    groups: list[list[int]] = []
    for company in world.companies:
        staff = [number for number in company.staff if world.people[number].jobs[0].company is company]
        staff = draw.sample(list(dict.fromkeys(staff)), len(set(staff)))
        while staff:
            size = draw.randint(2, 12)
            groups.append(staff[:size])
            del staff[:size]
    return draw.sample(groups, len(groups))


# How people write it


def _spelled(
    value: str | None, spell: Callable[[str, random.Random], str], draw: random.Random
) -> str | None:
    if value is None:
        return None
    return value if draw.random() < 0.45 else spell(value, draw)


def _email(value: str, draw: random.Random) -> str:
    local, _, domain = value.partition("@")
    chance = draw.random()
    if chance < 0.35:
        return draw.choice((value.upper(), value.title(), f" {value} ", f"{local}@{domain.capitalize()}"))
    if chance < 0.6 and domain in _WITH_TAGS:
        return f"{local}+{draw.choice(('news', 'crm', 'events2026'))}@{domain}"
    if chance < 0.85 and domain == "gmail.com":
        cut = draw.randrange(1, len(local) - 1)
        dotted = (local.replace(".", ""), f"{local[:cut].strip('.')}.{local[cut:].strip('.')}")
        return f"{draw.choice(dotted)}@{draw.choice((domain, domain, 'googlemail.com'))}"
    if chance < 0.9:
        return f"mailto:{value}"
    return value


def _telephone(value: str, draw: random.Random) -> str:
    area, head, tail = value[2:5], value[5:8], value[8:]
    return draw.choice((
        f"({area}) {head}-{tail}", f"{area}-{head}-{tail}", f"+1 {area} {head} {tail}",
        f"+1-{area}-{head}-{tail}", f"1 {area}.{head}.{tail}", f"+1 ({area}) {head}-{tail}",
    ))  # fmt: skip


def _profile(value: str, draw: random.Random) -> str:
    host, _, path = value.partition("/")
    if host == "twitter.com":
        return draw.choice((f"https://x.com/{path}", f"https://twitter.com/{path}", f"x.com/{path.title()}"))
    forms = [f"https://www.{value}/", f"https://{value}", f"http://www.{value}", f"www.{value}/",
             f"https://www.{value}?trk=public_profile", f"https://uk.{value}/"]  # fmt: skip
    if "/ACwAA" not in value:
        forms += [value.title(), f"HTTPS://WWW.{value.upper()}/", f"/{path}"]
    return draw.choice(forms)


def _name(person: Person, draw: random.Random) -> str:
    first, last = person.first, person.last
    return draw.choice((
        f"{first} {last}", f"{first} {last}", f"{first} {last}", f"{person.nick or first} {last}",
        f"{last}, {first}", f"{first} {draw.choice('ABCDEJKLM')}. {last}", f"{first} {last}".upper(),
        f"Dr. {first} {last}",
    ))  # fmt: skip
