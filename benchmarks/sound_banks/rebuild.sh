#!/usr/bin/env bash
# Makes the banks that mt2-small and mt2-base were trained with: `benchmarks/sound_banks/rebuild.sh BANKS`.
# Takes Debian's or Ubuntu's apt-get, dpkg-deb, npm, git and ffmpeg, and the extra `synth` of the package with
# tinysoundfont. README.md says where the recordings are from, and on what terms.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/sources/tonejs" "$1/deb"
banks=$(cd "$1" && pwd)
run() { script=$1; shift; "${PYTHON:-python}" "$here/$script.py" "$@"; }

cd "$banks/deb"
apt-get download freepats denemo-data csound-soundfont timgm6mb-soundfont opl3-soundfont
for package in *.deb; do dpkg-deb -x "$package" "$banks/sources/debian"; done
debian=$banks/sources/debian/usr/share

cd "$banks/sources"
for name in piano xylophone organ harmonium guitar-nylon guitar-acoustic violin cello contrabass harp trumpet trombone \
  tuba french-horn saxophone bassoon clarinet flute; do
  mkdir -p "tonejs/$name"
  tar xzf "$(npm pack --silent "tonejs-instrument-$name-mp3")" -C "tonejs/$name" --strip-components 1
done
checkout() { [ -d "${1##*/}" ] || git clone --quiet "https://github.com/$1"; git -C "${1##*/}" checkout --quiet "$2"; }
checkout adewale/keyboardia 702ad0c
checkout sfzinstruments/Discord-SFZ-GM-Bank 7a9c478
checkout surikov/webaudiofontdata 23ca907
run stage_notes . "$banks/notes"

cd "$banks"
run make_soundfont notes vsco.sf2 --comment "VSCO 2 CE, VCSL and other free recordings; see README"
# Of the others of the two banks with --only, some are out of tune, and some recordings are in FluidR3 or TimGM6mb too.
run convert_bank pat "$debian/midi/freepats/Tone_000" freepats.sf2 \
  --comment "freepats 20060219, GPL-2+ with exception; without its harp" \
  --only 4 6 8 14 15 21 23 32 40 42 44 45 48 56 57 58 59 60 61 64 65 66 67 68 69 70 71 72 73 74 75 76 79
run convert_bank sf2 "$debian/sounds/sf2/A320U.sf2" a320u.sf2 --comment "A320U (Airfont 320 update), GPL-2"
run convert_bank js sources/webaudiofontdata/sound:GeneralUserGS generalusergs.sf2 \
  --comment "GeneralUser GS (WebAudioFont edition), own licence" \
  --only 6 8 11 12 13 15 20 21 22 23 40 41 42 43 57 58 60 61 64 65 66 67 69 70 71 72 73 74 75 76 77 78 79 109
run check_soundfont vsco.sf2 freepats.sf2 a320u.sf2 generalusergs.sf2 --hide

run shrink_soundfont "$debian/sounds/sf2/TimGM6mb.sf2" TimGM6mb.sf2
run shrink_soundfont "$debian/sounds/sf2/sf_GMbank.sf2" sf_GMbank.sf2
run shrink_soundfont "$debian/sounds/sf2/OPL-3_FM_128M.sf2" OPL-3_FM_128M.sf2
sha256sum -- *.sf2
