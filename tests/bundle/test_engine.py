"""TensorRT engines: everything up to the build, which needs a GPU (docs/bundle.md says what was run where)."""

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dsac_robot.bundle.deployed import DeployedPolicy, load_bundle, model_inputs
from dsac_robot.bundle.engine_build import build_engine, import_tensorrt, plan_engine
from dsac_robot.bundle.engine_cache import (
    cache_key,
    cache_root,
    engine_folder,
    gpu_name,
    kept_engines,
    read_engine,
    tensorrt_version,
    write_engine,
)
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.runtime import CPU, NATIVE, TENSORRT, TensorSpec, provider_options
from dsac_robot.core.robot import load_robot

GPU, VERSION = "Orin sm_87", "10.3.0"
SHA = hashlib.sha256(b"model").hexdigest()


@pytest.fixture
def loaded(bundle_dir: Path, trusted: Path):
    return model_inputs(load_bundle(bundle_dir, trusted))


def test_a_plan_says_shapes_with_a_batch_of_one_and_the_types_of_the_onnx(loaded) -> None:
    plan = plan_engine(*loaded["monitor.onnx"], "monitor.onnx")
    assert plan.shapes["scan_sectors"] == (1, 3, 36) and plan.shapes["command"] == (1, 2)
    assert plan.weight_types == ("float32",)
    assert plan.model_sha256 == hashlib.sha256(loaded["monitor.onnx"][0]).hexdigest()


def test_a_model_that_is_not_the_cards_or_is_refused_gets_no_engine(loaded) -> None:
    model, inputs = loaded["policy.onnx"]
    with pytest.raises(BundleError, match=r"policy\.onnx: has the inputs .*; the card lists"):
        plan_engine(model, inputs[1:], "policy.onnx")
    with pytest.raises(BundleError, match=r"policy\.onnx: not an ONNX model"):
        plan_engine(b"nothing", inputs, "policy.onnx")


def test_model_gpu_and_tensorrt_version_each_change_the_key_of_an_engine() -> None:
    other = hashlib.sha256(b"other").hexdigest()
    keys = {
        cache_key(SHA, "Orin sm_87", "10.3.0"),
        cache_key(other, "Orin sm_87", "10.3.0"),
        cache_key(SHA, "NVIDIA L4 sm_89", "10.3.0"),
        cache_key(SHA, "Orin sm_87", "11.0.0"),
    }
    assert len(keys) == 4
    assert cache_key(SHA, "Orin (nvgpu)/../x sm_87", "10.3.0") == f"{SHA}-Orin_nvgpu_.._x_sm_87-trt10.3.0"
    with pytest.raises(BundleError, match="no SHA-256"):
        cache_key("../x", "Orin", "10")


def test_the_engine_cache_is_its_users_alone(tmp_path: Path) -> None:
    folder = engine_folder(SHA, "Orin sm_87", "10.3.0", tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700 and folder.stat().st_uid == os.getuid()
    assert engine_folder(SHA, "Orin sm_87", "10.3.0", tmp_path) == folder
    folder.chmod(0o777)
    with pytest.raises(BundleError, match="others may write the engine cache"):
        engine_folder(SHA, "Orin sm_87", "10.3.0", tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="cannot be written"):
        engine_folder(SHA, "Orin", "10", tmp_path / "file")


def test_only_tensorrt_is_told_where_its_engines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = loaded["policy.onnx"][0]
    assert provider_options(CPU, model) == {}
    options = provider_options(TENSORRT, model)
    folder = Path(options["trt_engine_cache_path"])
    assert options["trt_engine_cache_enable"] == "True"
    assert folder.parent == cache_root() == tmp_path / "dsac_robot" / "engines"
    assert folder.name.startswith(hashlib.sha256(model).hexdigest())
    assert not {"trt_fp16_enable", "trt_int8_enable"} & options.keys()  # precision is in the ONNX


def test_without_gpu_or_tensorrt_the_build_says_what_is_missing(loaded, tmp_path: Path) -> None:
    model, inputs = loaded["policy.onnx"]
    plan = plan_engine(model, [TensorSpec(spec.name, spec.shape) for spec in inputs], "policy.onnx")
    if importlib.util.find_spec("tensorrt") is None:
        with pytest.raises(BundleError, match=r"tensorrt is not installed here: .*JetPack \(10\.x\)"):
            import_tensorrt()
    if importlib.util.find_spec("tensorrt") is None or gpu_name() is None:
        with pytest.raises(BundleError, match=r"tensorrt is not installed|no CUDA device"):
            build_engine(model, plan, tmp_path)
        assert list(tmp_path.glob("*.engine")) == []
    else:
        assert build_engine(model, plan, tmp_path).stat().st_size > 0


def test_gpu_and_tensorrt_are_named_or_none() -> None:
    assert gpu_name() is None or " sm_" in str(gpu_name())
    assert tensorrt_version() is None or str(tensorrt_version()).count(".") == 2


def kept(root: Path, sha: str = SHA, gpu: str = GPU, version: str = VERSION) -> Path:
    """An engine in the cache, as ``build_engine`` keeps it."""
    about = {"model": "policy.onnx", "model_sha256": sha, "gpu": gpu, "tensorrt": version}
    return write_engine(engine_folder(sha, gpu, version, root), b"machine code", about)


def test_an_engine_is_read_as_it_was_kept(tmp_path: Path) -> None:
    path = kept(tmp_path)
    assert read_engine("policy.onnx", SHA, GPU, VERSION, tmp_path) == b"machine code"
    assert kept_engines("policy.onnx", SHA, tmp_path) == [path]
    assert kept_engines("monitor.onnx", SHA, tmp_path) == [] == kept_engines("policy.onnx", SHA, tmp_path / "none")


OTHER = hashlib.sha256(b"other").hexdigest()


def of_another_model(path: Path) -> None:
    other = kept(path.parent.parent, OTHER)
    for suffix in (".engine", ".json"):
        path.with_suffix(suffix).write_bytes(other.with_suffix(suffix).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"machine c0de"), "engine_sha256 is .*, its .json says"),
        (lambda path: path.write_bytes(b""), "engine_sha256 is .*, its .json says"),
        (of_another_model, f"model_sha256 is {SHA}, its .json says {OTHER}"),
        (lambda path: path.with_suffix(".json").unlink(), "cannot be read"),
        (lambda path: path.with_suffix(".json").write_text("{"), "cannot be read"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "model is policy.onnx, its .json says None"),
        (lambda path: path.parent.chmod(0o777), "others may write the engine cache"),
        (lambda path: path.unlink(), "no engine for Orin sm_87 and TensorRT 10.3.0; there is none: build it again"),
        (
            lambda path: path.parent.rename(path.parent.with_name(cache_key(SHA, GPU, "10.7.0"))),
            "no engine for Orin sm_87 and TensorRT 10.3.0; there is Orin_sm_87-trt10.7.0: build it again",
        ),
    ],
)
def test_an_engine_that_is_not_what_was_kept_is_refused_and_the_message_says_why(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    spoil(kept(tmp_path))
    with pytest.raises(BundleError, match=message):
        read_engine("policy.onnx", SHA, GPU, VERSION, tmp_path)


def test_the_policy_falls_back_from_an_engine_that_cannot_run_and_its_report_says_why(
    bundle_dir: Path, trusted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle, robot = load_bundle(bundle_dir, trusted), load_robot("jackal")
    assert NATIVE not in str(DeployedPolicy(bundle, robot).report)  # nobody has built an engine
    kept(cache_root(), hashlib.sha256(bundle.policy).hexdigest())  # for a GPU that is not here, and no machine code
    report = DeployedPolicy(bundle, robot).report
    assert report.provider != NATIVE
    (problem,) = [problem for problem in report.problems if NATIVE in problem]
    assert re.match(
        f"policy.onnx: {NATIVE} (tensorrt is not installed here|there is no CUDA device|no engine for)", problem
    )
    with pytest.raises(BundleError, match=f"no provider runs it: {NATIVE}: "):
        DeployedPolicy(bundle, robot, providers=[NATIVE])


def test_a_built_engine_runs_the_policy_as_the_cpu_does(
    bundle_dir: Path, trusted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no GPU with TensorRT, a named native engine is refused."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle, robot = load_bundle(bundle_dir, trusted), load_robot("jackal")
    model, inputs = model_inputs(bundle)["policy.onnx"]
    if importlib.util.find_spec("tensorrt") is None or gpu_name() is None:
        with pytest.raises(BundleError, match=f"none of the providers {NATIVE} is there"):
            DeployedPolicy(bundle, robot, providers=[NATIVE])
        return
    build_engine(model, plan_engine(model, inputs, "policy.onnx"))
    report = DeployedPolicy(bundle, robot, providers=[NATIVE]).report
    assert report.provider == NATIVE and report.problems == ()
