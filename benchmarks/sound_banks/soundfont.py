"""SoundFont 2 files: zones of mono samples, how they are written, and how their tables are read.

Source: SoundFont Technical Specification 2.04. Numbers of generators are those of its section 8.1.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Programs of General MIDI, 0-based, that sound as long as a key is held.
SUSTAINED = {*range(16, 24), *range(40, 45), *range(48, 55), *range(56, 80), 109, 110, 111}
FORMATS = {
    "phdr": "<20sHHHIII", "pbag": "<HH", "pgen": "<Hh", "inst": "<20sH", "ibag": "<HH", "igen": "<Hh",
    "shdr": "<20sIIIIIBbHH",
}  # fmt: skip
HIDDEN_BANK = 127


@dataclass
class Zone:
    """One mono sample and the keys it plays.

    Args:
        samples: from -1 to 1.
        rate: of them, in hertz.
        pitch: MIDI pitch of the sound at this rate.
        low, high: keys.
        loop: first sample and the one after the last.
        generators: further settings of the zone, by number.
    """

    samples: np.ndarray
    rate: int
    pitch: float
    low: int = 0
    high: int = 127
    loop: tuple[int, int] | None = None
    generators: dict[int, int] = field(default_factory=dict)


Bank = dict[int, tuple[str, list[Zone]]]  # name and zones by program


def meet_halfway(zones: list[Zone]) -> list[Zone]:
    """Sort zones by pitch, and let the keys of neighbours meet halfway between them."""
    zones = sorted(zones, key=lambda zone: zone.pitch)
    for left, right in zip(zones, zones[1:], strict=False):
        left.high = int((left.pitch + right.pitch) / 2)
        right.low = left.high + 1
    return zones


def find_table(data: bytes, tag: str) -> tuple[int, int]:
    """Return where the content of a table starts, and its size in bytes."""
    place = data.rindex(tag.encode())
    return place + 8, struct.unpack("<I", data[place + 4 : place + 8])[0]


def read_table(data: bytes, tag: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table, the closing one included."""
    start, size = find_table(data, tag)
    return list(struct.iter_unpack(FORMATS[tag], data[start : start + size]))


def read_samples(data: bytes) -> np.ndarray:
    """Return all samples of a file, int16."""
    place = data.index(b"smpl")
    return np.frombuffer(data, "<i2", struct.unpack("<I", data[place + 4 : place + 8])[0] // 2, place + 8)


def to_text(name: bytes) -> str:
    """Return a name without what fills it up."""
    return name.split(b"\0")[0].decode("latin1")


def presets(data: bytes) -> dict[int, str]:
    """Return names of the melodic presets by program, those of bank 0."""
    return {row[1]: to_text(row[0]) for row in read_table(data, "phdr")[:-1] if row[2] == 0 and row[1] < 128}


def hide_presets(path: Path, programs: set[int]) -> None:
    """Move melodic presets to a bank that no score asks for, by a change of the list of presets alone."""
    data = bytearray(path.read_bytes())
    start, _ = find_table(bytes(data), "phdr")
    size = struct.calcsize(FORMATS["phdr"])
    for index, row in enumerate(read_table(bytes(data), "phdr")[:-1]):
        if row[2] == 0 and row[1] in programs:
            struct.pack_into("<H", data, start + index * size + 22, HIDDEN_BANK)
    path.write_bytes(data)


def chunk(tag: bytes, data: bytes) -> bytes:
    """Return a chunk of a RIFF file."""
    return tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def write_soundfont(path: Path, bank: Bank, source: str) -> None:
    """Write a SoundFont of bank 0: one preset and one instrument per program, named after the file.

    Args:
        path: file to write.
        bank: name and zones of every program.
        source: where the recordings are from, for the comment in the file.
    """
    samples = bytearray()
    tables = {tag: bytearray() for tag in FORMATS}
    num_zones = num_generators = num_samples = 0

    def add(tag: str, *row: Any) -> None:
        tables[tag] += struct.pack(FORMATS[tag], *row)

    for index, (program, (label, zones)) in enumerate(sorted(bank.items())):
        text = label.encode("ascii", "replace")[:19]
        add("phdr", text, program, 0, index, 0, 0, 0)
        add("pbag", index, 0)
        add("pgen", 41, index)
        add("inst", text, num_zones)
        release = -2400 if program in SUSTAINED else -1200  # timecents: 0.25 s, 0.5 s
        for zone in zones:
            (first, last), start = zone.loop or (0, len(zone.samples)), len(samples) // 2
            root = int(np.clip(round(zone.pitch), 0, 127))
            bounds = (start, start + len(zone.samples), start + first, start + last)
            add("shdr", text, *bounds, zone.rate, root, round(100 * (root - zone.pitch)), 0, 1)
            samples += np.clip(32767 * zone.samples, -32768, 32767).astype("<i2").tobytes() + bytes(92)
            add("ibag", num_generators, 0)
            tables["igen"] += struct.pack("<HBB", 43, zone.low, zone.high)
            generators = {38: release, **zone.generators, 54: int(bool(zone.loop))}
            for pair in sorted(generators.items()):
                add("igen", *pair)
            add("igen", 53, num_samples)
            num_zones, num_generators, num_samples = (
                num_zones + 1,
                num_generators + 2 + len(generators),
                num_samples + 1,
            )
    add("phdr", b"EOP", 0, 0, len(bank), 0, 0, 0)
    add("pbag", len(bank), 0)
    add("inst", b"EOI", num_zones)
    add("ibag", num_generators, 0)
    add("shdr", b"EOS", *[0] * 9)
    add("pgen", 0, 0)
    add("igen", 0, 0)
    content = {tag: bytes(table) for tag, table in tables.items()} | {"pmod": bytes(10), "imod": bytes(10)}
    order = ("phdr", "pbag", "pmod", "pgen", "inst", "ibag", "imod", "igen", "shdr")
    name = chunk(b"INAM", path.stem.encode() + b"\0")
    info = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0") + name
    body = chunk(b"LIST", b"INFO" + info + chunk(b"ICMT", source.encode() + b"\0"))
    body += chunk(b"LIST", b"sdta" + chunk(b"smpl", bytes(samples)))
    body += chunk(b"LIST", b"pdta" + b"".join(chunk(tag.encode(), content[tag]) for tag in order))
    path.write_bytes(chunk(b"RIFF", b"sfbk" + body))
