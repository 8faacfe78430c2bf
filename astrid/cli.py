"""The `astrid` command: Hydra composes, this module builds, the workflow does the rest."""

from __future__ import annotations

import difflib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from astrid.errors import AstridError, UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from astrid.workflow.settings import Settings

# before NumPy is imported: kernels use one thread each, on every cluster
PINNED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLOSC_NTHREADS")

HELP = """\
AstrID finds transients in astronomical imaging time series.

  astrid run                                   the embedded sample: two minutes, no network
  astrid run survey=directory survey.path=DIR  any folder of FITS images of one field
  astrid run --cfg                             print the configuration instead of running

Steps (each does what is missing before it, then itself):
  run         all of them
  ingest      list the exposures and number the epochs
  preprocess  register, calibrate and resample them into a cube
  subtract    make templates and differences
  detect      find candidates, link them, measure light curves
  evaluate    inject transients into the same pixels; precision, recall, false alarms
  report      write report.html
  train       a U-Net for detection.model=..., on simulated tiles and on the survey's own cells
  export      the network of detection=unet as an ONNX file: astrid export model=base file=base.onnx
  plan        count and size what a survey of an archive would fetch: astrid plan survey=ztf targets=RA,DEC
  cache       how much was fetched; astrid cache prune=DAYS deletes what is older
  status      what a run has done so far: astrid status NAME

Options are key=value, for example
  name=NAME               name of the run (default: survey + date); results in runs/NAME/
  subtraction=zogy|sfft|...     detection=matched_filter|unet
  template=coadd|provided       evaluation.snr_min=3
  cluster=local|inline|address  cluster.n_workers=2
  store=icechunk|zarr           keep=all|stamps|none
  catalogues=none|vizier|xmatch|local
                                what lies at candidates: from the archives, or catalogues.path=DIR of gaia.parquet...
  truth=FILE                    known events of your own: CSV, VOTable or Parquet with ra and dec
  targets=WHERE                 for surveys of archives: names, a table, "ra,dec,radius", "polygon(...)"
  debug=true              show the traceback of an error
  -m key=a,b              run once for each value

A second run does only what is missing. `astrid run --cfg` lists every option.
"""
WIDTH = 100  # columns of output that is not on a terminal
COMMANDS = (
    "run",
    "ingest",
    "preprocess",
    "subtract",
    "detect",
    "evaluate",
    "report",
    "train",
    "export",
    "status",
    "plan",
    "cache",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 if nothing failed, 1 if a key failed, 2 if nothing could be done."""
    for name in PINNED:
        os.environ.setdefault(name, "1")
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run_command(words))


def run_command(words: list[str]) -> int:
    """Do what the words say and return the exit code."""
    # tables keep their columns where the output goes into a file or a pipe
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    if not words or words[0] in ("-h", "--help", "help") or "--help" in words or "-h" in words:
        console.print(HELP, end="", markup=False)
        return 0
    if words[0] == "--version":
        from importlib.metadata import PackageNotFoundError, version

        try:
            console.print(f"astrid {version('astrid')}")
        except PackageNotFoundError:
            console.print("astrid (not installed)")
        return 0
    debug = any(re.fullmatch(r"\+*debug=(true|1|yes|on)", word, re.IGNORECASE) for word in words)
    try:
        return _dispatch(words[0], words[1:], console)
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on where it stopped", markup=False)
        return 130
    except (AstridError, ValueError, OSError) as error:
        if debug:
            traceback.print_exc()
        errors.print(f"astrid: {error}", markup=False, style="bold red")
        return 2


def _dispatch(command: str, words: list[str], console: Console) -> int:
    if command not in COMMANDS:
        raise UsageError(f"no command {command!r}{_nearest(command, COMMANDS)}; `astrid --help` lists them")
    if command == "status":
        from astrid.terminal import print_status

        return print_status(words, Path.cwd(), console)
    flags = [word for word in words if word.startswith("-")]
    overrides = [word for word in words if not word.startswith("-")]
    unknown = set(flags) - {"-m", "--multirun", "--cfg"}
    if unknown:
        raise UsageError(f"unknown option {sorted(unknown)[0]}; options are key=value, see `astrid --help`")
    for word in overrides:
        if "=" not in word:
            raise UsageError(f"{word!r} is not key=value; see `astrid --help`")
    if "-m" in flags or "--multirun" in flags:
        return _multirun(command, overrides, console)
    config = compose(command, overrides)
    if "--cfg" in flags:
        from omegaconf import OmegaConf

        console.print(OmegaConf.to_yaml(config, resolve=True), end="", markup=False)
        return 0
    if command == "cache":
        return _cache(config, console)
    if command == "train":
        return _train(config, console)
    if command == "export":
        return _export(config, console)
    if command == "plan":
        from astrid.terminal import print_plan

        return print_plan(build(config, command), console)
    return _run(command, config, console)


def config_folder() -> Path:
    """Return the folder of the configuration: inside an installed package, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "conf", here.parent / "conf"):
        if (folder / "run.yaml").is_file():
            return folder
    raise UsageError(f"the configuration folder conf/ is missing beside {here}; install astrid again")


def compose(command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of a command.

    Raises
    ------
    UsageError
        If an override names an option or a choice that does not exist.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    overrides = [_quoted(word) for word in overrides]
    with initialize_config_dir(str(config_folder()), version_base=None, job_name="astrid"):
        try:
            config = hydra_compose(command, list(overrides))
            _check_numbers(config, hydra_compose(command, [word for word in overrides if _chooses(word)]), overrides)
            return config
        except (HydraException, OmegaConfBaseException) as error:
            known = hydra_compose("run")
            raise UsageError(_explain(error, known)) from error


def _quoted(word: str) -> str:
    """Quote what targets= says: commas, spaces and brackets mean something else to Hydra."""
    key, equals, value = word.partition("=")
    if key.lstrip("+") != "targets" or not equals or value[:1] in ("'", '"') or value in ("", "null"):
        return word
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def _chooses(word: str) -> bool:
    """Say whether an override chooses a file of a group."""
    return (config_folder() / word.partition("=")[0].lstrip("+~")).is_dir()


def _check_numbers(config: DictConfig, default: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse text where the default is a number or a switch."""
    from omegaconf import OmegaConf

    for word in overrides:
        key = word.partition("=")[0].lstrip("+~")
        usual, given = (OmegaConf.select(one, key) for one in (default, config))
        if isinstance(usual, (bool, int, float)) and isinstance(given, str):
            kind = "true or false" if isinstance(usual, bool) else "a number"
            raise UsageError(f"{key} must be {kind}, got {given!r}; the default is {usual}")


def _explain(error: Exception, known: DictConfig) -> str:
    """Say in a line what is wrong with an override and what would be right."""
    from hydra.errors import OverrideParseException

    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be read: {str(error).splitlines()[0]}"
    text = str(error)
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
        text += "\n" + str(error)
    choice = re.search(r"(?:Could not (?:find|load|override).*?|In .*?: Could not find )'([\w/]+)/([\w.\-]+)'", text)
    if choice:
        group, word = choice.groups()
        folder = config_folder() / group
        if folder.is_dir():
            options = sorted(path.stem for path in folder.glob("*.yaml"))
            return f"no {group}={word}{_nearest(word, options)}; there are: {', '.join(options)}"
    missing = re.search(r"Key '(\S+)' is not in struct|Could not override '([^']+)'", text)
    if missing:
        full = re.search(r"full_key: (\S+)|Could not override '([^']+)'", text)
        key = next(g for g in (full.groups() if full else missing.groups()) if g)
        return f"no option {key!r}{_nearest(key, _keys(known))}; `astrid run --cfg` lists them"
    return text.strip().splitlines()[0]


def _keys(config: Any, prefix: str = "") -> list[str]:
    from omegaconf import DictConfig

    names = []
    for name in config:
        names.append(f"{prefix}{name}")
        value = config._get_node(name)
        if isinstance(value, DictConfig) and not value._is_none():
            names += _keys(value, f"{prefix}{name}.")
    return names


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def build(config: DictConfig, command: str = "run") -> Settings:
    """Build everything a configuration names.

    Raises
    ------
    UsageError
        If a part cannot be built from its values; the message names the part.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from astrid.imaging.coadd import Provided
    from astrid.ranking import Ranker
    from astrid.surveys import StampSurvey
    from astrid.surveys.fetched import FetchedSurvey
    from astrid.targets import parse_targets
    from astrid.workflow.ranked import RankedDetector
    from astrid.workflow.settings import Grid, Linking, Settings, choose_name

    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UsageError(f"{missing[0]} must be given: {missing[0]}=...; `astrid --help` shows an example")
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    plain["truth"] = str(plain["truth"] or "none")
    parts: dict[str, Any] = {}
    for group in (
        *(
            "survey",
            "archive",
            "selection",
            "preprocess",
            "template",
            "subtraction",
            "detection",
            "ranking",
            "evaluation",
        ),
        *("catalogues", "crossmatch", "cluster", "store"),
    ):
        parts[group] = _built(group, lambda group=group: instantiate(config[group], _convert_="all"))
    if isinstance(parts["survey"], StampSurvey):  # each alert brings its own template
        plain["template"] = {"_target_": f"{Provided.__module__}.{Provided.__qualname__}"}
        parts["template"] = Provided()
    ranker = parts.pop("ranking")
    if isinstance(ranker, Ranker):
        parts["detection"] = RankedDetector(parts["detection"], ranker)
        plain["detection"] = {**plain["detection"], "ranking": plain["ranking"]}
    for group, kind in (("grid", Grid), ("linking", Linking)):
        parts[group] = _built(group, lambda group=group, kind=kind: kind(**plain[group]))
    if isinstance(parts["survey"], FetchedSurvey):
        if plain["targets"] is None:
            raise UsageError(
                f'survey={parts["survey"].name} needs targets=...: names, a table, "ra,dec,radius" or "polygon(...)"'
            )
        parts["targets"] = parse_targets(plain["targets"], root=Path.cwd(), resolve=_resolver(parts["archive"]))
        plain["source"] = {
            "targets": parts["targets"].as_rows(),
            "selection": plain["selection"],
            "base_url": parts["archive"].base_url,
        }
    elif plain["targets"] is not None:
        raise UsageError(
            f"targets={plain['targets']} is for surveys of archives; survey={parts['survey'].name} is none"
        )
    if not parts["catalogues"].names:  # nobody is asked: how does not matter
        del plain["catalogues"], plain["crossmatch"]
    science = {name: plain[name] for name in Settings.SCIENCE if name in plain}
    default = f"{plain.get('experiment_name') or parts['survey'].name}-{date.today().isoformat()}"
    name = choose_name(Path.cwd(), plain["name"], default, science)
    return Settings(
        **parts,
        keep=plain["keep"],
        truth=plain["truth"],
        name=name,
        configuration=plain,
        yaml=OmegaConf.to_yaml(config, resolve=True),
        root=Path.cwd(),
    )


def _resolver(archive: Any) -> Callable[[str], tuple[float, float] | None]:
    """Return what asks the name service, once for each name."""
    from astrid.archives import ArchiveError, Fetcher
    from astrid.archives.sesame import resolve

    def ask(name: str) -> tuple[float, float] | None:
        try:
            return resolve(Fetcher(archive), name)
        except ArchiveError as error:
            raise UsageError(
                f"targets: no object {name!r} in catalogs/pilot_fields.csv or pilot_events.csv, and the name service "
                f"could not be asked: {error}; or give its position, like 210.8,+54.3"
            ) from error

    return ask


def _built(group: str, make: Any) -> Any:
    from hydra.errors import HydraException

    try:
        return make()
    except (HydraException, TypeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, AstridError):
            raise cause from error
        raise UsageError(f"{group}: {str(cause).splitlines()[0]}") from error


def _run(command: str, config: DictConfig, console: Console) -> int:
    from astrid.terminal import TerminalProgress, print_results
    from astrid.workflow.pipeline import STEPS, execute

    warnings.filterwarnings("ignore", module=r"distributed|dask")
    settings = build(config, command)
    until = STEPS[-1] if command == "run" else command
    with TerminalProgress(console) as progress:
        progress.note(f"run {settings.name}: survey {settings.survey.name}, {settings.cluster.name} cluster")
        failures = execute(settings, until, progress)
    return print_results(settings.run_folder, until, failures, console)


def _train(config: DictConfig, console: Console) -> int:
    from hydra.utils import instantiate
    from omegaconf import open_dict

    from astrid.terminal import TerminalProgress

    warnings.filterwarnings("ignore", module=r"distributed|dask")
    training = _built("training", lambda: instantiate(config.training, _convert_="all"))
    if config.name is None:
        with open_dict(config):
            config.name = f"training-{date.today().isoformat()}"
    settings = build(config, "train")
    from astrid.workflow.train import train_network

    with TerminalProgress(console) as progress:
        return 1 if train_network(settings, training, progress) else 0


def _export(config: DictConfig, console: Console) -> int:
    """Write a network as an ONNX file and say where."""
    from astrid.detection.unet.export import export

    model = str(config.model)
    path = export(model, Path(config.file or f"{Path(model).stem}.onnx"))
    console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", markup=False, soft_wrap=True)
    return 0


def _cache(config: DictConfig, console: Console) -> int:
    """Print what the cache holds, after deleting what was asked for."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from astrid.archives.cache import Cache
    from astrid.terminal import print_cache

    archive = _built("archive", lambda: instantiate(config.archive, _convert_="all"))
    prune, service = config.prune, config.service
    if isinstance(prune, bool) or not (prune is None or prune == "stale" or isinstance(prune, int | float)):
        raise UsageError(f"prune must be a number of days or stale, got {prune!r}; prune=0 deletes everything")
    if isinstance(prune, int | float) and prune < 0:
        raise UsageError(f"prune must not be negative, got {prune}")
    if service is not None and service not in archive.services:
        raise UsageError(f"no service {service!r}; there are {', '.join(sorted(archive.services))}")
    cache = Cache(archive.folder)
    if prune is not None or service is not None:
        if prune is None:
            raise UsageError(f"service={service} says where to delete; say how much with prune=DAYS")
        days = None if prune == "stale" else float(OmegaConf.to_container(config)["prune"])  # type: ignore[index,call-overload]
        files, size = cache.prune(older_than_days=days, service=service if days is not None else None)
        console.print(f"deleted {files} files, {size / 1e6:.1f} MB", markup=False)
    return print_cache(cache, console)


def _multirun(command: str, overrides: list[str], console: Console) -> int:
    """Run once for each combination of the values, through Hydra's launcher."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    codes: list[int] = []

    def job(config: DictConfig) -> None:
        dirname = HydraConfig.get().job.override_dirname or "defaults"
        number = HydraConfig.get().job.num
        with open_dict(config):
            label = re.sub(r"[^\w.=,+-]", "_", dirname)
            config.name = f"{config.name or 'sweep'}-{number}-{label}"[:120]
        console.print(f"job {number}: {dirname}", markup=False)
        try:
            codes.append(_train(config, console) if command == "train" else _run(command, config, console))
        except (AstridError, ValueError, OSError) as error:
            console.print(f"job {number} failed: {error}", markup=False, style="bold red")
            codes.append(2)

    compose(command, _first_values(command, overrides))  # a typo fails before the first job
    saved = sys.argv
    sys.argv = ["astrid", "-m", *overrides, "hydra.sweep.dir=runs"]  # where Hydra notes the values
    try:
        hydra.main(version_base=None, config_path=str(config_folder()), config_name=command)(job)()
    finally:
        sys.argv = saved
    return max(codes, default=2)


def _first_values(command: str, overrides: Sequence[str]) -> list[str]:
    """Return the overrides of the first job of a multirun."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UsageError(_explain(error, compose(command, []))) from error
    return [
        f"{one.get_key_element()}={next(iter(one.sweep_string_iterator()))}" if one.is_sweep_override() else word
        for one, word in zip(parsed, overrides, strict=True)
    ]


if __name__ == "__main__":
    main()
