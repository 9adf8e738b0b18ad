"""What a model may not contain, read from its bytes without loading it.

ONNX is one protocol buffer message. Only its structure is walked here (https://protobuf.dev/programming-guides/encoding
and onnx.proto), so that the robot needs no onnx package and nothing in the file is acted upon before it was looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from dsac_robot.bundle.errors import BundleError

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE_INITIALIZER = 1, 5, 15
NODE_OP_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES = 22, 23
TENSOR_NAME, TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 8, 13, 14
SPARSE_VALUES, SPARSE_INDICES = 1, 2

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
STANDARD_DOMAINS = ("", "ai.onnx")


def check_model(model: bytes, what: str) -> None:
    """Refuse a model that is not self-contained, standard and of bounded time.

    Raises BundleError naming ``what`` and the tensor or operator: external data, operators outside the standard domain,
    functions, control flow (a tick must take bounded time), or bytes that are no ONNX model.
    """
    view = memoryview(model)
    graphs = 0
    try:
        for number, value in _fields(view):
            if number == MODEL_FUNCTIONS:
                raise BundleError(f"{what}: contains a function; export with functions inlined")
            if number == MODEL_GRAPH:
                graphs += 1
                _check_graph(_message(value), what)
    except _NotProtobuf as error:
        raise BundleError(f"{what}: not an ONNX model: {error}") from None
    if graphs != 1:
        raise BundleError(f"{what}: not an ONNX model: {graphs} graphs instead of one")


def _check_graph(graph: memoryview, what: str) -> None:
    for number, value in _fields(graph):
        if number == GRAPH_NODE:
            _check_node(_message(value), what)
        elif number == GRAPH_INITIALIZER:
            _check_tensor(_message(value), what)
        elif number == GRAPH_SPARSE_INITIALIZER:
            _check_sparse(_message(value), what)


def _check_node(node: memoryview, what: str) -> None:
    operator, domains = "?", []
    for number, value in _fields(node):
        if number == NODE_OP_TYPE:
            operator = _text(value)
        elif number == NODE_DOMAIN:
            domains.append(_text(value))
    for domain in domains:
        if domain not in STANDARD_DOMAINS:
            raise BundleError(f"{what}: operator {operator!r} of the custom domain {domain!r} is refused")
    for number, value in _fields(node):
        if number == NODE_ATTRIBUTE:
            _check_attribute(_message(value), operator, what)


def _check_attribute(attribute: memoryview, operator: str, what: str) -> None:
    for number, value in _fields(attribute):
        if number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
            raise BundleError(f"{what}: control flow ({operator!r}) is refused: a tick must take bounded time")
        if number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
            _check_tensor(_message(value), what)
        elif number in (ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES):
            _check_sparse(_message(value), what)


def _check_sparse(tensor: memoryview, what: str) -> None:
    for number, value in _fields(tensor):
        if number in (SPARSE_VALUES, SPARSE_INDICES):
            _check_tensor(_message(value), what)


def _check_tensor(tensor: memoryview, what: str) -> None:
    name, external = "?", False
    for number, value in _fields(tensor):
        if number == TENSOR_NAME:
            name = _text(value)
        elif number == TENSOR_EXTERNAL_DATA or (number == TENSOR_DATA_LOCATION and value != 0):
            external = True
    if external:
        raise BundleError(f"{what}: tensor {name!r} keeps its data in another file (external data); export it inside")


class _NotProtobuf(ValueError):
    """The bytes are no protocol buffer message."""


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _NotProtobuf("a number where a message must be")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a message: integers, or the bytes of what has a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == LENGTH:
            size, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise _NotProtobuf(f"wire type {kind} at byte {at}")
        if at + size > len(message):
            raise _NotProtobuf("cut off")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _NotProtobuf("cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise _NotProtobuf("an integer of more than 64 bits")
