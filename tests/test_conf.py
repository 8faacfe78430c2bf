import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

CONF = Path(__file__).resolve().parents[1] / "conf"
COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml"))
CHOICES = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem)
    for path in CONF.glob("*/**/*.yaml")
    if not path.relative_to(CONF).as_posix().startswith("hydra/")
)
BUILDABLE = [(group, name) for group, name in CHOICES if "_target_" in OmegaConf.load(CONF / group / f"{name}.yaml")]

# Keys that a user must give (`???` in the file), and what one could type.
GIVEN = {
    "cluster.address": "tcp://127.0.0.1:8786",
    "survey.path": "{tmp_path}/images",
    "catalogues.path": "{tmp_path}/images",
    "archive.base_url": "http://127.0.0.1:8899",
    "base_url": "http://127.0.0.1:8899",
}


def groups_of(command: str) -> set[str]:
    """The groups that a command's file chooses from."""
    groups = set()
    for entry in OmegaConf.load(CONF / f"{command}.yaml").get("defaults", []):
        if isinstance(entry, DictConfig):
            groups |= {str(key).removeprefix("override ").removeprefix("optional ").lstrip("/") for key in entry}
    return groups


def compose_choice(group: str, name: str) -> DictConfig:
    """Compose a choice within the first command that offers it, by itself where none does."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for command in sorted(COMMANDS, key=lambda command: command != "run"):
            if group in groups_of(command):
                return compose(command, overrides=[f"{group}={name}"])
        if group == "experiment" and "run" in COMMANDS:
            return compose("run", overrides=[f"+{group}={name}"])
        return compose(f"{group}/{name}")


def targets(node: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Find the outermost mappings that name a class or function."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield key, node
            return
        for name in node:
            if not OmegaConf.is_missing(node, name):
                yield from targets(node[name], f"{key}.{name}".lstrip("."))
    elif isinstance(node, ListConfig):
        for number, item in enumerate(node):
            yield from targets(item, f"{key}[{number}]")


def fill_missing(config: DictConfig, tmp_path: Path) -> DictConfig:
    """Fill what a user must give."""
    (tmp_path / "images").mkdir()
    for key in OmegaConf.missing_keys(config):
        assert key in GIVEN, f"{key} must be given (???): say in GIVEN of tests/test_conf.py what one could type"
        OmegaConf.update(config, key, GIVEN[key].format(tmp_path=tmp_path))
    return config


def build(node: DictConfig) -> Any:
    """Build what a mapping names; of a partial, check that the keys it binds are there to be bound."""
    built = instantiate(node, _convert_="all")
    if isinstance(built, partial):
        inspect.signature(built)
    return built


def build_all(config: DictConfig) -> dict[str, Any]:
    """Build whatever the configuration names."""
    return {key: build(node) for key, node in targets(config)}


def test_there_is_something_to_build():
    assert CHOICES


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_and_builds(command, tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command)
    for key, built in build_all(fill_missing(config, tmp_path)).items():
        assert built is not None, key


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_builds(group, name, tmp_path):
    config = fill_missing(compose_choice(group, name), tmp_path)
    built = build_all(config)
    for key, thing in built.items():
        assert thing is not None, key
    own = OmegaConf.load(CONF / group / f"{name}.yaml")
    if "_target_" in own:
        node = OmegaConf.select(config, group.replace("/", "."))
        assert node._target_ == own._target_
        assert group.replace("/", ".") in built


@pytest.mark.parametrize(("group", "name"), BUILDABLE)
def test_a_misspelt_key_is_refused(group, name, tmp_path):
    config = fill_missing(compose_choice(group, name), tmp_path)
    node = OmegaConf.select(config, group.replace("/", "."))
    OmegaConf.set_struct(node, False)
    node.no_such_setting = 1
    with pytest.raises((InstantiationException, ValueError), match="no_such_setting"):
        build(node)
