"""What models the runtime refuses, and how it chooses where to run."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dsac_robot.bundle.errors import BundleError
from dsac_robot.bundle.onnx_check import check_model
from dsac_robot.bundle.runtime import CPU, ProviderTiming, Runtime, TensorSpec, choose

INPUTS = [TensorSpec("twist", (2,))]
OUTPUT = TensorSpec("command", (2,))


def model(
    nodes: list[onnx.NodeProto] | None = None,
    input_shape: tuple = ("batch", 2),
    input_name: str = "twist",
    dtype: int = TensorProto.FLOAT,
    output_name: str = "command",
    output_shape: tuple = ("batch", 2),
    edit: Callable[[onnx.ModelProto], None] = lambda m: None,
) -> bytes:
    """y = x W with a named input and output, and one thing changed."""
    weights = numpy_helper.from_array(np.eye(2, dtype=np.float32), "weights")
    nodes = nodes or [helper.make_node("MatMul", [input_name, "weights"], [output_name])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(input_name, dtype, input_shape)],
        [helper.make_tensor_value_info(output_name, dtype, output_shape)],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)])
    made.ir_version = 10
    edit(made)
    return made.SerializeToString()


def test_a_run_gives_what_the_network_computes() -> None:
    runtime = Runtime(model(), INPUTS, OUTPUT)
    value = np.array([0.25, -3.0], np.float32)
    first = runtime.run({"twist": value})
    second = runtime.run({"twist": value + 1})
    assert np.array_equal(first, value) and np.array_equal(second, value + 1)
    assert first.dtype == np.float32
    assert runtime.report.provider == "CPUExecutionProvider" and runtime.report.timings[-1].p50_us > 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "inputs are twist"),
        ({"twist": np.zeros(2, np.float32), "x": np.zeros(2, np.float32)}, "inputs are twist"),
        ({"twist": np.zeros(1, np.float32)}, r"twist must be float32 \(2,\)"),
        ({"twist": np.zeros((1, 2), np.float32)}, r"twist must be float32 \(2,\)"),
        ({"twist": np.zeros(2)}, "got float64"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Runtime(model(), INPUTS, OUTPUT).run(values)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (model(input_name="speed"), "has no input 'twist'"),
        (model(input_shape=("batch", 3), output_shape=("batch", "n")), "onnxruntime cannot load it|card asks for"),
        (model(input_shape=(4, 2), output_shape=(4, 2)), r"input 'twist' is tensor\(float\) \[4, 2\]"),
        (model(output_name="action"), "must have the one output 'command', has action"),
        (model(dtype=TensorProto.DOUBLE), "onnxruntime cannot load it"),
        (b"", "not an ONNX model"),
        (b"not a model", "not an ONNX model"),
        (model()[:-3], "not an ONNX model"),
    ],
)
def test_a_model_that_is_not_the_cards_is_refused(made: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=rf"policy\.onnx: .*({message})"):
        Runtime(made, INPUTS, OUTPUT)


def test_an_input_that_the_card_does_not_list_is_refused() -> None:
    with pytest.raises(BundleError, match="has an input 'twist', which the card does not list"):
        Runtime(model(), [], OUTPUT)


def external(made: onnx.ModelProto) -> None:
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def function(made: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["a"], ["b"])
    made.functions.append(helper.make_function("local", "F", ["a"], ["b"], [node], [helper.make_opsetid("", 17)]))


def branch() -> onnx.NodeProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["twist"], ["y"])],
        "body",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
    )
    return helper.make_node("If", ["condition"], ["command"], then_branch=body, else_branch=body)


def external_constant() -> onnx.NodeProto:
    tensor = numpy_helper.from_array(np.eye(2, dtype=np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    return helper.make_node("Constant", [], ["command"], value=tensor)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (model(edit=external), r"tensor 'weights' keeps its data in another file"),
        (model([external_constant()]), r"tensor 'hidden' keeps its data in another file"),
        (
            model([helper.make_node("Shell", ["twist"], ["command"], domain="evil")]),
            "'Shell' of the custom domain 'evil'",
        ),
        (
            model([helper.make_node("Gelu", ["twist"], ["command"], domain="com.microsoft")]),
            "'Gelu' of the custom domain 'com.microsoft'",
        ),
        (model([branch()]), "control flow"),
        (model(edit=function), "contains a function"),
        (model() + model(), "2 graphs"),
    ],
)
def test_a_model_that_reaches_outside_itself_is_refused_by_name(made: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_model(made, "policy.onnx")
    with pytest.raises(BundleError, match=message):
        Runtime(made, INPUTS, OUTPUT)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_mutated_models_are_refused_by_bundle_error_or_run(data: st.DataObject) -> None:
    content = bytearray(model())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        runtime = Runtime(bytes(content), INPUTS, OUTPUT)
    except BundleError:
        return
    assert runtime.run({"twist": np.zeros(2, np.float32)}).shape == (2,)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_no_model(content: bytes) -> None:
    try:
        check_model(content, "policy.onnx")
    except BundleError:
        return
    parsed = onnx.ModelProto()
    parsed.ParseFromString(content)  # what passes the walk is at least protobuf


def test_the_fastest_provider_without_a_problem_is_chosen() -> None:
    slow, fast = ProviderTiming("CUDA", 40.0, 90.0), ProviderTiming("CPU", 9.0, 12.0)
    wrong = ProviderTiming("TensorRT", 2.0, 3.0, "disagrees with the CPU by 0.5")
    assert choose([wrong, slow, fast]) == "CPU"
    assert choose([wrong, slow]) == "CUDA"
    with pytest.raises(ValueError, match="disagrees"):
        choose([wrong])


def test_a_provider_that_is_not_there_is_named() -> None:
    with pytest.raises(BundleError, match="none of the providers NoSuchExecutionProvider is there"):
        Runtime(model(), INPUTS, OUTPUT, providers=["NoSuchExecutionProvider"])


AZURE = "AzureExecutionProvider"  # a second provider that onnxruntime's own wheels have; it runs all on the CPU


def test_each_provider_that_is_there_is_timed_and_the_fastest_runs() -> None:
    runtime = Runtime(model(), INPUTS, OUTPUT, providers=[AZURE, CPU])
    assert [timing.provider for timing in runtime.report.timings] == [AZURE, CPU]
    assert all(0.0 < timing.p50_us <= timing.p99_us for timing in runtime.report.timings)
    assert runtime.report.provider == min(runtime.report.timings, key=lambda timing: timing.p50_us).provider
    assert runtime.report.problems == () and f"{AZURE}: p50" in str(runtime.report)


def table_lookup() -> bytes:
    """y = table[int(x)]: fails for an input outside the table, whoever runs it."""
    table = numpy_helper.from_array(np.array([7.0, 8.0, 9.0], np.float32), "table")
    nodes = [
        helper.make_node("Cast", ["twist"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["command"]),
    ]
    return model(nodes, edit=lambda made: made.graph.initializer.append(table))


def test_a_provider_that_fails_in_the_loop_is_left_for_the_cpu_and_the_report_says_so() -> None:
    runtime = Runtime(table_lookup(), INPUTS, OUTPUT, providers=[AZURE])
    assert runtime.report.provider == AZURE
    with pytest.raises(Exception, match=r"[Gg]ather|out of|indices"):  # the CPU fails on it, too, and there is no other
        runtime.run({"twist": np.array([0.0, 99.0], np.float32)})
    assert runtime.report.provider == CPU
    (problem,) = runtime.report.problems
    assert problem.startswith(f"policy.onnx: {AZURE} failed in the loop: ")
    assert runtime.run({"twist": np.array([2.0, 0.0], np.float32)}).tolist() == [9.0, 7.0]


def test_what_is_written_to_the_buffers_is_what_a_bound_run_computes_on() -> None:
    runtime = Runtime(model(), INPUTS, OUTPUT)
    runtime.buffers["twist"][:] = 0.5, -0.25
    before = runtime.output
    runtime.run_bound()
    assert runtime.output is before and before.tolist() == [0.5, -0.25]


def test_a_bound_run_allocates_nothing_that_stays() -> None:
    runtime = Runtime(model(), INPUTS, OUTPUT)
    for _ in range(100):
        runtime.run_bound()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(2000):
        runtime.run_bound()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2000
