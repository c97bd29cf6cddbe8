"""Outputs of one image, as often as asked; a line after each. What each case is: see ../README.md."""

import argparse
import time

import cv2
import numpy

parser = argparse.ArgumentParser()
parser.add_argument("--case", required=True)
parser.add_argument("--repeat", type=int, required=True)
parser.add_argument("--pin")
parser.add_argument("file")
parser.add_argument("folder")
options = parser.parse_args()

cv2.setNumThreads(1)


def decoded(data, reduce):
    return cv2.imdecode(numpy.frombuffer(data, numpy.uint8), reduce)


def small(image, side):
    height, width = image.shape[:2]
    scale = min(side / width, side / height)
    # Its filter for shrinking; it has no Lanczos that widens with the scale.
    return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def jpeg(image, side):
    cv2.imwrite(f"{options.folder}/{side}.jpeg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])


def cascade(data):
    """One decode; each size from the one before, unsharpened."""
    image = decoded(data, cv2.IMREAD_COLOR)
    for side in (1600, 800, 256):
        image = small(image, side)
        blurred = cv2.GaussianBlur(image, (0, 0), 0.5)
        jpeg(cv2.addWeighted(image, 2.5, blurred, -1.5, 0), side)


def thumbnail(data):
    jpeg(small(decoded(data, cv2.IMREAD_REDUCED_COLOR_8), 256), 256)


def lossless(data):
    cv2.imwrite(f"{options.folder}/256.png", small(decoded(data, cv2.IMREAD_REDUCED_COLOR_8), 256))


make = {"cascade": cascade, "thumbnail": thumbnail, "lossless": lossless}[options.case]
for _ in range(options.repeat):
    started = time.perf_counter()
    with open(options.file, "rb") as file:
        make(file.read())
    print(f"{options.file}: {(time.perf_counter() - started) * 1e3:.1f} ms", flush=True)
