"""What a checkpoint layout is: a table of names, and what in it follows other rules than ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

State = dict[str, Tensor]

_NAMES_IN_LINE = 8


class ConversionError(ValueError):
    """A checkpoint that does not fit the network; the message says in what, in the checkpoint's own names."""


class FileFacts(NamedTuple):
    """What is known about a checkpoint besides its tensors.

    Attributes:
        sha256: hash of the file, hexadecimal; empty where it is unknown.
        classes: names of the classes in the classifier's order, as the file or the user gives them; empty: unknown.
        style: where the file's own training configuration puts a ResNet's stride: ``pytorch``, ``caffe``; empty:
            unknown.
    """

    sha256: str = ""
    classes: tuple[str, ...] = ()
    style: str = ""


def _as_it_is(state: State, facts: FileFacts) -> State:
    return state


def _no_style(names: Iterable[str], facts: FileFacts) -> str:
    return ""


@dataclass(frozen=True, eq=False)
class Layout:
    """How one implementation names and orders what our network has.

    Attributes:
        name: for messages.
        table: beginnings of our names -> theirs; ``{n}`` stands for a number. A part of ours that no line begins with
            is a part that the layout has not.
        marks: beginnings of names by which it is recognised: one of them suffices.
        spellings: older beginnings of their names -> those of the table.
        aside: patterns of names that the network has no use for -> why.
        prepare: brings values and orders to our rules, in their names.
        style: the stride's place (``pytorch``, ``caffe``) where names or file show it, else empty.
        classes: names of its classes, background left out, which a checkpoint with as many has; empty: unknown.
        picks_classes: the preset's labels may be fewer than its classes, and are picked from them by name.
    """

    name: str
    table: Mapping[str, str]
    marks: tuple[str, ...]
    spellings: Mapping[str, str] = field(default_factory=dict)
    aside: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[State, FileFacts], State] = _as_it_is
    style: Callable[[Iterable[str], FileFacts], str] = _no_style
    classes: tuple[str, ...] = ()
    picks_classes: bool = False

    def recognises(self, names: Iterable[str]) -> bool:
        """Whether any of a checkpoint's names bears a mark of this layout."""
        return any(name.startswith(self.marks) for name in names)

    def foreign_name(self, name: str) -> str | None:
        """Name of one of our tensors in this layout; None where the layout has no such part."""
        return _renamed(name, self.table)

    def newest_spelling(self, name: str) -> str:
        """A checkpoint's name as the table spells it."""
        return _renamed(name, self.spellings) or name

    def names_of(self, count: int) -> tuple[str, ...]:
        """Names of a checkpoint's classes, in its order; empty where the layout does not tell those of so many."""
        return self.classes if count == len(self.classes) else ()

    def reason_aside(self, name: str) -> str | None:
        """Why a tensor is left out; None for one that is not."""
        return next((why for pattern, why in self.aside.items() if re.match(pattern, name)), None)


def _renamed(name: str, table: Mapping[str, str]) -> str | None:
    for own, foreign in table.items():
        pattern = re.escape(own).replace(re.escape("{n}"), r"(\d+)")
        match = re.match(pattern, name)
        if match:
            return foreign.replace("{n}", match[1] if match.groups() else "") + name[match.end() :]
    return None


def with_names(sentence: str, lists: Mapping[str, Sequence[str]]) -> str:
    """An error's sentence with the names that it is about, every one of them.

    Few names stand in the same line. Of many the line has the numbers, and the names follow below, a line each.

    Args:
        sentence: what is wrong and what to do, without a full stop.
        lists: title -> names; those without names are left out.
    """
    lists = {title: names for title, names in lists.items() if names}
    if sum(map(len, lists.values())) <= _NAMES_IN_LINE:
        return ". ".join([sentence, *(f"{len(names)} {title}: {'; '.join(names)}" for title, names in lists.items())])
    numbers = ", ".join(f"{len(names)} {title}" for title, names in lists.items())
    below = [line for title, names in lists.items() for line in (f"{title}:", *(f"  {name}" for name in names))]
    return "\n".join([f"{sentence}. Listed below: {numbers}", *below])
