import pytest

from fourd.planner.ledger import Book, peak_of


def test_the_peak_is_the_highest_moment_and_says_who_takes_what():
    book = Book(
        storage=(0, 1, 2, 1, 3, 2, 3),
        change=(10, 5, 7, -5, 1, -7, -1),
        phase=("before", "forward", "forward", "forward", "backward", "backward", "backward"),
        kind=("weights", "activations", "gradients", "other"),
        start=1,
    )
    peak = peak_of(book)
    assert peak.phase == "forward"
    assert peak.total == 22
    assert peak.by_kind == {
        "weights": 10,
        "gradients": 7,
        "moments": 0,
        "activations": 5,
        "gathered": 0,
        "other": 0,
    }


def test_what_was_given_up_before_the_step_does_not_count():
    book = Book((0, 0, 1), (100, -100, 3), ("build", "build", "forward"), ("other", "activations"), start=2)
    assert peak_of(book).total == 3


def test_a_step_without_entries_is_refused():
    with pytest.raises(ValueError, match="no entry after 1"):
        peak_of(Book((0,), (8,), ("build",), ("weights",), start=1))
