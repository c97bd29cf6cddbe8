#!/usr/bin/env python3
"""Writes the small TIFFs beside this file, each by a program that people use: libtiff by Pillow, libvips, tifffile.

    pip install pillow tifffile imagecodecs numpy "pyvips[binary]" && ./make.py

Each is 40x24 pixels with a red, a green, a blue and a white corner, or what its kind has of them.
"""
import numpy as np
import pyvips
import tifffile
from PIL import Image

W, H = 40, 24
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
rgb = np.zeros((H, W, 3), np.uint8)
rgb[: H // 2, : W // 2], rgb[: H // 2, W // 2 :] = RED, GREEN
rgb[H // 2 :, : W // 2], rgb[H // 2 :, W // 2 :] = BLUE, WHITE
gray = np.zeros((H, W), np.uint8)
gray[: H // 2, : W // 2], gray[: H // 2, W // 2 :] = 0, 85
gray[H // 2 :, : W // 2], gray[H // 2 :, W // 2 :] = 170, 255
alpha = np.full((H, W), 255, np.uint8)
alpha[: H // 2, : W // 2] = 128
picture = Image.fromarray(rgb)

# libtiff's, whose directory lies behind the pixels.
for name in ["lzw", "adobe_deflate", "deflate", "packbits", "raw"]:
    picture.save(f"rgb8-{name}.tiff", compression="tiff_" + name)
picture.save("rgb8-predictor.tiff", compression="tiff_lzw", tiffinfo={317: 2, 278: 5})
picture.save("ycbcr-jpeg.tiff", compression="jpeg", quality=95)
picture.save("turned.tiff", compression="tiff_lzw", tiffinfo={274: 6, 33432: "(c) Somebody"})
picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=4).save("palette8.tiff", compression="tiff_lzw")
picture.convert("CMYK").save("cmyk8.tiff", compression="tiff_lzw")
Image.fromarray(gray).convert("1", dither=Image.Dither.NONE).save("bilevel-group4.tiff", compression="group4")
Image.fromarray(gray).convert("1", dither=Image.Dither.NONE).save("bilevel-group3.tiff", compression="group3")
Image.fromarray(gray).save("gray8.tiff", compression="tiff_lzw")

# libvips'.
vips = pyvips.Image.new_from_array(rgb, interpretation="srgb")
vips.tiffsave("tiles-deflate.tiff", tile=True, tile_width=16, tile_height=16, compression="deflate", predictor="horizontal")
vips.tiffsave("tiles-jpeg.tiff", tile=True, tile_width=16, tile_height=16, compression="jpeg", Q=95)
vips.tiffsave("rgb-jpeg.tiff", compression="jpeg", Q=95, rgbjpeg=True)
wide = (vips.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
wide.tiffsave("rgb16-lzw.tiff", compression="lzw", predictor="horizontal")
with_alpha = vips.bandjoin(pyvips.Image.new_from_array(alpha))
with_alpha.tiffsave("rgba-premultiplied.tiff", premultiply=True, compression="lzw")
with_alpha.tiffsave("rgba-straight.tiff", compression="lzw")
pyvips.Image.new_from_array(gray, interpretation="b-w").tiffsave("bits2.tiff", bitdepth=2)
pyvips.Image.new_from_array(gray, interpretation="b-w").tiffsave("bits4-white.tiff", bitdepth=4, miniswhite=True)
vips.tiffsave("big.tiff", bigtiff=True)
vips.cast("float").tiffsave("float.tiff")

# tifffile's, in the other byte order, whose directory lies before the pixels.
big = {"byteorder": ">", "metadata": None, "software": False}
tifffile.imwrite("big-endian.tiff", rgb, photometric="rgb", **big)
tifffile.imwrite("big-endian16.tiff", rgb.astype(np.uint16) * 257, photometric="rgb", **big)
planes = np.moveaxis(rgb, 2, 0)
tifffile.imwrite("planes.tiff", planes, photometric="rgb", planarconfig="separate", rowsperstrip=7, compression="lzw", **big)
tifffile.imwrite("planes16.tiff", planes.astype(np.uint16) * 257, photometric="rgb", planarconfig="separate", tile=(16, 16), **big)
both = np.dstack([gray, alpha])
tifffile.imwrite("gray-alpha.tiff", both, photometric="minisblack", extrasamples=["unassalpha"], **big)
five = np.dstack([rgb, alpha, gray])
tifffile.imwrite("five.tiff", five, photometric="rgb", extrasamples=["unassalpha", "unspecified"], **big)
tifffile.imwrite("pages.tiff", np.stack([rgb, 255 - rgb]), photometric="rgb", compression="lzw", **big)
