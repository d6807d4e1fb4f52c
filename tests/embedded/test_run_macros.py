"""Macros in parameters, as KFP's API server replaces them (backend/src/common/util/parameter_formatter_test.go)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from kfadapter_embedded.run_macros import without_macros

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
SCHEDULED, NOW = EPOCH + timedelta(seconds=25), EPOCH + timedelta(seconds=26)
LATER = datetime(2021, 1, 2, 15, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("FOO [[RunUUID]] FOO", "FOO some-run-uuid FOO"),
        ("FOO [[ScheduledTime]] FOO", "FOO 19700101000025 FOO"),
        ("FOO [[CurrentTime]] FOO", "FOO 19700101000026 FOO"),
        ("FOO [[Index]] FOO", "FOO [[Index]] FOO"),
        ("FOO [[ScheduledTime.15-04-05]] FOO", "FOO 00-00-25 FOO"),
        ("FOO [[CurrentTime.15-04-05]] FOO", "FOO 00-00-26 FOO"),
        ("[[ScheduledTime]] [[RunUUID]] [[ScheduledTime]]", "19700101000025 some-run-uuid 19700101000025"),
        ("FOO FOO FOO", "FOO FOO FOO"),
        ("", ""),
        ("FOO {{$.scheduledTime.strftime('%Y-%m-%d %H:%M:%S')}} FOO", "FOO 1970-01-01 00:00:25 FOO"),
        ("FOO {{$.currentTime.strftime('%Y-%m-%d %H:%M:%S')}} FOO", "FOO 1970-01-01 00:00:26 FOO"),
        ("{{$.scheduledTime.strftime('%s')}}", "25"),
        ("{{$.currentTime.strftime('%Q')}}", "{{$.currentTime.strftime('%Q')}}"),
        ("[[UnknownExpression]] {{$.inputs}} [[]]", "[[UnknownExpression]] {{$.inputs}} [[]]"),
    ],
)
def test_macros(text: str, replaced: str) -> None:
    """Each macro is replaced by its value; others are unchanged."""
    assert without_macros(text, "some-run-uuid", NOW, SCHEDULED) == replaced


def test_without_a_scheduled_time() -> None:
    """A run that is not scheduled keeps macros of its scheduled time (TestNewRunParameterFormatter)."""
    text = "sched-[[ScheduledTime]] {{$.scheduledTime.strftime('%s')}}"
    assert without_macros(text, "r", NOW, None) == text


@pytest.mark.parametrize(
    ("layout", "written"),
    [
        ("2006-01-02", "2021-01-02"),
        ("Monday, 2 January 2006", "Saturday, 2 January 2021"),
        ("Mon Jan _2 15:04:05 MST 2006", "Sat Jan  2 15:04:05 UTC 2021"),
        ("06/1/2 3:4:5PM", "21/1/2 3:4:5PM"),
        ("03:04:05 pm", "03:04:05 pm"),
        ("002 __2", "002   2"),
        ("2006-01-02T15:04:05Z07:00", "2021-01-02T15:04:05Z"),
        ("15:04:05.000 -0700", "15:04:05.000 +0000"),
        ("15:04:05.999 -07:00 -07 Z0700", "15:04:05 +00:00 +00 Z"),
        ("January Janet Month", "January Janet Month"),
        ("_2006 2 02", "_2021 2 02"),
        ("year 2006, 일", "year 2021, 일"),
    ],
)
def test_layouts(layout: str, written: str) -> None:
    """Layouts are Go's: the expected texts were written by its time.Format."""
    assert without_macros(f"[[CurrentTime.{layout}]]", "r", LATER, None) == written
