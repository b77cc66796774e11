"""Lay out recorded notes for make_soundfont.py: `python benchmarks/sound_banks/stage_notes.py SOURCES NOTES`.

SOURCES holds what rebuild.sh has fetched: tonejs/NAME, the unpacked npm packages tonejs-instrument-NAME-mp3, and
keyboardia and Discord-SFZ-GM-Bank, checkouts of these repositories.
"""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

from make_soundfont import note_number

# Folder of a program: package, and the least semitones between notes that are kept.
PACKAGES = {
    "000_piano": ("piano", 5),
    "013_xylophone": ("xylophone", 0),
    "019_organ": ("organ", 0),
    "020_harmonium": ("harmonium", 5),
    "024_guitar-nylon": ("guitar-nylon", 4),
    "025_guitar-steel": ("guitar-acoustic", 4),
    "040_violin-section": ("violin", 0),
    "042_cello": ("cello", 0),
    "043_contrabass": ("contrabass", 0),
    "046_harp": ("harp", 0),
    "056_trumpet": ("trumpet", 0),
    "057_trombone": ("trombone", 0),
    "058_tuba": ("tuba", 0),
    "060_horn": ("french-horn", 0),
    "065_alto-sax": ("saxophone", 0),
    "070_bassoon": ("bassoon", 0),
    "071_clarinet": ("clarinet", 0),
    "073_flute": ("flute", 0),
}
VIOLAS = ("A4", "B5", "C5", "D3", "D6", "E3", "E5", "F4", "G3", "G5")  # of the string section
MALLETS = {"011_vibraphone": "vibraphone", "012_marimba": "marimba"}
MIXED_STRINGS = {"044_tremolo-strings": "045-Tremolo Strings", "045_pizzicato": "046-Pizzicato Strings"}
STEEL_DRUMS, STEEL_DRUM_SPACING, VELOCITY = "114_steel-drums", 4, 85


def put(source: Path, target: Path) -> None:
    """Copy a note; one in AAC, which libsndfile does not read, is decoded by ffmpeg."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".m4a":
        command = ["ffmpeg", "-loglevel", "error", "-y", "-i", str(source), str(target.with_suffix(".wav"))]
        subprocess.run(command, check=True)
    else:
        shutil.copyfile(source, target)


def stage_packages(sources: Path, notes: Path) -> None:
    """Lay out the npm packages."""
    for folder, (package, spacing) in PACKAGES.items():
        found = {note_number(path.stem): path for path in (sources / "tonejs" / package).glob("*.mp3")}
        last = -128
        for note in sorted(note for note in found if note is not None):
            if note - last >= spacing:
                put(found[note], notes / folder / found[note].name)
                last = note


def stage_keyboardia(instruments: Path, notes: Path) -> None:
    """Lay out strings, mallets, kalimba and steel drums."""
    for path in (instruments / "string-section").glob("*.m[p4][3a]"):
        put(path, notes / "048_string-section" / path.name)
        if path.stem in VIOLAS:
            put(path, notes / "041_viola-section" / path.name)
    for folder, name in MALLETS.items():
        for path in (instruments / name).glob("*-mf.mp3"):
            put(path, notes / folder / f"{path.stem.removesuffix('-mf')}.mp3")
    for path in (instruments / "kalimba").glob("*.mp3"):
        put(path, notes / "108_kalimba" / path.name)
    drums = instruments / "steel-drums"
    samples = json.loads((drums / "manifest.json").read_text(encoding="utf-8"))["samples"]
    for note in range(60, 84, STEEL_DRUM_SPACING):
        layers = [sample for sample in samples if sample["note"] == note]
        middle = min(layers, key=lambda s: abs((s["velocityMin"] + s["velocityMax"]) / 2 - VELOCITY))
        put(drums / middle["file"], notes / STEEL_DRUMS / f"{note}.m4a")


def stage_mixed_strings(melodic: Path, notes: Path) -> None:
    """Lay out tremolo and pizzicato, whose names are an octave low."""
    for folder, name in MIXED_STRINGS.items():
        for path in (melodic / name).glob("*.wav"):
            note = path.stem.rpartition("_")[2]
            put(path, notes / folder / f"{note[:-1]}{int(note[-1]) + 1}.wav")


def main() -> None:
    """Lay out everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("notes", type=Path)
    arguments = parser.parse_args()
    stage_packages(arguments.sources, arguments.notes)
    stage_keyboardia(arguments.sources / "keyboardia/app/public/instruments", arguments.notes)
    stage_mixed_strings(arguments.sources / "Discord-SFZ-GM-Bank/Discord GM/Melodic", arguments.notes)


if __name__ == "__main__":
    main()
