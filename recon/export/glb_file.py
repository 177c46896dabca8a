"""The GLB container: typed arrays into one binary chunk, and the file around it."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

FLOAT, UNSIGNED_BYTE, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5121, 5123, 5125
VERTICES, ELEMENTS = 34962, 34963


class Buffer:
    """The binary chunk with its views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add_bytes(self, raw: bytes) -> int:
        """Append bytes; returns their view."""
        self.data += b"\0" * (-len(self.data) % 4)
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)})
        self.data += raw
        return len(self.views) - 1

    def add(
        self,
        array: np.ndarray,
        component: int,
        kind: str,
        target: int | None = None,
        bounds: bool = False,
        **extra: Any,
    ) -> int:
        """Append an array; returns its accessor."""
        view = self.add_bytes(np.ascontiguousarray(array).tobytes())
        if target is not None:
            self.views[view]["target"] = target
        accessor: dict[str, Any] = {
            "bufferView": view, "componentType": component, "count": len(array), "type": kind, **extra,
        }  # fmt: skip
        if bounds:
            flat = array.reshape(len(array), -1)
            accessor["min"], accessor["max"] = flat.min(0).tolist(), flat.max(0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def pack_glb(document: dict[str, Any], binary: bytes) -> bytes:
    """The GLB container: header, JSON chunk, binary chunk."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
