"""Signals end long work, ask for an orderly end once, and are given back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from qdtrack_ros.node.stop_signals import Interrupted, StopSignals


def wait_for_ever():
    while True:
        threading.Event().wait(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_long_work_and_then_asks_for_the_end(number):
    before = signal.getsignal(number)
    asked = threading.Event()
    names = []
    with StopSignals() as signals:
        with pytest.raises(Interrupted, match=number.name), signals.interruptible():
            os.kill(os.getpid(), number)
            wait_for_ever()
        signals.on_stop(lambda name: (names.append(name), asked.set()))
        assert asked.wait(60)
        with pytest.raises(Interrupted, match=number.name), signals.interruptible():
            pytest.fail("the signal came before")
    assert names == [number.name]
    assert signal.getsignal(number) is before


def test_an_interruption_that_was_swallowed_is_raised_at_the_end():
    with StopSignals() as signals, pytest.raises(Interrupted), signals.interruptible():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            wait_for_ever()
        except BaseException:
            while not signals._name:
                threading.Event().wait(0.01)


def test_outside_of_such_work_a_signal_interrupts_nothing():
    asked = threading.Event()
    with StopSignals() as signals:
        with signals.interruptible():
            pass
        signals.on_stop(lambda name: asked.set())
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.wait(60)


def test_a_signal_that_comes_before_the_work_is_not_lost_while_the_waiting_thread_sleeps():
    with StopSignals() as signals:
        signals._handle(signal.SIGINT, None)
        with pytest.raises(Interrupted, match="SIGINT"), signals.interruptible():
            pytest.fail("the signal came before")
