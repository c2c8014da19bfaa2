"""Addresses for messages, logs and reports: without what nobody but the server should read."""

from __future__ import annotations

import re
from collections.abc import Iterable

_HIDDEN = "..."
# A path loses one of the slashes. A scheme of one letter is a drive of Windows.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}"
_WHOLE = re.compile(rf"({_SCHEME})(.*)", re.DOTALL)
# An address within a text: it ends where a text would go on. Longer ones are hidden by name.
_PART = re.compile(rf"{_SCHEME}[^\s'\"<>]*")
_END_OF_PLACE = re.compile(r"[/?#\\]")
_QUERY = re.compile(r"[?#]")


def hide_password(address: str) -> str:
    """An address without user and password, nor query and fragment, where cameras take them too.

    Passwords may hold any character, also those that end a server's name in a right address. Where it cannot be told
    what is password and what is not, both are hidden. What is no address comes back as it is.

    >>> hide_password("rtsp://user:secret@camera/live?pwd=secret")
    'rtsp://camera/live?...'
    >>> hide_password("rtsp://user:pa/ss@camera/live#secret")
    'rtsp://camera/live?...'
    """
    found = _WHOLE.fullmatch(address)
    if found is None:
        return address
    scheme, rest = found.groups()
    place = _END_OF_PLACE.split(rest, maxsplit=1)[0]
    before, *query = _QUERY.split(rest, maxsplit=1)
    may_have_password = "@" in place or ":" in before
    if query and "@" in query[0] and may_have_password:
        # Either the password goes on behind the question mark, or the query holds an @.
        return f"{scheme}{_HIDDEN}"
    if "@" in before and ("@" in place or ":" in before.rpartition("@")[0]):
        # The last @: those before it may be of the password.
        shown = before.rpartition("@")[2]
        before = f"{_HIDDEN}@{shown}" if before.count("@") > 1 else shown
    return f"{scheme}{before}{'?' + _HIDDEN if query else ''}"


def hide_passwords(text: str, known: Iterable[str] = ()) -> str:
    """A text with every address in it as :func:`hide_password` gives it.

    Args:
        known: addresses that may be in the text, and are found there whatever characters they hold.

    >>> hide_passwords("Connection refused: 'rtsp://user:secret@camera/live'")
    "Connection refused: 'rtsp://camera/live'"
    """
    for address in known:
        text = text.replace(address, hide_password(address))
    return _PART.sub(lambda match: hide_password(match.group()), text)
