from benchmarks.live_check.__main__ import main
from tests.archives.emulator.irsa import START_MJD
from tests.archives.emulator.sky import Sky


def said(emulator, base_url=None):
    _, ra, dec = Sky().centres[0]
    place = [f"--target={ra},{dec}", f"--mjd={START_MJD - 1},{START_MJD + 20}"]
    return [*place, f"--base-url={base_url or emulator.url}"]


def test_every_fact_holds_for_the_emulator(emulator, capsys):
    """Else the emulator is not what the clients were written for."""
    assert main(said(emulator)) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert "DOES NOT HOLD" not in out
    assert out.count("holds:") >= 10


def test_a_fact_that_does_not_hold_is_told(emulator, capsys):
    assert main(said(emulator, emulator.fault("404@daopsf", "live"))) == 1
    out = capsys.readouterr().out
    assert "DOES NOT HOLD: the PSF" in out
    assert "status 404" in out
    assert "1 facts do not hold" in out
