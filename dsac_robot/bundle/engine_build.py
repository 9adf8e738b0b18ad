"""Building a native TensorRT engine from a bundle's ONNX, for TensorRT 10.x (Jetson) and 11.x.

Precision is what the types in the ONNX say: the network is strongly typed (a flag of 10.x, the only kind that 11.x
has), and no builder flag asks for another. Written from NVIDIA's documentation of the Python API and of the step from
10.x to 11.x; docs/bundle.md says what was run where.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsac_robot.bundle.engine_cache import engine_folder, gpu_name, write_engine
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.onnx_check import check_model
from dsac_robot.bundle.runtime import TensorSpec

WORKSPACE_BYTES = 256 * 1024 * 1024
TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 16: "bfloat16"}  # onnx.proto
MAJORS = (10, 11)


@dataclass(frozen=True)
class EnginePlan:
    """All that decides an engine, known before TensorRT is asked."""

    model: str  # file name in the bundle
    model_sha256: str
    shapes: dict[str, tuple[int, ...]]  # of each input, with the batch of 1
    weight_types: tuple[str, ...]  # what the ONNX says of precision


def plan_engine(model: bytes, inputs: Sequence[TensorSpec], what: str) -> EnginePlan:
    """What is to be built of a verified model. Raises BundleError naming ``what`` for a model that is refused, and for
    inputs that are not those of the card."""
    import onnx

    check_model(model, what)
    graph = onnx.load_from_string(model).graph
    names = {item.name for item in graph.input}
    wanted = {spec.name for spec in inputs}
    if names != wanted:
        raise BundleError(
            f"{what}: has the inputs {', '.join(sorted(names))}; the card lists {', '.join(sorted(wanted))}"
        )
    types = {TYPES.get(tensor.data_type, f"type {tensor.data_type}") for tensor in graph.initializer}
    shapes = {spec.name: (1, *spec.shape) for spec in inputs}
    return EnginePlan(what, hashlib.sha256(model).hexdigest(), shapes, tuple(sorted(types)))


def import_tensorrt() -> Any:
    """The ``tensorrt`` module. Raises BundleError saying how to get it, or which versions are known."""
    try:
        import tensorrt
    except ImportError as error:
        raise BundleError(
            "tensorrt is not installed here: on a Jetson it comes with JetPack (10.x), elsewhere with "
            f"`pip install tensorrt` (11.x), on a machine with an NVIDIA GPU ({error})"
        ) from None
    version = str(tensorrt.__version__)
    if version.split(".")[0] not in map(str, MAJORS):
        raise BundleError(f"tensorrt {version} is not known; this release builds with 10.x and 11.x")
    return tensorrt


def build_engine(model: bytes, plan: EnginePlan, root: Path | None = None) -> Path:
    """Build the engine on this machine's GPU and keep it in the engine cache; its path.

    Raises BundleError where there is no TensorRT, no GPU, or where TensorRT refuses the model.
    """
    tensorrt, gpu = import_tensorrt(), gpu_name()
    if gpu is None:
        raise BundleError("there is no CUDA device here: build the engine on the robot that will run it")
    folder = engine_folder(plan.model_sha256, gpu, str(tensorrt.__version__), root)
    about = {"model": plan.model, "model_sha256": plan.model_sha256, "gpu": gpu, "tensorrt": str(tensorrt.__version__)}
    return write_engine(folder, _serialized(tensorrt, model, plan), about)


def _serialized(tensorrt: Any, model: bytes, plan: EnginePlan) -> bytes:
    """What TensorRT makes of the model: https://docs.nvidia.com/deeplearning/tensorrt, Python API, the build phase."""
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    strong = getattr(tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # 11.x knows no other
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BundleError(f"{plan.model}: TensorRT cannot read it: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    profile = builder.create_optimization_profile()
    for name, shape in plan.shapes.items():
        profile.set_shape(name, shape, shape, shape)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BundleError(f"{plan.model}: TensorRT cannot build an engine of it; its log above says why")
    return bytes(engine)
