"""A result as notebooks show it: its picture above its numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

# Notebooks keep what they show: larger pictures are shown smaller.
_LONGEST_SIDE = 1200


def shown_png(picture: Image.Image) -> bytes:
    """A picture as PNG, with sides of 1200 pixels at most."""
    file = io.BytesIO()
    shown = picture.copy()
    shown.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    shown.save(file, "PNG")
    return file.getvalue()


def result_html(
    title: str,
    zones: Mapping[str, int],
    intervals: Mapping[str, tuple[int, int]],
    lines: Mapping[str, tuple[int, int]],
    warnings: Sequence[str],
    png: bytes | None,
) -> str:
    """A fragment of HTML.

    Args:
        title: the count and its interval.
        zones, intervals, lines, warnings: of the result.
        png: the picture, if there is one.

    >>> result_html("1 person (0-2)", {"<gate>": 1}, {"<gate>": (0, 2)}, {}, [], None)
    '<div><p><b>1 person (0-2)</b></p><table><tr><th>&lt;gate&gt;</th><td>1 (0-2)</td></tr></table></div>'
    """
    parts = [f"<p><b>{escape(title)}</b></p>"]
    if png is not None:
        data = base64.b64encode(png).decode()
        parts.append(f'<img alt="{escape(title)}" style="max-width: 100%" src="data:image/png;base64,{data}">')
    cells = [(name, "{} ({}-{})".format(people, *intervals[name])) for name, people in zones.items()]
    cells += [(name, f"{left} left, {right} right") for name, (left, right) in lines.items()]
    if cells:
        rows = (f"<tr><th>{escape(name)}</th><td>{text}</td></tr>" for name, text in cells)
        parts.append(f"<table>{''.join(rows)}</table>")
    if warnings:
        parts.append(f"<ul>{''.join(f'<li>warning: {escape(warning)}</li>' for warning in warnings)}</ul>")
    return f"<div>{''.join(parts)}</div>"
