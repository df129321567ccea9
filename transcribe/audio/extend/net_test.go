package extend

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
)

func randomNet(hidden int) *Net {
	n := NewNet(hidden)
	n.Record = []byte(`{"made":"up"}`)
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range n.slices() {
		for i := range s {
			s[i] = float32(r.NormFloat64())
		}
	}
	return n
}

func TestANetIsReadAsItWasWritten(t *testing.T) {
	want, err := randomNet(3).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var n Net
	if err := n.UnmarshalBinary(want); err != nil {
		t.Fatal(err)
	}
	if got, _ := n.MarshalBinary(); !bytes.Equal(got, want) {
		t.Error("what was read writes other bytes")
	}
}

func TestBrokenNetsAreRefused(t *testing.T) {
	whole, err := randomNet(3).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	nan := bytes.Clone(whole)
	copy(nan[len(nan)-4:], []byte{0, 0, 0xc0, 0x7f})
	huge := bytes.Clone(whole)
	copy(huge[len(magic):], []byte{0xff, 0xff, 0xff, 0xff})
	record := bytes.Clone(whole)
	record[len(magic)+4] = '!'
	for name, data := range map[string][]byte{
		"empty": nil, "magic only": []byte(magic), "something else": []byte("RIFF....WAVE"),
		"cut": whole[:len(whole)-1], "too long": append(bytes.Clone(whole), 0),
		"not a number": nan, "a huge record": huge, "a record that is not JSON": record,
	} {
		if err := new(Net).UnmarshalBinary(data); err == nil {
			t.Errorf("%s was taken for a net", name)
		}
	}
}

// FuzzNet: what is taken for a net writes the same bytes again.
func FuzzNet(f *testing.F) {
	whole, err := randomNet(1).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:40])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		var n Net
		if n.UnmarshalBinary(data) != nil {
			return
		}
		if got, err := n.MarshalBinary(); err != nil || !bytes.Equal(got, data) {
			t.Errorf("read %d bytes, wrote %d, %v", len(data), len(got), err)
		}
	})
}

func TestTheNetInTheBoxTellsItsTraining(t *testing.T) {
	var record struct {
		Training struct{ Seed, Passes int }
		Speech   []struct {
			Name, SHA256 string
			Minutes      float64
		}
	}
	if err := json.Unmarshal(Default().Record, &record); err != nil {
		t.Fatal(err)
	}
	if record.Training.Passes == 0 || len(record.Speech) == 0 {
		t.Errorf("nothing of its training: %s", Default().Record)
	}
	for _, s := range record.Speech {
		if s.Name == "" || len(s.SHA256) != 64 || s.Minutes <= 0 {
			t.Errorf("its speech is %+v", s)
		}
	}
}

// The hyperbolic tangent's stand-in must keep to its bounds and be smooth, or
// training goes astray.
func TestTanhIsCloseAndItsSlopeTrue(t *testing.T) {
	for x := float32(-5); x <= 5; x += 0.01 {
		if d := math.Abs(float64(Tanh(x)) - math.Tanh(float64(x))); d > 0.025 {
			t.Errorf("at %v it is off by %v", x, d)
		}
		const by = 1e-2
		slope := (Tanh(x+by) - Tanh(x-by)) / (2 * by)
		if d := math.Abs(float64(slope - TanhSlope(x))); d > 1e-2 {
			t.Errorf("at %v the slope is off by %v", x, d)
		}
	}
}
