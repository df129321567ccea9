#!/usr/bin/env bash
# Speaks each call's text with Debian's voices: stereo, left the caller, 8 kHz
# mu-law, 300 to 3,400 Hz, with a little line noise on each leg.
#   ./render.sh fraud-code.txt …        writes fraud-code.wav …
#   BAND=steep ./render.sh …            the same band with steep edges
#   RATE=16000 BAND=none ./render.sh …  wide band instead, 16-bit
set -euo pipefail
: "${RATE:=8000}" "${BAND:=line}" "${OUT:=}"
for tool in flite text2wave sox soxi; do
	command -v "$tool" >/dev/null || {
		echo "render.sh: $tool is missing; type: sudo apt-get install flite festival festvox-us-slt-hts sox" >&2
		exit 3
	}
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

say() { # voice text file
	case $1 in
	hts) text2wave -eval '(voice_cmu_us_slt_arctic_hts)' -o "$3.raw.wav" <<<"$2" ;;
	*) flite -voice "$1" -t "$2" -o "$3.raw.wav" ;;
	esac
	local shape=()
	case $BAND in
	line) shape=(highpass 300 lowpass 3400) ;; # the gentle slopes of a line card
	steep) shape=(sinc -n 511 300-3400) ;;
	esac
	sox -R "$3.raw.wav" -r "$RATE" -c 1 -b 16 "$3" norm -6 rate -v "$RATE" "${shape[@]}"
}

for text in "$@"; do
	name=$(basename "${text%.txt}")
	declare -A voice=([caller]=rms [callee]=slt)
	caller=() callee=() n=0
	while IFS= read -r line; do
		if [[ $line =~ ^#\ voice\ (caller|callee)\ ([a-z]+)$ ]]; then
			voice[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
		fi
		[[ $line =~ ^(caller|callee):\ (.*)$ ]] || continue
		role=${BASH_REMATCH[1]}
		n=$((n + 1))
		turn=$tmp/$name-$n.wav quiet=$tmp/$name-$n-quiet.wav
		say "${voice[$role]}" "${BASH_REMATCH[2]}" "$tmp/say.wav"
		sox -R "$tmp/say.wav" "$turn" pad 0.15 0.4
		sox -R "$turn" "$quiet" vol 0
		if [ "$role" = caller ]; then caller+=("$turn") callee+=("$quiet"); else caller+=("$quiet") callee+=("$turn"); fi
	done <"$text"
	for leg in caller callee; do
		declare -n turns=$leg
		sox -R "${turns[@]}" "$tmp/$leg-speech.wav"
		sox -R "$tmp/$leg-speech.wav" "$tmp/$leg-noise.wav" synth pinknoise vol 0.004
		sox -R -m -v 1 "$tmp/$leg-speech.wav" -v 1 "$tmp/$leg-noise.wav" "$tmp/$leg.wav"
	done
	coding=(-e mu-law)
	[ "$BAND" != none ] || coding=(-b 16)
	sox -R -M "$tmp/caller.wav" "$tmp/callee.wav" "${coding[@]}" "${OUT:-$(dirname "$text")}/$name.wav"
	echo "$name.wav: $n turns, $(soxi -d "${OUT:-$(dirname "$text")}/$name.wav")"
done
