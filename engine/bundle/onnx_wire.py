"""The wire format of Protocol Buffers, read strictly.

What two readers could take differently is refused: numbers longer than they need be, numbers that do not fit, and
contents that end behind their message.
"""

from __future__ import annotations

from collections.abc import Iterator

# How the contents of a field are written.
NUMBER, EIGHT_BYTES, CONTENTS, FOUR_BYTES = 0, 1, 2, 5
_FIXED = {EIGHT_BYTES: 8, FOUR_BYTES: 4}
_CUT = "it is cut short, or no ONNX file"


class WireReader:
    """Reads the messages of one file, and counts their fields.

    Args:
        most_fields: of the whole file.
    """

    def __init__(self, most_fields: int):
        self._most = self._left = most_fields

    def fields(self, data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
        """The fields of one message: number, way of writing, and an unsigned integer of 64 bits or contents.

        Raises:
            ValueError: the bytes are no message, or have too many fields.
        """
        at = 0
        while at < len(data):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {self._most} fields")
            key, at = _number(data, at)
            number, way = key >> 3, key & 7
            if not 0 < number < 1 << 29:
                raise ValueError(_CUT)
            if way == NUMBER:
                value, at = _number(data, at)
                yield number, way, value
                continue
            size, at = _number(data, at) if way == CONTENTS else (_FIXED.get(way, -1), at)
            if size < 0 or at + size > len(data):
                raise ValueError(_CUT)
            yield number, way, data[at : at + size]
            at += size


def packed_numbers(data: memoryview) -> list[int]:
    """Unsigned integers of 64 bits, written one after another."""
    values, at = [], 0
    while at < len(data):
        value, at = _number(data, at)
        values.append(value)
    return values


def _number(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where it ends."""
    if at >= len(data):
        raise ValueError(_CUT)
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    for position in range(at + 1, min(at + 10, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if byte == 0 or value >= 1 << 64:
                raise ValueError("a number is written in a way that no exporter writes")
            return value, position + 1
    raise ValueError(_CUT)
