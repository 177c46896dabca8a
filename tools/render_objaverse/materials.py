"""Base colour of glTF materials: factors, textures, alpha mode. Roughness, metalness and normal maps are not used."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from .gltf_file import GltfFile


@dataclass(frozen=True)
class Texture:
    """A decoded image: uint8 [H, W, 4] sRGB with straight alpha, and how it continues outside [0, 1]."""

    pixels: np.ndarray
    repeat: tuple[bool, bool] = (True, True)


@dataclass(frozen=True)
class Material:
    """What decides the colour of a surface point before light.

    Attributes:
        base_colour: linear RGBA factor.
        texture: index into the scene's textures, or None.
        emission: linear RGB that is added after lighting.
        unlit: show the base colour itself.
    """

    name: str = "default"
    base_colour: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    texture: int | None = None
    uv_set: int = 0
    uv_offset: tuple[float, float] = (0.0, 0.0)
    uv_scale: tuple[float, float] = (1.0, 1.0)
    uv_rotation: float = 0.0
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)
    alpha_mode: Literal["OPAQUE", "MASK", "BLEND"] = "OPAQUE"
    alpha_cutoff: float = 0.5
    unlit: bool = False

    def transform_uv(self, uv: np.ndarray) -> np.ndarray:
        """KHR_texture_transform: scale, rotate (radians, counter-clockwise), offset of [N, 2] coordinates."""
        if self.uv_offset == (0.0, 0.0) and self.uv_scale == (1.0, 1.0) and self.uv_rotation == 0.0:
            return uv
        cosine, sine = np.cos(self.uv_rotation), np.sin(self.uv_rotation)
        turn = np.array([[cosine, sine], [-sine, cosine]], np.float32)
        return (uv * np.array(self.uv_scale, np.float32)) @ turn.T + np.array(self.uv_offset, np.float32)


def read_materials(file: GltfFile) -> tuple[list[Material], list[Texture]]:
    """All materials of the file, glTF's default material appended last, and the base-colour textures they use.

    Raises:
        AssetError: "texture" (cannot be decoded, too many pixels), "bad_structure".
    """
    textures: list[Texture] = []
    slots: dict[int, int] = {}
    materials = [_material(file, entry, slots, textures) for entry in file.items("materials")]
    return [*materials, Material()], textures


def _numbers(file: GltfFile, values: Any, count: int, where: str) -> tuple[float, ...]:
    array = np.asarray(values, np.float64)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise file.fail("bad_structure", f"{where} should be {count} numbers")
    return tuple(float(v) for v in array)


def _material(file: GltfFile, entry: dict[str, Any], slots: dict[int, int], textures: list[Texture]) -> Material:
    extensions = entry.get("extensions", {})
    gloss = extensions.get("KHR_materials_pbrSpecularGlossiness")
    pbr = entry.get("pbrMetallicRoughness", {})
    if gloss is not None:
        factor, reference = gloss.get("diffuseFactor", (1, 1, 1, 1)), gloss.get("diffuseTexture")
    else:
        factor, reference = pbr.get("baseColorFactor", (1, 1, 1, 1)), pbr.get("baseColorTexture")
    emission = _numbers(file, entry.get("emissiveFactor", (0, 0, 0)), 3, "emissiveFactor")
    if "emissiveTexture" in entry:
        # The factor only scales the texture, which is black almost everywhere in real files.
        emission = (0.0, 0.0, 0.0)
    mode = entry.get("alphaMode", "OPAQUE")
    if mode not in ("OPAQUE", "MASK", "BLEND"):
        raise file.fail("bad_structure", f"alphaMode {mode!r}")
    texture, placement = None, {}
    if reference is not None:
        texture = _texture(file, reference["index"], slots, textures)
        placement = reference.get("extensions", {}).get("KHR_texture_transform", {})
    return Material(
        name=str(entry.get("name", "")),
        base_colour=_numbers(file, factor, 4, "base colour"),  # type: ignore[arg-type]
        texture=texture,
        uv_set=int(placement.get("texCoord", (reference or {}).get("texCoord", 0))),
        uv_offset=_numbers(file, placement.get("offset", (0, 0)), 2, "texture offset"),  # type: ignore[arg-type]
        uv_scale=_numbers(file, placement.get("scale", (1, 1)), 2, "texture scale"),  # type: ignore[arg-type]
        uv_rotation=float(placement.get("rotation", 0.0)),
        emission=emission,  # type: ignore[arg-type]
        alpha_mode=mode,
        alpha_cutoff=float(entry.get("alphaCutoff", 0.5)),
        unlit="KHR_materials_unlit" in extensions,
    )


def _texture(file: GltfFile, index: int, slots: dict[int, int], textures: list[Texture]) -> int:
    if index in slots:
        return slots[index]
    entry = file.item("textures", index)
    source = entry.get("source")
    if source is None:
        source = entry.get("extensions", {}).get("EXT_texture_webp", {}).get("source")
    image = file.item("images", source)
    data = bytes(file.view(image["bufferView"])) if "bufferView" in image else file.read_uri(image["uri"])
    sampler = file.item("samplers", entry["sampler"]) if "sampler" in entry else {}
    repeat = (sampler.get("wrapS", 10497) != 33071, sampler.get("wrapT", 10497) != 33071)
    slots[index] = len(textures)
    textures.append(Texture(_decode(file, data), repeat))
    return slots[index]


def _decode(file: GltfFile, data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > file.limits.texture_pixels:
                raise file.fail(
                    "too_large",
                    f"a texture of {image.width} x {image.height}, limit {file.limits.texture_pixels:,} pixels",
                )
            return np.asarray(image.convert("RGBA"), np.uint8)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise file.fail("texture", f"a texture cannot be decoded: {str(error)[:100]}") from error
