"""Outputs of one image, as often as asked; a line after each. What each case is: see ../README.md."""

import argparse
import io
import time

from PIL import Image, ImageFilter, ImageOps

parser = argparse.ArgumentParser()
parser.add_argument("--case", required=True)
parser.add_argument("--repeat", type=int, required=True)
parser.add_argument("--pin")
parser.add_argument("file")
parser.add_argument("folder")
options = parser.parse_args()

# Its own name for an unsharp mask of about the same strength.
SHARPEN = ImageFilter.UnsharpMask(radius=0.5, percent=150, threshold=5)


def decoded(data, side):
    """The decoder shrinks by 2, 4 or 8 as long as twice the size is left."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (side * 2, side * 2))
    return ImageOps.exif_transpose(image)


def small(image, side):
    scale = min(side / image.width, side / image.height)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def cascade(data):
    """One decode; each size from the one before, unsharpened."""
    image = decoded(data, 1600)
    for side in (1600, 800, 256):
        image = small(image, side)
        image.filter(SHARPEN).save(f"{options.folder}/{side}.jpeg", quality=80)


def thumbnail(data):
    small(decoded(data, 256), 256).save(f"{options.folder}/256.jpeg", quality=80)


def lossless(data):
    small(decoded(data, 256), 256).save(f"{options.folder}/256.png")


make = {"cascade": cascade, "thumbnail": thumbnail, "lossless": lossless}[options.case]
for _ in range(options.repeat):
    started = time.perf_counter()
    with open(options.file, "rb") as file:
        make(file.read())
    print(f"{options.file}: {(time.perf_counter() - started) * 1e3:.1f} ms", flush=True)
