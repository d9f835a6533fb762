"""How much memory this process and its children may still take."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

# What vLLM adds up (vllm.utils.cpu_resource_utils).
_NODE_AVAILABLE = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")


def available_memory(root: Path = Path("/")) -> int:
    """Bytes: what the machine has, and every control group that this process is in.

    Pages of files that the system would give back count as available, in a group as on the machine.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    return min([psutil.virtual_memory().available, *_left_in_groups(root)])


def smallest_node(root: Path = Path("/"), cpus: Collection[int] | None = None) -> int | None:
    """Bytes available on the NUMA node that has least; None where Linux says nothing of nodes.

    Every worker of vLLM binds its memory to the node of its cores. Counted as vLLM counts; nodes
    without memory, or without cores of this process, have no workers.

    Args:
        root: where ``proc`` and ``sys`` are.
        cpus: of this process; None: those that it may run on.
    """
    found = []
    for node in (root / "sys/devices/system/node").glob("node[0-9]*"):
        try:
            lines = (node / "meminfo").read_text(encoding="utf-8").splitlines()
            own = _ids((node / "cpulist").read_text(encoding="utf-8"))
        except OSError:
            continue
        # Node 0 MemFree:  1234 kB
        fields = {words[2]: int(words[3]) * 1024 for line in lines if (words := line.split())}
        free = sum(fields.get(f"{name}:", 0) for name in _NODE_AVAILABLE)
        usable = own.intersection(os.sched_getaffinity(0) if cpus is None else cpus)
        if fields.get("MemTotal:", 0) > 0 and usable:
            found.append(free)
    return min(found, default=None)


def _ids(ranges: str) -> set[int]:
    """Of ``0-3,8``."""
    found: set[int] = set()
    for part in filter(None, ranges.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group with a limit has left, version 1 and 2, the parents' included."""
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, limit, usage, cache = groups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage = groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        own = top / path.lstrip("/")
        # In a container the path may be the host's; its own group is mounted at the top then.
        for folder in (own, *own.parents):
            if folder.is_relative_to(top) and (most := _number(folder / limit)) is not None:
                used = _number(folder / usage) or 0
                yield max(0, most - used + _inactive(folder / "memory.stat", cache))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or "max"
        return None


def _inactive(file: Path, name: str) -> int:
    try:
        rows = dict(line.split() for line in file.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return 0
    return int(rows.get(name, 0))
