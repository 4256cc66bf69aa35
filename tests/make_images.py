#!/usr/bin/env python3
"""Writes what tests/test_commands.sh trains on: PNG files made with the standard library alone.

make_images.py DIR   DIR/train/<class>/N.png and DIR/val/<class>/N.png, gray.png, rgb.png, and files that are no images
"""
import os
import random
import struct
import sys
import zlib


def png(path, side, channels, pixel):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(
        b"\0" + bytes(value for x in range(side) for value in pixel(x, y)) for y in range(side)
    )
    header = struct.pack(">IIBBBBB", side, side, 8, 2 if channels == 3 else 0, 0, 0, 0)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def main(root):
    dice = random.Random(1)
    colours = {"blue": (20, 30, 220), "green": (20, 220, 30), "red": (220, 30, 20)}
    for part, count in (("train", 20), ("val", 7)):
        for name, colour in colours.items():
            for number in range(count):
                noisy = lambda x, y, c=colour: [max(0, min(255, v + dice.randint(-20, 20))) for v in c]
                png(f"{root}/{part}/{name}/{number}.png", 12, 3, noisy)
    png(f"{root}/gray.png", 12, 1, lambda x, y: [20 * x])
    png(f"{root}/rgb.png", 12, 3, lambda x, y: [220, 30, 20])
    with open(f"{root}/text.png", "w") as out:
        out.write("not an image\n")
    with open(f"{root}/rgb.png", "rb") as whole, open(f"{root}/cut.png", "wb") as out:
        out.write(whole.read()[:60])
    open(f"{root}/empty.jpg", "wb").close()


main(sys.argv[1])
