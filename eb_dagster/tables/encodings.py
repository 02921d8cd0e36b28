"""Which encoding a text file is in, if that can be known; the only file that judges bytes.

A file that begins with a byte order mark, or that is valid UTF-8, is believed. Of any other, the words with
letters beyond ASCII are read in every encoding that spreadsheets have saved. A reading whose words look like
no words (a sign inside a word, two scripts in one, letters that no language has together) is wrong. If the
other readings agree on one text, that is it. If they do not, charset-normalizer is asked, and if it cannot
tell them apart, the user has to say.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from eb_dagster.errors import InputError, counted, shown
from eb_dagster.tables.unnamed_file import LocalFile

# UTF-32 first: its mark begins like that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMES: Final[Mapping[str, str]] = {
    "cp1250": "Windows-1250 (Central European)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1252": "Windows-1252",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp1255": "Windows-1255 (Hebrew)",
    "cp1256": "Windows-1256 (Arabic)",
    "cp1257": "Windows-1257 (Baltic)",
    "cp932": "Shift JIS (Japanese)",
    "euc_jp": "EUC-JP (Japanese)",
    "iso2022_jp": "ISO-2022-JP (Japanese)",
    "gb18030": "GB 18030 (Chinese)",
    "big5": "Big5 (Chinese)",
    "cp949": "Windows-949 (Korean)",
    "koi8_u": "KOI8 (Cyrillic)",
    "mac_roman": "Mac Roman",
}
_CHUNK_BYTES: Final = 2**20
_SAMPLE_BYTES: Final = 2**16
_MOST_CELLS: Final = 20_000
_JUDGED_CELLS: Final = 2_000
# The first bytes of files that are no text, whatever their names say.
_SIGNATURES: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"%PDF", b"\x1f\x8b", b"PAR1", b"SQLite format 3")
_CONTROL: Final = re.compile(rb"[\x01-\x08\x0e-\x19\x1c-\x1f]")
_ESCAPED: Final = re.compile("[\ud800-\udfff]")


def mark_of(path: LocalFile) -> str | None:
    """The encoding that the file's first bytes declare."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)


def known_encoding(name: str) -> str:
    """Python's name for an encoding that the user gave."""
    try:
        found = codecs.lookup(name)
        # Some codecs turn bytes into bytes.
        found.decode(b"")[0].encode("utf-8")
    except (LookupError, AttributeError, ValueError):
        raise InputError(
            f"encoding: {shown(name)} is none that Python knows; name another, such as utf-8 or cp1252"
        ) from None
    # A mark at the start is no part of the first column's name.
    return "utf-8-sig" if found.name == "utf-8" else found.name


def spoken(encoding: str) -> str:
    """What people call an encoding."""
    return _NAMES.get(encoding, encoding)


def _has_japanese_escapes(start: bytes) -> bool:
    return b"\x1b$" in start or b"\x1b(" in start


def _check_mixture(path: LocalFile, cells: Sequence[bytes], *, whole: int, odd: int) -> None:
    # A cell in another encoding is seldom UTF-8 too, by chance.
    if sum(map(_is_utf8, cells)) * 20 > len(cells):
        raise InputError(
            f"{path.name} is UTF-8 in {counted(whole, 'place')} and not in {odd:,}: it is damaged, or joined from "
            "two files. Fix it, or say with --encoding how to read it"
        )


def declared_encoding(path: LocalFile, *, save_as: str) -> str | None:
    """The encoding that the file's start tells: by its mark, or by the zeros of UTF-16 and UTF-32.

    None leaves UTF-8 and code pages. Raises `InputError` if it is no text.
    """
    if (encoding := mark_of(path)) is not None:
        return encoding
    start = _sample(path)
    if b"\0" in start and (encoding := _without_mark(start)) is not None:
        return encoding
    if _is_binary(start):
        raise InputError(f"{path.name} is not a text file; save it as {save_as}")
    return None


def find_encoding(path: LocalFile) -> str:
    """The encoding of a text file. Raises `InputError` if it is no text, or nobody can know."""
    if (encoding := declared_encoding(path, save_as="CSV UTF-8")) is not None:
        return encoding
    start = _sample(path)
    whole, odd = _count_utf8(path)
    if not odd:
        return "iso2022_jp" if _has_japanese_escapes(start) else "utf-8"
    cells = _read_cells(path)
    _check_mixture(path, cells, whole=whole, odd=odd)
    return _judged(path, cells, is_old_mac=b"\r" in start and b"\n" not in start)


def _sample(path: LocalFile) -> bytes:
    with path.open("rb") as file:
        return file.read(_SAMPLE_BYTES)


def _is_binary(start: bytes) -> bool:
    return start.startswith(_SIGNATURES) or len(_CONTROL.findall(start)) * 10 > len(start)


def _is_utf8(cell: bytes) -> bool:
    try:
        return bool(cell.decode())
    except UnicodeError:
        return False


def _without_mark(start: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark. Their separators and line ends are ASCII characters."""
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        width = 4 if "32" in encoding else 2
        try:
            text = start[: len(start) // width * width].decode(encoding)
        except UnicodeError:
            continue
        plain = sum(map(_is_plain, text))
        if plain * 5 > len(text):
            return encoding
    return None


def _is_plain(character: str) -> bool:
    return character.isascii() and (character.isprintable() or character in "\t\r\n")


def _count_utf8(path: LocalFile) -> tuple[int, int]:
    """Count letters beyond ASCII that are UTF-8, and bytes that are not."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    whole = odd = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            text = decoder.decode(chunk)
            if not text.isascii():
                escaped = len(_ESCAPED.findall(text))
                odd += escaped
                whole += len(text) - len(text.encode("ascii", "ignore")) - escaped
        odd += len(decoder.decode(b"", final=True))
    return whole, odd


# A cell ends at bytes that are no part of a character in any code page.
_CELL: Final = re.compile(rb"[^\r\n\t,;\"]*[\x80-\xff][^\r\n\t,;\"]*")


def _read_cells(path: LocalFile) -> list[bytes]:
    """The different cells with bytes beyond ASCII, each once, from the whole file."""
    found: dict[bytes, None] = {}
    with path.open("rb") as file:
        rest = b""
        while len(found) < _MOST_CELLS and (chunk := file.read(_CHUNK_BYTES)):
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").rsplit(b"\n", 1)
            found.update(dict.fromkeys(_CELL.findall(b"\n".join(lines))))
        found.update(dict.fromkeys(_CELL.findall(rest)))
    return list(found)


# Which reading makes words


@dataclass(frozen=True, slots=True)
class _Script:
    """How to tell that a word in this script is none."""

    languages: tuple[str, ...] = ()
    """Letters beyond ASCII that occur together. Without any, all letters may."""
    never: str = r"(?!)"
    """What no word holds."""


_WESTERN: Final = _Script(
    (
        "àâçéèêëîïôùûüœ", "äöüßé", "áéíñóúüçàèïò", "áâãàçéêíóôõúü", "àèéìîòóùí", "åæøéèêóôäöü", "åäöéüšž",
        "áðéíóúýþæö", "áéëïóöüèêçí", "äöõüšž",
    ),
    # Each letter stands where its languages put it: ñ before a vowel, ì and ù at the end, ã before e or o, …
    r"ñ(?![aeiouáéíóúü])|ì(?=\w)|ù[^\W\d]{2}|è[aeiouyáéí]|ã(?![eo]|s?\b)|[aeiouyáéí]ø[aeiouyáéí]|[aeiou]æ"
    r"|(?<=\w)þ|œ(?:[wpkr]|\b)|õ(?!e|\b)(?=[^\W\d]s?\b)|\bý(?![mrt])|ýl|ly?ý",
)  # fmt: skip
_CENTRAL: Final = _Script(
    ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíľňóôšťúýž", "áéíóöőúüű", "ăâîşţșț", "čćđšž", "äöüß", "ëç", "âçéëîô"),
    # č, ř, ň and others stand beside a vowel, ń before none, ě after few consonants, …
    r"ń[aeiouyáéíóúü]|ă[aeoyáéí]|(?<![dtnbpvmf])ě|ő[aeiou]|\bů|ů[aeiou]|\bý|ičr|ď(?![aáeéěiíoóuúyý]|\b)"
    r"|(?<![aeiouyáéíóúýěů])[čřňď](?![aeiouyáéíóúýěů])|(?<![aeiouyáéíóúý])[ćźż](?=[^\W\daeiouyáéíóú])(?<=\w[ćźż])",
)  # fmt: skip
# A capital I is a small ı here, which is not beside the vowels of the other row.
_TURKISH: Final = _Script(("çğıöşüâîû", "äöüß"), r"(?<![aeıioöuüâ])ğ|ı\w*[eiöü]|[eöü]\w*ı|(?<=\w)i\w*ı")
_BALTIC: Final = _Script(("ąčęėįšųūž", "āčēģīķļņšūž", "äöõüšž"), r"[aeiouy]ė|ė[aeiouy]")
_VOWELS: Final = "аеёиоуыэюяіїєјaeiouy"
_CYRILLIC: Final = _Script(
    never=rf"\b(?:(?![{_VOWELS}])\w){{4,}}\b|(?:(?![{_VOWELS}])\w){{5}}|\b[ьъ]|[ьъ][ьъ]"
)
_GREEK: Final = _Script(never=r"ς\w|[άέήίόύώΐ]\w*[άέήίόύώΐ]|ΰ|(?<![αεο])ΐ|\b[α-ως]{4,}\b|σ\b")
_HEBREW: Final = _Script(never=r"[ךםןףץ]\w")
_ARABIC: Final = _Script(never=r"ة[^\W\d]|[ءئؤ]{2}|[گچپژ]{2}")

_SCRIPTS: Final[Mapping[str, _Script]] = {
    "cp1252": _WESTERN, "cp1250": _CENTRAL, "iso8859_2": _CENTRAL, "cp1254": _TURKISH, "cp1257": _BALTIC,
    "cp1251": _CYRILLIC, "koi8_u": _CYRILLIC, "cp1253": _GREEK, "cp1255": _HEBREW, "cp1256": _ARABIC,
    "mac_roman": _WESTERN, "cp850": _WESTERN, "cp852": _CENTRAL, "cp866": _CYRILLIC, "iso8859_5": _CYRILLIC,
    "iso8859_15": _WESTERN, "mac_cyrillic": _CYRILLIC, "mac_latin2": _CENTRAL,
}  # fmt: skip
_EAST_ASIAN: Final = ("cp932", "gb18030", "big5", "cp949", "euc_jp")
_USUAL: Final = (
    "cp1252", "cp1250", "iso8859_2", "cp1251", "koi8_u", "cp1253", "cp1254", "cp1255", "cp1256", *_EAST_ASIAN,
)  # fmt: skip
# Tried if the cells are words in none of the usual ones.
_RARE: Final = (
    "cp1257",
    "mac_roman",
    "cp850",
    "cp852",
    "cp866",
    "iso8859_15",
    "iso8859_5",
    "mac_cyrillic",
    "mac_latin2",
)


def _judged(path: LocalFile, cells: Sequence[bytes], *, is_old_mac: bool) -> str:
    cells = cells[:: 1 + len(cells) // _JUDGED_CELLS]
    cells = cells[:: 1 + len(cells) // _JUDGED_CELLS]
    groups = (("mac_roman",), _USUAL, _RARE) if is_old_mac else (_USUAL, _RARE)
    for group in groups:
        encodings = _readable(cells, group)
        if len(encodings) == 1:
            return encodings[0]
        if encodings:
            return _second_opinion(path, cells, encodings)
    raise InputError(
        f"{path.name} is not UTF-8, and no other encoding gives words that can be read; name the right one with --encoding"
    )


def _readable(cells: Sequence[bytes], encodings: Sequence[str]) -> list[str]:
    """The encodings in which the cells are words. Of those that give the same text, the first."""
    encoding_by_text: dict[str, str] = {}
    for encoding in encodings:
        text = _reading(cells, encoding)
        if text is not None:
            encoding_by_text.setdefault(text, encoding)
    return list(encoding_by_text.values())


def _reading(cells: Sequence[bytes], encoding: str) -> str | None:
    """The cells in this encoding, or None if too few of them are words."""
    try:
        texts = [unicodedata.normalize("NFC", cell.decode(encoding)) for cell in cells]
    except UnicodeError:
        return None
    if encoding in _EAST_ASIAN:
        is_readable = _is_east_asian("".join(texts), encoding)
    else:
        is_readable = _are_words(texts, _SCRIPTS[encoding])
    return "\n".join(texts) if is_readable else None


def _are_words(texts: Sequence[str], script: _Script) -> bool:
    # Quotes and dashes alone are the same in many encodings.
    if not script.languages and not any(map(_is_foreign_letter, "".join(texts))):
        return False
    left = len(texts) // _CELLS_FOR_ONE_ODD
    for text in texts:
        left -= not _fits(text, script)
        if left < 0:
            return False
    return True


def _is_foreign_letter(character: str) -> bool:
    return character.isalpha() and not character.isascii()


# A spreadsheet of any size has some nonsense in it.
_CELLS_FOR_ONE_ODD: Final = 40
# Signs beyond ASCII that may touch a letter: before it, after it.
_BEFORE: Final = frozenset("“‘„‚«‹¿¡’–—·´\xa0•§©®…°")
_AFTER: Final = frozenset("”’“»›…™®©–—·´‘\xa0\xad•°")
_MEASURES: Final = re.compile(r"\b(?:[kcmd]?m[²³]|[Nn]º|Mª|\d+[ºª])")


def _fits(text: str, script: _Script) -> bool:
    text = _MEASURES.sub(" ", text)
    if not all(map(_is_written, text)) or _has_stray_sign(text):
        return False
    letters = "".join(character if character.isalpha() else " " for character in text)
    return all(word.isascii() or _is_word(word, script) for word in letters.split())


def _is_word(word: str, script: _Script) -> bool:
    small = word.replace("İ", "i").lower()
    beyond = {letter for letter in small if not letter.isascii()}
    scripts = {unicodedata.name(letter, "").split(" ")[0] for letter in word}
    if len(scripts) > 1 or ("LATIN" in scripts) != bool(script.languages):
        return False
    if _is_badly_cased(word) or re.search(script.never, small):
        return False
    return not script.languages or any(beyond <= set(letters) for letters in script.languages)


# Controls, what is not assigned, marks without a letter, and most signs.
_UNWRITTEN: Final = frozenset(("Cc", "Cn", "Co", "Cs", "Mn", "Mc", "So", "Sk"))


def _is_written(character: str) -> bool:
    return character.isascii() or character in "©®°´" or unicodedata.category(character) not in _UNWRITTEN


def _has_stray_sign(text: str) -> bool:
    triples = zip(" " + text, text, text[1:] + " ", strict=False)
    return any(
        _is_stray_sign(before, sign, after, text)
        for before, sign, after in triples
        if not sign.isascii() and not sign.isalpha()
    )


# An opening mark needs the closing one.
_CLOSING: Final[Mapping[str, str]] = {"¿": "?", "¡": "!"}


def _is_stray_sign(before: str, sign: str, after: str, text: str) -> bool:
    """Whether a sign beyond ASCII stands where nobody writes it."""
    if after.isalpha() and sign not in _BEFORE:
        return True
    if not before.isalpha():
        return sign in _CLOSING and _CLOSING[sign] not in text
    if sign not in _AFTER or sign in _CLOSING:
        return True
    # The Mac's letters are the quotes and dashes of Windows.
    return sign in "„‚‡†‰ˆ˜¨¯¸¤¦" or (sign in "‘“" and not after.isalpha())


def _is_badly_cased(word: str) -> bool:
    """Whether a capital beyond ASCII stands inside a word of small letters, or a word is turned inside out."""
    if word.isupper() or word.islower():
        return False
    return any(letter.isupper() and not letter.isascii() for letter in word[1:])


# The rows of the character sets that hold what is written every day, of the many thousand characters.
_EVERYDAY: Final[Mapping[str, tuple[str, int, int]]] = {
    "cp932": ("euc_jp", 0xB0, 0xCF),
    "euc_jp": ("euc_jp", 0xB0, 0xCF),
    "gb18030": ("gb2312", 0xB0, 0xD7),
    "big5": ("big5", 0xA4, 0xC6),
    "cp949": ("euc_kr", 0xB0, 0xC8),
}


def _is_east_asian(text: str, encoding: str) -> bool:
    usual = other = 0
    for before, letter, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if letter.isascii():
            continue
        is_beside_latin = _is_small(before) or _is_small(after)
        if letter.isalpha() and not is_beside_latin and _is_everyday(letter, encoding):
            usual += 1
        elif letter.isalpha() or unicodedata.category(letter) in _UNWRITTEN:
            other += 1
    return usual > 0 and other * 5 <= usual


def _is_everyday(letter: str, encoding: str) -> bool:
    if encoding in ("cp932", "euc_jp") and "\u3040" <= letter <= "\u30ff":
        # Kana.
        return True
    charset, first, last = _EVERYDAY[encoding]
    code = letter.encode(charset, "ignore")
    return len(code) == 2 and first <= code[0] <= last


def _is_small(letter: str) -> bool:
    return letter.isascii() and letter.islower()


# The margin, in charset-normalizer's own measure of mess, by which one encoding has to be better.
_MARGIN: Final = 0.03


def _second_opinion(path: LocalFile, cells: Sequence[bytes], encodings: list[str]) -> str:
    """Of several encodings in which the words look like words, the one that reads best by far."""
    # Slow to import, and few files need it.
    from charset_normalizer import from_bytes

    sample = b"\n".join(cells)
    found = from_bytes(sample, cp_isolation=encodings, threshold=1.0, preemptive_behaviour=False)
    ranked = sorted(
        (match.chaos - match.coherence / 4, match.encoding) for match in found if match.encoding in encodings
    )
    if len(sample) >= 100 and ranked and (len(ranked) == 1 or ranked[1][0] - ranked[0][0] >= _MARGIN):
        return ranked[0][1]
    names = " or ".join(map(spoken, encodings[:4]))
    raise InputError(
        f"{path.name} is not UTF-8, and may be {names}; say which with --encoding, such as --encoding {encodings[0]}"
    )
