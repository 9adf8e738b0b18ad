"""int8 for a policy: the wide layers quantised by onnxruntime, the ranges taken from states that the policy visits.

Everything is said by the ONNX itself (QuantizeLinear and DequantizeLinear of the standard domain), nothing by flags of
a builder, so that every backend computes the same. Which rule of calibration is used is decided by what counts: how far
the commands are from those of the float32 model on visited states that the calibration did not see.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from dsac_robot.bundle.errors import BundleError
from dsac_robot.core.values import Floats32

RULES = ("MinMax", "Percentile", "Entropy")
WIDE = 16  # layers with fewer inputs or outputs stay float32: they cost nothing
ROWS_CALIBRATION, ROWS_JUDGED = 512, 512
BATCH = 64


def to_int8(model: bytes, visited: Mapping[str, Floats32]) -> bytes:
    """The float32 policy ``model`` with its wide layers in int8.

    ``visited`` are its inputs by name at states that the policy visits, at least 16 of them. # (N, *shape) each.
    Raises BundleError where there are fewer, or where no layer is wide.
    """
    count = len(next(iter(visited.values())))
    if count < 16:
        raise BundleError(f"int8 needs at least 16 visited states to calibrate on, got {count}")
    picked = np.random.default_rng(0).permutation(count)
    first = picked[: min(ROWS_CALIBRATION, count // 2)]
    judged = picked[len(first) : len(first) + ROWS_JUDGED]
    fitting = {name: values[first] for name, values in visited.items()}
    held = {name: values[judged] for name, values in visited.items()}
    expected = _run(model, held)
    candidates = [_quantised(model, fitting, rule) for rule in RULES]
    errors = [float(np.mean((_run(candidate, held) - expected) ** 2)) for candidate in candidates]
    return candidates[int(np.argmin(errors))]


def wide_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the Gemm nodes whose weights have at least ``WIDE`` rows and columns."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return tuple(
        node.name for node in model.graph.node if node.op_type == "Gemm" and min(shapes[node.input[1]]) >= WIDE
    )


def _quantised(model: bytes, fitting: Mapping[str, Floats32], rule: str) -> bytes:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    proto = onnx.load_from_string(model)
    for i, node in enumerate(proto.graph.node):
        node.name = f"node_{i}"
    wide = wide_layers(proto)
    if not wide:
        raise BundleError(f"int8: no layer has {WIDE} inputs and outputs or more; there is nothing to gain")
    with tempfile.TemporaryDirectory() as folder:
        quantize_static(
            proto,
            str(Path(folder) / "int8.onnx"),
            _Reader(fitting),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=list(wide),
            per_channel=True,
            reduce_range=True,  # 7 bits of weight: eight saturate on AVX2 without VNNI
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[rule],
        )
        made = onnx.load(Path(folder) / "int8.onnx")
    made.ir_version = proto.ir_version
    del made.opset_import[:]
    made.opset_import.extend(proto.opset_import)  # the tool adds domains that are not used
    del made.metadata_props[:]
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString(deterministic=True))


class _Reader:
    """Calibration data as onnxruntime's quantiser asks for them."""

    def __init__(self, values: Mapping[str, Floats32]) -> None:
        count = len(next(iter(values.values())))
        starts = range(0, count - count % BATCH or count, BATCH)
        self._batches: Iterator[dict[str, Any]] = iter(
            [{name: value[start : start + BATCH] for name, value in values.items()} for start in starts]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _run(model: bytes, values: Mapping[str, Floats32]) -> Floats32:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(values))[0])
