"""Ctrl-C is heard wherever it strikes."""

from __future__ import annotations

import signal

import pytest

from hourglass.service.signals import interruptible


class Finalized:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_finalizer_is_raised_by_the_next_check() -> None:
    with interruptible() as check:
        check()
        Finalized()
        with pytest.raises(KeyboardInterrupt):
            check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_elsewhere_an_interrupt_is_raised_at_once_and_once(number: signal.Signals) -> None:
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)


def test_afterwards_an_interrupt_is_raised_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
