"""Images of a glTF file: found behind textures, measured by their headers, decoded once each."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .gltf_file import AssetError, GltfFile

REPEAT, CLAMP, MIRROR = 10497, 33071, 33648  # glTF's and OpenGL's numbers
NEAREST = (9728, 9984, 9986)
KTX2 = "KHR_texture_basisu"
ALTERNATIVES = ("EXT_texture_webp", "EXT_texture_avif", "MSFT_texture_dds")
KTX2_MAGIC = b"\xabKTX 20\xbb"


@dataclass(frozen=True)
class Texture:
    """A decoded image and how it continues.

    Attributes:
        pixels: uint8 [H, W, 4], sRGB with straight alpha.
        wrap: REPEAT, CLAMP or MIRROR along u and v outside [0, 1].
        smooth: interpolate between texels; pixel art does not.
        solid: no texel is translucent.
    """

    pixels: np.ndarray
    wrap: tuple[int, int] = (REPEAT, REPEAT)
    smooth: bool = True
    solid: bool = True


class ImageFiles:
    """The images of one document, each decoded once however many textures show it.

    Raises:
        AssetError: "texture" (none there, KTX2, cannot be decoded), "too_large" before anything is decoded.
    """

    def __init__(self, file: GltfFile) -> None:
        self.file = file
        self._pixels: dict[int, np.ndarray] = {}
        self._total = 0

    def source(self, texture: Any) -> int:
        """Index of the image that a texture shows."""
        entry = self.file.item("textures", texture)
        extensions = entry.get("extensions", {})
        found = [extensions[name].get("source") for name in ALTERNATIVES if name in extensions]
        source = next((index for index in [*found, entry.get("source")] if index is not None), None)
        if source is None and KTX2 in extensions:
            raise self._ktx2(f"texture {texture}")
        if source is None:
            raise self.file.fail("texture", f"texture {texture} names no image")
        self.file.item("images", source)
        return source

    def data(self, image: int) -> bytes:
        """The encoded bytes of an image."""
        entry = self.file.item("images", image)
        if "bufferView" in entry:
            found = bytes(self.file.view(entry["bufferView"]))
        elif "uri" in entry:
            found = self.file.read_uri(entry["uri"])
        else:
            raise self.file.fail("texture", f"image {image} has neither bytes nor a file")
        if found.startswith(KTX2_MAGIC):
            raise self._ktx2(f"image {image}")
        return found

    def pixels(self, image: int) -> np.ndarray:
        """uint8 [H, W, 4]."""
        if image not in self._pixels:
            data = self.data(image)
            self.measure(data)
            self._pixels[image] = self._decode(image, data)
        return self._pixels[image]

    def measure(self, data: bytes) -> None:
        """Count an image by its header against what one image, and all together, may hold."""
        limits = self.file.limits
        try:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
        except Image.DecompressionBombError as error:
            raise self.file.fail("too_large", f"a texture: {str(error)[:120]}") from error
        except (OSError, SyntaxError, ValueError) as error:
            raise self.file.fail("texture", f"a texture cannot be decoded: {str(error)[:100]}") from error
        if width * height > limits.texture_pixels:
            message = f"a texture of {width} x {height}, limit {limits.texture_pixels:,} pixels"
            raise self.file.fail("too_large", message)
        self._total += width * height
        if self._total > limits.all_texture_pixels:
            raise self.file.fail("too_large", f"textures of over {limits.all_texture_pixels:,} pixels together")

    def _decode(self, number: int, data: bytes) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.mode.startswith("I"):
                    # Sixteen bits of grey; Pillow's conversion would clip them to white.
                    grey = (np.asarray(image).astype(np.int64) + 128) // 257
                    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
                return np.asarray(image.convert("RGBA"), np.uint8)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, AssetError):
                raise
            raise self.file.fail("texture", f"image {number} cannot be decoded: {str(error)[:100]}") from error

    def _ktx2(self, what: str) -> AssetError:
        return self.file.fail(
            "texture", f"{what} is KTX2 ({KTX2}), which is not read; save the file with PNG, JPEG or WebP textures"
        )


def sampling(file: GltfFile, texture: int) -> tuple[tuple[int, int], bool]:
    """(wrap along u and v, smooth) of a texture's sampler."""
    entry = file.item("textures", texture)
    sampler = file.item("samplers", entry["sampler"]) if "sampler" in entry else {}
    wrap = (sampler.get("wrapS", REPEAT), sampler.get("wrapT", REPEAT))
    if any(value not in (REPEAT, CLAMP, MIRROR) for value in wrap):
        raise file.fail("bad_structure", f"texture {texture}: wrap modes {wrap}")
    return wrap, sampler.get("magFilter") not in NEAREST
