"""The words that people are made up from."""

from __future__ import annotations

from typing import Final


def _name_table(*rows: str) -> tuple[tuple[list[str], list[str], str], ...]:
    """Read rows of "given names | family names | pattern"."""
    split = [[part.strip() for part in row.split("|")] for row in rows]
    return tuple((given.split(), family.split(), pattern) for given, family, pattern in split)


# Family names are rare or invented, so that no pair of names is that of a known person.
NAMES: Final = _name_table(
    "Ottoline Barnaby Tamsin Perran | Alderwickle Thornquill O'Marshgate | {given} {family}",
    "Žofie Řehoř Květa Ctibor | Podlesníček Ďurkovec Třešňák | {given} {family}",
    "Łucja Zbyszko Świętosława | Jarzębinek Dźwięczny-Lasek | {given} {family}",
    "Begoña Nicanor Aránzazu | Zarzalejano Peñaquebrada Ñublares | {given} {family}",
    "Sølve Åsta Torbjørg | Granliåsen Ørretvik Bekkesjø | {given} {family}",
    "İpek Çınar Gülşah | Kuzgunağaç Şelaledere | {given} {family}",
    "Chidera Ifẹ́olúwa Kọ́láwọlé | Ugwuomali Ọ̀ṣunwale | {given} {family}",
    "Таисия Прохор Глафира | Заречинных Луговейко Подберёзных | {given} {family}",
    "Ελπινίκη Φοίβη Λεωνής | Θυμαριάδου-Πεύκη Αλμυροπέτρα | {given} {family}",
    "ريما سلوان ياسمينة | السندياني القرميدي | {given} {family}",
    "תמרה אלמוג ניצן | ארזיאלון כרמלוני | {given} {family}",
    "अन्विता कविनेश मेघना | नीलवनकर पर्णशालिया | {given} {family}",
    "陽葵 蒼汰 千紘 | 霧梢野 沢楓橋 | {family} {given}",
    "砚舟 沐禾 予棠 | 闻人 澹台 | {family}{given}",
    "다솔 도담 서온 | 망절 강전 | {family}{given}",
)
HANDLE_WORDS: Final = ("heron", "larch", "pebble", "cinder", "marten", "juniper", "lantern")
COMPANIES: Final = (
    "Larchwick Analytics",
    "Blue Kiln Works",
    "Petrichor Freight",
    "Oriel Lane Health",
    "Moss & Daughters",
    "Tin Lantern Software",
    "Saltmarsh Optics",
)
MAIL_PROVIDERS: Final = ("post", "letterbox", "pigeon")
NETWORKS: Final = ("linkedin", "twitter", "facebook", "github")
AREA_CODES: Final = ("202", "206", "212", "303", "312", "404", "415", "512", "617", "713", "773")
PLACES: Final = (
    ("Tucson", "Arizona", "United States"),
    ("São Paulo", "São Paulo", "Brazil"),
    ("Brno", None, "Czechia"),
    ("大阪市", None, "Japan"),
    ("Lagos", "Lagos", "Nigeria"),
    ("Århus", "Midtjylland", "Denmark"),
    (None, None, "India"),
)
INDUSTRIES: Final = ("software", "logistics", "health care", "ceramics", None)
TITLES: Final = (
    "Data Engineer",
    "Head of Sales",
    "Geschäftsführerin",
    "Revenue Operations Lead",
    "購買担当",
    "VP, Research & Development",
)
LEVELS: Final[tuple[list[str] | None, ...]] = (["senior"], ["director", "vp"], [], None)
SCHOOLS: Final = (
    "Hollowmere College",
    "Universität Birkenfurt",
    "Escuela Técnica de Peñaquebrada",
    "霧丘大学",
)
