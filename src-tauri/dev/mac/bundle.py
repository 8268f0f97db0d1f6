#!/usr/bin/env python3
"""Lay an app bundle out as the Tauri CLI does on a Mac: bundle.py TAURI.CONF.JSON EXECUTABLE OUT_FOLDER

Prints the bundle's path. What is in the property list comes from tauri.conf.json and the list it names.
"""

import json
import pathlib
import plistlib
import shutil
import sys
import tomllib

CATEGORIES = {"DeveloperTool": "public.app-category.developer-tools", "Utility": "public.app-category.utilities"}


def version(config: dict, root: pathlib.Path) -> str:
    """tauri.conf.json's version, or the package's, which may be the workspace's."""
    if "version" in config:
        return config["version"]
    manifest = tomllib.loads((root / "Cargo.toml").read_text())
    found = manifest["package"]["version"]
    return found if isinstance(found, str) else manifest["workspace"]["package"]["version"]


def info_plist(config: dict, root: pathlib.Path, executable: str, icon: str) -> dict:
    bundle, mac = config["bundle"], config["bundle"]["macOS"]
    plist = {
        "CFBundleDevelopmentRegion": "English",
        "CFBundleDisplayName": config["productName"],
        "CFBundleExecutable": executable,
        "CFBundleIconFile": icon,
        "CFBundleIdentifier": config["identifier"],
        "CFBundleInfoDictionaryVersion": "6.0",
        "CFBundleName": config["productName"],
        "CFBundlePackageType": "APPL",
        "CFBundleShortVersionString": version(config, root),
        "CFBundleVersion": version(config, root),
        "LSApplicationCategoryType": CATEGORIES[bundle["category"]],
        "LSMinimumSystemVersion": mac["minimumSystemVersion"],
        "NSHighResolutionCapable": True,
    }
    if "copyright" in bundle:
        plist["NSHumanReadableCopyright"] = bundle["copyright"]
    return plist | plistlib.loads((root / mac["infoPlist"]).read_bytes())


def lay_out(config_path: pathlib.Path, executable: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    root = config_path.resolve().parent
    config = json.loads(config_path.read_text())
    (icon,) = (root / path for path in config["bundle"]["icon"] if path.endswith(".icns"))
    app = out / f"{config['productName']}.app"
    shutil.rmtree(app, ignore_errors=True)
    for folder in ("MacOS", "Resources"):
        (app / "Contents" / folder).mkdir(parents=True)
    shutil.copyfile(executable, app / "Contents/MacOS" / executable.name)
    (app / "Contents/MacOS" / executable.name).chmod(0o755)
    shutil.copyfile(icon, app / "Contents/Resources" / icon.name)
    plist = info_plist(config, root, executable.name, icon.name)
    (app / "Contents/Info.plist").write_bytes(plistlib.dumps(plist))
    return app


if __name__ == "__main__":
    print(lay_out(*map(pathlib.Path, sys.argv[1:])))
