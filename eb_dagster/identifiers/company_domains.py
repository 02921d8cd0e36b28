"""Which e-mail domains are a company's, and not a provider's where anybody may have a mailbox."""

from __future__ import annotations

from typing import Final

# The public mailbox services with the most users, by the country or company they come from. A domain that is
# missing here is taken for a company's: two of its addresses are then two people.
_PUBLIC: Final = frozenset((
    # Google, Microsoft, Yahoo and AOL, Apple
    "gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "msn.com", "yahoo.com",
    "ymail.com", "rocketmail.com", "aol.com", "icloud.com", "me.com", "mac.com",
    # their national domains
    "hotmail.co.uk", "hotmail.fr", "hotmail.de", "hotmail.it", "hotmail.es", "live.co.uk", "live.fr",
    "live.nl", "outlook.fr", "outlook.de", "outlook.es", "yahoo.co.uk", "yahoo.fr", "yahoo.de", "yahoo.it",
    "yahoo.es", "yahoo.co.in", "yahoo.co.jp", "yahoo.com.br", "yahoo.ca",
    # privacy and paid services
    "proton.me", "protonmail.com", "pm.me", "fastmail.com", "hey.com", "tutanota.com", "zoho.com",
    "mail.com", "gmx.com", "email.com",
    # Germany, Austria, Switzerland
    "gmx.de", "gmx.net", "gmx.at", "gmx.ch", "web.de", "t-online.de", "freenet.de", "arcor.de",
    "posteo.de", "mailbox.org", "aon.at", "bluewin.ch",
    # France, Italy, Spain, Benelux
    "orange.fr", "wanadoo.fr", "free.fr", "laposte.net", "sfr.fr", "libero.it", "virgilio.it", "alice.it",
    "tiscali.it", "telefonica.net", "ziggo.nl", "planet.nl", "kpnmail.nl", "telenet.be", "skynet.be",
    # Central and eastern Europe
    "wp.pl", "o2.pl", "onet.pl", "interia.pl", "seznam.cz", "centrum.cz", "mail.ru", "inbox.ru", "list.ru",
    "bk.ru", "yandex.ru", "yandex.com", "ukr.net",
    # United Kingdom, North America
    "btinternet.com", "sky.com", "virginmedia.com", "ntlworld.com", "talktalk.net", "comcast.net",
    "verizon.net", "att.net", "sbcglobal.net", "bellsouth.net", "cox.net", "charter.net", "shaw.ca",
    "rogers.com", "sympatico.ca",
    # Asia, South America, Oceania
    "qq.com", "163.com", "126.com", "sina.com", "sohu.com", "naver.com", "hanmail.net", "daum.net",
    "rediffmail.com", "docomo.ne.jp", "uol.com.br", "bol.com.br", "terra.com.br", "bigpond.com",
    "optusnet.com.au", "xtra.co.nz",
))  # fmt: skip


def company_domain(email: str) -> str | None:
    """The domain of a canonical address, if it is a company's."""
    domain = email.rpartition("@")[2]
    return None if domain in _PUBLIC else domain
