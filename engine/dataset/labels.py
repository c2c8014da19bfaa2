"""Which labels stand for people, chosen once for all annotations of a data set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.dataset.entry import Entry
from engine.dataset.sources import Source
from engine.errors import ConfigError

_log = logging.getLogger("engine")
# Where there are several labels, the first of these that is in use is counted.
_PEOPLE = ("head", "heads", "person", "persons", "people", "pedestrian", "human")


@dataclass(frozen=True)
class _Labels:
    """Labels of a source: how often each is in use, and those that it knows, in use or not."""

    where: str
    used: Counter[str]
    known: frozenset[str]


def choose_labels(sources: Sequence[Source], wanted: Sequence[str], where: str) -> list[Source]:
    """The sources with the points of those labels that stand for people; points without labels stay.

    Args:
        wanted: labels to count; none given takes the first that names people ("head" before "person", so that nobody
            counts twice), or the only one that there is, with a warning.
        where: the data set, for messages.

    Raises:
        ConfigError: no source knows a wanted label; or it cannot be told which labels are people.
    """
    found = [_labels_of(source) for source in sources]
    known = frozenset[str]().union(*(labels.known for labels in found))
    where = found[0].where if len(found) == 1 else where
    if missing := set(wanted) - known:
        raise ConfigError(f"{where} has no label {_quoted(missing)}; it has {_quoted(known) or 'none'}")
    chosen = set(wanted or _people(found, known, where))
    return [_with(source, chosen, labels) for source, labels in zip(sources, found, strict=True)]


def _labels_of(source: Source) -> _Labels:
    used = Counter(label for entry in source.entries for label in entry.labels)
    # Entries of one file share what it declares.
    declared = {entry.declared for entry in source.entries}
    return _Labels(str(source.path), used, frozenset(used).union(*declared))


def _people(found: Sequence[_Labels], known: Collection[str], where: str) -> Collection[str]:
    """The labels of people among those in use; if there are none, among the declared ones."""
    used = {label for labels in found for label in labels.used}
    if chosen := _called_people(used):
        _refuse_two_meanings(found, chosen)
        if (best := _called_people(known)) != chosen:
            _log.warning("%s: counted are %s; nothing is marked as %s", where, _quoted(chosen), _quoted(best))
        return chosen
    if not used or (chosen := _called_people(known)):
        return chosen
    if len(known) > 1:
        raise ConfigError(
            f"{where} has the labels {_quoted(known)}, and none is called {' or '.join(_PEOPLE[:3:2])}; say which are "
            "people: --label NAME"
        )
    if known != {""}:
        _log.warning("%s: the only label, %s, does not name people; all of it is counted", where, _quoted(known))
    return known


def _called_people(labels: Collection[str]) -> list[str]:
    """Those of the labels that have the first name of people that is among them, in whatever capitals."""
    for name in _PEOPLE:
        if called_so := [label for label in labels if label.strip().casefold() == name]:
            return sorted(called_so)
    return []


def _refuse_two_meanings(found: Sequence[_Labels], chosen: Sequence[str]) -> None:
    """Refuse a source that marks people, but by none of the chosen labels: it would say that nobody is there."""
    for labels in found:
        if (other := _called_people(labels.used)) and not set(chosen) & set(labels.used):
            raise ConfigError(
                f"{labels.where} marks people as {_quoted(other)} alone, and other annotations of the data set as "
                f"{_quoted(chosen)}; say which are counted: --label NAME, for each of them"
            )


def _with(source: Source, chosen: Collection[str], labels: _Labels) -> Source:
    left = {label: count for label, count in labels.used.items() if label not in chosen}
    if not left:
        return source
    counts = ", ".join(f"{count} of {label!r}" for label, count in sorted(left.items())[:5])
    counted = " and ".join(map(repr, sorted(chosen)))
    _log.warning("%s: counted are %s; left out: %s", source.path, counted, counts)
    return replace(source, entries=[_keep(entry, chosen) for entry in source.entries])


def _keep(entry: Entry, chosen: Collection[str]) -> Entry:
    if not entry.labels:
        return entry
    return entry.keep(np.array([label in chosen for label in entry.labels], bool))


def _quoted(labels: Collection[str]) -> str:
    return ", ".join(map(repr, sorted(labels)[:10]))
