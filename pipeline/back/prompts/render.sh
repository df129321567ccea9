#!/usr/bin/env bash
# Speaks each prompt's text with a voice of Debian: mono, 16 kHz mu-law, with
# the levels of telephone speech.
#   ./render.sh customer.en.txt …   writes customer.en.wav …
set -euo pipefail
for tool in text2wave sox soxi; do
	command -v "$tool" >/dev/null || {
		echo "render.sh: $tool is missing; type: sudo apt-get install festival festvox-us-slt-hts sox" >&2
		exit 3
	}
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for text in "$@"; do
	wav=${text%.txt}.wav
	text2wave -eval '(voice_cmu_us_slt_arctic_hts)' -o "$tmp/raw.wav" "$text"
	sox -R "$tmp/raw.wav" "$tmp/loud.wav" rate -v 16000 highpass 100 norm -3
	sox -R "$tmp/loud.wav" -c 1 -e mu-law "$wav" silence 1 0.02 0.1% reverse silence 1 0.02 0.1% reverse pad 0.3 0.3
	echo "$wav: $(soxi -d "$wav")"
done
