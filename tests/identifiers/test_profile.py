"""One spelling of each profile, whatever network it is of."""

import time

import pytest

from eb_dagster.identifiers.arrays import text_array
from eb_dagster.identifiers.canonical import key_form, key_forms
from eb_dagster.identifiers.profile import are_vanity, is_vanity
from tests.identifiers.spellings import MEMBER, spelled, values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("https://www.x.com/@JaneDoe?s=21&t=abc", "twitter.com/janedoe"),
        ("m.twitter.com/JaneDoe/with_replies", "twitter.com/janedoe"),
        ("https://twitter.com/#!/JaneDoe", "twitter.com/janedoe"),
        ("https://x.com/intent/follow?screen_name=JaneDoe&tw_p=followbutton", "twitter.com/janedoe"),
        ("https://twitter.com/intent/user?user_id=12", "twitter.com/i/user/12"),
        ("https://twitter.com/i/user/12", "twitter.com/i/user/12"),
        ("https://www.facebook.com/profile.php?id=100012345&sk=about", "facebook.com/100012345"),
        ("https://www.facebook.com/people/Jane-Doe/100012345/", "facebook.com/100012345"),
        ("https://www.facebook.com/Jane.Doe/about?mibextid=x&__cft__[0]=y", "facebook.com/jane.doe"),
        ("https://mbasic.facebook.com/Jane.Doe?fref=nf", "facebook.com/jane.doe"),
        ("https://fr.facebook.com/Jane.Doe", "facebook.com/jane.doe"),
        ("https://touch.facebook.com/Jane.Doe?locale=de_DE", "facebook.com/jane.doe"),
        ("https://www.instagram.com/Jane_Doe/?igshid=x&hl=en", "instagram.com/jane_doe"),
        ("https://instagr.am/Jane.Doe", "instagram.com/jane.doe"),
        ("https://www.github.com/JaneDoe?tab=repositories", "github.com/janedoe"),
        ("https://m.youtube.com/@JaneDoe/videos?si=x", "youtube.com/@janedoe"),
        ("https://www.youtube.com/channel/UCabcDEF", "youtube.com/channel/UCabcDEF"),
        ("https://www.youtube.com/c/JaneDoe", "youtube.com/c/janedoe"),
        ("https://www.tiktok.com/@Jane.Doe?lang=en&_t=1&_r=1", "tiktok.com/@jane.doe"),
        ("https://www.threads.com/@Jane", "threads.net/@jane"),
        ("https://www.xing.com/profile/Jane_Doe3/cv?sc_o=x", "xing.com/profile/Jane_Doe3"),
        ("https://m.vk.com/Jane", "vk.com/jane"),
        ("https://gist.github.com/ada", "gist.github.com/ada"),
        ("https://medium.com/@Jane?utm_source=x&fbclid=y", "medium.com/@Jane"),
        # LinkedIn
        (f"https://www.linkedin.com/talent/profile/{MEMBER}?trk=x", f"linkedin.com/in/{MEMBER}"),
        (f"https://www.linkedin.com/talent/hire/12/manage/all/profile/{MEMBER}", f"linkedin.com/in/{MEMBER}"),
        (f"https://www.linkedin.com/recruiter/profile/{MEMBER},AbCd,CAP", f"linkedin.com/in/{MEMBER}"),
        (f"linkedin.com/sales/people/{MEMBER},name,tok?_ntb=a.b", f"linkedin.com/in/{MEMBER}"),
        ("linkedin.com/in/ada?miniProfileUrn=urn%3Ali%3Afs&lipi=x", "linkedin.com/in/ada"),
        ("linkedin.com/in/ADA-B\u200b", "linkedin.com/in/ada-b"),
        (f"linkedin.com/in/{MEMBER.lower()}", f"linkedin.com/in/{MEMBER.lower()}"),
        ("linkedin.com/in/A1oAA" + "aB" * 16, "linkedin.com/in/a1oaa" + "ab" * 16),
        ("linkedin.com/in/ACoAA" + "aB" * 14, "linkedin.com/in/acoaa" + "ab" * 14),
        ("linkedin.com/in/ACoAA" + "aB" * 18, "linkedin.com/in/ACoAA" + "aB" * 18),
        ("linkedin.com/in/ACoAA" + "aB" * 19, "linkedin.com/in/acoaa" + "ab" * 19),
        ("linkedin.com/in/ACoAA" + "A" * 32, "linkedin.com/in/acoaa" + "a" * 32),
    ],
)
def test_a_profile_is_spelled_as_its_network_has_it(text: str, value: str) -> None:
    assert spelled("social_profile", text) == value
    assert spelled("social_profile", value) == value


@pytest.mark.parametrize(
    "text",
    [
        "https://l.facebook.com/l.php?u=https%3A%2F%2Fwww.linkedin.com%2Fin%2Fada%3Ftrk%3Dx&h=y",
        "https://lm.facebook.com/l.php?u=https%3A%2F%2Flinkedin.com%2Fin%2Fada",
        "https://l.instagram.com/?u=https%3A%2F%2Flinkedin.com%2Fin%2Fada&e=x",
        "https://www.google.de/url?sa=t&url=https%3A%2F%2Flinkedin.com%2Fin%2Fada",
        "google.com/url?q=linkedin.com/in/ada",
        "https://t.umblr.com/redirect?z=https%3A%2F%2Flinkedin.com%2Fin%2Fada&t=x",
        "https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fwww.linkedin.com%2Fin%2Fada&data=x",
        "https://eur01.safelinks.protection.outlook.com/ap/t-59584e83/?url=https%3A%2F%2Flinkedin.com%2Fin%2Fada",
        "https://urldefense.proofpoint.com/v2/url?u=https-3A__www.linkedin.com_in_ada&d=x",
        "https://urldefense.com/v3/__https://www.linkedin.com/in/ada__;!!abc",
        "https://www.linkedin.com/redir/redirect?url=https%3A%2F%2Fwww%2Elinkedin%2Ecom%2Fin%2Fada&urlhash=x",
        "https://www.linkedin.com/authwall?trk=x&sessionRedirect=https%3A%2F%2Fde.linkedin.com%2Fin%2Fada",
        "https://www.linkedin.com/login?session_redirect=%2Fin%2Fada",
        "https://slack-redir.net/link?url=https%3A%2F%2Flinkedin.com%2Fin%2Fada",
        "https://www.youtube.com/redirect?event=x&q=https%3A%2F%2Flinkedin.com%2Fin%2Fada",
        "https://web.archive.org/web/20200101000000/https://www.linkedin.com/in/ada",
        "https://www.google.com/url?q=https%3A%2F%2Fl.facebook.com%2Fl.php%3Fu%3Dhttps%253A%252F%252Flinkedin.com%252Fin%252Fada",
    ],
)
def test_a_link_that_leads_to_a_profile_is_that_profile(text: str) -> None:
    assert spelled("social_profile", text) == "linkedin.com/in/ada"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://lnkd.in/abc", "profile_short_link"),
        ("bit.ly/ada", "profile_short_link"),
        ("https://t.co/abc", "profile_short_link"),
        ("https://vm.tiktok.com/abc", "profile_short_link"),
        ("https://vk.com/ada?name=ada", "profile_query"),
        ("https://firm.example/people?employee=7", "profile_query"),
        ("https://firm.example/people?n=7", "profile_query"),
        ("https://app.example/#/users/ada", "profile_query"),
        ("https://www.linkedin.com/in/ada?memberId=7", "profile_query"),
        ("https://www.facebook.com/ada?story_fbid=1", "profile_query"),
        ("https://www.facebook.com/ada?fbid=1", "profile_query"),
        ("https://x.com/ada?user=7", "profile_query"),
        ("https://www.facebook.com/profile.php?id=ada", "profile_syntax"),
        ("https://twitter.com/intent/user?screen_name=", "profile_syntax"),
        ("https://www.google.com/search?q=ada", "profile_query"),
        ("google.com/url?q=", "profile_query"),
        ("https://www.linkedin.com/company/firm", "profile_not_a_person"),
        ("https://www.linkedin.com/sales/company/123", "profile_not_a_person"),
        ("https://www.linkedin.com/recruiter/profile/12345,AbCd,CAP", "profile_not_a_person"),
        ("https://twitter.com/intent/tweet?text=x", "profile_not_a_person"),
        ("https://twitter.com/share?url=x", "profile_not_a_person"),
        ("https://twitter.com/search?q=ada", "profile_not_a_person"),
        ("https://twitter.com/hashtag/ada", "profile_not_a_person"),
        ("https://x.com/ada/status/1", "profile_not_a_person"),
        ("https://x.com/home", "profile_not_a_person"),
        ("https://www.facebook.com/sharer.php?u=x", "profile_not_a_person"),
        ("https://www.facebook.com/groups/ada", "profile_not_a_person"),
        ("https://www.facebook.com/ada/posts/1", "profile_not_a_person"),
        ("https://www.instagram.com/p/abc", "profile_not_a_person"),
        ("https://www.instagram.com/reel/abc", "profile_not_a_person"),
        ("https://www.instagram.com/explore/tags/ada", "profile_not_a_person"),
        ("https://github.com/ada/repository", "profile_not_a_person"),
        ("https://github.com/orgs/firm", "profile_not_a_person"),
        ("https://www.youtube.com/watch?v=abc", "profile_not_a_person"),
        ("https://www.tiktok.com/@ada/video/1", "profile_not_a_person"),
        ("https://www.tiktok.com/tag/ada", "profile_not_a_person"),
        ("https://www.xing.com/companies/firm", "profile_not_a_person"),
    ],
)
def test_what_may_be_another_page_is_no_profile(text: str, reason: str) -> None:
    assert spelled("social_profile", text) == f"({reason})"


@pytest.mark.parametrize(
    ("first", "second"),
    [("fb.com/Jane.Doe", "m.facebook.com/janedoe"), ("facebook.com/j.anedoe", "facebook.com/janedoe")],
)
def test_spellings_of_one_profile_share_a_key(first: str, second: str) -> None:
    assert key_form("social_profile", spelled("social_profile", first)) == key_form(
        "social_profile", spelled("social_profile", second)
    )


@pytest.mark.parametrize(
    "value", ["instagram.com/j.d", "linkedin.com/in/j.d", "twitter.com/j.d", "x.example/j.d"]
)
def test_dots_count_in_other_profiles(value: str) -> None:
    assert key_form("social_profile", value) == value
    assert key_forms("social_profile", text_array([value, "facebook.com/j.d"])).to_pylist() == [
        value,
        "facebook.com/jd",
    ]


def test_redirects_end() -> None:
    text = "linkedin.com/in/ada"
    for _ in range(20):
        text = f"google.com/url?q={text}"
    started = time.thread_time()
    assert spelled("social_profile", text).startswith("(")
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "linkedin.com/in/jane-doe",
        "https://www.linkedin.com/in/jane-doe/",
        "http://linkedin.com/in/jane-doe",
        "HTTPS://WWW.LinkedIn.com/in/Jane-Doe",
        "https://https://www.linkedin.com/in/jane-doe",
        "//www.linkedin.com/in/jane-doe",
        "www.linkedin.com/in/jane-doe//",
        "de.linkedin.com/in/jane-doe",
        "uk.linkedin.com/in/jane-doe",
        "https://m.linkedin.com/in/jane-doe",
        "linkedin.com./in/jane-doe",
        "linkedin.com/in/jane-doe?trk=people&utm_source=x",
        "linkedin.com/in/jane-doe/?originalSubdomain=de#about",
        "linkedin.com/in/jane-doe#top",
        "de.linkedin.com/in/jane-doe/en",
        "linkedin.com/in/jane-doe/en-US/",
        "linkedin.com/in/jane-doe/details/experience/",
        "linkedin.com/in/jane-doe/overlay/contact-info/",
        "linkedin.com/mwlite/in/jane-doe",
        "linkedin.com/mwlite/profile/in/jane-doe",
        "linkedin.com/comm/in/jane-doe",
        "linkedin.com/in/jane%2Ddoe",
        "in/jane-doe",
        "/in/jane-doe",
        "/in/Jane-Doe/",
        '"<https://www.linkedin.com/in/jane-doe>"',
        "\u200blinkedin.com/in/jane-doe\u00a0",
    ],
)
def test_spellings_of_one_profile_are_one(text: str) -> None:
    assert spelled("social_profile", text) == "linkedin.com/in/jane-doe"
    assert values("social_profile", text) == ["linkedin.com/in/jane-doe"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("linkedin.com/in/ren%C3%A9-roy", "linkedin.com/in/ren\u00e9-roy"),
        ("linkedin.com/in/REN%C3%89-roy", "linkedin.com/in/ren\u00e9-roy"),
        ("linkedin.com/in/rene\u0301-roy", "linkedin.com/in/ren\u00e9-roy"),
        (f"linkedin.com/in/{MEMBER}", f"linkedin.com/in/{MEMBER}"),
        ("linkedin.com/pub/Jane-Doe/1A/2b/3c/de", "linkedin.com/pub/jane-doe/1a/2b/3c"),
        ("https://www.Twitter.com/JaneDoe/?lang=en", "twitter.com/janedoe"),
        ("x.com/JaneDoe", "twitter.com/janedoe"),
        ("https://GitHub.com/JaneDoe#readme", "github.com/janedoe"),
        ("https://facebook.com/jane.doe", "facebook.com/jane.doe"),
        ("facebook.com/profile.php?id=100012345&ref=x", "facebook.com/100012345"),
        ("notfacebook.com/profile.php", "notfacebook.com/profile.php"),
        ("https://medium.com/@jane", "medium.com/@jane"),
        ("https://firm.example/team/Jane%20Doe", "firm.example/team/Jane%20Doe"),
    ],
)
def test_a_profile_has_one_spelling(text: str, value: str) -> None:
    assert spelled("social_profile", text) == value


@pytest.mark.parametrize(
    "text",
    [
        "https://www.linkedin.com/company/firm",
        "linkedin.com/school/firm",
        "linkedin.com/jobs/view/1",
        "linkedin.com/posts/jane-doe_activity-1",
        "linkedin.com/groups/1",
        "linkedin.com/feed/",
        "linkedin.com/feed/update/urn:li:activity:1",
        "linkedin.com/sales/lead/ACwAAA,NAME_SEARCH",
        "linkedin.com/pub/dir/Jane/Doe",
        "linkedin.com/profile/view?id=1",
        "linkedin.com/in/me",
        "business.linkedin.com/in/jane-doe",
    ],
)
def test_a_linkedin_page_that_is_no_person_is_never_asked(text: str) -> None:
    assert spelled("social_profile", text) == "(profile_not_a_person)"


@pytest.mark.parametrize(
    "text",
    [
        "n/a",
        "none",
        "jane-doe",
        "3.5/5",
        "linkedin.com",
        "linkedin.com/",
        "linkedin.com/in/",
        "linkedin.com/in/-",
        "linkedin.com/in/jane doe",
        "linkedin.com/in/jane%20doe",
        "linkedin.com/in/jane%2Fdoe",
        "linkedin.com/in/jane%00",
        "linkedin.com/in/100%2525",
        "linkedin.com/in/jos%E9",
        "linkedin.com/pub/jane-doe",
        "jane@firm.example",
        "mailto:jane@firm.example",
        "jane:secret@x.com/jane",
        "x.com:8080/jane",
        "ftp://x.com/jane",
        "x.com",
        "https://x.com/",
        "localhost/jane",
        "facebook.com/profile.php",
        "http://[::1/jane",
    ],
)
def test_what_is_no_profile_is_never_asked(text: str) -> None:
    assert spelled("social_profile", text) == "(profile_syntax)"


def test_the_vanity_names_of_a_column_are_those_of_each_alone() -> None:
    profiles = [
        "linkedin.com/in/ada",
        f"linkedin.com/in/{MEMBER}",
        "linkedin.com/pub/ada/1/2/3",
        "x.example/in/ada",
    ]
    flags = are_vanity(text_array(profiles)).to_pylist()
    assert flags == [is_vanity(value) for value in profiles] == [True, False, False, False]
