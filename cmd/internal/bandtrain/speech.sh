#!/usr/bin/env bash
# Fetches wide-band speech to train with beside the corpus: Asterisk's prompts
# in French, Italian and Russian, one studio voice each, 67 minutes, from
# Debian's packages (CC-BY-SA-3.0). English and Spanish are left out on purpose:
# the voice of both is one that we measure with.
#   ./speech.sh FOLDER        writes FOLDER/fr/….wav …; what is there stays
set -euo pipefail
for tool in apt-get dpkg-deb ffmpeg; do
	command -v "$tool" >/dev/null || {
		echo "speech.sh: $tool is missing; it works on Debian with ffmpeg installed" >&2
		exit 3
	}
done
mkdir -p "$1"
to=$(cd "$1" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for lang in fr it ru; do
	[ ! -d "$to/$lang" ] || continue
	(cd "$tmp" && apt-get -q download "asterisk-core-sounds-$lang-g722" >&2)
	dpkg-deb -x "$tmp"/asterisk-core-sounds-"$lang"-g722_*.deb "$tmp/$lang"
	mkdir "$tmp/$lang-wav"
	# Under a second there is little but one word.
	find "$tmp/$lang" -name '*.g722' -not -path '*silence*' -size +8k | LC_ALL=C sort | while read -r prompt; do
		name=${prompt#"$tmp/$lang"/usr/share/asterisk/sounds/}
		name=${name#*/}
		ffmpeg -nostdin -loglevel error -f g722 -i "$prompt" -ar 16000 -ac 1 "$tmp/$lang-wav/${name//\//_}.wav"
	done
	mv "$tmp/$lang-wav" "$to/$lang"
	echo "$lang: $(find "$to/$lang" -name '*.wav' | wc -l) prompts" >&2
done
