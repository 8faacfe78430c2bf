"""What the U-Net costs in use, beside the plain convolutions that it consists of, in one process and one thread.

OMP_NUM_THREADS=1 python -m benchmarks.unet_inference [--models base small] [--rounds 7] [--out FILE.json]

`limit` is the rate at which this machine does 3 x 3 convolutions of the network's own sizes with nothing between
them, in floating-point operations per CPU second; `network` that of the folded network on one tile as
`detection=unet` runs it, and in megapixels; `whole` is a detection on a 1024 x 1024 px difference, planes, borders
and positions included.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from astrid.detection.unet import weights
from astrid.detection.unet.detector import TILE, Unet
from astrid.detection.unet.network import UNetwork
from astrid.simulation.harsh import harsh_tile
from astrid.workflow.examples import harsh_difference
from benchmarks.provenance import provenance


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unet_inference", description=__doc__)
    parser.add_argument("--models", nargs="*", default=["base"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    difference = harsh_difference(harsh_tile(5, side=1024))
    found: dict[str, Any] = {}
    with torch.inference_mode():
        for model in options.models:
            network = weights.read(model)[0]
            planes = torch.randn(1, 5, TILE, TILE).contiguous(memory_format=torch.channels_last)
            layers = convolutions(network, planes)
            operations = sum(one[2] for one in layers)
            plain = [(conv, given) for conv, given, _ in layers if conv.kernel_size == (3, 3)]
            of_plain = sum(count for conv, _, count in layers if conv.kernel_size == (3, 3))
            seconds = least(
                {
                    "network": lambda network=network, planes=planes: network(planes),
                    "plain": lambda plain=plain: [conv(given) for conv, given in plain],
                    "whole": lambda model=model: Unet(model=model)(difference),
                },
                options.rounds,
            )
            limit, reached = of_plain / seconds["plain"], operations / seconds["network"]
            found[model] = {
                "operations_per_pixel": operations / TILE**2,
                "limit_gflops": limit / 1e9,
                "network_gflops": reached / 1e9,
                "network_over_limit": reached / limit,
                "network_mpix_per_cpu_s": TILE**2 / seconds["network"] / 1e6,
                "whole_mpix_per_cpu_s": difference.flux.size / seconds["whole"] / 1e6,
            }
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps({"models": found, **provenance()}, indent=1) + "\n")


def convolutions(network: UNetwork, planes: torch.Tensor) -> list[tuple[nn.Module, torch.Tensor, float]]:
    """Return the convolutions of a network, what each is given, and its floating-point operations."""
    seen: list[tuple[nn.Module, torch.Tensor, float]] = []

    def note(module: nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        kernel = module.kernel_size[0] * module.kernel_size[1]
        pixels = given[0].shape[-1] * given[0].shape[-2]
        seen.append((module, given[0], 2.0 * kernel * module.in_channels * module.out_channels * pixels))

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, kinds)]
    network(planes)
    for hook in hooks:
        hook.remove()
    return seen


def least(tasks: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the least CPU seconds of each, taking turns."""
    found = dict.fromkeys(tasks, np.inf)
    for _ in range(rounds + 1):
        for name, task in tasks.items():
            started = time.process_time()
            task()
            found[name] = min(found[name], time.process_time() - started)
    return found


if __name__ == "__main__":
    main()
