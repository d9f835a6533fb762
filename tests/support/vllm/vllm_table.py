"""The table of what the code touches of vLLM, against the vLLM that is installed.

    python tests/support/vllm/vllm_table.py            what differs
    python tests/support/vllm/vllm_table.py --write    takes it into the table, for review

An entry is what vLLM has under a name, or, where checked versions differ, that by version; null
where a version does not have the name.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import vllm
from vllm_surface import describe
from vllm_touched import Names, passed_keywords, sources, touched

FILE = Path(__file__).with_name("vllm_surface.json")
Entry = str | None | dict[str, str | None]
Table = dict[str, dict[str, Entry]]


def installed_version() -> str:
    """The minor version, for instance ``0.32``."""
    return ".".join(vllm.__version__.split(".")[:2])


def described(names: Names) -> dict[str, dict[str, str | None]]:
    """What the installed vLLM has under these names."""
    keywords = passed_keywords(sources())
    return {
        key: {name: describe(key, name, keywords.get(name, set())) for name in sorted(names[key])}
        for key in sorted(names)
    }


def expected(entry: Entry, version: str) -> str | None:
    """What a version has; of one that is not in the table, what the newest has."""
    if not isinstance(entry, dict):
        return entry
    return entry[version] if version in entry else list(entry.values())[-1]


def differences(table: Table, found: dict[str, dict[str, str | None]], version: str) -> list[str]:
    """One line for each name that differs, by key and name."""
    lines = []
    for key in sorted(table.keys() | found.keys()):
        old, new = table.get(key, {}), found.get(key, {})
        for name in sorted(old.keys() | new.keys()):
            place = f"{key} {name}".strip()
            if name not in new:
                lines.append(f"{place}: in the table, but nothing touches it any more")
            elif name not in old:
                lines.append(f"{place}: touched, but not in the table; vLLM has {new[name]}")
            elif (was := expected(old[name], version)) != new[name]:
                lines.append(f"{place}: was {was or 'not there'}, is {new[name] or 'gone'}")
    return lines


def updated(
    table: Table, found: dict[str, dict[str, str | None]], version: str, versions: list[str]
) -> Table:
    """The table with what was found in this version; other versions keep what they had."""
    new: Table = {}
    for key, names in found.items():
        new[key] = {}
        for name, now in names.items():
            old = table.get(key, {}).get(name, now)
            by_version = {one: expected(old, one) for one in versions} | {version: now}
            same = len(set(by_version.values())) == 1
            new[key][name] = now if same else dict(sorted(by_version.items()))
    return new


def main() -> int:
    """The command; 1 if there are differences that are not written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    stored: dict[str, Any] = {"versions": [], "names": {}}
    if FILE.exists():
        stored = json.loads(FILE.read_text(encoding="utf-8"))
    version, found = installed_version(), described(touched())
    lines = differences(stored["names"], found, version)
    print("\n".join(lines) or f"vLLM {version} is as the table says")
    if write:
        versions = sorted({*stored["versions"], version})
        names = updated(stored["names"], found, version, versions)
        text = json.dumps({"versions": versions, "names": names}, indent=1)
        FILE.write_text(text + "\n", encoding="utf-8")
    return 1 if lines and not write else 0


if __name__ == "__main__":
    sys.exit(main())
