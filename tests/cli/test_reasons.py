from __future__ import annotations

import pytest

from teak_async._cli.reasons import MAX_REASONS, SHOWN, Reasons


def grouped(*messages: str, values: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    """Count and words of each reason of messages that come row by row."""
    reasons = Reasons()
    for row, message in enumerate(messages):
        reasons.add("failed", f"InvalidRequest: {message}", row + 2, row, values)
    return [(reason.count, reason.message) for reason in reasons.ordered()]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (("line 3: a column is 'x', not y", "line 4: a column is 'z', not y"), "a column is …, not y"),
        (('not JSON: a "b" (char 3)', 'not JSON: a "c" (char 4)'), "not JSON: a … (char …)"),
        (("3 cells where the header has 2", "12 cells where the header has 2"), "… cells where the header has 2"),
        (("zone: Mars/Base is unknown", "zone: Pluto/Base is unknown"), "zone: … is unknown"),
        (("user_id: no player with id p1.", "user_id: no player with id p2."), "user_id: no player with id …."),
        (("user_id: no player with id p 1.", "user_id: no player with id p1."), "user_id: no player with id …."),
        (("user_id: no player with id O'Neil.", "user_id: no player with id p1."), "user_id: no player with id …."),
        (("a spreadsheet's mark, isn't it", "a spreadsheet's mark, isn't it"), "a spreadsheet's mark, isn't it"),
        (("no answer within 30 s", "no answer within 30 s"), "no answer within 30 s"),
    ],
)
def test_values_make_no_reason(messages: tuple[str, str], words: str) -> None:
    """What is quoted, a number, or a value of the row is taken out; what all rows have in common stays."""
    values = ("p1", "p2", "p 1", "O'Neil", "", "Mars/Base", "Pluto/Base")
    assert grouped(*messages, values=values) == [(2, words)]


@pytest.mark.parametrize(
    "messages",
    [
        ("user_id: must not be empty", "country_code: must not be empty"),
        ("the server failed with status 500", "the server failed with status 502"),
    ],
)
def test_another_field_or_status_is_another_reason(messages: tuple[str, str]) -> None:
    """The field, the problem and the status of a response stay apart."""
    assert grouped(*messages) == [(1, messages[0]), (1, messages[1])]


def test_one_class_of_error_is_another_than_the_next() -> None:
    """A row in doubt and a failed one are never counted together."""
    reasons = Reasons()
    reasons.add("failed", "ServerError: x", 2, 0)
    reasons.add("failed", "TimedOut: x", 3, 1)
    reasons.add("in_doubt", "TimedOut: x", 4, 2)
    assert [(reason.state, reason.kind) for reason in reasons.ordered()] == [
        ("failed", "ServerError"),
        ("failed", "TimedOut"),
        ("in_doubt", "TimedOut"),
    ]


def test_the_first_row_is_named_whatever_order_rows_end_in() -> None:
    """Rows end as their responses come, and a person looks for the first in the file."""
    reasons = Reasons()
    for row in (7, 3, 5):
        reasons.add("failed", "InvalidRequest: no", row + 2, row)
    assert reasons.lines() == ["          3 failed, first line 5: no"]


def test_reasons_are_bounded() -> None:
    """A server that words each error anew fills neither the memory nor the screen."""
    messages = [f"word{number}" for number in range(MAX_REASONS + 50)]
    found = grouped(*messages)
    assert len(found) == MAX_REASONS + 1
    assert (50, "other reasons") in found
    reasons = Reasons()
    for row, message in enumerate(messages[: SHOWN + 2]):
        reasons.add("failed", f"InvalidRequest: {message}", 0, row)
    assert len(reasons.lines()) == SHOWN + 1
    assert reasons.lines()[-1] == "  and 2 more reasons: report --json has all of them"


def test_no_state_is_hidden_by_many_reasons_of_another() -> None:
    """The reasons come by their count, and the largest of each state is shown, however rare it is."""
    reasons = Reasons()
    for row, message in enumerate(f"word{number}" for number in range(SHOWN) for _ in range(3)):
        reasons.add("failed", f"InvalidRequest: {message}", row + 2, row)
    for row, message in ((100, "lost"), (101, "late"), (102, "late")):
        reasons.add("in_doubt", f"TimedOut: {message}", row + 2, row)
    reasons.add("not_sent", "TransportError: no connection", 105, 103)
    *failed, doubt, unsent, more = reasons.lines()
    assert len(failed) == SHOWN - 2
    assert doubt == "          2 in doubt, first line 103: late"
    assert unsent == "          1 of those not sent, first line 105: no connection"
    assert more == "  and 3 more reasons: report --json has all of them"
    assert [reason["count"] for reason in reasons.as_list()] == [3] * SHOWN + [2, 1, 1]
