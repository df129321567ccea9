#!/usr/bin/env bash
# Hears the demo calls and shows their events as an independent subscriber gets
# them from NATS: replay and watch are two processes that share only a port.
#   testdata/demo.sh path/to/callwarden
set -euo pipefail
bin=$1
calls=$(dirname "$0")/calls
out=${CALLWARDEN_DEMO_OUT:-out/demo}
address=127.0.0.1:${CALLWARDEN_DEMO_PORT:-14222}
n=$(find "$calls" -name '*.wav' | wc -l)
mkdir -p "$out"

echo "Hearing $n recorded calls. What follows arrives over NATS, at $address:"
echo
"$bin" replay "$calls" --nats-listen "$address" --quiet --out "$out" >"$out/summary.txt" 2>"$out/errors.txt" &
replay=$!
"$bin" watch --nats "nats://$address" --since all --ended "$n" 2>"$out/watch-errors.txt" &
watch=$!
trap 'kill "$replay" "$watch" 2>/dev/null || true' EXIT

if ! wait "$replay"; then
	cat "$out/errors.txt" >&2
	echo "demo: replay failed; is something else listening at $address? CALLWARDEN_DEMO_PORT=14333 make demo takes another port" >&2
	exit 1
fi
(sleep 20 && kill "$watch" 2>/dev/null) &
if ! wait "$watch"; then
	cat "$out/watch-errors.txt" >&2
	echo "demo: the subscriber did not see all $n calls end" >&2
	exit 1
fi

cat "$out/summary.txt"
# The frauds reach critical and the honest calls stay at notice or below.
if ! awk '
	$1 ~ /^fraud-.*\.wav$/  { frauds++;  if ($3 != "critical") { print "demo: " $1 " reached only " $3; bad = 1 } }
	$1 ~ /^honest-.*\.wav$/ { honest++; if ($3 != "none" && $3 != "notice") { print "demo: " $1 " reached " $3; bad = 1 } }
	END { exit bad || frauds != 3 || honest != 3 }' "$out/summary.txt" >&2; then
	echo "demo: the calls were not judged as they should be" >&2
	exit 1
fi
echo
echo "Three frauds reached critical, three honest calls stayed at notice or below."
echo "Look at them: $out/index.html"
