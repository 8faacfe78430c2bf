import os
import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    """The wheel of the source tree as it is."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_configuration_and_the_catalogues(repository, wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("conf", "catalogs"):
        files = {path.relative_to(repository).as_posix() for path in (repository / folder).rglob("*.yaml")}
        assert files, f"{folder}/ holds no YAML file"
        assert {f"astrid/{file}" for file in files} <= packed
    assert "astrid/py.typed" in packed
    assert {name.split("/")[0] for name in packed} == {"astrid", "astrid-0.1.0.dist-info"}


@pytest.mark.slow
def test_the_installed_wheel_knows_its_commands(wheel, tmp_path):
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*pip, str(wheel)], check=True)
    environment = os.environ | {"PYTHONPATH": str(installed)}
    where = [sys.executable, "-c", "import astrid; print(astrid.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, check=True, capture_output=True, text=True)
    assert found.stdout.startswith(str(installed))
    astrid = [str(installed / "bin" / "astrid"), "--help"]
    shown = subprocess.run(astrid, cwd=elsewhere, env=environment, check=False, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for command in ("run", "ingest", "preprocess", "subtract", "detect", "evaluate", "report"):
        assert command in shown.stdout
