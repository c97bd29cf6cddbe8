"""Writes what annulus is made of that others wrote: each crate with its licence, then the texts, each once.

Reads `cargo metadata` for the features and the platform of a release, and the sources that cargo has fetched for it.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

PLATFORM = "x86_64-unknown-linux-gnu"
NAMES = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


def crates():
    """The crates that are compiled into the program, by name and version."""
    words = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM]
    said = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in said["packages"]}
    nodes = {node["id"]: node for node in said["resolve"]["nodes"]}
    root = next(key for key, package in packages.items() if package["name"] == "annulus")
    seen, waiting = set(), [root]
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        # What only builds or tests is not in the program. What a build compiles from C is in the crate that does so.
        waiting += [dep["pkg"] for dep in nodes[key]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
    foreign = [packages[key] for key in seen if packages[key]["source"]]
    return sorted(foreign, key=lambda package: (package["name"], package["version"]))


def texts(package):
    """The licences that a crate brings, those of C libraries within it included."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.rglob("*") if file.is_file() and NAMES.match(file.name))
    # Sources that are called so are no texts.
    files = [file for file in files if file.suffix.lower() in ("", ".md", ".txt", ".mit", ".apache", ".bsd", ".ijg", ".html")]
    return [file.read_text("utf-8", "replace").replace("\r\n", "\n").strip() for file in files]


def main():
    """Writes the list to standard output."""
    by_text, bare, found = {}, [], crates()
    print(f"annulus is made of {len(found)} crates that others wrote. Each with its licence; the texts are below.\n")
    for package in found:
        name = f"{package['name']} {package['version']}"
        print(f"{name:<40} {package['license'] or 'see its text'}")
        own = texts(package)
        for text in own:
            by_text.setdefault(text, []).append(name)
        if not own:
            bare.append(name)
    if bare:
        print("\nThese bring no text; their licences are those that the line above names:", ", ".join(bare))
    for text, names in sorted(by_text.items(), key=lambda pair: (pair[1], pair[0])):
        print("\n" + "=" * 100 + "\n" + ", ".join(dict.fromkeys(names)) + "\n" + "-" * 100 + "\n\n" + text)


if __name__ == "__main__":
    sys.exit(main())
