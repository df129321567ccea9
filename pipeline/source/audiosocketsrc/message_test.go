package audiosocketsrc

import (
	"bytes"
	"strings"
	"testing"
)

// a message as it is on the wire.
func wire(kind byte, payload ...byte) []byte {
	return append([]byte{kind, byte(len(payload) >> 8), byte(len(payload))}, payload...)
}

var streams = map[string][]byte{
	"hang-up":        wire(kindHangUp),
	"a call":         bytes.Join([][]byte{wire(kindUUID, make([]byte, 16)...), wire(0x10, make([]byte, 320)...), wire(kindDigit, '5'), wire(kindHangUp)}, nil),
	"high rate":      wire(0x18, make([]byte, 7680)...),
	"largest":        wire(0x10, make([]byte, 65535)...),
	"cut in header":  {0x10, 0x01},
	"cut in payload": wire(0x10, make([]byte, 320)...)[:100],
	"huge length":    {0x10, 0xff, 0xff, 1, 2, 3},
	"a web browser":  []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	"odd samples":    wire(0x12, 1, 2, 3),
	"error":          wire(kindError, 4),
}

// cut splits stream as it comes in pieces of the given size.
func cut(stream []byte, size int) (all []message, rest int) {
	var s splitter
	for {
		for {
			m, ok := s.next()
			if !ok {
				break
			}
			all = append(all, message{m.kind, bytes.Clone(m.payload)})
		}
		if len(stream) == 0 {
			return all, s.end - s.start
		}
		n := copy(s.room(), stream[:min(size, len(stream))])
		s.wrote(n)
		stream = stream[n:]
	}
}

func checkCut(t *testing.T, stream []byte, size int) {
	t.Helper()
	whole, rest := cut(stream, len(stream)+1)
	pieces, restOfPieces := cut(stream, size)
	total := rest
	for i, m := range whole {
		total += header + len(m.payload)
		if i >= len(pieces) || pieces[i].kind != m.kind || !bytes.Equal(pieces[i].payload, m.payload) {
			t.Fatalf("message %d differs in pieces of %d bytes", i, size)
		}
	}
	if len(pieces) != len(whole) || rest != restOfPieces || total != len(stream) {
		t.Fatalf("%d messages and %d bytes left of %d; in pieces of %d bytes %d and %d", len(whole), rest, len(stream), size, len(pieces), restOfPieces)
	}
}

func TestMessagesAreTheSameInPieces(t *testing.T) {
	for name, stream := range streams {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 100, 4096} {
				checkCut(t, stream, size)
			}
		})
	}
}

// Whatever the bytes and pieces, no byte is lost, none is read twice, and the
// messages do not depend on the pieces.
func FuzzSplitter(f *testing.F) {
	for _, stream := range streams {
		f.Add(stream, uint16(7))
	}
	f.Fuzz(func(t *testing.T, stream []byte, size uint16) { checkCut(t, stream, max(1, int(size))) })
}

func TestUUIDIsReadInBytesAndCharacters(t *testing.T) {
	const want = "40325ec2-5efd-4bd3-805f-53576e581d13"
	raw := []byte{0x40, 0x32, 0x5e, 0xc2, 0x5e, 0xfd, 0x4b, 0xd3, 0x80, 0x5f, 0x53, 0x57, 0x6e, 0x58, 0x1d, 0x13}
	for _, payload := range [][]byte{raw, []byte(want), []byte(strings.ToUpper(want))} {
		if got, err := parseUUID(payload); got != want || err != nil {
			t.Errorf("%q: %q, %v", payload, got, err)
		}
	}
	for _, bad := range []string{"", "short", strings.Repeat("x", 36), want + "0", strings.Replace(want, "-", "0", 1)} {
		if got, err := parseUUID([]byte(bad)); err == nil {
			t.Errorf("%q was read as %q", bad, got)
		}
	}
}

func TestOnlyKeypadDigitsAreDigits(t *testing.T) {
	for in, want := range map[string]string{"0": "0", "9": "9", "*": "*", "#": "#", "A": "A", "d": "D", "E": "", "": "", "12": "", "\x05": ""} {
		if got, ok := digitOf([]byte(in)); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
}
