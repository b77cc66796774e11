#!/usr/bin/env bash
# Makes baselines.json and baselines.md: about half an hour on two cores.
# Takes folders of POP909, of OpenEWLD's lead sheets and of the Philharmonia recordings, and of the SoundFonts
# TimGM6mb.sf2, sf_GMbank.sf2, OPL-3_FM_128M.sf2 and FluidR3Mono_GM.sf3 (packages timgm6mb-soundfont, csound-soundfont,
# opl3-soundfont and fluidr3mono-gm-soundfont of Debian and Ubuntu).
set -euo pipefail
pop909=$1 lead_sheets=$2 philharmonia=$3 soundfonts=$4 output=${5:-corpus}
here=$(dirname "$0")
python -m mt2_music.train.synth.corpus --output_dir "$output" --hours 10 --pop909 "$pop909" --musicxml "$lead_sheets" \
  --soundfonts "$soundfonts"/{TimGM6mb,sf_GMbank,OPL-3_FM_128M}.sf2 --test_soundfont "$soundfonts"/FluidR3Mono_GM.sf3
python -m mt2_music.train.probing.run --data corpus="$output" philharmonia="$philharmonia" \
  --model random-mt2 random-mt2-chroma log-mel cqt chroma mfcc krumhansl tapping constant --out "$here"/baselines.json
python -m mt2_music.train.probing.report "$here"/baselines.json --output "$here"/baselines.md
