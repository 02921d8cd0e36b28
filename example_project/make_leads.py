"""Write data/leads.csv: 10,000 leads, made up from a seed, as messy as a CRM's."""

import csv
import random
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


def main() -> None:
    dice = random.Random(20_261)
    target = Path(__file__).parent / "data" / "leads.csv"
    target.parent.mkdir(exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(["LeadId", "Name", "LinkedIn", "Email", "Phone"])
        writer.writerows(lead(number, dice) for number in range(10_000))


if __name__ == "__main__":
    main()
