#!/bin/sh
# Renders speech.wav, which the tests of this package hear: 16 kHz, mono, two
# sentences of flite's voice slt with pauses after them.
# Needs Debian's flite and sox.
set -eu
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n=0
for line in \
	"please read me the verification code." \
	"do not tell anyone about this call."
do
	n=$((n + 1))
	flite -voice slt -t "$line" -o "$tmp/$n.wav"
	sox -R "$tmp/$n.wav" -r 16000 -c 1 -b 16 "$tmp/p$n.wav" gain -n -6 pad 0.4 0.9
done
sox -R "$tmp"/p1.wav "$tmp"/p2.wav speech.wav
