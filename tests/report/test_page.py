from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from astrid import schema
from astrid.report import ReportData, write_report
from astrid.report.page import render_report

from .conftest import fill, make_data, make_stamps, with_streak

VOID = {"meta", "img", "br", "link", "hr", "input"}
SVG_CHILDLESS = {"path", "circle", "polyline"}
HOSTILE = "<script>alert(1)</script>\"'&<img src=http://evil.example/x onerror=1>"


class Checker(HTMLParser):
    """Collects what a page refers to and insists that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}:
                self.references.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"


@pytest.fixture(scope="session")
def plain(data):
    """The same run without pictures."""
    return replace(data, best=(), worst=(), example=None)


def check(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert checker.tags.count("script") == 1
    assert checker.tags.count("style") == 1
    assert checker.handlers == []
    assert "nan" not in re.sub(r"<script>.*?</script>|data:[^\"]*", "", text, flags=re.S).lower().split()
    for reference in checker.references:
        assert reference.startswith(("data:image/png;base64,", "#")), reference
        assert not reference.startswith("#") or reference[1:] in checker.ids
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    for number in re.findall(r'(?:points|d|cx|cy|x|y)="([^"]*)"', text):
        assert "nan" not in number
        assert "inf" not in number
    return checker


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", text[text.index("<body>") :]).split())


def test_a_full_report_is_well_formed_and_refers_to_nothing_outside(data):
    checker = check(render_report(data))
    assert checker.tags.count("img") == 4 * (len(data.best) + len(data.worst) + 1) + 5 * len(data.streak_pictures)
    for section in ("headline", "metrics", "completeness", "gallery", "curves", "quality", "map", "ledger", "glossary"):
        assert section in checker.ids


def test_the_headline_states_the_numbers_with_their_intervals(data):
    text = words(render_report(data))
    for expected in ("95.3 %", "92.1 to 97.3 %", "90.2 %", "71.4 %", "S/N 5.4", "± 0.2", "0.09 to 0.33", "3.4 s"):
        assert expected in text
    assert "fixed before the run" in text
    assert "31 injections below S/N 5" in text


def test_what_failed_and_was_skipped_is_up_front_with_counts(plain):
    text = words(render_report(plain))
    head = text[: text.index("One row per subtraction")]
    assert "4 tasks failed and 4 tasks were skipped" in head
    assert re.search(r"4 failed in preprocess: registration: \d stars matched", head)
    assert "4 skipped in subtract: no science image" in head


def test_the_same_data_give_the_same_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        write_report(make_data(), tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_report_of_any_size_stays_below_five_megabytes(data, tmp_path):
    rng = np.random.default_rng(3)
    stamps = tuple(make_stamps(rng, title=f"s{k}", side=201) for k in range(14))
    many = data.candidates
    while many.num_rows < 5_000:
        many = pa.concat_tables([many, many])
    example = make_stamps(rng, title="wide", side=1100)
    large = replace(
        data,
        best=stamps,
        worst=stamps,
        example=example,
        streak_pictures=(with_streak(example),) * 2,
        candidates=many,
        configuration="a: 1\n" * 100_000,
    )
    write_report(large, tmp_path / "large.html")
    assert (tmp_path / "large.html").stat().st_size < 5_000_000
    assert check((tmp_path / "large.html").read_text()).tags.count("img") == 4 * 25 + 5 * 2


def test_hostile_text_is_shown_and_never_run(data):
    rng = np.random.default_rng(5)

    def poison(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()[:40]
        for row in rows:
            for name in table.column_names:
                if pa.types.is_string(table.schema.field(name).type) and name not in ("status",):
                    row[name] = HOSTILE
        return fill(table.schema, rows)

    tables = ("candidates", "objects", "streaks", "light_curves", "injections", "cells", "ledger")
    ledger = fill(schema.LEDGER, [{"step": "x", "status": "failed", "reason": "y"}])
    hostile = replace(
        data,
        name=HOSTILE,
        survey=HOSTILE,
        created=HOSTILE,
        metrics={"rows": [{k: HOSTILE if isinstance(v, str) else v for k, v in data.metrics["rows"][0].items()}]},
        completeness={HOSTILE: data.completeness["matched_filter"]},
        best=(make_stamps(rng, title=HOSTILE),),
        configuration=HOSTILE,
        versions={HOSTILE: HOSTILE},
        notes=(HOSTILE,),
        acknowledgement=HOSTILE,
        **{name: poison(ledger if name == "ledger" else getattr(data, name)) for name in tables},
    )
    text = render_report(hostile)
    check(text)
    assert "<script>alert" not in text
    assert "<img src=http" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_streaks_are_counted_listed_and_shown_and_without_any_there_is_no_section(data):
    text = render_report(data)
    assert "3 trails of satellites or aircraft in 2 images" in words(text)
    section = text[text.index('<section id="streaks">') : text.index('<section id="curves">')]
    assert "without streaks of" in section
    assert ">template<" in section
    none = render_report(replace(data, streaks=data.streaks.slice(0, 0), streak_pictures=()))
    assert 'id="streaks"' not in none


def test_flags_of_candidates_and_losses_of_injections_are_said_in_words(plain):
    said = words(render_report(plain))
    assert "on a streak, fading" in said
    assert "score high enough, but not the shape of a point source" in said
    assert "0.12 near stars" in said


def test_a_run_of_nothing_says_so(empty):
    text = render_report(empty)
    check(text)
    said = ["found no candidates", "Nothing was evaluated", "No image was processed", "The ledger is empty"]
    said += ["No candidate to show", "No false alarm to show", "no usable injections", "no light curve"]
    for sentence in said:
        assert sentence in words(text)


@pytest.mark.parametrize("name", ["candidates", "objects", "streaks", "light_curves", "injections", "cells", "ledger"])
def test_each_table_may_be_empty_alone(plain, name):
    check(render_report(replace(plain, **{name: getattr(plain, name).slice(0, 0)})))


@pytest.mark.parametrize("name", ["candidates", "objects", "streaks", "light_curves", "injections", "cells"])
@pytest.mark.parametrize("value", [None, float("nan")])
def test_missing_and_nan_numbers_leave_a_dash_and_no_nan(plain, name, value):
    table = getattr(plain, name)
    rows = table.to_pylist()[:30]
    for row in rows:
        for column in table.schema:
            if pa.types.is_floating(column.type):
                row[column.name] = value
    check(render_report(replace(plain, **{name: fill(table.schema, rows)})))


def test_metrics_without_numbers_read_as_not_measured(plain):
    row = dict.fromkeys(plain.metrics["rows"][0])
    row |= {"truth": "injections", "subtraction": "zogy", "detector": "matched_filter", "localization": float("nan")}
    text = render_report(replace(plain, metrics={"rows": [row], "notes": None}, completeness={"a": {"snr": []}}))
    check(text)
    assert "Recall could not be measured" in words(text)
    assert "Precision is not defined" in words(text)


def test_one_epoch_without_sky_positions_reads_well(data):
    cells = fill(schema.CELLS, [{"tile": 0, "epoch": 0, "band": "clear", "mjd": 60000.0, "seeing_fwhm": 3.0}])
    reason = "no template: 1 epoch"
    ledger = fill(schema.LEDGER, [{"step": "subtract", "key": "0/0/clear", "status": "skipped", "reason": reason}])
    point = {
        "object_id": "o",
        "tile": 0,
        "epoch": 0,
        "band": "clear",
        "mjd": 60000.0,
        "flux": 3.0,
        "is_detection": True,
    }
    one = ReportData(
        "one", "directory", "now", cells=cells, ledger=ledger,
        candidates=fill(schema.CANDIDATES, [{"candidate_id": "c", "tile": 0, "x": 4.0, "y": 5.0, "significance": 7.0}]),
        objects=fill(schema.OBJECTS, [{"object_id": "o", "tile": 0, "peak_significance": 7.0}]),
        light_curves=fill(schema.LIGHT_CURVES, [point]),
    )  # fmt: skip
    text = render_report(one)
    check(text)
    assert "1 task was skipped" in words(text)
    assert reason in words(text)
    assert "1 image, 1 tile, 1 epoch, 1 band" in words(text)


def test_stamps_of_nan_constants_and_no_data_are_drawn(data):
    blank = np.full((21, 21), np.nan, np.float32)
    flat = np.ones((21, 21), np.float32)
    gone = np.full((21, 21), schema.MaskBit.NO_DATA, np.uint16)
    base = make_stamps(np.random.default_rng(1), title="base", side=21)
    odd = (
        replace(base, science=blank, template=blank, difference=blank, significance=blank),
        replace(base, science=flat, template=flat, difference=flat, significance=flat),
        replace(base, mask=gone, pixel_scale=float("nan")),
        replace(base, caption=""),
    )
    checker = check(render_report(replace(data, best=odd, worst=(), example=odd[0])))
    assert checker.tags.count("img") == 4 * 5 + 5


def test_limits_are_triangles_and_only_where_nothing_was_detected(plain):
    rows = [r for r in plain.light_curves.to_pylist() if r["object_id"] == "obj0000"]
    one = replace(plain, objects=plain.objects.slice(0, 1), light_curves=fill(schema.LIGHT_CURVES, rows))
    text = render_report(one)
    assert text.count(": below ") == sum(not r["is_detection"] for r in rows)
    assert text.count("Jy, no detection<") == sum(not r["is_detection"] for r in rows)
    assert "first detection" in text


def test_cells_that_stand_out_are_named_and_others_are_not(plain):
    text = words(render_report(plain))
    assert "Seeing of tile 1, epoch 9, band g" in text
    assert "tile 0, epoch 9" not in text[text.index("What stands out") : text.index("Where candidates and")]
    quiet = fill(schema.CELLS, [r for r in plain.cells.to_pylist() if r["epoch"] != 9])
    assert "No image stands out" in words(render_report(replace(plain, cells=quiet)))


def test_an_injection_recovered_by_any_detector_counts_once_in_the_map(plain):
    base = {"tile": 0, "epoch": 0, "band": "r", "x": 5.0, "y": 6.0, "snr": 9.0, "injection_id": "i"}
    rows = [base | {"detector": "a", "recovered_by": None}, base | {"detector": "b", "recovered_by": "c1"}]
    one = replace(plain, injections=fill(schema.INJECTIONS, rows), candidates=plain.candidates.slice(0, 0))
    assert "1 of 1 injection recovered" in words(render_report(one))


def test_stamps_of_different_shapes_are_refused():
    base = make_stamps(np.random.default_rng(1), title="base", side=21)
    with pytest.raises(ValueError, match=r"template is \(20, 21\) but science is \(21, 21\)"):
        replace(base, template=base.template[:20])


def test_a_failed_write_leaves_the_old_report(data, tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_report(replace(data, configuration=3), path)  # type: ignore[arg-type]
    assert path.read_text() == "old"
