"""Undo the content encodings of a reply, within fixed bounds."""

from __future__ import annotations

import io
import re
from typing import Any, Final

from zlib_ng import gzip_ng, zlib_ng

# A reply of 1000 contacts is some 2 MB; thirty times that is an accident or an attack.
MOST_DECODED_BYTES: Final = 64 * 2**20

# Its stubs leave the types of its functions partly unknown.
_zlib: Any = zlib_ng
# 32 + 15: gzip and zlib are told apart by the header.
_GZIP_OR_ZLIB: Final = 47
_NEXT_MEMBER: Final = re.compile(rb"\0*(\x1f(?:\x8b|\Z)|\x78[\x01\x5e\x9c\xda])")
# A server that flushes after each contact sends a thousand.
_MOST_MEMBERS: Final = 10_000
# More than two encodings on top of each other are no accident.
_MOST_ENCODINGS: Final = 2
_FIRST_FEED: Final = 2**10
_LARGEST_FEED: Final = 2**20


def inflate(body: bytes, encoding: str) -> tuple[bytes, bool]:
    """Undo the content encoding as far as it goes. Returns the bytes, and whether that was all."""
    names = [name.strip().lower() for name in encoding.split(",")]
    applied = [name for name in names if name not in ("", "identity")][:_MOST_ENCODINGS]
    is_whole = True
    # They were applied in the order in which they are listed, so the last one is undone first.
    for name in reversed(applied):
        if name not in ("gzip", "x-gzip", "deflate"):
            return b"", False
        body, is_layer_whole = _inflate_once(body)
        is_whole = is_whole and is_layer_whole
    return body, is_whole


def _inflate_once(body: bytes) -> tuple[bytes, bool]:
    data = _inflated_at_once(body)
    return (data, True) if data is not None else _inflate_members(body)


def _inflate_members(body: bytes) -> tuple[bytes, bool]:
    """All members of a body, one after the other (RFC 1952, 2.2), as far as they can be read."""
    pieces: list[bytes] = []
    room, start = MOST_DECODED_BYTES, 0
    for _ in range(_MOST_MEMBERS):
        data, end = _inflate_member(body, start, room)
        pieces.append(data)
        room -= len(data)
        if end is None:
            break
        # Padding after the last member is allowed; other bytes are ignored, as every reader of gzip does.
        if (next_member := _NEXT_MEMBER.match(body, end)) is None:
            return b"".join(pieces), True
        start = next_member.start(1)
    return b"".join(pieces), False


def _inflate_member(body: bytes, start: int, room: int) -> tuple[bytes, int | None]:
    """What can be inflated of the member that begins there, and where it ends, if it does."""
    inflater = _zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
    size = _FIRST_FEED
    pieces: list[bytes] = []
    while not inflater.eof:
        if room <= 0 or start >= len(body):
            return b"".join(pieces), None
        before = inflater.copy()
        try:
            data: bytes = inflater.decompress(body[start : start + size], room)
        except _zlib.error:
            if size == 1:
                return b"".join(pieces), None
            # Smaller and smaller pieces, so that a wrong checksum does not take the data with it.
            inflater, size = before, size // 2
            continue
        pieces.append(data)
        room -= len(data)
        fed_to = min(start + size, len(body))
        start = fed_to - len(inflater.unused_data or inflater.unconsumed_tail)
        size = min(2 * size, _LARGEST_FEED)
    return b"".join(pieces), start


def _inflated_at_once(body: bytes) -> bytes | None:
    """A gzip body of one member, into a buffer of the size that its last bytes tell; None if they do not.

    A buffer that grows bit by bit takes longer, and lets go of the interpreter each time.
    """
    size = int.from_bytes(body[-4:], "little")
    if not 0 < len(body) <= size <= MOST_DECODED_BYTES:
        return None
    try:
        with gzip_ng.GzipNGFile(fileobj=io.BytesIO(body), mode="rb") as file:
            # One byte more than there should be: the checksum is compared only at the end.
            data = file.read(size + 1)
    except (OSError, EOFError, _zlib.error):
        return None
    return data if len(data) == size else None
