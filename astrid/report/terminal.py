"""The metrics as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from astrid.report.summary import metric_rows
from astrid.report.wording import ABSENT, fixed, interval, number, per_cent, threshold_note, truth_name


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Make the table of metrics that a run prints at its end, fit for 100 columns.

    Parameters
    ----------
    metrics : mapping
        The content of ``metrics.json``.

    Returns
    -------
    rich.table.Table
        One row per row of the metrics, with intervals below precision and recall.
    """
    rows = metric_rows(metrics)
    table = Table(padding=(0, 1, 0, 0), pad_edge=False, box=None, header_style="bold", title_justify="left")
    for title, width in (("Subtraction", 11), ("Detector", 14), ("Truth", 10)):
        table.add_column(title, overflow="fold", min_width=width, max_width=width)
    for title, width in (
        ("Precision", 9),
        ("Recall", 9),
        ("Localization", 12),
        ("False\nalarms\n/image", 6),
        ("Seconds\n/image", 7),
    ):
        table.add_column(title, justify="right", no_wrap=True, min_width=width)
    table.add_column("Threshold note", overflow="fold", min_width=12)
    for row in rows:
        localization = fixed(row.get("localization"), 1)
        table.add_row(
            _plain(row.get("subtraction")),
            _plain(str(row.get("detector") or "").replace("+", " + ")),
            _plain(truth_name(row)),
            _with_interval(row, "precision"),
            _with_interval(row, "recall"),
            localization if localization == ABSENT else f"{localization} %",
            number(row.get("false_alarms_per_image"), 2),
            number(row.get("seconds_per_image"), 2),
            _plain(threshold_note(row)),
        )
    if not rows:
        table.caption = "Nothing was evaluated."
    return table


def _plain(value: Any) -> Text:
    """Return text that rich does not read as markup."""
    return Text(str(value) if value not in (None, "") else ABSENT)


def _with_interval(row: Mapping[str, Any], key: str) -> Text:
    text = Text(per_cent(row.get(key)))
    bounds = interval(row.get(f"{key}_ci"), 100, 0)
    if bounds:
        text.append(f"\n{bounds}", style="dim")
    return text
