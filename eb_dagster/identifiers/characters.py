"""Characters that stand around a value or look like others, whatever the value is."""

from __future__ import annotations

import re
from typing import Final

# What exports and copies wrap around a value: white space of all kinds, zero-width and direction
# marks, control characters, quotes, angle brackets.
WRAPPING: Final = (
    "".join(map(chr, (*range(0x21), *range(0x7F, 0xA1))))
    + "\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d"
    "\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\"'<>`´‘’‚‛“”„‟«»‹›"
)
# Half a surrogate pair cannot be written as UTF-8, so it is as useless as a NUL.
CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# What a decoder writes where it fails. The character that was there is lost.
LOST: Final = "\ufffd"

# The wide forms of East Asian keyboards.
_WIDE: Final = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {
    0x3000: " ",
    0x3001: ",",
    0xFE6B: "@",
}
_WIDE_PATTERN: Final = re.compile("[\u3000\u3001\ufe6b\uff01-\uff5e]")


def narrow(text: str) -> str:
    """A text with wide characters replaced by their usual forms."""
    return text.translate(_WIDE) if _WIDE_PATTERN.search(text) else text
