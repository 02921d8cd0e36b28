"""What is known of the social networks, as data: their hosts, how they spell people, and what is no person.

`profile.py` reads addresses by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class Query(NamedTuple):
    """A path whose query says who it is."""

    path: str
    key: str
    folder: str
    """What the canonical form has before the key's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How a network spells its people. Steps are the parts of a path between slashes."""

    host: str
    """The host of the canonical form."""
    hosts: frozenset[str]
    """All hosts of the network, without `www.` and without what `HOST_PREFIX` or `LANGUAGE_PREFIX` matches."""
    has_languages: bool = False
    """Whether `de-de.` and `de.` before the host are languages of it."""
    folds_case: bool = True
    """Whether the network says that capitals make no other person."""
    ignores_dots: bool = False
    """Whether dots make no other person."""
    needs_at_sign: bool = False
    """Whether names begin with "@". A step without it is then something else."""
    folders: frozenset[str] = frozenset()
    """The steps before a name, which the canonical form keeps. Without any, a name is the first step."""
    cased_folders: frozenset[str] = frozenset()
    """The same for names whose case matters."""
    queries: tuple[Query, ...] = ()
    """The paths whose query says who it is."""
    numbered_folders: frozenset[str] = frozenset()
    """The first steps of paths whose last step is a number that says who it is."""
    tracking: frozenset[str] = frozenset()
    """The keys of a query that do not say who it is, besides those that any site may have (`TRACKING`)."""
    not_people: frozenset[str] = frozenset()
    """The first steps that are no names."""
    tabs: frozenset[str] = frozenset()
    """The steps after a name that are the same person's page; all of them with "*"."""


NETWORKS: Final = (
    # Handles know no case: https://help.x.com/en/managing-your-account/x-username-rules
    Network(
        host="twitter.com",
        hosts=_words("twitter.com x.com"),
        queries=(
            Query("intent/user", "screen_name", ""),
            Query("intent/follow", "screen_name", ""),
            Query("intent/user", "user_id", "i/user/"),
            Query("intent/follow", "user_id", "i/user/"),
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
        queries=(Query("profile.php", "id", ""), Query("profile", "id", "")),
        numbered_folders=_words("people profile"),
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
        tracking=_words(
            "feature si app ab_channel view_as sub_confirmation hl gl persist_app themerefresh cbrd"
        ),
        not_people=_words(
            "watch shorts playlist results embed live feed hashtag redirect about premium t account post clip source"
            " gaming music kids howyoutubeworks creators ads trends attribution_link v e c user channel"
        ),
        tabs=_words(
            "about videos featured playlists community channels shorts streams live podcasts posts discussion"
        ),
    ),
    # Small letters only: https://support.tiktok.com/en/getting-started/setting-up-your-profile/changing-your-username
    Network(
        host="tiktok.com",
        hosts=_words("tiktok.com"),
        needs_at_sign=True,
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
        needs_at_sign=True,
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
)
NETWORK_BY_HOST: Final = {host: network for network in NETWORKS for host in network.hosts}
HOSTS: Final = frozenset(("linkedin.com", *NETWORK_BY_HOST))
"""The hosts of people's profiles, without what may stand before them."""

TRACKING: Final = re.compile(
    r"utm_\w*|fbclid|gclid|dclid|msclkid|twclid|ttclid|yclid|sccid|rdt_cid|epik|gbraid|wbraid|gclsrc|gad_\w*|li_fat_id"
    r"|igsh|igshid|mc_[ce]id|_hs\w*|__hs\w*|hsctatracking|mkt_tok|vero_\w*|_openstat|_ga|_gl|trk|ref|ref_src"
    r"|oly_\w*_id|pk_\w*|mtm_\w*|matomo_\w*|piwik_\w*|wickedid|ck_subscriber_id|s_cid|s_kwcid|cmpid"
)


class Redirector(NamedTuple):
    """A page that leads to the address in its query."""

    host: re.Pattern[str]
    path_start: str
    keys: tuple[str, ...]
    """The keys of the query that may hold the address. The first that is there counts."""


REDIRECTORS: Final = tuple(
    Redirector(re.compile(rf"(?:{host})\Z"), path_start, tuple(keys.split()))
    for host, path_start, keys in (
        (r"google\.(?:com?\.)?[a-z]{2,3}", "/url", "q url"),
        (r"translate\.google\.(?:com?\.)?[a-z]{2,3}", "/translate", "u"),
        (r"(?:(?:l|lm|m)\.)?(?:facebook|messenger|instagram|threads)\.(?:com|net)", "/l.php", "u"),
        (r"l\.(?:instagram|facebook|threads|messenger|workplace)\.(?:com|net)", "/", "u"),
        (r"t\.umblr\.com", "/redirect", "z"),
        (r"(?:[\w-]+\.)*safelinks\.protection\.outlook\.com", "/", "url"),
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
SHORTENERS: Final = _words(
    "lnkd.in t.co bit.ly tinyurl.com ow.ly buff.ly goo.gl fb.me is.gd rebrand.ly rb.gy cutt.ly shorturl.at tiny.cc"
    " dlvr.it trib.al wp.me j.mp t.ly s.id v.gd bl.ink vm.tiktok.com vt.tiktok.com spoti.fi g.co on.fb.me hubs.ly hubs.la"
    " fb.gg fb.watch youtu.be shorturl.com short.io adf.ly snip.ly soo.gd"
)
"""Hosts of short links. Nobody here knows where they lead, for nothing is resolved over the network."""

HOST_PREFIX: Final = re.compile(r"\A(?:m|mobile|mbasic|touch|web|free|0)\.")
"""What stands before a network's host on its mobile sites."""
LANGUAGE_PREFIX: Final = re.compile(r"\A(?:[a-z]{2}-[a-z]{2}|[a-z]{2})\.")
"""What stands before a network's host for a language."""

# ---- LinkedIn -----------------------------------------------------------------------------------

LINKEDIN_HOST: Final = re.compile(r"\A(?:(?:[a-z]{1,3}|[a-z]{2}-[a-z]{2}|mobile|touch)\.)?linkedin\.com\Z")
"""LinkedIn's hosts, with languages and mobile sites. `business.`, `learning.` and the like have no people."""
LINKEDIN_PREFIXES: Final = ("mwlite", "comm", "m", "profile")
"""The steps that may stand before the path of a person."""
LINKEDIN_OLD_CODE: Final = re.compile(r"\A[0-9a-z]{1,3}\Z")
"""The codes after a name in `linkedin.com/pub/jane-doe/1a/2b/3c`."""
LINKEDIN_MEMBER: Final = re.compile(r"A[A-Z][A-Za-z]AA(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{30,36}", re.ASCII)
"""The opaque ids of members. They are base64, so their case matters. No long name that somebody chose begins so."""
LINKEDIN_TRACKING: Final = _words(
    "trk trkinfo trkemail trkcontact trackingid refid lipi lici licu lissrc originalsubdomain locale lang _l miniprofileurn"
    " midtoken midsig eid otptoken loid original_referer originalreferer skipredirect isselfprofile pathwildcard"
    " challengeid submissionid src goback authtype authtoken ppe cid report.success _ntb session_redirect upsellorderorigin"
    " lgcta lgtemp fromsignin veh savedsearchid searchid searchsessionid authwallurl originaltrackingid profileurn"
    " entityurn overlay nis ssid rs contextid destrefid position pagenum _mslk originreferer s sa source _x_"
)
"""The keys of a query that do not say who it is."""
