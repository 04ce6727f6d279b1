# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define the errors of the engine. Each is raised at its cause; one place turns all of them into messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class OptionRemedy(str):
    """A remedy that sets an option of the task. A role that sets the option can replace the text for its users.

    option: its name. value: the value to set, if known.
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
    """One error with its address, property path and remedy.

    variable: the inventory variable that sets the property, if known.
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
    """Base class of the errors of the engine."""


class FaultsError(EngineError):
    """Several faults of one type, reported together. `faults` contains them in a stable order."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__(self._text())

    def _text(self) -> str:
        return "\n".join(map(str, self.faults))

    def reworded(self, word: Callable[[Fault], Fault]) -> Self:
        """Return the same error with each fault replaced by `word(fault)`."""
        # copy.copy would pass the text as `faults`.
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        other.faults = tuple(map(word, self.faults))
        other.args = (other._text(),)
        return other


class DescriptionError(FaultsError):
    """The description is invalid; the engine called no API."""


class RefusedError(FaultsError):
    """The plan contains forbidden actions: deleting protected resources, or adopting resources of another owner."""


class ReadError(FaultsError):
    """Existing resources could not be read; `errors` contains the error of each kind."""

    def __init__(self, errors: Mapping[str, BaseException]) -> None:
        super().__init__(Fault(kind, "", f"cannot be read: {error}") for kind, error in errors.items())
        self.errors = dict(errors)


NEW_PLAN = OptionRemedy("create a new plan with `state: planned`", "plan")


class StalePlanError(FaultsError):
    """A saved plan differs from the existing resources or the description; `faults` lists the differences."""

    def _text(self) -> str:
        """Return the remedy in the first line, then every fault without it."""
        count = f"{len(self.faults)} difference{'' if len(self.faults) == 1 else 's'}"
        head = f"cannot apply the saved plan: it is stale, {count}; {self.faults[0].remedy}"
        return "\n".join([head, *(str(replace(fault, remedy="")) for fault in self.faults)])


class OtherPlanError(FaultsError):
    """A saved plan belongs to another stack, environment, account, region or state."""


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
    """A step needs changes that the plan does not contain, so it was not applied."""


class UsedTokenError(EngineError):
    """A create call returned the remains of an earlier resource with the same idempotency token.

    A kind raises it from `create`; the engine then retries with the next token.
    """
