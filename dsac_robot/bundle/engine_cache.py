"""Where built TensorRT engines are kept, and under which name: model, GPU and TensorRT decide, nothing else.

An engine is machine code for one GPU and one TensorRT. It is built from the verified ONNX on the robot itself, kept in
a directory that only its user can write, and checked against the CPU each time it is loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dsac_robot.bundle.errors import BundleError

NVINFER = ("libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so")
NAME_LENGTH = 256


def gpu_name() -> str | None:
    """Name of the first CUDA device with its compute capability, such as "Orin sm_87"; None where there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(NAME_LENGTH)
    capability_major, capability_minor = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, NAME_LENGTH, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), capability_major, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), capability_minor, device)
    )
    return None if failed else f"{name.value.decode('ascii', 'replace')} sm_{major.value}{minor.value}"


def tensorrt_version() -> str | None:
    """Version of the TensorRT library, such as "10.3.0"; None where there is none."""
    for library in NVINFER:
        try:
            number = int(ctypes.CDLL(library).getInferLibVersion())
        except (OSError, AttributeError):
            continue
        major = number // 10000 if number >= 100000 else number // 1000  # from 10.0 on two digits each
        rest = number - major * (10000 if number >= 100000 else 1000)
        return f"{major}.{rest // 100}.{rest % 100}"
    return None


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/dsac_robot/engines``, by default under ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "dsac_robot" / "engines"


def cache_key(model_sha256: str, gpu: str, tensorrt: str) -> str:
    """The name of an engine's folder. Raises BundleError for a digest that is none."""
    if not re.fullmatch(r"[0-9a-f]{64}", model_sha256):
        raise BundleError(f"engine cache: {model_sha256!r} is no SHA-256 of a model")
    return "-".join([model_sha256, _plain(gpu), f"trt{_plain(tensorrt)}"])


def engine_folder(model_sha256: str, gpu: str, tensorrt: str, root: Path | None = None) -> Path:
    """The folder of an engine, made if it is not there, for its user alone. Raises BundleError where it cannot be."""
    folder = (root or cache_root()) / cache_key(model_sha256, gpu, tensorrt)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise BundleError(f"{folder}: the engine cache cannot be written: {error.strerror}") from error
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise BundleError(f"{folder}: others may write the engine cache; make it yours alone (chmod 700) or remove it")
    return folder


def write_engine(folder: Path, engine: bytes, about: Mapping[str, str]) -> Path:
    """Keep an engine as ``<stem of about["model"]>.engine``, beside it what it is; its path."""
    path = folder / f"{Path(about['model']).stem}.engine"
    record = {**about, "engine_sha256": hashlib.sha256(engine).hexdigest()}
    for file, content in ((path, engine), (path.with_suffix(".json"), json.dumps(record, indent=1).encode() + b"\n")):
        temporary = file.with_name(f"{file.name}.part")
        temporary.write_bytes(content)
        temporary.replace(file)
    return path


def kept_engines(model: str, model_sha256: str, root: Path | None = None) -> list[Path]:
    """The engines of a model, a file name of the bundle, that the cache holds, for whatever GPU and TensorRT."""
    return sorted((root or cache_root()).glob(f"{model_sha256}-*/{Path(model).stem}.engine"))


def read_engine(model: str, model_sha256: str, gpu: str, tensorrt: str, root: Path | None = None) -> bytes:
    """The engine that ``write_engine`` kept for this model, GPU and TensorRT.

    Raises BundleError where there is none, others may write it, or it is not what was written.
    """
    again = "build it again with `dsac-robot bundle build-engine`"
    path = (root or cache_root()) / cache_key(model_sha256, gpu, tensorrt) / f"{Path(model).stem}.engine"
    if not path.is_file():
        there = ", ".join(
            kept.parent.name.removeprefix(f"{model_sha256}-") for kept in kept_engines(model, model_sha256, root)
        )
        raise BundleError(f"no engine for {gpu} and TensorRT {tensorrt}; there is {there or 'none'}: {again}")
    engine_folder(model_sha256, gpu, tensorrt, root)
    try:
        engine, about = path.read_bytes(), json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read: {error}: {again}") from error
    wanted = {"model": model, "model_sha256": model_sha256, "gpu": gpu, "tensorrt": tensorrt}
    wanted["engine_sha256"] = hashlib.sha256(engine).hexdigest()
    for key, value in wanted.items():
        found = about.get(key) if isinstance(about, dict) else None
        if found != value:
            raise BundleError(f"{path}: {key} is {value}, its .json says {found}: {again}")
    return engine


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_.") or "unknown"
