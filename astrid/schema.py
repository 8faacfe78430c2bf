"""Names, dimensions, dtypes and units of everything AstrID stores.

This is the only place that spells them; stores check against it when writing
and when opening.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import pyarrow as pa

SCHEMA_VERSION = 3


class MaskBit(IntFlag):
    """Bits of ``mask``; zero means good."""

    NO_DATA = 1  # outside the exposure, or not finite
    BAD = 2  # bad pixel of the detector
    SATURATED = 4  # at or above saturation, or bled into
    COSMIC_RAY = 8  # hit by a cosmic ray
    TEMPLATE = 16  # unusable in the template
    NEIGHBOUR = 32  # the score rests on masked pixels for too large a part
    STREAK = 64  # in the trail of a satellite or an aircraft; the sky is there too


class CandidateFlag(IntFlag):
    """Bits of ``flags``: why a candidate may be an artefact. None is deleted for a flag.

    W is the FWHM of the difference; `astrid.detection.flags` decides.
    """

    STREAK = 1  # on the trail of a satellite or an aircraft
    COSMIC_RAY = 2  # pixels hit by a cosmic ray within W
    BAD_PIXEL = 4  # hot, dead or otherwise bad pixels within W
    HALO = 8  # in the halo of a saturated or very bright star
    EDGE = 16  # within 2 W of where one image has no data
    TEMPLATE_HOLE = 32  # pixels that the template lacks within W
    DIPOLE = 64  # as much light of the other sign beside it
    FADING = 128  # negative: fainter than in the template
    SATURATED = 256  # saturated pixels within 2 W
    GHOST = 512  # on a broad, even patch of light that the other image lacks: a reflection
    GLINT = 1024  # one of several in a row: flashes of a satellite or debris


CELL_DIMS = ("tile", "epoch", "band")
PIXEL_DIMS = ("y", "x")
PSF_DIMS = ("py", "px")
TERM_DIMS = ("pterm", *PSF_DIMS)
N_FIELD_TERMS = 5  # polynomials by which a PSF varies over the tile


@dataclass(frozen=True)
class Variable:
    """One stored array: its dimensions, dtype, unit and meaning.

    ``unit`` may hold ``{flux}``, replaced by the flux unit of the cube.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    unit: str
    description: str

    @property
    def is_per_pixel(self) -> bool:
        """Whether a cell of it is an array (one chunk) and not one number."""
        return len(self.dims) > len(CELL_DIMS) or "y" in self.dims


def _pixels(name: str, dtype: str, unit: str, description: str, dims: tuple[str, ...] = CELL_DIMS) -> Variable:
    return Variable(name, dims + PIXEL_DIMS, dtype, unit, description)


def _number(name: str, dtype: str, unit: str, description: str, dims: tuple[str, ...] = CELL_DIMS) -> Variable:
    return Variable(name, dims, dtype, unit, description)


CUBE = (
    _pixels("flux", "float32", "{flux}", "background-subtracted flux per pixel"),
    _pixels("variance", "float32", "{flux}2", "white-equivalent variance of flux"),
    _pixels("mask", "uint16", "1", "what is wrong with a pixel; zero is good"),
    Variable("psf", CELL_DIMS + PSF_DIMS, "float32", "1", "point-spread function, mean over the tile"),
    Variable(
        "psf_terms", CELL_DIMS + TERM_DIMS, "float32", "1", "what psf changes by with each polynomial of the place"
    ),
    _number("mjd", "float64", "d", "time of mid-exposure, MJD (UTC)"),
    _number("exposure_time", "float64", "s", "exposure time"),
    _number("zero_point", "float64", "mag", "AB magnitude of one flux unit; NaN where unknown"),
    _number("seeing_fwhm", "float64", "pixel", "full width at half maximum of the PSF on the tile"),
    _number("background", "float64", "{flux}", "median background that was subtracted"),
    _number("background_rms", "float64", "{flux}", "white-equivalent noise of one pixel of background"),
    _number("noise_correlation", "float64", "1", "PSF-filtered noise over what variance predicts"),
    _number("astrometric_rms", "float64", "pixel", "registration error per axis on held-out stars"),
    _number("flux_scale", "float64", "1", "factor applied to match the reference exposure"),
    _number("flux_scale_error", "float64", "1", "relative error of flux_scale"),
    _number("coverage", "float64", "1", "fraction of the tile with good pixels"),
    _number("n_stars", "int32", "1", "stars used for the registration"),
    _number("exposure_id", "str", "", "the exposure this cell was made from"),
    _number("psf_origin", "str", "", "where the PSF came from"),
    _number("psf_error", "float64", "1", "what the PSF leaves of held-out stars beyond the noise, rms over their own"),
    _number("psf_chi2", "float64", "1", "median reduced chi-squared of held-out stars"),
)

TEMPLATE_DIMS = ("tile", "band")
TEMPLATE = (
    _pixels("flux", "float32", "{flux}", "coadded flux per pixel", TEMPLATE_DIMS),
    _pixels("variance", "float32", "{flux}2", "white-equivalent variance of flux", TEMPLATE_DIMS),
    _pixels("mask", "uint16", "1", "what is wrong with a pixel; zero is good", TEMPLATE_DIMS),
    Variable("psf", TEMPLATE_DIMS + PSF_DIMS, "float32", "1", "point-spread function of the coadd"),
    _pixels("center", "float32", "{flux}", "the mean that outlying pixels were judged by", TEMPLATE_DIMS),
    _pixels("weight_sum", "float32", "{flux}-2", "sum of weights", TEMPLATE_DIMS),
    _pixels("weight2_variance_sum", "float32", "{flux}-2", "sum of squared weights times variance", TEMPLATE_DIMS),
    _number("noise_correlation", "float64", "1", "PSF-filtered noise over what variance predicts", TEMPLATE_DIMS),
    _number("astrometric_rms", "float64", "pixel", "registration error per axis", TEMPLATE_DIMS),
    _number("seeing_fwhm", "float64", "pixel", "full width at half maximum of the PSF", TEMPLATE_DIMS),
    _number("weights", "str", "", "JSON object: weight of each epoch that went in", TEMPLATE_DIMS),
)

DIFFERENCE = (
    _pixels("flux", "float32", "{flux}", "difference flux per pixel"),
    _pixels("variance", "float32", "{flux}2", "white-equivalent variance of flux"),
    _pixels("mask", "uint16", "1", "bits of science and template"),
    _pixels("significance", "float32", "1", "signed detection score"),
    Variable("psf", CELL_DIMS + PSF_DIMS, "float32", "1", "point-spread function of the difference"),
    _number("template_id", "str", "", "the template that was subtracted"),
    _number("score_width", "float64", "1", "robust standard deviation of the score, sources included"),
    _number("noise_correction", "float64", "1", "measured width of the score off sources, already divided out"),
    _number("depth_flux", "float64", "{flux}", "median flux of a point source at five sigma"),
)


_Column = tuple[str, pa.DataType, str]


def _table(*columns: _Column, meaning: str, optional: tuple[_Column, ...] = ()) -> pa.Schema:
    fields = [pa.field(name, kind, metadata={"unit": unit}) for name, kind, unit in columns]
    fields += [pa.field(name, kind, metadata={"unit": unit, "optional": "yes"}) for name, kind, unit in optional]
    return pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION), "meaning": meaning})


_F, _I, _S, _B = pa.float64(), pa.int32(), pa.string(), pa.bool_()

_CELL_COLUMNS = (("tile", _I, ""), ("epoch", _I, ""), ("band", _S, ""))


def is_optional(column: pa.Field) -> bool:
    """Return whether a table may lack a column, which then is null."""
    return (column.metadata or {}).get(b"optional") == b"yes"


MATCH_COLUMNS: tuple[_Column, ...] = (
    ("origin", _S, ""),  # star, galaxy nucleus, galaxy offset, hostless, solar system; null where nobody could tell
    ("match_status", _S, ""),  # JSON: of each catalogue, not asked, failed, empty, matched or no match
    *(
        (f"{kind}_{name}", column, unit)
        for kind, names in (
            ("star", "id catalogue separation sigma chance magnitude colour"),
            ("galaxy", "id catalogue separation sigma chance light_radii magnitude colour redshift"),
            ("variable", "id catalogue separation sigma magnitude"),
            ("agn", "id catalogue separation sigma magnitude"),
            ("asteroid", "id catalogue separation sigma magnitude"),
        )
        for name, column, unit in (
            ("id", _S, ""),
            ("catalogue", _S, ""),
            ("separation", _F, "arcsec"),
            ("sigma", _F, "1"),  # separation over the combined error
            ("chance", _F, "1"),  # of such a neighbour
            ("light_radii", _F, "1"),  # separation over the light radius of the galaxy in that direction
            ("magnitude", _F, "mag"),
            ("colour", _F, "mag"),
            ("redshift", _F, "1"),
        )
        if name in names.split()
    ),
)

CANDIDATES = _table(
    ("candidate_id", _S, ""),
    ("object_id", _S, ""),
    *_CELL_COLUMNS,
    ("mjd", _F, "d"),
    ("ra", _F, "deg"),
    ("dec", _F, "deg"),
    ("ra_error", _F, "arcsec"),
    ("dec_error", _F, "arcsec"),
    ("y", _F, "pixel"),
    ("x", _F, "pixel"),
    ("y_error", _F, "pixel"),
    ("x_error", _F, "pixel"),
    ("flux", _F, "flux_unit"),
    ("flux_error", _F, "flux_unit"),
    ("flux_unit", _S, ""),
    ("significance", _F, "1"),
    ("is_negative", _B, ""),
    ("score", _F, "1"),
    ("subtraction", _S, ""),
    ("template_id", _S, ""),
    ("detector", _S, ""),
    ("fwhm", _F, "pixel"),
    ("elongation", _F, "1"),
    ("psf_chi2", _F, "1"),
    ("sharpness", _F, "1"),
    ("negative_fraction", _F, "1"),
    ("dipole", _F, "1"),
    ("flux_ratio_aperture", _F, "1"),
    ("science_flux", _F, "flux_unit"),
    ("template_flux", _F, "flux_unit"),
    ("distance_to_source", _F, "pixel"),
    ("n_masked", _I, "pixel"),
    ("mask_bits", _I, ""),
    ("flags", _I, ""),  # CandidateFlag
    ("stamp", _S, ""),
    meaning="one detection in one difference",
    optional=MATCH_COLUMNS,
)

STREAKS = _table(
    ("streak_id", _S, ""),
    *_CELL_COLUMNS,
    ("mjd", _F, "d"),
    ("y_start", _F, "pixel"),
    ("x_start", _F, "pixel"),
    ("y_end", _F, "pixel"),
    ("x_end", _F, "pixel"),
    ("ra_start", _F, "deg"),
    ("dec_start", _F, "deg"),
    ("ra_end", _F, "deg"),
    ("dec_end", _F, "deg"),
    ("length", _F, "pixel"),
    ("width", _F, "pixel"),  # FWHM
    ("angle", _F, "deg"),  # from the x axis towards the y axis
    ("flux_per_length", _F, "flux_unit/pixel"),
    ("flux_unit", _S, ""),
    ("significance", _F, "1"),
    ("is_negative", _B, ""),  # a trail of the template
    ("n_peaks", _I, ""),  # of five sigma on it
    meaning="trails of satellites and aircraft: one row for each in each cell that it crosses",
)

OBJECTS = _table(
    ("object_id", _S, ""),
    ("tile", _I, ""),
    ("ra", _F, "deg"),
    ("dec", _F, "deg"),
    ("y", _F, "pixel"),
    ("x", _F, "pixel"),
    ("position_error", _F, "pixel"),
    ("n_candidates", _I, ""),
    ("n_epochs", _I, ""),
    ("n_negative", _I, ""),
    ("bands", _S, ""),
    ("first_mjd", _F, "d"),
    ("last_mjd", _F, "d"),
    ("peak_significance", _F, "1"),
    ("peak_flux", _F, "flux_unit"),
    ("flux_unit", _S, ""),
    ("score", _F, "1"),
    meaning="candidates at one place, linked",
    optional=MATCH_COLUMNS,
)

LIGHT_CURVES = _table(
    ("object_id", _S, ""),
    *_CELL_COLUMNS,
    ("mjd", _F, "d"),
    ("flux", _F, "flux_unit"),
    ("flux_error", _F, "flux_unit"),
    ("flux_unit", _S, ""),
    ("significance", _F, "1"),
    ("is_detection", _B, ""),
    ("flux_limit", _F, "flux_unit"),
    ("magnitude", _F, "mag"),
    ("magnitude_error", _F, "mag"),
    ("limiting_magnitude", _F, "mag"),
    ("mask_bits", _I, ""),
    meaning="forced photometry of every object on every difference",
)

INJECTIONS = _table(
    ("injection_id", _S, ""),
    *_CELL_COLUMNS,
    ("y", _F, "pixel"),
    ("x", _F, "pixel"),
    ("ra", _F, "deg"),
    ("dec", _F, "deg"),
    ("flux", _F, "flux_unit"),
    ("flux_unit", _S, ""),
    ("snr", _F, "1"),
    ("host", _S, ""),
    ("mask_bits", _I, ""),
    ("seed", pa.int64(), ""),
    ("detector", _S, ""),
    ("recovered_by", _S, ""),
    ("lost_in", _S, ""),  # "", masked, subtraction, detection, matching
    ("recovered_y", _F, "pixel"),
    ("recovered_x", _F, "pixel"),
    ("recovered_significance", _F, "1"),
    ("recovered_flux", _F, "flux_unit"),
    ("iou", _F, "1"),
    meaning="synthetic transients put into real pixels",
    optional=(("is_near_star", _B, ""),),
)

SCORED = _table(
    ("detector", _S, ""),
    *_CELL_COLUMNS,
    ("y", _F, "pixel"),
    ("x", _F, "pixel"),
    ("significance", _F, "1"),
    ("score", _F, "1"),  # probability of being real; null where the detector has no calibration
    ("verdict", _S, ""),  # false, true, ignored; with injections: true, duplicate, ignored
    ("is_near_star", _B, ""),
    ("is_injected", _B, ""),  # of the pass with injections, where only what is at one is kept
    meaning="what each detection of either pass of the evaluation turned out to be",
)

KNOWN_EVENTS = _table(
    ("event_id", _S, ""),
    ("kind", _S, ""),
    ("ra", _F, "deg"),
    ("dec", _F, "deg"),
    ("band", _S, ""),
    ("mjd", _F, "d"),
    ("flux", _F, "nJy"),
    meaning="known transients: one row per event and exposure, flux above quiescence",
)

ALERTS = _table(
    ("exposure_id", _S, ""),
    *_CELL_COLUMNS,
    ("object_id", _S, ""),
    ("mjd", _F, "d"),
    ("kind", _S, ""),
    ("label", _S, ""),
    ("label_basis", _S, ""),
    ("y", _F, "pixel"),
    ("x", _F, "pixel"),
    ("is_detected", _B, ""),
    ("own_significance", _F, "1"),
    ("own_flux", _F, "flux_unit"),
    ("own_flux_error", _F, "flux_unit"),
    ("flux_unit", _S, ""),
    ("survey_significance", _F, "1"),
    ("survey_flux", _F, "nJy"),
    ("survey_score", _F, "1"),
    ("is_dipole", _B, ""),
    ("n_off_centre", _I, ""),
    ("score_width", _F, "1"),
    ("correlation", _F, "1"),
    ("noise_ratio", _F, "1"),
    ("star_residual", _F, "1"),
    ("mask_bits", _I, ""),
    meaning="alerts: the own difference of each beside what the survey says",
    optional=(("score", _F, "1"),),  # probability of being real by the configured detector's calibration
)

EXPOSURES = _table(
    ("exposure_id", _S, ""),
    ("tile", _I, ""),
    ("epoch", _I, ""),
    ("band", _S, ""),
    ("mjd", _F, "d"),
    ("info", _S, ""),
    meaning="which exposure fills which cell; info is the ExposureInfo as JSON",
)

LEDGER = _table(
    ("step", _S, ""),
    ("key", _S, ""),
    ("status", _S, ""),
    ("reason", _S, ""),
    ("seconds", _F, "s"),
    ("cpu_seconds", _F, "s"),
    ("peak_memory_mb", _F, "MB"),
    ("host", _S, ""),
    ("finished", _S, ""),
    meaning="one row per step and key: done, skipped or failed",
)

CELLS = _table(
    *_CELL_COLUMNS,
    ("mjd", _F, "d"),
    ("exposure_id", _S, ""),
    ("seeing_fwhm", _F, "pixel"),
    ("background", _F, "flux_unit"),
    ("background_rms", _F, "flux_unit"),
    ("noise_correlation", _F, "1"),
    ("astrometric_rms", _F, "pixel"),
    ("flux_scale", _F, "1"),
    ("flux_scale_error", _F, "1"),
    ("coverage", _F, "1"),
    ("n_stars", _I, ""),
    ("psf_origin", _S, ""),
    ("psf_error", _F, "1"),
    ("psf_chi2", _F, "1"),
    ("template_id", _S, ""),
    ("score_width", _F, "1"),
    ("noise_correction", _F, "1"),
    ("depth_flux", _F, "flux_unit"),
    ("limiting_magnitude", _F, "mag"),
    ("n_candidates", _I, ""),
    ("n_false_alarms", _I, ""),
    meaning="quality of every cell",
)
