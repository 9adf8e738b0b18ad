"""Running a model: ONNX Runtime on verified bytes, one sample at a time, with the provider chosen by figures.

Providers are tried in the order native TensorRT engine (where the cache holds one of this model), TensorRT, CUDA, CPU,
the last three as far as this onnxruntime has them. Each is warmed up and timed
when the runtime is made; the fastest that agrees with the CPU is used. For a small network at batch 1 that is usually
the CPU itself. A provider that fails later, in the loop, is left for the CPU in the same tick. Both are said in the
report.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from dsac_robot.bundle.engine_cache import engine_folder, gpu_name, kept_engines, tensorrt_version
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.onnx_check import check_model
from dsac_robot.core.values import Floats32

PROVIDERS = ("NativeTensorRT", "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
NATIVE, TENSORRT, CUDA, CPU = PROVIDERS  # the first is no provider of onnxruntime: an engine of `bundle build-engine`
WARM_UP_RUNS = 20
TIMED_RUNS = 200
AGREEMENT_SAMPLES = 16  # random inputs on which a provider is held against the CPU
AGREEMENT = 1e-3  # largest difference from the CPU's output, relative to 1 + its magnitude


Run = Callable[[], None]  # one run on the bound buffers


@dataclass(frozen=True)
class TensorSpec:
    """One named float32 tensor of a model, without the batch dimension."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ProviderTiming:
    """What one provider did: its times for one run, or why it is out of the question."""

    provider: str
    p50_us: float = float("inf")
    p99_us: float = float("inf")
    problem: str = ""


@dataclass(frozen=True)
class RuntimeReport:
    """Which provider runs the model, and the figures it was chosen by. Log it when the node is configured."""

    model: str
    model_sha256: str
    onnxruntime_version: str
    provider: str
    timings: tuple[ProviderTiming, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each provider that is there and was not to be used."""
        return tuple(f"{self.model}: {t.provider} {t.problem}" for t in self.timings if t.problem)

    def __str__(self) -> str:
        each = "; ".join(
            f"{t.provider}: {t.problem or f'p50 {t.p50_us:.1f} us, p99 {t.p99_us:.1f} us'}" for t in self.timings
        )
        return f"{self.model} runs on {self.provider} (onnxruntime {self.onnxruntime_version}; {each})"


def choose(timings: Sequence[ProviderTiming]) -> str:
    """The provider with the lowest median time among those without a problem; ValueError if there is none."""
    usable = [timing for timing in timings if not timing.problem]
    if not usable:
        raise ValueError("; ".join(f"{timing.provider}: {timing.problem}" for timing in timings))
    return min(usable, key=lambda timing: timing.p50_us).provider


class Runtime:
    """One model, ready to run. Buffers are made once; ``run`` allocates the returned array only, ``run_bound`` nothing.

    ``inputs`` and ``output`` are what the card says; ``providers`` overrides the chain (in that order, CPU needs to be
    named too if it is wanted). Raises BundleError naming ``what`` for a model with external data, custom operators or
    control flow, for one that onnxruntime refuses, and for inputs or outputs that are not those of the card.
    """

    def __init__(
        self,
        model: bytes,
        inputs: Sequence[TensorSpec],
        output: TensorSpec,
        what: str = "policy.onnx",
        providers: Sequence[str] = PROVIDERS,
    ) -> None:
        import onnxruntime

        check_model(model, what)
        self._what = what
        self._inputs = {spec.name: np.zeros((1, *spec.shape), np.float32) for spec in inputs}
        self._output = np.zeros((1, *output.shape), np.float32)
        self.buffers: dict[str, Floats32] = {name: buffer[0] for name, buffer in self._inputs.items()}  # to write to
        self.output: Floats32 = self._output[0]  # of the last run
        self._output_name = output.name
        digest = hashlib.sha256(model).hexdigest()
        available = [*([NATIVE] if kept_engines(what, digest) else []), *onnxruntime.get_available_providers()]
        chain = [name for name in providers if name in available]
        if not chain:
            raise BundleError(
                f"{what}: none of the providers {', '.join(providers)} is there; has: {', '.join(available)}"
            )
        reference, problem = _session(model, CPU)
        if reference is None:
            raise BundleError(f"{what}: onnxruntime cannot load it: {problem}")
        try:
            _check_signature(reference, inputs, output, what)
        except UnicodeDecodeError as error:  # a name in the model, read by onnxruntime's binding
            raise BundleError(f"{what}: a name in it is not UTF-8: {error.reason}") from error
        runs, timings = self._try_all(model, digest, chain, reference)
        try:
            provider = choose(timings)
        except ValueError as error:
            raise BundleError(f"{what}: no provider runs it: {error}") from error
        self._run = runs[provider]
        self._on_cpu = runs[CPU] if CPU in runs else self._bind(reference)
        self.report = RuntimeReport(what, digest, str(onnxruntime.__version__), provider, tuple(timings))

    def run(self, values: Mapping[str, Floats32]) -> Floats32:
        """The output for one sample: float32 arrays by input name, without batch dimension. # -> output.shape

        Raises ValueError naming an input that is missing, unknown or of another shape or type.
        """
        for name, row in self.buffers.items():
            value = values.get(name)
            if value is None or len(values) != len(self.buffers):
                raise ValueError(f"{self._what}: inputs are {', '.join(self._inputs)}; got {', '.join(values)}")
            if value.shape != row.shape or value.dtype != np.float32:
                raise ValueError(f"{self._what}: {name} must be float32 {row.shape}, got {value.dtype} {value.shape}")
            row[...] = value
        self.run_bound()
        return self.output.copy()

    def run_bound(self) -> None:
        """Run on what ``buffers`` hold; the result is in ``output``. Nothing is checked and nothing allocated."""
        try:
            self._run()
        except _errors() as error:
            self._leave_provider(error)

    def _leave_provider(self, error: Exception) -> None:
        """Run on the CPU instead, now and from now on. Raises ``error`` where it was the CPU that failed."""
        if self.report.provider == CPU:
            raise error
        problem = f"failed in the loop: {_first_line(error)}"
        timings = [
            replace(timing, problem=problem) if timing.provider == self.report.provider else timing
            for timing in self.report.timings
        ]
        self._run = self._on_cpu
        self.report = replace(self.report, provider=CPU, timings=tuple(timings))
        self._run()

    def _try_all(
        self, model: bytes, digest: str, chain: Sequence[str], reference: Any
    ) -> tuple[dict[str, Run], list[ProviderTiming]]:
        """How to run on each provider that can run the model, and its times or what is wrong with it."""
        rng = np.random.default_rng(0)
        samples = [
            {name: rng.uniform(0.0, 1.0, buffer.shape).astype(np.float32) for name, buffer in self._inputs.items()}
            for _ in range(AGREEMENT_SAMPLES)
        ]
        try:
            expected = [reference.run(None, sample)[0] for sample in samples]
        except _errors() as error:
            raise BundleError(f"{self._what}: fails to run: {_first_line(error)}") from error
        runs: dict[str, Run] = {}
        timings = []
        for provider in chain:
            run, problem = self._runnable(provider, model, digest, reference)
            if run is None:
                timings.append(ProviderTiming(provider, problem=problem))
                continue
            try:
                difference = max(self._difference(run, *pair) for pair in zip(samples, expected, strict=True))
                p50_us, p99_us = _measure(run)
            except _errors() as error:
                timings.append(ProviderTiming(provider, problem=f"fails to run: {_first_line(error)}"))
                continue
            problem = "" if difference <= AGREEMENT else f"disagrees with the CPU by {difference:g}"
            timings.append(ProviderTiming(provider, p50_us, p99_us, problem))
            runs[provider] = run
        return runs, timings

    def _runnable(self, provider: str, model: bytes, digest: str, reference: Any) -> tuple[Run | None, str]:
        """The function that runs the bound buffers on a provider, or None and why not."""
        if provider == NATIVE:
            from dsac_robot.bundle.engine_run import NativeEngine

            foreign: tuple[type[Exception], ...] = (BundleError, OSError, AttributeError, TypeError, *_errors())
            try:
                return NativeEngine(self._what, digest, self._inputs, self._output_name, self._output), ""
            except foreign as error:  # whatever a TensorRT unlike those documented raises
                return None, _first_line(error)
        session, problem = (reference, "") if provider == CPU else _session(model, provider)
        return (None, problem) if session is None else (self._bind(session), "")

    def _difference(self, run: Run, sample: Mapping[str, Floats32], expected: Floats32) -> float:
        """How far the result of ``run`` is from what is expected, relative to 1 + its magnitude; infinite for NaN,
        except where both say NaN."""
        for name, buffer in self._inputs.items():
            buffer[...] = sample[name]
        run()
        if np.array_equal(self._output, expected, equal_nan=True):
            return 0.0
        with np.errstate(invalid="ignore"):  # a mutated network may give infinities
            difference = float(np.max(np.abs(self._output - expected) / (1.0 + np.abs(expected)), initial=0.0))
        return np.inf if np.isnan(difference) else difference

    def _bind(self, session: Any) -> Run:
        """A run of the session on this runtime's buffers."""
        binding = session.io_binding()
        for name, buffer in self._inputs.items():
            binding.bind_input(name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
        binding.bind_output(self._output_name, "cpu", 0, np.float32, self._output.shape, self._output.ctypes.data)
        return partial(session.run_with_iobinding, binding)


def _session(model: bytes, provider: str) -> tuple[Any, str]:
    """A session that really uses ``provider``, or None and why not."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed beside it
    options.add_free_dimension_override_by_name("batch", 1)  # TensorRT and CUDA want to know all shapes
    try:
        chain = [CPU] if provider == CPU else [(provider, provider_options(provider, model)), CPU]
        session = onnxruntime.InferenceSession(model, options, providers=chain, enable_fallback=0)
    except BundleError as error:
        return None, str(error)
    except _errors() as error:
        return None, _first_line(error)
    if session.get_providers()[0] != provider:
        return None, "cannot be initialised on this machine"
    return session, ""


def provider_options(provider: str, model: bytes) -> dict[str, str]:
    """What a provider is told. TensorRT keeps its engine in the cache, by model, GPU and version of TensorRT.

    Raises BundleError where the cache cannot be written, or others may write it.
    """
    if provider != TENSORRT:
        return {}
    gpu, version = gpu_name() or "unknown", tensorrt_version() or "unknown"
    folder = engine_folder(hashlib.sha256(model).hexdigest(), gpu, version)
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }


@lru_cache(maxsize=1)
def _errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises. Its own classes derive from Exception alone, one for each status code."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, RuntimeError, ValueError)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _measure(run: Run) -> tuple[float, float]:
    """Median and 99th percentile of the time of one run after warming up, in microseconds."""
    for _ in range(WARM_UP_RUNS):
        run()
    times_ns = np.empty(TIMED_RUNS)
    for i in range(TIMED_RUNS):
        start_ns = time.perf_counter_ns()
        run()
        times_ns[i] = time.perf_counter_ns() - start_ns
    p50, p99 = np.percentile(times_ns, [50, 99]) / 1000.0
    return float(p50), float(p99)


def _check_signature(session: Any, inputs: Sequence[TensorSpec], output: TensorSpec, what: str) -> None:
    """Names, types and shapes of the model against the card's."""
    found = {item.name: item for item in session.get_inputs()}
    wanted = {spec.name: spec for spec in inputs}
    for name in wanted.keys() - found.keys():
        raise BundleError(f"{what}: has no input {name!r}, which the card lists")
    for name in found.keys() - wanted.keys():
        raise BundleError(f"{what}: has an input {name!r}, which the card does not list")
    for name, spec in wanted.items():
        _check_tensor(found[name], spec, what, "input")
    outputs = session.get_outputs()
    if [item.name for item in outputs] != [output.name]:
        names = ", ".join(item.name for item in outputs)
        raise BundleError(f"{what}: must have the one output {output.name!r}, has {names}")
    _check_tensor(outputs[0], output, what, "output")


def _check_tensor(found: Any, spec: TensorSpec, what: str, kind: str) -> None:
    shape = tuple(found.shape)
    batch_ok = len(shape) > 0 and (shape[0] == 1 or not isinstance(shape[0], int))
    if found.type != "tensor(float)" or not batch_ok or shape[1:] != spec.shape:
        raise BundleError(
            f"{what}: {kind} {spec.name!r} is {found.type} {list(shape)}; the card asks for tensor(float) "
            f"{['batch', *spec.shape]}"
        )
