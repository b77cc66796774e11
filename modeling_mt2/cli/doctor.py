"""`mt2 doctor`: what is installed, and what does not work."""

import argparse
import json
import platform
import sys
from importlib import metadata


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `mt2 doctor` takes."""
    parser.add_argument("--json", action="store_true", help="print one object")


def run(arguments: argparse.Namespace) -> int:
    """Check what is installed and what does not work.

    Returns:
        0, or 1 when something does not work.
    """
    import torch

    from mt2_music.doctor import examine

    rows = examine()
    system = {
        "mt2-music": metadata.version("mt2-music"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "devices": ["cpu"]
        + [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        + ["mps"] * torch.backends.mps.is_available(),
        "threads": torch.get_num_threads(),
    }
    broken = [row for row in rows if row["problem"]]
    if arguments.json:
        print(json.dumps({**system, "checks": rows}, indent=1))
        return int(bool(broken))
    for name, value in system.items():
        print(f"{name:14} {', '.join(value) if isinstance(value, list) else value}")
    for row in rows:
        state = "BROKEN" if row["problem"] else row["version"] or ("ok" if row["required"] else "-")
        tested = "; tested with {} to {}".format(*row["tested"]) if row.get("tested") else ""
        print(f"{row['name']:14} {state:10} {row['purpose']}{tested}")
    for row in broken:
        print(f"\n{row['name']} {row['problem']}", file=sys.stderr)
    return int(bool(broken))
