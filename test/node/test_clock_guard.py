"""The stamp rules of the ROS interface, one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdtrack_ros.node.clock_guard import ClockGuard, Verdict

S = 1_000_000_000
ACCEPT, DROP, RESET = Verdict.ACCEPT, Verdict.DROP, Verdict.RESET


def verdicts(guard, *stamps):
    return [guard.check(round(stamp * S)).verdict for stamp in stamps]


def test_forward_is_accepted_by_any_amount():
    assert verdicts(ClockGuard(), 10, 10.1, 5000) == [ACCEPT] * 3


def test_a_little_back_is_dropped_and_far_back_resets():
    guard = ClockGuard(reset_on_jump_s=1.0)
    assert verdicts(guard, 10, 9.5, 9.001, 10.1) == [ACCEPT, DROP, DROP, ACCEPT]
    check = guard.check(round(9.1 * S))
    assert check.verdict is RESET
    assert "new session" in check.warning
    assert check.tracker_ns == round(9.1 * S)
    assert verdicts(guard, 9.2, 9.15) == [ACCEPT, DROP]


def test_the_limit_is_exact_to_the_nanosecond():
    guard = ClockGuard(reset_on_jump_s=1.0)
    guard.check(1_700_000_000 * S + 7)
    assert guard.check(1_699_999_999 * S + 8).verdict is DROP
    assert guard.check(1_699_999_999 * S + 7).verdict is RESET


def test_repeated_stamps_are_processed_and_told_once():
    guard = ClockGuard()
    checks = [guard.check(10 * S) for _ in range(3)]
    assert [check.verdict for check in checks] == [ACCEPT] * 3
    assert [bool(check.warning) for check in checks] == [False, True, False]


def test_zero_stamps_work_and_are_told_once():
    guard = ClockGuard()
    checks = [guard.check(0) for _ in range(3)]
    assert [check.verdict for check in checks] == [ACCEPT] * 3
    assert [bool(check.warning) for check in checks] == [True, False, False]


def test_a_missing_stamp_between_good_ones_changes_nothing():
    guard = ClockGuard()
    guard.check(10 * S)
    check = guard.check(0)
    assert check.verdict is ACCEPT and check.tracker_ns == 10 * S and "zero" in check.warning
    assert verdicts(guard, 10.1, 10.05) == [ACCEPT, DROP]


def test_zero_is_a_time_where_time_began_at_zero():
    guard = ClockGuard()
    assert verdicts(guard, 0, 0.1, 5, 0, 0.1) == [ACCEPT, ACCEPT, ACCEPT, RESET, ACCEPT]


def test_restart_forgets_or_takes_a_time_up():
    guard = ClockGuard()
    guard.check(100 * S)
    guard.restart()
    assert verdicts(guard, 3) == [ACCEPT]
    guard.restart(50 * S)
    assert verdicts(guard, 49.5, 50.1, 20) == [DROP, ACCEPT, RESET]


def test_a_clock_jump_resets_once_and_drops_what_is_left_of_the_old_time():
    guard = ClockGuard()
    guard.check(20 * S)
    assert guard.follow_clock_back(now_ns=1 * S, jump_ns=-19 * S) is True
    # A frame that was under way when the clock jumped must not begin a session of its own.
    assert verdicts(guard, 20.1, 1.1, 1.2) == [DROP, ACCEPT, ACCEPT]


def test_a_small_clock_jump_resets_too():
    guard = ClockGuard(reset_on_jump_s=1.0)
    guard.check(20 * S)
    assert guard.follow_clock_back(now_ns=round(19.6 * S), jump_ns=-round(0.5 * S)) is True
    assert verdicts(guard, 19.7) == [ACCEPT]


def test_frames_that_followed_the_clock_already_are_not_reset_again():
    guard = ClockGuard()
    assert verdicts(guard, 20, 1.0, 1.1) == [ACCEPT, RESET, ACCEPT]
    assert guard.follow_clock_back(now_ns=1 * S, jump_ns=-19 * S) is False
    assert ClockGuard().follow_clock_back(now_ns=0, jump_ns=-5 * S) is False


def test_stamps_of_another_clock_are_not_dropped_for_ever():
    guard = ClockGuard()
    guard.check(1_700_000_000 * S)
    assert guard.follow_clock_back(now_ns=0, jump_ns=-10 * S) is True
    found = verdicts(guard, *(1_700_000_000 + 0.1 * i for i in range(6)))
    assert found.count(ACCEPT) >= 3 and found[-1] is ACCEPT


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_senseless_limit_is_refused(limit):
    with pytest.raises(ValueError, match="reset_on_jump_s"):
        ClockGuard(limit)


@given(st.lists(st.integers(0, 20 * S), max_size=60), st.floats(0.001, 5))
def test_time_never_goes_back_within_a_session(stamps, limit):
    guard = ClockGuard(limit)
    last = None
    for stamp in stamps:
        check = guard.check(stamp)
        if check.verdict is RESET:
            last = None
        if check.verdict is not DROP:
            assert last is None or check.tracker_ns >= last
            last = check.tracker_ns


@given(st.lists(st.integers(0, 40) | st.just(-1), max_size=40))
def test_what_is_late_is_what_is_dropped(steps):
    guard = ClockGuard(reset_on_jump_s=1.0)
    for step in steps:
        if step < 0:  # /clock jumps back
            guard.follow_clock_back(S, -3 * S)
            continue
        late = guard.is_late(step * S // 10)
        assert late == guard.is_late(step * S // 10) == (guard.check(step * S // 10).verdict is DROP)
