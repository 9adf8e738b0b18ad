"""Running a native TensorRT engine of the cache: one provider more for the runtime, held against the CPU like all.

Written from NVIDIA's documentation of TensorRT's Python API (10.x and 11.x) and of the CUDA driver API;
docs/bundle.md says what was run where.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from dsac_robot.bundle.engine_build import import_tensorrt
from dsac_robot.bundle.engine_cache import gpu_name, read_engine
from dsac_robot.bundle.errors import BundleError
from dsac_robot.core.values import Floats32


class NativeEngine:
    """The cached engine of a model, bound to arrays that it reads and writes in place.

    ``inputs`` by name, and ``result``, are float32, contiguous and have the batch of 1. Raises BundleError where there
    is no TensorRT, no GPU, no engine for them, or one that is damaged or not this model's; RuntimeError where CUDA
    fails.
    """

    def __init__(
        self, model: str, model_sha256: str, inputs: Mapping[str, Floats32], output: str, result: Floats32
    ) -> None:
        tensorrt, gpu = import_tensorrt(), gpu_name()
        if gpu is None:
            raise BundleError("there is no CUDA device here")
        content = read_engine(model, model_sha256, gpu, str(tensorrt.__version__))
        self._cuda = cuda = _Cuda()
        self._loader = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))  # must outlive the engine
        self._engine = self._loader.deserialize_cuda_engine(content)
        if self._engine is None:
            raise BundleError("TensorRT cannot load the engine: build it again with `dsac-robot bundle build-engine`")
        arrays = {**inputs, output: result}
        _check_tensors(tensorrt, self._engine, arrays, output)
        self._context, self._stream = self._engine.create_execution_context(), cuda.stream()
        memory = {name: cuda.allocate(array.nbytes) for name, array in arrays.items()}
        for name, address in memory.items():
            self._context.set_tensor_address(name, address)
        self._sources = [_copy(memory[name], array) for name, array in inputs.items()]
        self._target = _copy(memory[output], result)
        self._arrays = arrays  # as long as their addresses are used

    def __call__(self) -> None:
        """Run once. Raises RuntimeError where CUDA or TensorRT fails."""
        self._cuda.enter()
        for device, host, size in self._sources:
            self._cuda.call("cuMemcpyHtoDAsync_v2", device, host, size, self._stream)
        if not self._context.execute_async_v3(self._stream.value or 0):
            raise RuntimeError("TensorRT refused to run")
        device, host, size = self._target
        self._cuda.call("cuMemcpyDtoHAsync_v2", host, device, size, self._stream)
        self._cuda.call("cuStreamSynchronize", self._stream)


def _copy(address: int, array: Floats32) -> tuple[ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t]:
    """What a copy between device and array is told: both addresses and the size."""
    return ctypes.c_uint64(address), ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)


def _check_tensors(tensorrt: Any, engine: Any, wanted: Mapping[str, Floats32], output: str) -> None:
    """Names, shapes and types of the engine against the model's."""
    names = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
    if names != wanted.keys():
        raise BundleError(f"the engine has {', '.join(sorted(names))}; the model {', '.join(sorted(wanted))}")
    for name, array in wanted.items():
        shape, kind = tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name)
        fits = len(shape) == array.ndim and all(n in (-1, m) for n, m in zip(shape, array.shape, strict=True))
        if not fits or kind != tensorrt.float32:
            raise BundleError(f"the engine's {name} is {kind} {shape}; the model's float32 {array.shape}")
        mode = tensorrt.TensorIOMode.OUTPUT if name == output else tensorrt.TensorIOMode.INPUT
        if engine.get_tensor_mode(name) != mode:
            raise BundleError(f"the engine's {name} is no {'output' if name == output else 'input'}")


class _Cuda:
    """The few calls of the CUDA driver, on the first device's primary context."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self._context = ctypes.c_void_p()
        device = ctypes.c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.enter()

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; RuntimeError naming it where it fails."""
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} failed with CUDA error {status}")

    def enter(self) -> None:
        """Make the context this thread's."""
        self.call("cuCtxSetCurrent", self._context)

    def stream(self) -> ctypes.c_void_p:
        """A new stream."""
        made = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(made), 1)  # CU_STREAM_NON_BLOCKING
        return made

    def allocate(self, size: int) -> int:
        """Address of so many bytes on the device."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value
