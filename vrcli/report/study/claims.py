"""Which of several optimizers is better, in as few sentences as say it all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

#: Up to so many names "both" and "all" stand for them.
_ALL = {2: "both", 3: "all three"}


class Claim(NamedTuple):
    """What is claimed of two optimizers.

    Args:
        better: the one that is; None where nothing can be claimed.
        equal: they are equal within a margin, which is in words.
    """

    a: str
    b: str
    better: str | None
    equal: str = ""


def sentences(claims: Iterable[Claim], order: Sequence[str], names: Mapping[str, str] | None = None) -> str:
    """ "Undecided between vradam and adamw. Both are better than sgd."

    Args:
        claims: of every pair that was tested.
        order: the optimizers, the best first; what is said of the best comes first.
        names: what to call them.
    """
    claims, names = list(claims), names or {}
    place = {name: at for at, name in enumerate(order)}
    found: list[tuple[tuple[str, ...], str, tuple[str, ...]]] = []
    for names_of, losers in _wins(claims, place):
        found.append((names_of, "better", losers))
    open_pairs = [(one.a, one.b) for one in claims if one.better is None and not one.equal]
    found += [(group, "undecided", ()) for group in _groups(open_pairs, place)]
    found += [((one.a, one.b), one.equal, ()) for one in claims if one.equal and one.better is None]
    said, before = [], ()  # type: list[str], tuple[str, ...]
    for first, what, losers in sorted(found, key=lambda one: _rank(one[0] + one[2], place)):
        both = _ALL.get(len(first)) if before == first else None
        subject = both or listed(first, names)
        if what == "better":
            text = f"{subject} {'is' if len(first) == 1 else 'are'} better than {listed(losers, names)}"
        elif what == "undecided":
            text = f"undecided between {listed(first, names)}"
        else:
            text = f"{subject} are equal {what}"
        said.append(_capital(text, first if not both and what != "undecided" else ()))
        before = first if what == "undecided" or len(first) > 1 else (*first, *losers)
    return " ".join(f"{text}." for text in said)


def _capital(text: str, names: Sequence[str]) -> str:
    """A sentence begins with a capital letter, unless it begins with a name."""
    return text if names else text[:1].upper() + text[1:]


def _rank(names: Sequence[str], place: Mapping[str, int]) -> tuple[int, int]:
    places = [place.get(name, len(place)) for name in names]
    return min(places), max(places)


def _wins(claims: Sequence[Claim], place: Mapping[str, int]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Winners that beat the same optimizers, with those."""
    winners: dict[str, list[str]] = {}
    for one in claims:
        if one.better is not None:
            winners.setdefault(one.b if one.better == one.a else one.a, []).append(one.better)
    losers: dict[tuple[str, ...], list[str]] = {}
    for loser, own in winners.items():
        losers.setdefault(_sorted(own, place), []).append(loser)
    return [(own, _sorted(beaten, place)) for own, beaten in losers.items()]


def _groups(pairs: Sequence[tuple[str, str]], place: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Names of which every two are a pair, as many together as there are; every pair is in one of them."""
    whole, groups = {frozenset(pair) for pair in pairs}, list[tuple[str, ...]]()
    names = _sorted({name for pair in pairs for name in pair}, place)
    for pair in combinations(names, 2):
        if frozenset(pair) in whole and not any({*pair} <= {*group} for group in groups):
            group = [*pair]
            for name in names:
                if name not in group and all({name, own} in whole for own in group):
                    group.append(name)
            groups.append(_sorted(group, place))
    return groups


def _sorted(names: Iterable[str], place: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: place.get(name, len(place))))


def listed(words: Sequence[str], names: Mapping[str, str] | None = None) -> str:
    """ "a, b and c"."""
    shown = [(names or {}).get(word, word) for word in words]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
