#!/usr/bin/env python3
"""Draws every icon from icons/*.svg with librsvg. The images are checked in; run this after changing a drawing."""

import struct
import subprocess
import tempfile
from pathlib import Path

ICONS = Path(__file__).resolve().parents[2] / "icons"

# Three pixels for each point of the 16-point grid, so that menu bars of every density scale down.
TRAY_PIXELS = 48
STANDING = ["lid", "tap", "foot"]
TRAY = {
    "starting-0": ["outline"],
    "starting-1": ["outline", "fill-1"],
    "starting-2": ["outline", "fill-2"],
    "starting-3": ["outline", "fill-3"],
    "starting-4": ["outline", "fill-4"],
    "ready": ["solid"],
    "busy-1": ["solid", "steam-1"],
    "busy-2": ["solid", "steam-2"],
    "near-full": ["notched"],
    "draining": ["solid", "drop"],
    "failed": ["broken"],
}
LAYERS = sorted({layer for layers in TRAY.values() for layer in layers})

APP_PNGS = {"32x32.png": 32, "128x128.png": 128, "128x128@2x.png": 256, "icon.png": 512}
# What macOS calls the sizes of an icon; the second half are those for dense displays.
ICNS = {b"icp4": 16, b"icp5": 32, b"ic07": 128, b"ic08": 256, b"ic09": 512, b"ic10": 1024,
        b"ic11": 32, b"ic12": 64, b"ic13": 256, b"ic14": 512}


def draw(svg: Path, pixels: int, css: str = "") -> bytes:
    with tempfile.NamedTemporaryFile("w", suffix=".css") as sheet:
        sheet.write(css)
        sheet.flush()
        command = ["rsvg-convert", "--width", str(pixels), "--height", str(pixels), "--stylesheet", sheet.name, str(svg)]
        return subprocess.run(command, check=True, capture_output=True).stdout


def main() -> None:
    (ICONS / "tray").mkdir(exist_ok=True)
    for name, layers in TRAY.items():
        hidden = ", ".join(f"#{layer}" for layer in LAYERS if layer not in layers)
        png = draw(ICONS / "tray.svg", TRAY_PIXELS, f"{hidden} {{ display: none }}")
        (ICONS / "tray" / f"{name}.png").write_bytes(png)
    for name, pixels in APP_PNGS.items():
        (ICONS / name).write_bytes(draw(ICONS / "app.svg", pixels))
    chunks = b"".join(
        kind + struct.pack(">I", 8 + len(png)) + png
        for kind, png in ((kind, draw(ICONS / "app.svg", pixels)) for kind, pixels in ICNS.items())
    )
    (ICONS / "icon.icns").write_bytes(b"icns" + struct.pack(">I", 8 + len(chunks)) + chunks)


if __name__ == "__main__":
    main()
