"""A network as an ONNX file, for use without torch or Python; its card travels in the file's metadata."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from astrid.detection.unet import weights
from astrid.detection.unet.inputs import CHANNELS
from astrid.detection.unet.network import DEPTH, MULTIPLE, UNetwork
from astrid.errors import UsageError

OPSET, IR_VERSION = 17, 8  # understood by every ONNX Runtime since 1.13


def export(model: str, path: Path) -> Path:
    """Write weights as an ONNX file.

    The file takes ``planes``, (n, 5, ny, nx) float32 as `astrid.detection.unet.inputs.inputs_of` makes them, with sides
    that are multiples of 8, and gives ``output``, (n, ny, nx) float32 between 0 and 1, not calibrated. Threshold and
    calibration are in its metadata, under "card", as JSON.

    Parameters
    ----------
    model : str
        Weights in the package, or the path of a ``.safetensors`` file.
    path : Path
        Where to write.

    Returns
    -------
    Path
        That of the file.

    Raises
    ------
    DataError
        If the weights are not what they should be.
    UsageError
        If ONNX is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise UsageError("astrid export needs the package onnx: pip install 'astrid[onnx]'") from error
    network, card = weights.read(model)
    made = onnx.helper.make_model(
        _Graph(network).graph(),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="astrid",
    )
    about = {"card": json.dumps(asdict(card)), "channels": ",".join(CHANNELS), "side_multiple": str(MULTIPLE)}
    onnx.helper.set_model_props(made, about)
    onnx.checker.check_model(made, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.SerializeToString(deterministic=True))
    return path


class _Graph:
    """The layers of a folded network, one after the other, as nodes of ONNX."""

    def __init__(self, network: UNetwork) -> None:
        self.network = network
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def graph(self) -> Any:
        """Return the graph; the same steps as `UNetwork.forward`."""
        from onnx import TensorProto, helper

        network, kept, x = self.network, [], "planes"
        for level in range(DEPTH + 1):
            if level:
                x = self._add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
            x = self._twice(x, network.down[level])
            kept.append(x)
        for level in reversed(range(DEPTH)):
            wider = self._layer("ConvTranspose", x, network.widen[level], kernel_shape=[2, 2], strides=[2, 2])
            x = self._twice(self._add("Concat", [kept[level], wider], axis=1), network.up[level])
        logit = self._layer("Conv", x, network.last, kernel_shape=[1, 1])
        self.constants.append(_constant(np.array([1], np.int64), "channel"))
        self._add("Sigmoid", [self._add("Squeeze", [logit, "channel"])], output="output")
        given = helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["n", len(CHANNELS), "ny", "nx"])
        said = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", "ny", "nx"])
        return helper.make_graph(self.nodes, "unet", [given], [said], self.constants)

    def _twice(self, x: str, block: Any) -> str:
        for layer in (block.first, block.second):
            x = self._add("Relu", [self._layer("Conv", x, layer, kernel_shape=[3, 3], pads=[1, 1, 1, 1])])
        return x

    def _layer(self, kind: str, x: str, layer: Any, **options: Any) -> str:
        number = len(self.nodes)
        names = [f"weight_{number}", f"bias_{number}"]
        self.constants += [
            _constant(_array(v), name) for v, name in zip((layer.weight, layer.bias), names, strict=True)
        ]
        return self._add(kind, [x, *names], **options)

    def _add(self, kind: str, inputs: list[str], output: str = "", **options: Any) -> str:
        from onnx import helper

        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **options))
        return name


def _constant(values: Any, name: str) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(values, name)


def _array(tensor: torch.Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
