"""TensorRT engines: everything up to the build, which needs a GPU (docs/bundle.md says what was run where)."""

import hashlib
import importlib.util
import os
from pathlib import Path

import pytest

from dsac_robot.bundle.deployed import load_bundle, model_inputs
from dsac_robot.bundle.engine_build import build_engine, import_tensorrt, plan_engine
from dsac_robot.bundle.engine_cache import cache_key, cache_root, engine_folder, gpu_name, tensorrt_version
from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.runtime import CPU, TENSORRT, TensorSpec, provider_options

SHA = hashlib.sha256(b"model").hexdigest()


@pytest.fixture
def models(bundle_dir: Path, trusted: Path):
    return model_inputs(load_bundle(bundle_dir, trusted))


def test_a_plan_says_shapes_with_a_batch_of_one_and_the_types_of_the_onnx(models) -> None:
    plan = plan_engine(*models["monitor.onnx"], "monitor.onnx")
    assert plan.shapes["scan_sectors"] == (1, 3, 36) and plan.shapes["command"] == (1, 2)
    assert plan.weight_types == ("float32",)
    assert plan.model_sha256 == hashlib.sha256(models["monitor.onnx"][0]).hexdigest()


def test_a_model_that_is_not_the_cards_or_is_refused_gets_no_engine(models) -> None:
    model, inputs = models["policy.onnx"]
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


def test_only_tensorrt_is_told_where_its_engines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = models["policy.onnx"][0]
    assert provider_options(CPU, model) == {}
    options = provider_options(TENSORRT, model)
    folder = Path(options["trt_engine_cache_path"])
    assert options["trt_engine_cache_enable"] == "True"
    assert folder.parent == cache_root() == tmp_path / "dsac_robot" / "engines"
    assert folder.name.startswith(hashlib.sha256(model).hexdigest())
    assert not {"trt_fp16_enable", "trt_int8_enable"} & options.keys()  # precision is in the ONNX


def test_without_gpu_or_tensorrt_the_build_says_what_is_missing(models, tmp_path: Path) -> None:
    model, inputs = models["policy.onnx"]
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
