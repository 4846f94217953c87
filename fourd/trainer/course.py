"""Which batch a step trains on: its own number, beyond those that a run has left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload


@dataclass(frozen=True)
class Course:
    """Hold the ranges of batches that are left out, first and last of each, and the steps at which a run went back."""

    left_out: tuple[tuple[int, int], ...] = ()
    rollbacks: tuple[int, ...] = ()

    def batch_of(self, step: int) -> int:
        """Give the number of the batch that follows `step` steps."""
        number = step
        for first, last in self.left_out:
            if number >= first:
                number += last - first + 1
        return number

    def batches(self, steps: range) -> Sequence[int]:
        """Give the numbers of the batches of steps, made as they are asked for."""
        return _Numbers(self, steps)

    def went_back(self, first_bad: int, last_bad: int) -> Course:
        """Leave out the batches of the steps `first_bad` to `last_bad`, counted from 0."""
        new = (self.batch_of(first_bad), self.batch_of(last_bad))
        others = [range_ for range_ in self.left_out if not (new[0] <= range_[0] and range_[1] <= new[1])]
        return Course(tuple(sorted([*others, new])), (*self.rollbacks, last_bad))

    def described(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return {"left_out": [list(range_) for range_ in self.left_out], "rollbacks": list(self.rollbacks)}

    @classmethod
    def of(cls, described: dict[str, Any]) -> Course:
        """Turn JSON values back."""
        return cls(tuple((first, last) for first, last in described["left_out"]), tuple(described["rollbacks"]))


@dataclass(frozen=True)
class _Numbers(Sequence[int]):
    course: Course
    steps: range

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[int]: ...
    def __getitem__(self, place: int | slice) -> int | Sequence[int]:
        if isinstance(place, slice):
            return _Numbers(self.course, self.steps[place])
        return self.course.batch_of(self.steps[place])
