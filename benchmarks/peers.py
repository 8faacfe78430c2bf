"""Packages of others that subtract, called as their documentation says. None is needed for anything else.

They want an environment of their own, with AstrID beside them:

    pip install sfft==1.7.3 stdpipe==0.4.1

`sfft_crowded` runs SExtractor by the name `sex` (a link to `source-extractor` on the PATH will do), `stdpipe_hotpants`
the program `hotpants`, `stdpipe_zogy` `psfex`. Where one of these is missing, `missing` says so.
"""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import signal

from astrid.image import Difference, Image

Plane = NDArray[np.float32]

HALF_WIDTH, ORDER = 6, 2  # px and degree over the field of the kernels that peers fit
GAIN, SATURATION = 1.0, 5e4


@dataclass(frozen=True)
class Peer:
    """A way of subtracting.

    Attributes
    ----------
    package : str
        What must be importable.
    program : str or None
        What must be on the PATH.
    prepare : callable
        Turns science image, template and a folder to work in into a function that returns their difference.
    """

    package: str
    program: str | None
    prepare: Callable[[Image, Image, Path], Callable[[], Any]]


def missing(name: str) -> str | None:
    """Return in words why a peer cannot run here, if so."""
    peer = PEERS[name]
    if importlib.util.find_spec(peer.package) is None:
        return f"the package {peer.package} is not installed here"
    if peer.program and shutil.which(peer.program) is None:
        return f"{peer.package} is installed, but the program {peer.program} that it runs is not on the PATH"
    return None


def work_of(name: str, science: Image, template: Image, folder: Path) -> Callable[[], Plane]:
    """Return a function that subtracts by a peer; it raises where the peer gives up without a difference."""
    run = PEERS[name].prepare(science, template, folder)

    def work() -> Plane:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = run()
        found = found[0] if isinstance(found, list | tuple) else found
        if found is None or np.shape(found) != science.flux.shape:
            raise RuntimeError(f"{name} returned no difference")
        return np.asarray(found, np.float32)

    return work


def as_difference(flux: Plane, science: Image, template: Image) -> Difference:
    """Give a difference of a peer a score: filtered by the PSF of the science image, in units of its own scatter."""
    psf = science.psf[::-1, ::-1].astype(float)
    variance = science.variance + template.variance
    filled = np.nan_to_num(flux).astype(float)
    score = signal.oaconvolve(filled, psf, mode="same") / np.sqrt(signal.oaconvolve(variance, psf**2, mode="same"))
    mask = science.mask | template.mask | (~np.isfinite(flux)).astype(np.uint16)
    middle = np.median(score[mask == 0])
    score /= 1.4826 * np.median(np.abs(score[mask == 0] - middle))
    return Difference(np.nan_to_num(flux), variance, mask, science.psf, score.astype(np.float32))


def _sfft(packet: str, science: Image, template: Image, folder: Path) -> Callable[[], Any]:
    """Fit a kernel of pixels in Fourier space (Hu et al. 2022), on all pixels or, `crowded`, without saturated ones."""
    paths = {name: str(folder / f"{name}.fits") for name in ("science", "template", "difference")}
    for name, image in (("science", science), ("template", template)):
        header = fits.Header({"GAIN": GAIN, "SATURATE": SATURATION})
        fits.writeto(paths[name], np.nan_to_num(image.flux).astype(np.float64), header, overwrite=True)
    options: dict[str, Any] = {
        "FITS_REF": paths["template"], "FITS_SCI": paths["science"], "FITS_DIFF": paths["difference"],
        "ForceConv": "REF", "GKerHW": HALF_WIDTH, "KerPolyOrder": ORDER, "BGPolyOrder": 0, "ConstPhotRatio": True,
        "BACKEND_4SUBTRACT": "Numpy", "NUM_CPU_THREADS_4SUBTRACT": 1, "VERBOSE_LEVEL": 0,
    }  # fmt: skip

    def run() -> Plane:
        if packet == "crowded":
            setattr(np, "in1d", np.isin)  # noqa: B010 # sfft calls what NumPy 2.4 has no more
            from sfft.EasyCrowdedPacket import Easy_CrowdedPacket

            Easy_CrowdedPacket.ECP(**options, BACK_TYPE="MANUAL")
        else:
            from sfft.CustomizedPacket import Customized_Packet

            Customized_Packet.CP(**options, FITS_mREF=paths["template"], FITS_mSCI=paths["science"])
        return np.asarray(fits.getdata(paths["difference"]), np.float32)

    return run


def _stdpipe(function: str, science: Image, template: Image, **options: Any) -> Callable[[], Any]:
    masks = {"mask": science.mask != 0, "template_mask": template.mask != 0}
    noise = {"err": np.sqrt(science.variance), "template_err": np.sqrt(template.variance)}

    def run() -> Any:
        from stdpipe import subtraction

        return getattr(subtraction, function)(science.flux, template.flux, **masks, **noise, **options)

    return run


def _hotpants(science: Image, template: Image, folder: Path) -> Callable[[], Any]:
    extra = {"ko": ORDER, "bgo": 0}
    return _stdpipe("run_hotpants", science, template, image_gain=GAIN, template_gain=GAIN, extra=extra)


def _stdpipe_sfft(science: Image, template: Image, folder: Path) -> Callable[[], Any]:
    return _stdpipe("run_sfft", science, template, kernel_shape=(9, 9), kernel_poly_order=ORDER, bg_poly_order=0)


def _stdpipe_zogy(science: Image, template: Image, folder: Path) -> Callable[[], Any]:
    return _stdpipe("run_zogy", science, template, scale=1.0, nthreads=1, image_gain=GAIN, template_gain=GAIN)


PEERS = {
    "sfft_all_pixels": Peer("sfft", None, lambda *pair: _sfft("all", *pair)),
    "sfft_crowded": Peer("sfft", "sex", lambda *pair: _sfft("crowded", *pair)),
    "stdpipe_hotpants": Peer("stdpipe", "hotpants", _hotpants),
    "stdpipe_sfft": Peer("stdpipe", None, _stdpipe_sfft),
    "stdpipe_zogy": Peer("stdpipe", "psfex", _stdpipe_zogy),
}
