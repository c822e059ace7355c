"""What is made beside a loop: its result, its error, and whether anything is being made."""

from __future__ import annotations

import threading

import pytest

from stream.processes.background import Background, is_anything_made


def test_process_knows_that_something_is_being_made_until_it_is() -> None:
    go = threading.Event()
    made = Background(lambda: go.wait() and 7, name="seven")
    assert is_anything_made()
    assert not made.is_done
    go.set()
    assert made.result() == 7
    assert made.is_done
    assert not is_anything_made()


def test_what_cannot_be_made_says_why_to_who_wants_it() -> None:
    with pytest.raises(ZeroDivisionError):
        Background(lambda: 1 // 0, name="nothing").result()
