"""Outputs of one image, as often as asked; a line after each. What each case is: see ../README.md."""

import argparse
import time

import pyvips

parser = argparse.ArgumentParser()
parser.add_argument("--case", required=True)
parser.add_argument("--repeat", type=int, required=True)
parser.add_argument("--pin")
parser.add_argument("file")
parser.add_argument("folder")
options = parser.parse_args()

pyvips.cache_set_max(0)


def small(data, side):
    return pyvips.Image.thumbnail_buffer(data, side, height=side, size="down")


def jpeg(image, side):
    image.sharpen(sigma=0.5).write_to_file(f"{options.folder}/{side}.jpeg", Q=80, keep="none")


def cascade(data):
    """One decode; each size from the one before, kept in memory and unsharpened."""
    image = small(data, 1600).copy_memory()
    jpeg(image, 1600)
    for side in (800, 256):
        image = image.thumbnail_image(side, height=side, size="down").copy_memory()
        jpeg(image, side)


def thumbnail(data):
    small(data, 256).write_to_file(f"{options.folder}/256.jpeg", Q=80, keep="none")


def lossless(data):
    small(data, 256).write_to_file(f"{options.folder}/256.png", keep="none")


make = {"cascade": cascade, "thumbnail": thumbnail, "lossless": lossless}[options.case]
for _ in range(options.repeat):
    started = time.perf_counter()
    with open(options.file, "rb") as file:
        make(file.read())
    print(f"{options.file}: {(time.perf_counter() - started) * 1e3:.1f} ms", flush=True)
