import time

import pytest

from tests.workflow.conftest import assert_same_results, kill, night

MOMENTS = 10


def wait_for(process, sign, seconds=120.0):
    """Wait until a sign of work appears in the files of a run; False if the run ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if sign():
            return True
        if process.poll() is not None:
            return bool(sign())
        time.sleep(0.02)
    raise AssertionError("the sign did not come")


def batches(place, journal, step_files):
    """Count the batches of a journal's table: each is a commit that was recorded."""
    return len(list(place.folder.glob(f"{journal}/batch-*/{step_files}.parquet")))


def go_on(place, undisturbed, *words):
    """Start the run again and compare with the undisturbed one."""
    ended = place("run", *night("killed", *words))
    assert ended.code == 0, ended.out + ended.err
    assert_same_results(place.run("killed"), undisturbed.run("night"))
    return ended


def test_killed_while_it_fills_the_cube(place, undisturbed):
    process = place.start("run", *night("killed"))
    try:
        # measured: two batches of two; then the first batch of cells is committed
        assert wait_for(process, lambda: batches(place, "cubes/*/journal", "ledger") >= 4)
    finally:
        kill(process)
    assert not (place.run("killed") / "candidates.parquet").exists()
    ended = go_on(place, undisturbed)
    assert "measure: 4 done before" in ended.out


def test_killed_with_its_workers_while_it_searches(place, undisturbed):
    process = place.start("run", *night("killed", "cluster.n_workers=1", cluster="local"))
    try:
        assert wait_for(process, lambda: batches(place, "runs/killed/journal/detect-*", "candidates") >= 1)
    finally:
        kill(process)
    assert not (place.run("killed") / "metrics.json").exists()
    ended = go_on(place, undisturbed)
    assert "subtract: 4 done before" in ended.out


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_any_moment(place, undisturbed, duration, moment):
    process = place.start("run", *night("killed"))
    time.sleep(duration * (moment + 0.5) / MOMENTS)
    kill(process)
    go_on(place, undisturbed)


@pytest.fixture(scope="module")
def duration(tmp_path_factory):
    """Seconds that an undisturbed run takes in a process of its own."""
    from tests.workflow.conftest import Place

    started = time.monotonic()
    process = Place(tmp_path_factory.mktemp("timed")).start("run", *night("timed"))
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return time.monotonic() - started


def test_two_runs_at_once_do_not_mix(place):
    process = place.start("run", *night("first"))
    try:
        assert wait_for(process, lambda: batches(place, "cubes/*/journal", "ledger") >= 1)
        ended = place("run", *night("second"))
    finally:
        kill(process)
    assert ended.code == 2
    assert "another astrid run is using" in ended.err
