"""Small images of many kinds, which the fuzzer damages."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import PIL.ExifTags
import PIL.Image


def sample_images() -> list[bytes]:
    """JPEG, PNG, WebP and GIF files of many modes, some with orientation, transparency or several frames."""
    generator = np.random.default_rng(0)
    image = PIL.Image.fromarray(generator.integers(0, 256, (24, 20, 4), dtype=np.uint8), "RGBA")
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6
    frames = {"save_all": True, "append_images": [image.convert("RGB").rotate(90)], "duration": 20}
    saved: list[tuple[str, str, dict[str, Any]]] = [
        *[("JPEG", mode, settings) for mode in ("RGB", "L", "CMYK") for settings in ({}, {"progressive": True})],
        ("JPEG", "RGB", {"exif": exif}),
        *[("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")],
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "RGB", {"exif": exif}),
        *[("WEBP", mode, settings) for mode in ("RGB", "RGBA") for settings in ({}, {"lossless": True})],
        ("WEBP", "RGB", frames),
        ("WEBP", "RGB", {"exif": exif}),
        ("GIF", "P", {}),
        ("GIF", "P", {"transparency": 3}),
        ("GIF", "RGB", frames),
    ]
    files = []
    for kind, mode, settings in saved:
        file = BytesIO()
        (image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)).save(file, kind, **settings)
        files.append(file.getvalue())
    return files


def declare_size(content: bytes, width: int, height: int) -> bytes:
    """The same PNG, GIF or WebP with another size in its head, and a right checksum."""
    data = bytearray(content)
    if content.startswith(b"\x89PNG"):
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif content.startswith(b"GIF"):
        data[6:10] = struct.pack("<HH", width % 65536, height % 65536)
    elif content[12:16] == b"VP8X":
        data[24:27], data[27:30] = struct.pack("<I", width)[:3], struct.pack("<I", height)[:3]
    return bytes(data)
