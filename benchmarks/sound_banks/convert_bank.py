"""Make a compact SoundFont of a bank that is there: `python benchmarks/sound_banks/convert_bank.py KIND BANK OUT.sf2`.

KIND is "pat" for a folder of Gravis patches, "sf2" for a SoundFont, "js" for the scripts of WebAudioFont, given as
FOLDER:NAME. Samples become mono of 16 kHz, and as long as a short note needs.
"""

import argparse
import base64
import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from pitch import measure_cents
from soundfont import SUSTAINED, Bank, Zone, meet_halfway, read_samples, read_table, to_text, write_soundfont

RATE = 16000
SECONDS = 2.2
VELOCITY = 90  # of the layer that is kept
PROGRAMS = [*range(38), *range(40, 50), 52, 53, 54, *range(56, 62), *range(64, 80), *range(105, 112), 114]
ORGANS = range(16, 24)
COPIED = {8, 9, 11, *range(25, 31), *range(33, 39), 48}  # filter, modulation and volume envelopes, attenuation
DECAY = {36: 3600, 37: 1000}  # 8 s to silence, for loops of what is plucked or struck


def compact(zone: Zone) -> Zone:
    """Bring a zone to `RATE`, its loop to a whole number of samples, and cut what a short note never reaches."""
    x, loop = zone.samples, zone.loop
    if loop:
        x = x[: loop[1] + 8]
    ratio = min(1.0, RATE / zone.rate)
    if loop and ratio < 1:
        ratio = max(1, round((loop[1] - loop[0]) * ratio)) / (loop[1] - loop[0])
    if ratio < 1:
        x = soxr.resample(np.concatenate([x, np.tile(x[slice(*loop)], 3)[:2000] if loop else []]), 1.0, ratio)
    longest = int(SECONDS * zone.rate * ratio)
    if loop:
        start = round(loop[0] * ratio)
        loop = (start, start + round((loop[1] - loop[0]) * ratio))
        x = x[: loop[1] + 8]
    elif len(x) > SECONDS * zone.rate * ratio:
        x = x[:longest] * np.minimum(1, np.linspace(40, 0, longest))
    rate = round(zone.rate * ratio)
    pitch = zone.pitch + 12 * np.log2(rate / (zone.rate * ratio))
    return Zone(x, rate, pitch, zone.low, zone.high, loop, zone.generators)


def retune(zone: Zone, program: int) -> Zone:
    """Trust the measured pitch where it is clear and near the stated one, or, but for organs, an octave above it."""
    x = np.concatenate([zone.samples, np.tile(zone.samples[slice(*zone.loop)], 40)]) if zone.loop else zone.samples
    part = x[int(0.1 * zone.rate) : int(1.0 * zone.rate)]
    if len(part) > 0.2 * zone.rate:
        cents, clarity = measure_cents(part, zone.rate, zone.pitch)
        if clarity == 0 and program not in ORGANS and measure_cents(part, zone.rate, zone.pitch + 12)[1] > 0.8:
            zone.pitch += 12
            cents, clarity = measure_cents(part, zone.rate, zone.pitch)
        if clarity > 0.6 and 5 < abs(cents) < 60:
            zone.pitch += cents / 100
    return zone


def read_patch(path: Path, program: int) -> list[Zone]:
    """Return the zones of a Gravis patch file."""
    data, place = path.read_bytes(), 129 + 63
    count = data[place + 6]
    place += 47
    zones = []
    for _ in range(count):
        size, start, end, rate, _, _, root = struct.unpack("<IIIHIII", data[place + 8 : place + 34])
        modes = data[place + 55]
        raw = data[place + 96 : place + 96 + size]
        place += 96 + size
        width, unsigned = 2 if modes & 1 else 1, bool(modes & 2)
        x = np.frombuffer(raw, f"<{'u' if unsigned else 'i'}{width}").astype(float)
        x = x / (32768 if width == 2 else 128) - unsigned
        loop = (start // width, end // width) if modes & 4 and end - start > 8 * width else None
        if loop and modes & 8:  # it goes back and forth: write the way back out
            x = np.concatenate([x[: loop[1]], x[loop[0] : loop[1]][::-1]])
            loop = (loop[0], len(x))
        extra = {} if program in SUSTAINED or not loop else DECAY
        zones.append(Zone(x, rate, 69 + 12 * np.log2(root / 440000), loop=loop, generators=dict(extra)))
    return meet_halfway(list({round(zone.pitch): zone for zone in zones}.values()))


def read_patches(folder: Path) -> Bank:
    """Return the programs of a folder of patches, such as "040_Violin.pat"."""
    files = {int(path.name[:3]): path for path in sorted(folder.glob("[01]*.pat"))}
    zones = {program: read_patch(path, program) for program, path in files.items() if program in PROGRAMS}
    return {program: (files[program].stem[4:], found) for program, found in zones.items() if found}


def _bags(bags: list[Any], generators: list[Any], first: int, last: int, end: int) -> Iterator[dict[int, int]]:
    """Yield the settings of zones, over those of the global zone; `end` is the generator that no other zone lacks."""
    general: dict[int, int] = {}
    for index in range(first, last):
        found = dict(generators[bags[index][0] : bags[index + 1][0]])
        if end in found:
            yield {**general, **found}
        elif index == first:
            general = found


def _span(settings: dict[int, int], number: int) -> tuple[int, int]:
    value = settings.get(number)
    return (0, 127) if value is None else (value & 255, (value >> 8) & 255)


def read_soundfont(path: Path) -> Bank:
    """Return the melodic programs of a SoundFont: of every range of keys the first sound at one velocity."""
    data = path.read_bytes()
    samples = read_samples(data)
    tables = {tag: read_table(data, tag) for tag in ("phdr", "pbag", "pgen", "inst", "ibag", "igen", "shdr")}
    phdr, inst = tables["phdr"], tables["inst"]
    bank: Bank = {}
    for row, following in zip(phdr, phdr[1:], strict=False):
        if row[2] != 0 or row[1] not in PROGRAMS:
            continue
        zones: list[Zone] = []
        for preset in _bags(tables["pbag"], tables["pgen"], row[3], following[3], 41):
            if not _span(preset, 44)[0] <= VELOCITY <= _span(preset, 44)[1]:
                continue
            index = preset[41]
            for own in _bags(tables["ibag"], tables["igen"], inst[index][1], inst[index + 1][1], 53):
                low = max(_span(preset, 43)[0], _span(own, 43)[0])
                high = min(_span(preset, 43)[1], _span(own, 43)[1])
                sounds = _span(own, 44)[0] <= VELOCITY <= _span(own, 44)[1]
                if not sounds or low > high or _taken(zones, low, high) or own.get(56, 100) != 100:
                    continue
                zones.append(_zone(own, preset, tables["shdr"][own[53]], samples, low, high))
        if zones:
            bank[row[1]] = (to_text(row[0]), _to_the_ends(zones))
    return bank


def _zone(
    own: dict[int, int], preset: dict[int, int], sample: tuple[Any, ...], samples: np.ndarray, low: int, high: int
) -> Zone:
    root = own.get(58, -1) if 0 <= own.get(58, -1) < 128 else sample[6]
    tune = sample[7] + own.get(52, 0) + preset.get(52, 0) + 100 * (own.get(51, 0) + preset.get(51, 0))
    start = sample[1] + own.get(0, 0) + 32768 * own.get(4, 0)
    first = sample[3] + own.get(2, 0) + 32768 * own.get(45, 0)
    last = sample[4] + own.get(3, 0) + 32768 * own.get(50, 0)
    loop = (first - start, last - start) if own.get(54, 0) & 1 and last - first > 8 else None
    x = samples[start : sample[2] + own.get(1, 0)] / 32768.0
    kept = {number: value for number, value in own.items() if number in COPIED}
    return Zone(x, sample[5], root - tune / 100, low, high, loop, kept)


def _taken(zones: list[Zone], low: int, high: int) -> bool:
    return any(zone.low <= high and low <= zone.high for zone in zones)


def _to_the_ends(zones: list[Zone]) -> list[Zone]:
    """Let the outermost zones cover the rest of the keyboard."""
    zones = sorted(zones, key=lambda zone: zone.low)
    zones[0].low, zones[-1].high = 0, 127
    return zones


def read_scripts(folder: Path, font: str) -> Bank:
    """Return the programs of WebAudioFont scripts "PPP0_FONT_sf2*.js", the first variant of program PPP."""
    bank: Bank = {}
    for program in PROGRAMS:
        paths = [folder / f"{program:03d}0_{font}_sf2{end}.js" for end in ("_file", "")]
        path = next((path for path in paths if path.exists()), None)
        zones: list[Zone] = []
        for block in re.findall(r"\{\s*midi:.*?\}", path.read_text(encoding="utf-8"), re.S) if path else []:
            get = {key: int(float(value)) for key, value in re.findall(r"(\w+):(-?[\d.]+)\s*\n", block)}
            sound = re.search(r"(file|sample):'([^']*)'", block)
            low, high = get["keyRangeLow"], get["keyRangeHigh"]
            if not sound or low > high or _taken(zones, low, high):
                continue
            raw = base64.b64decode(sound[2])
            if sound[1] == "file":
                audio, rate = soundfile.read(io.BytesIO(raw), always_2d=True)
                x, scale = audio.mean(axis=1), rate / get["sampleRate"]
            else:
                x, rate, scale = np.frombuffer(raw[: len(raw) // 2 * 2], "<i2") / 32768.0, get["sampleRate"], 1.0
            first, last = round(get["loopStart"] * scale), round(get["loopEnd"] * scale)
            loop = (first, last) if 8 < last - first and last <= len(x) else None
            extra = DECAY if program not in SUSTAINED and loop else {}
            pitch = get["originalPitch"] / 100 - get["coarseTune"] - get["fineTune"] / 100
            zones.append(Zone(x, rate, pitch, low, high, loop, dict(extra)))
        if zones:
            bank[program] = (f"{font} {program}", _to_the_ends(zones))
    return bank


def main() -> None:
    """Convert a bank from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("pat", "sf2", "js"))
    parser.add_argument("bank", help="folder, file, or FOLDER:NAME")
    parser.add_argument("out", type=Path)
    parser.add_argument("--comment", default="", help="where the recordings are from")
    parser.add_argument("--only", type=int, nargs="+", help="programs, 0-based (default: all that hold a pitch)")
    parser.add_argument("--without", type=int, nargs="+", default=[], help="programs to leave out")
    arguments = parser.parse_args()
    if arguments.kind == "pat":
        bank = read_patches(Path(arguments.bank))
    elif arguments.kind == "sf2":
        bank = read_soundfont(Path(arguments.bank))
    else:
        folder, _, font = arguments.bank.partition(":")
        bank = read_scripts(Path(folder), font)
    kept = {*(arguments.only or bank)} - {*arguments.without}
    bank = {
        program: (name, [retune(compact(zone), program) for zone in zones])
        for program, (name, zones) in bank.items()
        if program in kept
    }
    write_soundfont(arguments.out, bank, arguments.comment)
    print(arguments.out, len(bank), "programs")


if __name__ == "__main__":
    main()
