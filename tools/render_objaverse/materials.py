"""glTF materials as the GL engine shows them: base colour, emission, alpha mode, sides.

Roughness, metalness and normal maps are not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .gltf_file import GltfFile
from .textures import ImageFiles, Texture, sampling


@dataclass(frozen=True)
class TextureUse:
    """A texture on a material: which, by what coordinates, placed how (KHR_texture_transform).

    Attributes:
        texture: index into the scene's textures.
        rotation: radians, counter-clockwise.
    """

    texture: int
    uv_set: int = 0
    offset: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0

    def place(self, uv: np.ndarray) -> np.ndarray:
        """Coordinates [N, 2] scaled, rotated and moved."""
        if self.offset == (0.0, 0.0) and self.scale == (1.0, 1.0) and self.rotation == 0.0:
            return uv
        cosine, sine = np.cos(self.rotation), np.sin(self.rotation)
        turn = np.array([[cosine, sine], [-sine, cosine]], np.float32)
        return (uv * np.array(self.scale, np.float32)) @ turn.T + np.array(self.offset, np.float32)


@dataclass(frozen=True)
class Material:
    """What decides the colour of a surface point.

    Attributes:
        base_colour: linear RGBA factor.
        emission: linear RGB factor of what is added after lighting.
        unlit: show the base colour itself.
        double_sided: False hides faces that are seen from behind.
    """

    name: str = "default"
    base_colour: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    base_texture: TextureUse | None = None
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)
    emissive_texture: TextureUse | None = None
    alpha_mode: Literal["OPAQUE", "MASK", "BLEND"] = "OPAQUE"
    alpha_cutoff: float = 0.5
    unlit: bool = False
    double_sided: bool = True


def read_materials(file: GltfFile) -> tuple[list[Material], list[Texture]]:
    """All materials of the file, glTF's default material appended last, and the textures that they use.

    Raises:
        AssetError: "texture" (missing, KTX2, cannot be decoded), "too_large" (pixels), "bad_structure".
    """
    reader = _Reader(file)
    materials = [reader.material(entry) for entry in file.items("materials")]
    return [*materials, Material(double_sided=False)], reader.textures


class _Reader:
    def __init__(self, file: GltfFile) -> None:
        self.file = file
        self.images = ImageFiles(file)
        self.textures: list[Texture] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def material(self, entry: dict[str, Any]) -> Material:
        extensions = entry.get("extensions", {})
        gloss = extensions.get("KHR_materials_pbrSpecularGlossiness")
        pbr = entry.get("pbrMetallicRoughness", {})
        if gloss is not None:
            factor, base = gloss.get("diffuseFactor", (1, 1, 1, 1)), gloss.get("diffuseTexture")
        else:
            factor, base = pbr.get("baseColorFactor", (1, 1, 1, 1)), pbr.get("baseColorTexture")
        mode = entry.get("alphaMode", "OPAQUE")
        if mode not in ("OPAQUE", "MASK", "BLEND"):
            raise self.file.fail("bad_structure", f"alphaMode {mode!r}")
        unlit = "KHR_materials_unlit" in extensions
        emission, emissive = (0.0, 0.0, 0.0), None
        if not unlit:
            strength = float(extensions.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0))
            values = self._numbers(entry.get("emissiveFactor", (0, 0, 0)), 3, "emissiveFactor")
            emission = tuple(strength * value for value in values)
            emissive = self._use(entry.get("emissiveTexture")) if any(emission) else None
        return Material(
            name=str(entry.get("name", "")),
            base_colour=self._numbers(factor, 4, "base colour"),  # type: ignore[arg-type]
            base_texture=self._use(base),
            emission=emission,  # type: ignore[arg-type]
            emissive_texture=emissive,
            alpha_mode=mode,
            alpha_cutoff=float(entry.get("alphaCutoff", 0.5)),
            unlit=unlit,
            double_sided=bool(entry.get("doubleSided", False)),
        )

    def _numbers(self, values: Any, count: int, where: str) -> tuple[float, ...]:
        array = np.asarray(values, np.float64)
        if array.shape != (count,) or not np.isfinite(array).all():
            raise self.file.fail("bad_structure", f"{where} should be {count} numbers")
        return tuple(float(v) for v in array)

    def _use(self, reference: dict[str, Any] | None) -> TextureUse | None:
        if reference is None:
            return None
        placement = reference.get("extensions", {}).get("KHR_texture_transform", {})
        return TextureUse(
            self._texture(reference["index"]),
            int(placement.get("texCoord", reference.get("texCoord", 0))),
            self._numbers(placement.get("offset", (0, 0)), 2, "texture offset"),  # type: ignore[arg-type]
            self._numbers(placement.get("scale", (1, 1)), 2, "texture scale"),  # type: ignore[arg-type]
            float(placement.get("rotation", 0.0)),
        )

    def _texture(self, index: int) -> int:
        """Textures that show one image in one way are one texture here and on the device."""
        image = self.images.source(index)
        wrap, smooth = sampling(self.file, index)
        key = (image, wrap, smooth)
        if key not in self._known:
            self._known[key] = len(self.textures)
            pixels = self.images.pixels(image)
            self.textures.append(Texture(pixels, wrap, smooth, solid=bool(pixels[..., 3].min() == 255)))
        return self._known[key]
