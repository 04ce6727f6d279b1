# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong in the engine, as types. Everything is raised low and turned into a message in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class OptionRemedy(str):
    """A remedy that an option of the task offers, so that whoever sets the option can word it for its users.

    option: its name. value: what is to be given to it, where that is known.
    """

    __slots__ = ("option", "value")
    option: str
    value: str

    def __new__(cls, text: str, option: str, value: str = "") -> Self:
        made = super().__new__(cls, text)
        made.option, made.value = option, value
        return made


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong: at which address, at which property path, and what to do about it.

    variable: the variable of the user's inventory that the property is made from, where that is known.
    """

    address: str
    path: str
    message: str
    remedy: str = ""
    variable: str = ""

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.address, self.path) if part)
        text = f"{place}: {self.message}" if place else self.message
        text = f"{text}; {self.remedy}" if self.remedy else text
        return f"{text} (set by `{self.variable}`)" if self.variable else text


class EngineError(Exception):
    """Base of every error that the engine raises on purpose."""


class FaultsError(EngineError):
    """Several faults, all of one sort, found together. `faults` holds them in a stable order."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__(self._text())

    def _text(self) -> str:
        return "\n".join(map(str, self.faults))

    def reworded(self, word: Callable[[Fault], Fault]) -> Self:
        """Return the same error with each fault in other words."""
        # Not a copy: that would take the text for faults.
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        other.faults = tuple(map(word, self.faults))
        other.args = (other._text(),)
        return other


class DescriptionError(FaultsError):
    """The description is wrong; nothing was called."""


class RefusedError(FaultsError):
    """The plan would do what it must not: delete what is protected, take what belongs to somebody else."""


class ReadError(FaultsError):
    """What exists could not be read; `errors` holds what each kind ran into."""

    def __init__(self, errors: Mapping[str, BaseException]) -> None:
        super().__init__(Fault(kind, "", f"cannot be read: {error}") for kind, error in errors.items())
        self.errors = dict(errors)


NEW_PLAN = OptionRemedy("make a new plan with state=planned", "plan")


class StalePlanError(FaultsError):
    """A saved plan no longer fits the world or the description; `faults` says what moved."""

    def _text(self) -> str:
        """Return the remedy in the first line, then every fault without it."""
        count = f"{len(self.faults)} difference{'' if len(self.faults) == 1 else 's'}"
        head = f"cannot apply the saved plan: it is stale, {count}; {self.faults[0].remedy}"
        return "\n".join([head, *(str(replace(fault, remedy="")) for fault in self.faults)])


class OtherPlanError(FaultsError):
    """A saved plan was made for something else: another stack, environment, account, region or state."""


class PlanFormatError(FaultsError):
    """A text is not a saved plan of this version."""

    def __init__(self, message: str, remedy: str = NEW_PLAN) -> None:
        super().__init__([Fault("", "", message, remedy)])


class UnresolvedError(EngineError):
    """A reference could not be resolved; `path` is the place inside the property."""

    def __init__(self, path: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.path, self.message, self.remedy = path, message, remedy


class UnplannedError(EngineError):
    """Carrying out a step would take more than the plan says, so it was not carried out."""


class UsedTokenError(EngineError):
    """A create answered with the remains of an earlier resource that carried the same idempotency token.

    A kind raises it from `create`; the engine then tries again with the next token.
    """
