"""The container half of glTF 2.0: GLB chunks, buffers, accessors. Pure numpy, made for files nobody has vetted.

Every size in the file is checked against the bytes that are there before anything is allocated, so the work and
the memory are bounded by the file's own length and by `Limits`, whatever the file claims.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from viewtime.errors import UserError, require

COMPONENT = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
DRACO = "KHR_draco_mesh_compression"
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")


class AssetError(UserError):
    """A 3D file that cannot be used. `reason` is a stable word for statistics, the message is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return AssetError, (self.reason, str(self))


@dataclass(frozen=True)
class Limits:
    """What a file may ask for. Defaults take every Objaverse object worth rendering and stop the others."""

    file_bytes: int = 1 << 30
    vertices: int = 4_000_000  # summed over all drawn parts
    triangles: int = 8_000_000
    accessor_elements: int = 50_000_000
    animation_values: int = 50_000_000  # floats, summed over all clips
    nodes: int = 50_000
    texture_pixels: int = 8192 * 8192  # of one image
    all_texture_pixels: int = 2 * 8192 * 8192  # 512 MB decoded
    decoded_elements: int = 200_000_000  # numbers, summed over all accessors that are read
    clip_seconds: float = 3600.0


class GltfFile:
    """JSON and buffers of one .glb or .gltf file.

    Raises:
        AssetError: reasons "missing", "empty", "too_large", "truncated", "not_gltf", "bad_json".
    """

    def __init__(self, path: str | Path, limits: Limits | None = None) -> None:
        self.path = Path(path)
        self.limits = limits or Limits()
        data = self._read_bytes(self.path)
        self._binary_chunk: memoryview | None = None
        text = self._split_glb(data) if data[:4] == b"glTF" else data
        self.json = self._parse_json(text)
        self._buffers: dict[int, memoryview] = {}
        self._arrays: dict[int, np.ndarray] = {}
        self._decoded = 0
        self._views: dict[int, memoryview] = {}
        self._items: dict[str, list[dict[str, Any]]] = {}

    def fail(self, reason: str, message: str) -> AssetError:
        """The error to raise, with the file's name in front."""
        return AssetError(reason, f"{self.path.name}: {message}")

    def items(self, name: str) -> list[dict[str, Any]]:
        """A top-level array of the document; [] where absent. Raises AssetError where it is something else."""
        if name in self._items:
            return self._items[name]
        value = self.json.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fail("bad_structure", f"'{name}' is not an array of objects")
        self._items[name] = value
        return value

    def item(self, name: str, index: Any) -> dict[str, Any]:
        """Entry `index` of a top-level array, with the index checked."""
        entries = self.items(name)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(entries):
            raise self.fail("bad_structure", f"{name}[{index}] does not exist, the file has {len(entries)}")
        return entries[index]

    def _read_bytes(self, path: Path) -> bytes:
        if not path.is_file():
            raise self.fail("missing", f"{path} does not exist")
        size = path.stat().st_size
        if size == 0:
            raise self.fail("empty", "the file has 0 bytes; download it again")
        if size > self.limits.file_bytes:
            raise self.fail("too_large", f"{size:,} bytes, the limit is {self.limits.file_bytes:,}")
        return path.read_bytes()

    def _split_glb(self, data: bytes) -> bytes:
        if len(data) < 20:
            raise self.fail("truncated", f"{len(data)} bytes are not enough for a GLB header")
        version, length = struct.unpack_from("<II", data, 4)
        if version != 2:
            raise self.fail("unsupported", f"GLB version {version}; only version 2 is read")
        if length > len(data):
            raise self.fail("truncated", f"the header says {length:,} bytes, the file has {len(data):,}")
        chunks: dict[bytes, memoryview] = {}
        offset, view = 12, memoryview(data)
        while offset + 8 <= length:
            size, kind = struct.unpack_from("<I4s", data, offset)
            if offset + 8 + size > length:
                raise self.fail("truncated", f"a chunk of {size:,} bytes at {offset:,} passes the file's end")
            chunks.setdefault(kind, view[offset + 8 : offset + 8 + size])
            offset += 8 + size
        if b"JSON" not in chunks:
            raise self.fail("not_gltf", "no JSON chunk")
        self._binary_chunk = chunks.get(b"BIN\0")
        return bytes(chunks[b"JSON"])

    def _parse_json(self, text: bytes) -> dict[str, Any]:
        def refuse(name: str) -> None:
            raise ValueError(f"{name} is not JSON")

        try:
            document = json.loads(text.decode("utf-8-sig"), parse_constant=refuse)
        except (ValueError, RecursionError) as error:
            raise self.fail("bad_json", f"not a glTF document: {str(error)[:120]}") from error
        if not isinstance(document, dict) or not isinstance(document.get("asset"), dict):
            raise self.fail("not_gltf", "JSON without the 'asset' object that every glTF has")
        version = str(document["asset"].get("version", ""))
        if not version.startswith("2"):
            raise self.fail("unsupported", f"glTF version {version[:20]!r}; only 2.x is read")
        return document

    def _buffer(self, index: int) -> memoryview:
        if index not in self._buffers:
            entry = self.item("buffers", index)
            uri, length = entry.get("uri"), int(entry.get("byteLength", 0))
            if uri is None:
                if index != 0 or self._binary_chunk is None:
                    raise self.fail("truncated", f"buffer {index} has no uri and there is no binary chunk")
                data = self._binary_chunk
            else:
                data = memoryview(self.read_uri(uri))
            if length > len(data):
                raise self.fail("truncated", f"buffer {index} should have {length:,} bytes, {len(data):,} are there")
            self._buffers[index] = data
        return self._buffers[index]

    def read_uri(self, uri: Any) -> bytes:
        """Bytes behind a data: URI or a relative path; nothing outside the file's own folder is ever read."""
        if not isinstance(uri, str):
            raise self.fail("bad_structure", "a uri is not a string")
        if uri.startswith("data:"):
            head, comma, body = uri.partition(",")
            if not comma or not head.endswith(";base64"):
                raise self.fail("bad_structure", f"data URI that is not base64: {head[:60]}")
            try:
                return base64.b64decode(body, validate=True)
            except binascii.Error as error:
                raise self.fail("bad_structure", f"broken base64 in a data URI: {error}") from error
        folder = self.path.resolve().parent
        target = (folder / unquote(uri)).resolve()
        if "://" in uri or not target.is_relative_to(folder):
            raise self.fail("bad_structure", f"uri {uri[:80]!r} leads outside the file's folder")
        return self._read_bytes(target)

    def view(self, index: Any) -> memoryview:
        """The bytes of a buffer view, decompressed where meshoptimizer packed them."""
        entry = self.item("bufferViews", index)
        packed = next((entry["extensions"][name] for name in MESHOPT if name in entry.get("extensions", {})), None)
        if packed is None:
            return self._slice(index, entry)
        if index not in self._views:
            self._views[index] = self._unpacked(index, packed)
        return self._views[index]

    def _slice(self, index: Any, entry: dict[str, Any]) -> memoryview:
        buffer = self._buffer(entry["buffer"])
        start, size = int(entry.get("byteOffset", 0)), int(entry["byteLength"])
        if start < 0 or size < 0 or start + size > len(buffer):
            raise self.fail("truncated", f"bufferView {index} ends at {start + size:,} of {len(buffer):,} bytes")
        return buffer[start : start + size]

    def _unpacked(self, index: Any, packed: dict[str, Any]) -> memoryview:
        count, stride = packed["count"], packed["byteStride"]
        if not (isinstance(count, int) and isinstance(stride, int) and count > 0 and 0 < stride <= 256):
            raise self.fail("meshopt", f"bufferView {index} claims {count} elements of {stride} bytes")
        self._count_decoded(count * stride // 4)
        decoder = require("meshopt", "render")
        try:
            rows = decoder.decode_gltf_buffer(
                bytes(self._slice(index, packed)), count, stride, packed["mode"], packed.get("filter", "NONE")
            )
        except (ValueError, RuntimeError) as error:
            if isinstance(error, AssetError):
                raise
            words = f"bufferView {index}: meshopt data cannot be decoded: {str(error)[:100]}"
            raise self.fail("meshopt", words) from error
        return memoryview(np.ascontiguousarray(rows).tobytes())

    def _count_decoded(self, numbers: int) -> None:
        """Bound what is unpacked from one file, however often it refers to the same bytes."""
        self._decoded += numbers
        if self._decoded > self.limits.decoded_elements:
            raise self.fail("too_large", f"accessors of over {self.limits.decoded_elements:,} numbers together")

    def array(self, index: Any) -> np.ndarray:
        """An accessor as a read-only array [count, components], integers as stored unless they are normalised.

        Raises:
            AssetError: "accessor" (count, type or range is impossible), "truncated", "too_large".
        """
        if index in self._arrays:
            return self._arrays[index]
        entry = self.item("accessors", index)
        count, width = entry["count"], WIDTH.get(entry.get("type", ""))
        kind = COMPONENT.get(entry.get("componentType", -1))
        if width is None or kind is None:
            raise self.fail(
                "accessor", f"accessor {index}: type {entry.get('type')}, component {entry.get('componentType')}"
            )
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise self.fail("accessor", f"accessor {index} has count {count!r}")
        if count * width > self.limits.accessor_elements:
            raise self.fail(
                "accessor",
                f"accessor {index} claims {count * width:,} numbers, limit {self.limits.accessor_elements:,}",
            )
        self._count_decoded(count * width)
        if "bufferView" in entry:
            values = self._strided(entry["bufferView"], int(entry.get("byteOffset", 0)), count, width, kind)
        else:
            values = np.zeros((count, width), kind)
        if "sparse" in entry:
            values = self._apply_sparse(entry["sparse"], values)
        if entry.get("normalized") and kind is not np.float32:
            values = np.maximum(values.astype(np.float32) / np.iinfo(kind).max, -1.0)
        values.setflags(write=False)
        self._arrays[index] = values
        return values

    def _strided(self, view: int, offset: int, count: int, width: int, kind: type) -> np.ndarray:
        data = self.view(view)
        item = width * np.dtype(kind).itemsize
        stride = int(self.item("bufferViews", view).get("byteStride", item))
        end = offset + (count - 1) * stride + item
        if offset < 0 or stride < item or end > len(data):
            raise self.fail("accessor", f"{count:,} elements need {end:,} bytes, bufferView {view} has {len(data):,}")
        dtype = np.dtype(kind).newbyteorder("<")
        strides = (stride, dtype.itemsize)
        return np.ndarray((count, width), dtype, buffer=data, offset=offset, strides=strides).astype(kind)

    def _apply_sparse(self, sparse: dict[str, Any], values: np.ndarray) -> np.ndarray:
        count = sparse["count"]
        if not isinstance(count, int) or not 1 <= count <= len(values):
            raise self.fail("accessor", f"a sparse accessor replaces {count} of {len(values)} elements")
        where, what = sparse["indices"], sparse["values"]
        kind = COMPONENT[where["componentType"]]
        rows = self._strided(where["bufferView"], int(where.get("byteOffset", 0)), count, 1, kind)[:, 0]
        new = self._strided(
            what["bufferView"], int(what.get("byteOffset", 0)), count, values.shape[1], values.dtype.type
        )
        if rows.max() >= len(values):
            raise self.fail("accessor", f"a sparse index {rows.max()} passes the {len(values)} elements")
        result = values.copy()
        result[rows.astype(np.int64)] = new
        return result

    def draco(self, extension: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Decode a Draco-compressed primitive to (attribute arrays [N, C] by glTF name, triangles [T, 3]).

        Raises:
            UserError: the optional package DracoPy is not installed.
            AssetError: "draco" where the compressed data is broken.
        """
        decoder = require("DracoPy", "render")
        try:
            mesh = decoder.decode(bytes(self.view(extension["bufferView"])))
            faces = np.asarray(mesh.faces, np.int64)  # a point cloud has none
        except (AssetError, MemoryError):
            raise
        except Exception as error:  # DracoPy has exceptions of its own
            raise self.fail("draco", f"Draco data cannot be decoded: {str(error)[:100]}") from error
        by_id = {attribute["unique_id"]: np.asarray(attribute["data"]) for attribute in mesh.attributes}
        arrays = {name: by_id[unique] for name, unique in extension["attributes"].items()}
        return arrays, faces
