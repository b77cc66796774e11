"""Shrink a General MIDI bank: `python benchmarks/sound_banks/shrink_soundfont.py BANK.sf2 SMALL.sf2`.

Keeps the samples of programs and drum kits that scores are played with, at a third of their rate, which music at
16 kHz does not tell from the bank itself; all other samples become silence of no length.
"""

import argparse
import struct
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly
from soundfont import FORMATS, chunk, find_table, read_samples, read_table

from mt2_music.train.synth.render import DRUM_BANK, DRUM_KITS, PROGRAMS

FACTOR = 3
GAP = 46  # samples of silence after each, as the specification asks
OFFSETS = ((0, 4), (1, 12), (2, 45), (3, 50))  # generators that count samples, and those that count 32,768 of them
Rows = list[tuple]


def used_samples(tables: dict[str, Rows]) -> set[int]:
    """Return which samples the programs and kits that are played with use."""
    wanted = {(0, program) for programs in PROGRAMS.values() for program in programs}
    wanted |= {(DRUM_BANK, kit) for kit in DRUM_KITS}
    presets = [index for index, row in enumerate(tables["phdr"][:-1]) if (row[2], row[1]) in wanted]
    instruments = {value for index in presets for value in _named(tables, "phdr", "pbag", "pgen", 3, index, 41)}
    return {value for index in instruments for value in _named(tables, "inst", "ibag", "igen", 1, index, 53)}


def _named(tables: dict[str, Rows], heads: str, bags: str, generators: str, column: int, index: int, end: int) -> set:
    first, last = tables[heads][index][column], tables[heads][index + 1][column]
    of_bags = tables[generators][tables[bags][first][0] : tables[bags][last][0]]
    return {value for number, value in of_bags if number == end}


def shrink_samples(samples: np.ndarray, headers: Rows, used: set[int]) -> tuple[bytes, Rows]:
    """Return the samples that are left, and their headers."""
    pieces: list[np.ndarray] = []
    rows: Rows = []
    place = 0
    for index, (name, start, end, first, last, rate, *others) in enumerate(headers[:-1]):
        piece, loop = np.zeros(16, "<i2"), (0, 8)
        if index in used:
            piece = np.clip(np.round(resample_poly(samples[start:end].astype(float), 1, FACTOR)), -32768, 32767)
            loop, rate = (round((first - start) / FACTOR), round((last - start) / FACTOR)), rate // FACTOR
        pieces += [piece.astype("<i2"), np.zeros(GAP, "<i2")]
        rows.append((name, place, place + len(piece), place + loop[0], place + loop[1], rate, *others))
        place += len(piece) + GAP
    return np.concatenate(pieces).tobytes(), [*rows, headers[-1]]


def shrink_offsets(generators: Rows, bags: Rows) -> Rows:
    """Return the generators of instruments with what counts samples divided."""
    rows = [list(row) for row in generators]
    for (start, _), (end, _) in zip(bags, bags[1:], strict=False):
        for fine, coarse in OFFSETS:
            ones = next((row for row in rows[start:end] if row[0] == fine), None)
            many = next((row for row in rows[start:end] if row[0] == coarse), None)
            if ones is None and many is None:
                continue
            offset = (ones[1] if ones else 0) + 32768 * (many[1] if many else 0)
            (ones or many)[:] = [fine, int(np.clip(round(offset / FACTOR), -32767, 32767))]
            if ones and many:
                many[1] = 0
    return [tuple(row) for row in rows]


def main() -> None:
    """Shrink a bank from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    data = arguments.bank.read_bytes()
    tables = {tag: read_table(data, tag) for tag in FORMATS}
    smpl, tables["shdr"] = shrink_samples(read_samples(data), tables["shdr"], used_samples(tables))
    tables["igen"] = shrink_offsets(tables["igen"], tables["ibag"])
    parts = []
    for tag in ("phdr", "pbag", "pmod", "pgen", "inst", "ibag", "imod", "igen", "shdr"):
        start, size = find_table(data, tag)
        changed = tag in ("igen", "shdr")
        content = b"".join(struct.pack(FORMATS[tag], *row) for row in tables[tag]) if changed else b""
        parts.append(chunk(tag.encode(), content or data[start : start + size]))
    place = data.index(b"INFO")
    info = data[place : place + struct.unpack("<I", data[place - 4 : place])[0]]
    body = chunk(b"LIST", info) + chunk(b"LIST", b"sdta" + chunk(b"smpl", smpl))
    body += chunk(b"LIST", b"pdta" + b"".join(parts))
    arguments.out.write_bytes(chunk(b"RIFF", b"sfbk" + body))
    print(f"{arguments.out}: {len(body) / 1e6:.1f} MB of {len(data) / 1e6:.1f}")


if __name__ == "__main__":
    main()
