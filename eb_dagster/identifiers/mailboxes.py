"""Which mail providers deliver several spellings to one mailbox, and its one spelling.

Only what a provider is known to do is folded. One of them may also host a firm's own domain, but the address
does not show that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Provider:
    """A mail provider that takes `+tag` after the name for the same mailbox."""

    name: str
    domains: frozenset[str]
    source: str
    """Where the rule is written down."""
    written_as: str | None = None
    """The one domain, where all of them are one."""
    ignores_dots: bool = False


def _national(brand: str, endings: str) -> frozenset[str]:
    return frozenset(f"{brand}.{ending}" for ending in endings.split())


PROVIDERS: Final = (
    Provider(
        "Gmail",
        frozenset(("gmail.com", "googlemail.com")),
        "https://support.google.com/mail/answer/7436150 (dots, googlemail.com), /22370 (tags)",
        written_as="gmail.com",
        ignores_dots=True,
    ),
    Provider(
        "Outlook.com",
        frozenset(("msn.com", "passport.com", "windowslive.com"))
        | _national(
            "outlook",
            "com at be cl co.id co.il co.nz co.th com.ar com.au com.br com.gr com.pe com.tr com.vn cz de dk es fr"
            " hu id ie in it jp kr lv my ph pt sa sg sk",
        )
        | _national(
            "hotmail",
            "com at be ca ch cl co.il co.jp co.nz co.th co.uk com.ar com.au com.br com.gr com.mx com.pe com.tr"
            " com.vn cz de dk es fi fr gr hu id ie in it jp kr lv my nl no ph pt sa se sg sk",
        )
        | _national(
            "live",
            "com at be ca ch cl cn co.uk co.za com.ar com.au com.mx com.pt com.sg de dk es eu fi fr hk ie in it"
            " jp nl no ru se",
        ),
        "https://techcommunity.microsoft.com (plus addressing in Outlook.com); the domains as validator.js has them",
    ),
    Provider(
        "iCloud",
        frozenset(("icloud.com", "me.com", "mac.com")),
        "https://support.apple.com (iCloud Mail delivers name+tag); so do validator.js and email-normalize",
    ),
    Provider(
        "Fastmail",
        frozenset(
            (
                "fastmail.com",
                "fastmail.fm",
                "fastmail.net",
                "fastmail.org",
                "fastmail.de",
                "fastmail.co.uk",
                "messagingengine.com",
                "sent.com",
                "pobox.com",
            )
        ),
        "https://www.fastmail.help/hc/en-us/articles/360060591053",
    ),
    Provider(
        "Proton",
        frozenset(("proton.me", "protonmail.com", "protonmail.ch", "pm.me")),
        "https://proton.me/support/addresses-and-aliases",
    ),
    Provider(
        "mailbox.org",
        frozenset(("mailbox.org",)),
        "https://kb.mailbox.org/en/private/e-mail/mail-extensions/",
    ),
    Provider(
        "Yandex",
        frozenset(("yandex.ru", "yandex.com", "yandex.by", "yandex.kz", "yandex.ua", "ya.ru")),
        "https://yandex.com/support/mail/reg.html (special addresses)",
    ),
)
# Yahoo, GMX, web.de and mail.ru take no tags: `name+tag` there is another address, or nobody's.
_BY_DOMAIN: Final = {domain: provider for provider in PROVIDERS for domain in provider.domains}
OTHER_DOMAINS: Final = frozenset(
    domain
    for provider in PROVIDERS
    for domain in provider.domains
    if provider.written_as not in (None, domain)
)
"""Domains whose addresses are written with another domain."""


def without_tag(email: str) -> str:
    """A canonical address without what its provider ignores, dots apart: the form that is asked."""
    local, _, domain = email.rpartition("@")
    provider = _BY_DOMAIN.get(domain)
    if provider is None:
        return email
    name = local.partition("+")[0]
    # What is left has to be an address still.
    if name and name[-1] != ".":
        local = name
    return f"{local}@{provider.written_as or domain}"


DOTLESS: Final = tuple(f"@{provider.written_as}" for provider in PROVIDERS if provider.ignores_dots)
"""How addresses end in which dots make no other mailbox."""


def without_dots(email: str) -> str:
    """Of an address as it is asked, the form that all spellings of the mailbox share."""
    if not email.endswith(DOTLESS):
        return email
    local, _, domain = email.rpartition("@")
    return f"{local.replace('.', '')}@{domain}"
