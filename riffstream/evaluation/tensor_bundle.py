"""Reader of TensorFlow's checkpoint files (tensor bundles) without TensorFlow.

A bundle has an index, a sorted string table from names to places, and a file of raw values
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/tensor_bundle/tensor_bundle.h;
the table is LevelDB's: https://github.com/google/leveldb/blob/main/doc/table_format.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from riffstream.errors import CheckpointError

__all__ = ["read_bundle"]

_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5  # bytes; a block's trailer is its compression and checksum
_FLOAT = 1  # TensorFlow's number of float32


def read_bundle(prefix: str) -> dict[str, np.ndarray]:
    """Read the float32 tensors of ``prefix`` + ``.index`` and ``.data-00000-of-00001``.

    Raises:
        CheckpointError: a missing file, or one of another form.
    """
    try:
        index = Path(f"{prefix}.index").read_bytes()
        values = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    except OSError as error:
        raise CheckpointError(f"{prefix}: {error.strerror or error}") from None
    try:
        return {name.decode(): value for name, entry in _table(index) if (value := _tensor(entry, values)) is not None}
    except (IndexError, ValueError, struct.error) as error:
        raise CheckpointError(f"{prefix}.index is no tensor bundle: {error}") from None


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted string table, without its header (the empty key)."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("its last bytes are not those of a table")
    at = len(data) - _FOOTER
    for _ in range(2):
        _, at = _varint(data, at)  # place of the meta index, which is not needed
    for _, handle in _block(data, at):
        for key, value in _block(handle, 0, data):
            if key:
                yield key, value


def _block(handle: bytes, at: int, data: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block whose place is in ``handle``."""
    data = handle if data is None else data
    offset, at = _varint(handle, at)
    size, _ = _varint(handle, at)
    if data[offset + size] != 0:
        raise ValueError("its blocks are compressed")
    block = data[offset : offset + size]
    end = size - 4 * (1 + struct.unpack("<I", block[-4:])[0])
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length


def _tensor(entry: bytes, values: bytes) -> np.ndarray | None:
    """The tensor of an entry (protocol buffer BundleEntryProto); None for another type than float32."""
    fields = dict(_fields(entry))
    if fields.get(1) != _FLOAT:
        return None
    shape = [dict(_fields(dim)).get(1, 0) for number, dim in _fields(_bytes(fields.get(2, b""))) if number == 2]
    offset, size = _whole(fields.get(4, 0)), _whole(fields.get(5, 0))
    return np.frombuffer(values[offset : offset + size], "<f4").reshape([_whole(each) for each in shape])


def _fields(message: bytes | int) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields."""
    data, at = _bytes(message), 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif kind == 2:
            size, at = _varint(data, at)
            yield tag >> 3, data[at : at + size]
            at += size
        elif kind == 5:
            at += 4  # the checksum
        else:
            raise ValueError(f"a field of type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length at ``at``, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _bytes(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number in place of a message")
    return value


def _whole(value: bytes | int) -> int:
    if isinstance(value, bytes):
        raise ValueError("a message in place of a number")
    return value
