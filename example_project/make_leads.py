"""Write data/leads.csv and data/attendees.csv: made up from a seed, as messy as a CRM's."""

import csv
import random
from collections.abc import Iterable
from pathlib import Path

FIRST = ["Ada", "Mei", "Ngozi", "Søren", "José", "Olga", "Finn", "Priya", "Łukasz", "Aïcha"]
LAST = ["Alder", "Tanaka", "Okonjo", "Grünwald", "Núñez", "Kovalyova", "O'Shea", "Raman", "Haddad"]


def lead(number: int, dice: random.Random) -> list[str]:
    person = dice.randrange(9_000)
    handle = f"{FIRST[person % 10]}-{LAST[person % 9]}-{person}".lower().replace("'", "")
    email = f"p{person}@firm{person % 700}.example"
    phone = f"+1 (202) 555-{person:04d}"
    spelled_email = dice.choice(
        [email, email.upper(), f" {email} ", f"mailto:{email}", f"{email}; info@firm.example"]
    )
    spelled_phone = dice.choice([phone, phone.replace("+1 ", ""), phone.replace(" ", "."), "n/a"])
    spelled_profile = dice.choice(
        [
            f"https://www.linkedin.com/in/{handle}/",
            f"linkedin.com/in/{handle}",
            f"http://de.linkedin.com/in/{handle}?trk=x",
            f"HTTPS://LinkedIn.com/in/{handle.upper()}",
        ]
    )
    # s, e, p: which of profile, e-mail and phone the lead has.
    offers = dice.choices(["se", "sep", "e", "ep", "s", "p", ""], weights=[25, 25, 20, 15, 8, 5, 2])[0]
    if dice.random() < 0.02:
        spelled_email = "not an address"
    return [
        f"L{number:05d}",
        f"{FIRST[person % 10]} {LAST[person % 9]}",
        spelled_profile if "s" in offers else "",
        spelled_email if "e" in offers else "",
        spelled_phone if "p" in offers else "",
    ]


def attendee(number: int) -> list[str]:
    # Two of three are leads already; the others nobody has bought yet.
    person = number * 100 if number % 3 else 9_000 + number
    return [f"p{person}@firm{person % 700}.example", "yes" if number % 4 else "no"]


def write(name: str, header: list[str], rows: Iterable[list[str]]) -> None:
    target = Path(__file__).parent / "data" / name
    target.parent.mkdir(exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(header)
        writer.writerows(rows)


def main() -> None:
    dice = random.Random(20_261)
    leads = (lead(number, dice) for number in range(10_000))
    write("leads.csv", ["LeadId", "Name", "LinkedIn", "Email", "Phone"], leads)
    write("attendees.csv", ["Work e-mail", "Came"], (attendee(number) for number in range(60)))


if __name__ == "__main__":
    main()
