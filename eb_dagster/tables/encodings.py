"""Which encoding a text file is in, if that can be known; the only file that judges bytes.

A file that says it (a mark), or that is valid UTF-8, is believed. Of any other, the words with letters
beyond ASCII are read in every encoding that spreadsheets have saved. A reading in which words look like no
words (a sign inside a word, two scripts in one, letters that no language has together) is not meant. If the
rest agrees on one text, that is it. If it does not, charset-normalizer is asked, and where it does not tell
them apart, nobody knows: the user has to say.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eb_dagster.errors import InputError, shown

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
# What files begin with that are no text, whatever their name says.
_SIGNATURES: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"%PDF", b"\x1f\x8b", b"PAR1", b"SQLite format 3")
_CONTROL: Final = re.compile(rb"[\x01-\x08\x0e-\x19\x1c-\x1f]")
_ESCAPED: Final = re.compile("[\ud800-\udfff]")


def mark_of(path: Path) -> str | None:
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


def find_encoding(path: Path) -> str:
    """The encoding of a text file. Raises `InputError` if it is no text, or nobody can know."""
    if (encoding := mark_of(path)) is not None:
        return encoding
    with path.open("rb") as file:
        start = file.read(_SAMPLE_BYTES)
    if b"\0" in start and (encoding := _without_mark(start)) is not None:
        return encoding
    if start.startswith(_SIGNATURES) or len(_CONTROL.findall(start)) * 10 > len(start):
        raise InputError(f"{path.name} is not a text file; save it as CSV UTF-8")
    whole, odd = _count_utf8(path)
    if not odd:
        return "iso2022_jp" if b"\x1b$" in start or b"\x1b(" in start else "utf-8"
    cells = _read_cells(path)
    # By chance, a cell in another encoding may be UTF-8 too: seldom.
    if sum(map(_is_utf8, cells)) * 20 > len(cells):
        raise InputError(
            f"{path.name} is UTF-8 in {whole:,} places and not in {odd:,}: it is damaged, or joined from "
            "two files. Mend it, or say with --encoding how to read it"
        )
    return _judged(path, cells, is_old_mac=b"\r" in start and b"\n" not in start)


def _is_utf8(cell: bytes) -> bool:
    try:
        return bool(cell.decode())
    except UnicodeError:
        return False


def _without_mark(start: bytes) -> str | None:
    """UTF-16 or UTF-32 whose mark is missing: separators and line ends make part of it ASCII."""
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        width = 4 if "32" in encoding else 2
        try:
            text = start[: len(start) // width * width].decode(encoding)
        except UnicodeError:
            continue
        plain = sum(one.isascii() and (one.isprintable() or one in "\t\r\n") for one in text)
        if plain * 5 > len(text):
            return encoding
    return None


def _count_utf8(path: Path) -> tuple[int, int]:
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


# What is in no code page's second byte separates.
_CELL: Final = re.compile(rb"[^\r\n\t,;\"]*[\x80-\xff][^\r\n\t,;\"]*")


def _read_cells(path: Path) -> list[bytes]:
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
# Asked if none of the usual ones makes words.
_SELDOM: Final = (
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


def _judged(path: Path, cells: Sequence[bytes], *, is_old_mac: bool) -> str:
    cells = cells[:: 1 + len(cells) // _JUDGED_CELLS]
    cells = cells[:: 1 + len(cells) // _JUDGED_CELLS]
    orders = ((("mac_roman",),) if is_old_mac else ()) + (_USUAL, _SELDOM)
    for encodings in orders:
        readings: dict[str, str] = {}
        for encoding in encodings:
            text = _reading(cells, encoding)
            if text is not None:
                # Of encodings that agree, the one that is named first.
                readings.setdefault(text, encoding)
        if len(readings) == 1:
            return next(iter(readings.values()))
        if readings:
            return _second_opinion(path, cells, list(readings.values()))
    raise InputError(f"{path.name} is not UTF-8, and in no other encoding do its words look like words; name it with --encoding")  # fmt: skip


def _reading(cells: Sequence[bytes], encoding: str) -> str | None:
    """The cells in this encoding, or None if too few of them are words."""
    try:
        texts = [unicodedata.normalize("NFC", cell.decode(encoding)) for cell in cells]
    except UnicodeError:
        return None
    if encoding in _EAST_ASIAN:
        good = _is_east_asian("".join(texts), encoding)
        return "\n".join(texts) if good else None
    script = _SCRIPTS[encoding]
    # Quotes and dashes alone are those of many encodings.
    if not script.languages and not any(one.isalpha() and not one.isascii() for one in "".join(texts)):
        return None
    left = len(texts) // _CELLS_FOR_ONE_ODD
    for text in texts:
        left -= not _fits(text, script)
        if left < 0:
            return None
    return "\n".join(texts)


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
    letters = "".join(one if one.isalpha() else " " for one in text)
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
    for before, sign, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if sign.isascii() or sign.isalpha():
            continue
        if (before.isalpha() and sign not in _AFTER) or (after.isalpha() and sign not in _BEFORE):
            return True
        # An opening question mark wants the closing one.
        if sign in "¿¡" and (before.isalpha() or {"¿": "?", "¡": "!"}[sign] not in text):
            return True
        # The Mac's letters are the quotes and dashes of Windows.
        if sign in "„‚‡†‰ˆ˜¨¯¸¤¦" and before.isalpha():
            return True
        if sign in "‘“" and before.isalpha() and not after.isalpha():
            return True
    return False


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
    charset, first, last = _EVERYDAY[encoding]
    for before, letter, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if letter.isascii():
            continue
        code = letter.encode(charset, "ignore")
        is_kana = "\u3040" <= letter <= "\u30ff" and encoding in ("cp932", "euc_jp")
        is_usual = is_kana or (len(code) == 2 and first <= code[0] <= last)
        if letter.isalpha() and is_usual and not _is_small(before) and not _is_small(after):
            usual += 1
        elif letter.isalpha() or unicodedata.category(letter) in _UNWRITTEN:
            other += 1
    return usual > 0 and other * 5 <= usual


def _is_small(letter: str) -> bool:
    return letter.isascii() and letter.islower()


# The margin, in charset-normalizer's own measure of mess, by which one encoding has to be better.
_MARGIN: Final = 0.03


def _second_opinion(path: Path, cells: Sequence[bytes], encodings: list[str]) -> str:
    """Of several encodings in which the words look like words, the one that reads best by far."""
    # Slow to import, and few files need it.
    from charset_normalizer import from_bytes

    sample = b"\n".join(cells)
    found = from_bytes(sample, cp_isolation=encodings, threshold=1.0, preemptive_behaviour=False)
    ranked = sorted(
        (one.chaos - one.coherence / 4, one.encoding) for one in found if one.encoding in encodings
    )
    if len(sample) >= 100 and ranked and (len(ranked) == 1 or ranked[1][0] - ranked[0][0] >= _MARGIN):
        return ranked[0][1]
    names = " or ".join(spoken(one) for one in encodings[:4])
    raise InputError(
        f"{path.name} is not UTF-8, and may be {names}; say which with --encoding, such as --encoding {encodings[0]}"
    )
