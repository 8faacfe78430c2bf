"""Everything a run is told, built and checked, and where its results go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from astrid.archives import Archive
from astrid.clusters import Cluster
from astrid.detection import Detector
from astrid.detection.crossmatch import MatchRule
from astrid.errors import UsageError
from astrid.imaging.coadd import TemplateRule
from astrid.imaging.preprocess import Preprocess
from astrid.schema import SCHEMA_VERSION
from astrid.simulation.injections import InjectionRecipe
from astrid.stores.cube import CubeStore
from astrid.stores.tables import read_json
from astrid.subtraction import Subtractor
from astrid.surveys import Survey
from astrid.surveys.events import read_events
from astrid.targets import Selection, Targets
from astrid.workflow.catalogues import CatalogueSource, NoCatalogues
from astrid.workflow.keys import digest
from astrid.workflow.truth import NONE, SURVEY

Keep = Literal["none", "stamps", "all"]


@dataclass(frozen=True)
class Grid:
    """How the sky is cut into tiles.

    Attributes
    ----------
    core : int, optional
        Largest side of a tile's core in pixels; the survey's own choice, else 1024.
    border : int
        Pixels added on each side; more where eight times the seeing is more.
    pixel_scale : float, optional
        Arcseconds per pixel; the survey's own by default.
    """

    core: int | None = None
    border: int = 32
    pixel_scale: float | None = None

    def __post_init__(self) -> None:
        if self.core is not None and self.core < 16:
            raise ValueError(f"grid.core must be at least 16 pixels, got {self.core}")
        if self.border < 0:
            raise ValueError(f"grid.border must not be negative, got {self.border}")
        if self.pixel_scale is not None and not self.pixel_scale > 0:
            raise ValueError(f"grid.pixel_scale must be positive, got {self.pixel_scale}")


@dataclass(frozen=True)
class Linking:
    """How candidates become objects.

    Attributes
    ----------
    radius_fwhm, radius_pixels : float
        Candidates within the larger of the two are one object.
    detection_sigma : float
        From how many sigma forced photometry is a detection and not a limit.
    """

    radius_fwhm: float = 0.75
    radius_pixels: float = 1.5
    detection_sigma: float = 5.0

    def __post_init__(self) -> None:
        for name in ("radius_fwhm", "radius_pixels", "detection_sigma"):
            if not getattr(self, name) > 0:
                raise ValueError(f"linking.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class Settings:
    """The built configuration of a run.

    Attributes
    ----------
    configuration : dict
        The plain values everything was built from, for the record and for hashes.
    yaml : str
        The same as the text of ``config.yaml``.
    root : Path
        Folder that holds ``runs/``, ``cubes/`` and ``exposures/``.
    archive : Archive
        Where surveys that fetch are to fetch from.
    selection : Selection
        Which targets and images of theirs are wanted.
    targets : Targets, optional
        Where surveys that fetch are to look.
    catalogues : CatalogueSource
        Which catalogues to ask about candidates and objects.
    crossmatch : MatchRule
        When a source lies at one.
    truth : str
        Known events the run is judged by: "known_events" (the survey's), "none", or the path of a table.
    """

    survey: Survey
    grid: Grid
    preprocess: Preprocess
    template: TemplateRule
    subtraction: Subtractor
    detection: Detector
    linking: Linking
    evaluation: InjectionRecipe
    cluster: Cluster
    store: Callable[..., CubeStore]
    keep: Keep
    name: str
    configuration: Mapping[str, Any]
    yaml: str = ""
    root: Path = field(default_factory=Path.cwd)
    truth: str = SURVEY
    archive: Archive = field(default_factory=lambda: Archive({}))
    selection: Selection = field(default_factory=Selection)
    targets: Targets | None = None
    catalogues: CatalogueSource = field(default_factory=NoCatalogues)
    crossmatch: MatchRule = field(default_factory=MatchRule)

    EVALUATION_TABLES: ClassVar[int] = 2  # what evaluation wrote before it had these is made anew
    SOURCE: ClassVar[str] = "source"
    OPTIONAL: ClassVar[tuple[str, ...]] = (SOURCE, "catalogues", "crossmatch")
    SCIENCE: ClassVar[tuple[str, ...]] = (
        "survey",
        "grid",
        "preprocess",
        "template",
        "subtraction",
        "detection",
        "linking",
        "evaluation",
        "store",
        "keep",
        "truth",
        *OPTIONAL,
    )

    def __post_init__(self) -> None:
        if self.keep not in ("none", "stamps", "all"):
            raise ValueError(f"keep must be none, stamps or all, got {self.keep!r}")
        if not self.name or Path(self.name).name != self.name:
            raise ValueError(f"name must be a plain folder name, got {self.name!r}")

    def part(self, *names: str) -> dict[str, Any]:
        """Return the named parts of the configuration; optional ones only where they are there."""
        there = (name for name in names if name not in self.OPTIONAL or name in self.configuration)
        return {name: self.configuration.get(name) for name in there}

    @cached_property
    def cube_key(self) -> str:
        """What identifies the cube: survey, targets, grid and preprocessing."""
        parts = self.part("survey", self.SOURCE, "grid", "preprocess", "store")
        return f"{self.survey.name}-{digest(SCHEMA_VERSION, parts)}"

    @cached_property
    def template_key(self) -> str:
        """What identifies the templates of a cube."""
        return f"{self.word('template')}-{digest(self.part('template'), length=6)}"

    @cached_property
    def difference_key(self) -> str:
        """What identifies the differences of a cube."""
        return f"{self.word('subtraction')}-{digest(self.part('template', 'subtraction', 'keep'), length=6)}"

    @cached_property
    def detection_key(self) -> str:
        """What identifies the candidates of a run."""
        return digest(self.cube_key, self.difference_key, self.part("detection", "linking", "keep"))

    @cached_property
    def crossmatch_key(self) -> str:
        """What identifies the catalogue matches of a run."""
        return digest(self.detection_key, self.part("catalogues", "crossmatch"))

    @cached_property
    def evaluation_key(self) -> str:
        """What identifies the metrics of a run."""
        events = self.user_events
        truth = self.truth if events is None else events.to_pylist()
        return digest(self.EVALUATION_TABLES, self.detection_key, self.part("evaluation"), truth)

    @cached_property
    def user_events(self) -> pa.Table | None:
        """The known events of the file that ``truth`` names; None where it names none.

        Raises
        ------
        DataError
            If the file cannot be used.
        """
        return None if self.truth in (SURVEY, NONE) else read_events(self.root / Path(self.truth).expanduser())

    def word(self, group: str) -> str:
        """Return the word that chose a plug-in: the module its class lives in."""
        target = str(self.configuration[group]["_target_"])
        return target.rsplit(".", 1)[-1].lower() if group == "template" else target.rsplit(".", 2)[-2]

    @property
    def run_folder(self) -> Path:
        """``runs/<name>``."""
        return self.root / "runs" / self.name

    @property
    def cube_folder(self) -> Path:
        """``cubes/<key>``: the cube and what was measured on the way to it."""
        return self.root / "cubes" / self.cube_key

    @property
    def exposure_folder(self) -> Path:
        """Where a survey that makes or fetches files keeps them."""
        return self.root / "exposures" / f"{self.survey.name}-{digest(self.part('survey', self.SOURCE))}"

    @property
    def cube_store(self) -> CubeStore:
        """The store of the cube, its templates and its differences."""
        return self.store(path=str(self.cube_folder / "cube"))

    @property
    def science(self) -> dict[str, Any]:
        """The configuration that decides the results (not the cluster, not the name)."""
        return self.part(*self.SCIENCE)


def choose_name(root: Path, wanted: str | None, default: str, science: Mapping[str, Any]) -> str:
    """Return the name of a run: the wanted one, or a default that no other configuration has.

    Raises
    ------
    UsageError
        If the wanted name belongs to another configuration.
    """

    def taken(name: str) -> bool:
        path = root / "runs" / name / "configuration.json"
        return path.exists() and read_json(path) != digest_of(science)

    if wanted:
        if taken(wanted):
            raise UsageError(
                f"runs/{wanted} was made with another configuration (runs/{wanted}/config.yaml); "
                "choose another name=..., or remove that folder"
            )
        return wanted
    number = 1
    name = default
    while taken(name):
        number += 1
        name = f"{default}-{number}"
    return name


def digest_of(science: Mapping[str, Any]) -> dict[str, str]:
    """Return what is kept beside a run to recognise its configuration."""
    return {group: digest(values, length=16) for group, values in science.items()}
