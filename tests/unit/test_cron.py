"""Cron expressions are read as KFP's library reads them; the texts here are robfig/cron 1.2.0's."""

from __future__ import annotations

import re

import pytest

from kfadapter_grpc.contract.cron import FIELDS, CronError, cron_fault, read_cron

REFUSED = {
    "": "Empty spec string",
    "bad": "Expected 5 to 6 fields, found 1: bad",
    "* * * * * * *": "Expected 5 to 6 fields, found 7: * * * * * * *",
    "60 * * * * *": "End of range (60) above maximum (59): 60",
    "* * * 0 * *": "Beginning of range (0) below minimum (1): 0",
    "9-3 * * * * *": "Beginning of range (9) beyond end of range (3): 9-3",
    "*/0 * * * * *": "Step of range should be a positive number: */0",
    "1/2/3 * * * * *": "Too many slashes: 1/2/3",
    "1-2-3 * * * * *": "Too many hyphens: 1-2-3",
    "x * * * * *": 'Failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax',
    "* * * * jun-x *": 'Failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax',
    "* * * * * 5-7": "End of range (7) above maximum (6): 5-7",
    "* * * * * 7": "End of range (7) above maximum (6): 7",
    "* * * L * *": 'Failed to parse int from L: strconv.Atoi: parsing "L": invalid syntax',
    "* * * * * 1#2": 'Failed to parse int from 1#2: strconv.Atoi: parsing "1#2": invalid syntax',
    "* * * * mon *": 'Failed to parse int from mon: strconv.Atoi: parsing "mon": invalid syntax',
    "*/-3 * * * * *": "Negative number (-3) not allowed: -3",
    f"{2**63} * * * * *": f'Failed to parse int from {2**63}: strconv.Atoi: parsing "{2**63}": value out of range',
    "일 * * * * *": 'Failed to parse int from 일: strconv.Atoi: parsing "일": invalid syntax',
    "TZ=Asia/Seoul 0 0 3 * * *": "Expected 5 to 6 fields, found 7: TZ=Asia/Seoul 0 0 3 * * *",
    "CRON_TZ=U 0 3 * * *": 'Failed to parse int from CRON_TZ=U: strconv.Atoi: parsing "CRON_TZ=U": invalid syntax',
    "@often": "Unrecognized descriptor: @often",
    "@daily x": "Unrecognized descriptor: @daily x",
    "@every day": 'Failed to parse duration @every day: time: invalid duration "day"',
    "@every 5": 'Failed to parse duration @every 5: time: missing unit in duration "5"',
    "@every 5d": 'Failed to parse duration @every 5d: time: unknown unit "d" in duration "5d"',
    "@every ": 'Failed to parse duration @every : time: invalid duration ""',
    "@every 3000000h": 'Failed to parse duration @every 3000000h: time: invalid duration "3000000h"',
}
TAKEN = [
    "* * * * *",
    "0 0 4 * * *",
    "0 */5 0-23/2 1,15 jan-MAR mon-fri",
    "0 0 0 1 1 ?",
    "@daily",
    "@every 1h30m",
    "@every -1.5h",
    "5 4 3 2 1",
    "0 5/10 * * * 0-6/2",
    "007 +3 *-9 1,,2 * ?/3",
]


@pytest.mark.parametrize("expression", TAKEN)
def test_accepted_expressions(expression: str) -> None:
    """What KFP's library accepts is accepted."""
    assert read_cron(expression)
    assert not cron_fault(expression)


@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_refused(expression: str) -> None:
    """What KFP's library rejects is rejected with its message."""
    with pytest.raises(CronError) as caught:
        read_cron(expression)
    assert str(caught.value) == REFUSED[expression]


@pytest.mark.parametrize("expression", [*REFUSED, "0 0 0 30 2 *", "0 0 0 31 4,6 ?", ", * * * * *"])
def test_faults_come_with_an_example(expression: str) -> None:
    """The message about an invalid expression has a valid example, and no terms of Go."""
    fault = cron_fault(expression)
    assert "strconv" not in fault
    example = re.findall("'([^']+)'", fault)
    assert example
    for one in example:
        assert not cron_fault(one), one


def test_the_field_is_named() -> None:
    """A mistake in one field is reported with the field and its range."""
    assert "the day of the week is 0 to 6, or sun to sat" in cron_fault("0 0 4 * * 7")
    assert "times are UTC" in cron_fault("TZ=Asia/Seoul 0 0 3 * * *")
    assert not any(cron_fault(field.sample) for field in FIELDS)


def test_days_that_never_come() -> None:
    """A day that never comes is rejected; KFP 2.17.0 would start endless runs (`SpecSchedule.Next` returns year 1)."""
    assert "never comes" in cron_fault("0 0 0 30 2 *")
    assert not cron_fault("0 0 0 30 2 1")  # on Mondays of February
    assert not cron_fault("0 0 0 29 2 *")
    assert not cron_fault("0 0 0 31 */2 *")
