"""One spelling of each profile: what is known of the networks, as data, and how their addresses are read.

A part of an address that says who it is must never be dropped. So a query is dropped only if its keys are
known to track; with any other key, the address is no identifier. A page that is no person's is none either.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlsplit

from eb_dagster.identifiers.characters import CONTROL, WRAPPING


class NotAProfileError(ValueError):
    """Why a text is no profile, as a slug."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# ---- what is known ------------------------------------------------------------------------------


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How a network spells its people."""

    host: str
    """The one that is written."""
    hosts: frozenset[str]
    """The same site; `www.` is gone by then, and so are languages and telephones (`_DOORS`)."""
    has_languages: bool = False
    """Whether `de-de.` and `de.` before the host are languages of it."""
    folds_case: bool = True
    """By the network's own word, capitals make no other person."""
    ignores_dots: bool = False
    at_sign: bool = False
    """Names begin with "@", and without it they are something else."""
    folders: frozenset[str] = frozenset()
    """Names stand behind these steps, which are written; without any, a name is the first step."""
    cased_folders: frozenset[str] = frozenset()
    """The same for names whose case matters."""
    by_query: tuple[tuple[str, str, str], ...] = ()
    """A path, the key in its query that says who it is, and what is written before that value."""
    numbered: frozenset[str] = frozenset()
    """Folders in which a number comes last, and that says who it is."""
    tracking: frozenset[str] = frozenset()
    """Keys of the query that say nothing of who it is, beside those that every site may have."""
    not_people: frozenset[str] = frozenset()
    """First steps that are no names."""
    tabs: frozenset[str] = frozenset()
    """What may follow a name without being another page; everything with "*"."""


NETWORKS: Final = (
    # Handles know no case: https://help.x.com/en/managing-your-account/x-username-rules
    Network(
        host="twitter.com",
        hosts=_words("twitter.com x.com"),
        by_query=(
            ("intent/user", "screen_name", ""),
            ("intent/follow", "screen_name", ""),
            ("intent/user", "user_id", "i/user/"),
            ("intent/follow", "user_id", "i/user/"),
        ),
        cased_folders=_words("i/user"),
        tracking=_words("s t lang ref_src ref_url refsrc cn cxt region tw_i tw_e tw_p tw_u"),
        not_people=_words(
            "i intent share home search hashtag explore settings login logout signup account messages"
            " notifications compose tos privacy about jobs download who_to_follow widgets oauth help status"
            " communities lists bookmarks premium en"
        ),
        tabs=_words("with_replies media likes followers following photo header_photo highlights articles"),
    ),
    # "Capitalization and periods don't matter": https://www.facebook.com/help/105399436216001
    Network(
        host="facebook.com",
        hosts=_words("facebook.com fb.com"),
        has_languages=True,
        ignores_dots=True,
        by_query=(("profile.php", "id", ""), ("profile", "id", "")),
        numbered=_words("people profile"),
        tracking=_words(
            "ref fref hc_ref hc_location rf refid refsrc locale locale2 mibextid rdid share_url _rdr _rdc eid paipv"
            " sk v lst tsid tab viewas pnref __tn__ __cft__ __xts__ __mref _fb_noscript notif_t notif_id"
            " wtsid checkpoint_src acontext"
        ),
        not_people=_words(
            "sharer sharer.php share share.php share_channel dialog plugins groups group.php pages pg events event.php watch"
            " marketplace photo photo.php photos story.php permalink.php hashtag search help login login.php"
            " home.php gaming games public ads business policies policy.php privacy messages reel reels stories media"
            " notes note.php l.php legal careers directory settings friends bookmarks me posts video.php videos"
            " r.php recover live p tr logout.php profile.php profile people home index.php campaign fundraisers"
            " donate memories saved offers jobs latest terms.php terms about"
        ),
        tabs=_words(
            "about about_work_and_education photos photos_all photos_by friends followers following videos reviews info"
            " likes map sports music movies about_contact_and_basic_info about_details about_overview reels"
        ),
    ),
    # Names know no case: https://docs.github.com/en/get-started/using-git/about-usernames
    Network(
        host="github.com",
        hosts=_words("github.com"),
        tracking=_words("tab type language sort from to org year_list page"),
        not_people=_words(
            "orgs topics search sponsors features about pricing login logout join signup explore marketplace settings"
            " notifications trending collections events apps enterprise readme security site contact new issues"
            " pulls customer-stories team organizations codespaces stars stargazers dashboard blog discussions"
            " solutions resources copilot users account sessions support"
        ),
        tabs=_words("followers following"),
    ),
    # Names are small letters: https://help.instagram.com/583107688369069
    Network(
        host="instagram.com",
        hosts=_words("instagram.com instagr.am"),
        tracking=_words("igshid igsh hl img_index __d theme taken-by next"),
        not_people=_words(
            "p reel reels tv explore stories accounts direct about developer legal web s share tags locations"
            " emails session oauth privacy topics challenge popular api ar"
        ),
        tabs=_words("reels tagged channel followers following guides feed"),
    ),
    # Handles know no case: https://support.google.com/youtube/answer/11585688. Ids of channels do.
    Network(
        host="youtube.com",
        hosts=_words("youtube.com"),
        folders=_words("c user"),
        cased_folders=_words("channel"),
        tracking=_words("feature si app ab_channel view_as sub_confirmation hl gl persist_app themerefresh cbrd"),
        not_people=_words(
            "watch shorts playlist results embed live feed hashtag redirect about premium t account post clip source"
            " gaming music kids howyoutubeworks creators ads trends attribution_link v e c user channel"
        ),
        tabs=_words("about videos featured playlists community channels shorts streams live podcasts posts discussion"),
    ),
    # Small letters only: https://support.tiktok.com/en/getting-started/setting-up-your-profile/changing-your-username
    Network(
        host="tiktok.com",
        hosts=_words("tiktok.com"),
        at_sign=True,
        tracking=_words(
            "_t _r _d lang is_from_webapp sender_device sender_web_id is_copy_url u_code user_id sec_uid sec_user_id"
            " share_app_id share_author_id share_link_id tt_from timestamp checksum language region source"
            " social_sharing enter_method refer web_id preview_pb"
        ),
        tabs=_words("live"),
    ),
    Network(
        host="threads.net",
        hosts=_words("threads.net threads.com"),
        at_sign=True,
        tracking=_words("xmt slof igshid igsh hl"),
        tabs=_words("replies reposts media"),
    ),
    # Xing does not say whether capitals count, so they are kept.
    Network(
        host="xing.com",
        hosts=_words("xing.com"),
        folds_case=False,
        folders=_words("profile"),
        tracking=_words("sc_o sc_p sc_u sc_cmp ijt reagent expandneffi nwt_nav tab keyword"),
        tabs=_words("*"),
    ),
    Network(
        host="vk.com",
        hosts=_words("vk.com vk.ru vkontakte.ru"),
        tracking=_words("z w section from"),
        not_people=_words(
            "share.php away.php feed search wall app apps video videos photo photos audio audios music groups market"
            " im login about jobs terms dev support doc docs clips profile id club public event"
        ),
    ),
)  # fmt: skip
_BY_HOST: Final = {host: network for network in NETWORKS for host in network.hosts}
HOSTS: Final = frozenset(("linkedin.com", *_BY_HOST))
"""Where people are found, without what may stand before them."""

_TRACKING: Final = re.compile(
    r"utm_\w*|fbclid|gclid|dclid|msclkid|twclid|ttclid|yclid|sccid|rdt_cid|epik|gbraid|wbraid|gclsrc|gad_\w*|li_fat_id"
    r"|igsh|igshid|mc_[ce]id|_hs\w*|__hs\w*|hsctatracking|mkt_tok|vero_\w*|_openstat|_ga|_gl|trk|ref|ref_src"
    r"|oly_\w*_id|pk_\w*|mtm_\w*|matomo_\w*|piwik_\w*|wickedid|ck_subscriber_id|s_cid|s_kwcid|cmpid"
)

# Addresses that hold another in their query: its host, the start of its path, and the keys.
_REDIRECTORS: Final = tuple(
    (re.compile(rf"(?:{host})\Z"), path, keys.split())
    for host, path, keys in (
        (r"google\.(?:com?\.)?[a-z]{2,3}", "/url", "q url"),
        (r"translate\.google\.(?:com?\.)?[a-z]{2,3}", "/translate", "u"),
        (r"(?:(?:l|lm|m)\.)?(?:facebook|messenger|instagram|threads)\.(?:com|net)", "/l.php", "u"),
        (r"l\.(?:instagram|facebook|threads|messenger|workplace)\.(?:com|net)", "/", "u"),
        (r"t\.umblr\.com", "/redirect", "z"),
        (r"(?:[\w-]+\.)*safelinks\.protection\.outlook\.com", "/", "url"),
        (r"urldefense\.(?:proofpoint\.)?com", "/v1/url", "u"),
        (r"(?:[a-z]{2,3}\.)?linkedin\.com", "/redir/", "url"),
        (r"(?:[a-z]{2,3}\.)?linkedin\.com", "/safety/go", "url"),
        (r"(?:[a-z]{2,3}\.)?linkedin\.com", "/authwall", "sessionRedirect session_redirect"),
        (r"(?:[a-z]{2,3}\.)?linkedin\.com", "/login", "session_redirect sessionRedirect"),
        (r"(?:[a-z]{2,3}\.)?linkedin\.com", "/uas/login", "session_redirect sessionRedirect"),
        (r"(?:[a-z]{2,3}\.)?linkedin\.com", "/signup", "session_redirect sessionRedirect"),
        (r"slack-redir\.net", "/link", "url"),
        (r"(?:m\.)?youtube\.com", "/redirect", "q"),
        (r"(?:m\.)?vk\.(?:com|ru)", "/away.php", "to"),
        (r"out\.reddit\.com", "/", "url"),
        (r"duckduckgo\.com", "/l/", "uddg"),
        (r"steamcommunity\.com", "/linkfilter", "url u"),
        (r"disq\.us", "/url", "url"),
        (r"exit\.sc", "/", "url"),
        (r"linkprotect\.cudasvc\.com", "/url", "a"),
        (r"(?:clicktime|click)\.symantec\.com", "/", "u"),
        (r"medium\.com", "/r/", "url"),
        (r"href\.li", "/", "url u"),
    )
)
_DEEPEST: Final = 4
# Where they lead is known to nobody here: nothing is resolved over the network.
_SHORTENERS: Final = _words(
    "lnkd.in t.co bit.ly tinyurl.com ow.ly buff.ly goo.gl fb.me is.gd rebrand.ly rb.gy cutt.ly shorturl.at tiny.cc"
    " dlvr.it trib.al wp.me j.mp t.ly s.id v.gd bl.ink vm.tiktok.com vt.tiktok.com spoti.fi g.co on.fb.me hubs.ly hubs.la"
    " fb.gg fb.watch youtu.be shorturl.com short.io adf.ly snip.ly soo.gd"
)

# Languages and telephones before a network's host.
_DOORS: Final = re.compile(r"\A(?:m|mobile|mbasic|touch|web|free|0)\.")
_LANGUAGES: Final = re.compile(r"\A(?:[a-z]{2}-[a-z]{2}|[a-z]{2})\.")


# ---- one address --------------------------------------------------------------------------------

# What copies leave inside an address and nobody sees. Joiners stay: some names need them.
_UNSEEN: Final = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
_SCHEMES: Final = re.compile(r"\A(?:https?:/+)*/*", re.IGNORECASE)
_NO_HOST: Final = re.compile(r"\A/?in/", re.IGNORECASE)
_WWW: Final = re.compile(r"\A(?:www\.)+")
_HOST: Final = re.compile(r"\A[\w-]+(?:\.[\w-]+)*\.[^\W\d_][\w-]+\Z")
_AT_THE_END: Final = ".,;:!" + WRAPPING
# "in/ada&trk=x": a query whose question mark was lost.
_LOST_QUERY: Final = re.compile(r"&(?=\w+=)")


def canonical_profile(text: str) -> str:
    """Spell a profile canonically. Raises `NotAProfileError`."""
    for _ in range(_DEEPEST):
        host, parts = _split(text)
        target = _target(host, parts)
        if target is None:
            return _read(host, parts)
        text = target
    raise NotAProfileError("profile_syntax")


def folded_profile(profile: str) -> str:
    """Of a profile as it is asked, the form that all spellings of it share."""
    if not profile.startswith(_DOTLESS):
        return profile
    host, _, name = profile.partition("/")
    return f"{host}/{name.replace('.', '')}"


_DOTLESS: Final = tuple(f"{network.host}/" for network in NETWORKS if network.ignores_dots)


def is_of_network(profile: str) -> bool:
    """Whether a canonical profile is one of a network that is known, and not any page."""
    return profile.partition("/")[0] in HOSTS


def plain_profile(host: str, name: str) -> str | None:
    """The canonical profile of a name that stands alone behind a host; None if more has to be read."""
    network = _BY_HOST.get(host)
    if network is None or network.at_sign or network.folders or name in network.not_people:
        return None
    return f"{network.host}/{name}" if network.folds_case else None


def _split(text: str) -> tuple[str, SplitResult]:
    text = _UNSEEN.sub("", text)
    if _NO_HOST.match(text):
        text = "linkedin.com/" + text.lstrip("/")
    text = _SCHEMES.sub("", text).rstrip(_AT_THE_END)
    if re.search(r"\s", text):
        raise NotAProfileError("profile_syntax")
    try:
        parts = urlsplit("//" + text)
    except ValueError:
        raise NotAProfileError("profile_syntax") from None
    if not parts.query and (found := _LOST_QUERY.search(parts.path)):
        path, query = parts.path[: found.start()], parts.path[found.end() :]
        parts = parts._replace(path=path, query=query)
    host = _WWW.sub("", unicodedata.normalize("NFC", parts.netloc.lower()).rstrip("."))
    # No user info and no port: neither "@" nor ":" is part of a host.
    if not _HOST.match(host):
        raise NotAProfileError("profile_syntax")
    return host, parts


def _target(host: str, parts: SplitResult) -> str | None:
    """The address that this one leads to, if it says so itself."""
    if host in _SHORTENERS:
        raise NotAProfileError("profile_short_link")
    if host in ("urldefense.com", "urldefense.proofpoint.com"):
        return _defended(parts)
    if host == "web.archive.org" and (found := re.match(r"/web/[^/]+/(?=https?:)", parts.path)):
        return parts.path[found.end() :]
    for pattern, path, keys in _REDIRECTORS:
        if parts.path.startswith(path) and pattern.match(host):
            query = parse_qs(parts.query)
            target = next((query[key][0] for key in keys if key in query), None)
            if target is not None:
                return host + target if re.match(r"/(?!/)", target) else target
    return None


def _defended(parts: SplitResult) -> str | None:
    # Proofpoint's two ways: with "-" for "%" and "_" for "/", or between two underscores.
    if parts.path.startswith("/v2/"):
        target = parse_qs(parts.query).get("u", [""])[0]
        return unquote(target.replace("-", "%").replace("_", "/")) or None
    found = re.match(r"/v3/__(.*)__(?:;|\Z)", parts.path)
    # A star stands for characters that are told elsewhere.
    return None if found is None or "*" in found[1] else found[1]


def _read(host: str, parts: SplitResult) -> str:
    if host == "linkedin.com" or host.endswith(".linkedin.com"):
        if not _LINKEDIN.match(host):
            raise NotAProfileError("profile_not_a_person")
        value = _linkedin(_steps(parts.path))
        _refuse_unknown(parts.query, _LINKEDIN_TRACKING)
        return value
    site = _DOORS.sub("", host)
    network = _BY_HOST.get(site)
    if network is None and (network := _BY_HOST.get(_LANGUAGES.sub("", site))) is not None:
        network = network if network.has_languages else None
    if network is not None:
        return _person(network, parts)
    # A program's own way of writing a path.
    if parts.fragment.startswith(("/", "!")):
        raise NotAProfileError("profile_query")
    _refuse_unknown(parts.query, frozenset())
    path = parts.path.rstrip("/" + _AT_THE_END)
    if not path:
        raise NotAProfileError("profile_syntax")
    return host + path


def _refuse_unknown(query: str, known: frozenset[str]) -> None:
    try:
        keys = [key.lower() for key, _ in parse_qsl(query, keep_blank_values=True)]
    except ValueError:
        raise NotAProfileError("profile_query") from None
    for key in keys:
        if key.partition("[")[0] not in known and not _TRACKING.fullmatch(key):
            raise NotAProfileError("profile_query")


def _steps(path: str) -> list[str]:
    try:
        return [unquote(step, errors="strict") for step in path.split("/") if step]
    except UnicodeDecodeError:
        raise NotAProfileError("profile_syntax") from None


def _person(network: Network, parts: SplitResult) -> str:
    path = parts.path
    if parts.fragment.startswith("!/"):
        # "twitter.com/#!/ada", as it was written once.
        path = parts.fragment[1:]
    steps = _steps(path)
    if not steps:
        raise NotAProfileError("profile_syntax")
    identity, key = _identity(network, steps, parts.query)
    _refuse_unknown(parts.query, network.tracking | {key})
    return f"{network.host}/{identity}"


def _identity(network: Network, steps: Sequence[str], query: str) -> tuple[str, str]:
    """Who it is, and the key of the query that says so."""
    whole = "/".join(steps).lower()
    for path, key, before in network.by_query:
        if whole == path and (found := parse_qs(query).get(key)):
            number_only = key.endswith("id")
            if re.fullmatch(r"[0-9]+" if number_only else r"[\w.-]+", found[0], re.ASCII):
                return before + found[0].lower(), key
            raise NotAProfileError("profile_syntax")
    if any(whole == path for path, _, _ in network.by_query):
        raise NotAProfileError("profile_syntax")
    if steps[0].lower() in network.numbered and re.fullmatch(r"[0-9]+", steps[-1]) and len(steps) < 4:
        return steps[-1], ""
    return _named(network, steps), ""


def _named(network: Network, steps: Sequence[str]) -> str:
    for folders in (network.cased_folders, network.folders):
        for folder in folders:
            depth = folder.count("/") + 1
            if "/".join(steps[:depth]).lower() == folder and len(steps) > depth:
                folds = network.folds_case and folders is not network.cased_folders
                return f"{folder}/{_name(network, steps[depth:], folds=folds)}"
    first = steps[0]
    if network.at_sign or (network.folders and first.startswith("@")):
        if not first.startswith("@"):
            raise NotAProfileError("profile_not_a_person")
        return "@" + _name(network, [first[1:], *steps[1:]], folds=network.folds_case)
    if first.lower() in network.not_people or (network.folders and not network.not_people):
        raise NotAProfileError("profile_not_a_person")
    return _name(network, [first.removeprefix("@"), *steps[1:]], folds=network.folds_case)


def _name(network: Network, steps: Sequence[str], *, folds: bool) -> str:
    name = spelled_name(steps[0], folds=folds)
    if not name:
        raise NotAProfileError("profile_syntax")
    if len(steps) > 1 and "*" not in network.tabs and steps[1].lower() not in network.tabs:
        raise NotAProfileError("profile_not_a_person")
    return name


_NOT_IN_A_NAME: Final = re.compile(r"[\s/?#%@\\()\[\]\"<>\ufffd]")


def spelled_name(step: str, *, folds: bool) -> str:
    """Spell a name in an address canonically; empty if it is none."""
    if CONTROL.search(step):
        return ""
    name = unicodedata.normalize("NFC", _UNSEEN.sub("", step)).strip(WRAPPING).rstrip(_AT_THE_END)
    if folds:
        name = unicodedata.normalize("NFC", name.lower())
    return "" if _NOT_IN_A_NAME.search(name) or not re.search(r"[^\W_]", name) else name


# ---- LinkedIn -----------------------------------------------------------------------------------

# Languages and telephones; business., learning. and the like are no people.
_LINKEDIN: Final = re.compile(r"\A(?:(?:[a-z]{1,3}|[a-z]{2}-[a-z]{2}|mobile|touch)\.)?linkedin\.com\Z")
_LINKEDIN_DOORS: Final = ("mwlite", "comm", "m", "profile")
_LINKEDIN_OLD: Final = re.compile(r"\A[0-9a-z]{1,3}\Z")
# Opaque ids of members are base64, so their case matters. A long name of somebody's choice has no such start.
LINKEDIN_MEMBER: Final = re.compile(r"A[A-Z][A-Za-z]AA(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{30,36}", re.ASCII)
_LINKEDIN_TRACKING: Final = _words(
    "trk trkinfo trkemail trkcontact trackingid refid lipi lici licu lissrc originalsubdomain locale lang _l miniprofileurn"
    " midtoken midsig eid otptoken loid original_referer originalreferer skipredirect isselfprofile pathwildcard"
    " challengeid submissionid src goback authtype authtoken ppe cid report.success _ntb session_redirect upsellorderorigin"
    " lgcta lgtemp fromsignin veh savedsearchid searchid searchsessionid authwallurl originaltrackingid profileurn"
    " entityurn overlay nis ssid rs contextid destrefid position pagenum _mslk originreferer s sa source _x_"
)


def _linkedin(steps: list[str]) -> str:
    while len(steps) > 1 and steps[0].lower() in _LINKEDIN_DOORS:
        del steps[0]
    if not steps:
        raise NotAProfileError("profile_syntax")
    folder = steps[0].lower()
    if folder == "in":
        # What follows the name is a language or a sub-page.
        slug = _slug(steps[1]) if len(steps) > 1 else ""
        if slug == "me":
            # LinkedIn's address for whoever is logged in.
            raise NotAProfileError("profile_not_a_person")
        if slug:
            return f"linkedin.com/in/{slug}"
        raise NotAProfileError("profile_syntax")
    if folder == "pub" and steps[1:2] != ["dir"]:
        return _linkedin_old(steps[1:5])
    if folder in ("sales", "talent", "recruiter"):
        return _linkedin_member(steps)
    raise NotAProfileError("profile_not_a_person")


def _linkedin_member(steps: Sequence[str]) -> str:
    # Sales Navigator and Recruiter name a member by the id, and behind commas how it was found.
    for folder, step in itertools.pairwise(steps):
        member = step.partition(",")[0]
        if folder.lower() in ("lead", "people", "profile") and LINKEDIN_MEMBER.fullmatch(member):
            return f"linkedin.com/in/{member}"
    raise NotAProfileError("profile_not_a_person")


def _linkedin_old(steps: Sequence[str]) -> str:
    # linkedin.com/pub/jane-doe/1a/2b/3c: people who share a name differ in what follows it.
    name, *codes = [_slug(step) for step in steps] or [""]
    if not name or len(codes) != 3 or not all(_LINKEDIN_OLD.match(code) for code in codes):
        raise NotAProfileError("profile_syntax")
    return "/".join(("linkedin.com/pub", name, *codes))


def _slug(step: str) -> str:
    return spelled_name(step, folds=not LINKEDIN_MEMBER.fullmatch(_UNSEEN.sub("", step).strip(WRAPPING)))
