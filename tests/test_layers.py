import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

RUN_LINTER = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the linter changes the import path."""
    return subprocess.run([sys.executable, "-c", RUN_LINTER], cwd=folder, capture_output=True, text=True, check=False)


def test_every_module_imports_only_from_layers_below_its_own(repository):
    done = lint_imports(repository)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_from_above_are_reported(repository, tmp_path):
    shutil.copy(repository / "pyproject.toml", tmp_path)
    shutil.copytree(repository / "astrid", tmp_path / "astrid", ignore=shutil.ignore_patterns("__pycache__"))
    wrong = {
        "imaging.upward": "from astrid.stores import __doc__",
        "subtraction.sideways": "from astrid.detection import base",
        "stores.sideways": "from astrid.surveys import base",
        "archives.upward": "from astrid.surveys import base",
        "imaging.scheduling": "import dask.array",
        "detection.storing": "import xarray",
        "workflow.configuring": "import hydra",
    }
    for name, line in wrong.items():
        (tmp_path / "astrid" / name.replace(".", "/")).with_suffix(".py").write_text(line + "\n")
    (tmp_path / "astrid" / "layerless.py").touch()
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    for name in (*wrong, "layerless"):
        assert f"- astrid.{name}" in done.stdout.replace("-   ", "- "), f"{name} was not reported:\n{done.stdout}"


def test_no_layer_is_left_out_of_the_forbidden_imports(repository):
    settings = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers, algorithms, hydra = settings["contracts"]
    names = [
        {word.strip("()") for word in layer.replace(":", "|").replace(" ", "").split("|")} for layer in layers["layers"]
    ]
    existing = {path.stem for path in (repository / "astrid").iterdir() if path.suffix in ("", ".py")}
    stores = next(number for number, layer in enumerate(names) if "stores" in layer)
    below_stores = set().union(*names[stores + 1 :]) & existing
    assert {name.removeprefix("astrid.") for name in algorithms["source_modules"]} == below_stores
    below_cli = set().union(*names[1 : stores + 1]) & existing
    assert {name.removeprefix("astrid.") for name in hydra["source_modules"]} == below_cli
