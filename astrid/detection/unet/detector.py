"""`detection=unet`: candidates where a U-Net says that a transient is likely."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from astrid.detection.base import Detections
from astrid.detection.centring import centred
from astrid.detection.matched_filter import find_peaks
from astrid.detection.unet import weights
from astrid.detection.unet.examples import blanked
from astrid.detection.unet.inputs import inputs_of
from astrid.detection.unet.network import MULTIPLE, UNetwork
from astrid.image import Difference
from astrid.imaging.photometry import cut_windows, equivalent_fwhm

TILE = 256  # px, side of what the network sees at a time: fits the cache
BORDER = 24  # px of its neighbours on each side that are seen and not used
WITHIN = 0.75  # FWHM of a peak of the output whose pixels say where its middle is: the disk it was taught
FARTHEST = 0.25  # FWHM between that middle and the position fitted; beyond, the fit has gone to something else


@dataclass(frozen=True)
class Unet:
    """Find transients with a U-Net.

    What the output of the network reaches is one detection for each of its maxima; its position is fitted to the
    difference from the middle of that output, its ``score`` is the calibrated probability, and its footprint the disk
    of 0.75 FWHM about it.

    Attributes
    ----------
    model : str
        Weights in the package, or the path of a ``.safetensors`` file that ``astrid train`` wrote.
    output : float or None
        Smallest output of the network of a detection; None takes the one recorded with the weights: 0.1 false alarms
        per 256 x 256 pixels of the validation examples.
    both_signs : bool
        Whether to look for what has faded too, for twice the time.
    device : str
        "cpu", "cuda", or "auto": a GPU where there is one.
    """

    model: str = "base"
    output: float | None = None
    both_signs: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        if self.output is not None and not 0 < self.output < 1:
            raise ValueError(f"output must lie between 0 and 1, or be null, got {self.output}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be auto, cpu or cuda, got {self.device!r}")

    @property
    def name(self) -> str:
        """The word after ``detection=``."""
        return "unet"

    @property
    def threshold(self) -> float:
        """What a detection must reach: an output of the network."""
        return self.output if self.output is not None else weights.read_card(weights.path_of(self.model)).threshold

    @property
    def uses_gpu(self) -> bool:
        """Whether a GPU is of use to it."""
        return self.device != "cpu"

    def prepare(self) -> None:
        """Read the weights, which this process keeps; raises what a call raises."""
        torch.set_num_threads(1)  # processes are the parallelism
        weights.read(self.model)

    def __call__(self, difference: Difference) -> Detections:
        """Find candidates in usable pixels, the likeliest first.

        Raises
        ------
        ValueError
            If the difference does not hold the images it was made from.
        DataError
            If the weights are not what they should be.
        """
        card = weights.read(self.model)[1]
        found = [self._of_sign(difference, 1)]
        if self.both_signs:
            found.append(self._of_sign(turned(difference), -1))
        y, x, output, significance = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(-output, kind="stable")
        y, x = y[order], x[order]
        return Detections(y=y, x=x, significance=significance[order], score=card.calibrated(output[order]))

    def _of_sign(self, difference: Difference, sign: int) -> tuple[NDArray[np.float64], ...]:
        output = self.probability(difference)
        radius = max(2, int(np.ceil(equivalent_fwhm(difference.psf))))
        masked = difference.unusable != 0
        peaks = find_peaks(output, masked, threshold=self.threshold, radius=radius)
        reached = output[tuple(peaks.T)].astype(np.float64)
        width = equivalent_fwhm(difference.psf)
        middle_y, middle_x = middles(output, peaks, WITHIN * width)
        y, x = centred(difference, middle_y, middle_x)
        fine = np.hypot(y - middle_y, x - middle_x) <= FARTHEST * width
        y, x = np.where(fine, y, middle_y), np.where(fine, x, middle_x)
        inside = [np.clip(np.rint(v).astype(int), 0, n - 1) for v, n in zip((y, x), masked.shape, strict=True)]
        return y, x, reached, sign * difference.significance[inside[0], inside[1]].astype(np.float64)

    def probability(self, difference: Difference) -> NDArray[np.float32]:
        """Return the output of the network for each pixel, (ny, nx), 0 to 1, not calibrated; 0 where masked."""
        network, card = weights.read(self.model)
        output = outputs(network, blanked(inputs_of(difference), card.blank), self._device())
        output[difference.unusable != 0] = 0
        return output

    def _device(self) -> str:
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device


def outputs(network: UNetwork, planes: NDArray[np.float32], device: str = "cpu") -> NDArray[np.float32]:
    """Run a network over planes of any size, square by square.

    Parameters
    ----------
    network : UNetwork
        For use (`UNetwork.folded`).
    planes : (5, ny, nx) array
        See `astrid.detection.unet.inputs.inputs_of`.
    device : str
        Of torch.

    Returns
    -------
    (ny, nx) float32 array
        Between 0 and 1.
    """
    _, ny, nx = planes.shape
    output = np.empty((ny, nx), np.float32)
    network = network.to(device)
    with torch.inference_mode():
        for rows, columns in _squares(ny, nx):
            seen = tuple(slice(max(0, s.start - BORDER), min(n, s.stop + BORDER)) for s, n in
                         ((rows, ny), (columns, nx)))  # fmt: skip
            square = torch.from_numpy(planes[:, seen[0], seen[1]])[None]
            height, width = square.shape[-2:]
            square = torch.nn.functional.pad(square, (0, -width % MULTIPLE, 0, -height % MULTIPLE))
            square = square.to(device).contiguous(memory_format=torch.channels_last)
            made = torch.sigmoid(network(square))[0, :height, :width].cpu().numpy()
            top, left = rows.start - seen[0].start, columns.start - seen[1].start
            output[rows, columns] = made[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
    return output


def _squares(ny: int, nx: int) -> Iterator[tuple[slice, slice]]:
    """Divide an image into rectangles of about equal size, none larger than a tile less its borders."""
    edges = []
    for n in (ny, nx):
        count = 1 if n <= TILE else -(-n // (TILE - 2 * BORDER))
        edges.append(np.linspace(0, n, count + 1).round().astype(int))
    for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True):
        for left, right in zip(edges[1][:-1], edges[1][1:], strict=True):
            yield slice(int(top), int(bottom)), slice(int(left), int(right))


def middles(
    output: NDArray[np.float32], peaks: NDArray[np.integer], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the output about each peak has its middle: the mean of its pixels, weighted with their squares.

    The output is flat where the network is sure, so that the peak itself may be anywhere in the disk.

    Parameters
    ----------
    output : (ny, nx) float32 array
        Of the network, 0 to 1.
    peaks : (n, 2) int array
        Row and column of each.
    radius : float
        Pixels about a peak, along rows and columns, that count.
    """
    half = int(np.ceil(radius)) + 1
    y, x = peaks.astype(np.float64).T
    rows, columns = np.indices((2 * half + 1, 2 * half + 1)) - half
    window = cut_windows(output, y, x, rows.shape, fill=0).astype(np.float64) ** 2
    total = window.sum(axis=(1, 2))
    return y + (window * rows).sum(axis=(1, 2)) / total, x + (window * columns).sum(axis=(1, 2)) / total


def turned(difference: Difference) -> Difference:
    """Return the difference of template and science image."""
    return replace(
        difference,
        flux=-difference.flux,
        significance=-difference.significance,
        science=difference.template,
        template=difference.science,
    )
