package remote_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// BenchmarkHop is a step of 100 ms there and back, both sides together, with a
// recogniser that takes no time: ten of these a second are what the hop costs a
// leg that is heard without a pause, of some 100 ms of processor time.
func BenchmarkHop(b *testing.B) {
	s := serve(b, &transcribetest.Echo{}, "unix:"+filepath.Join(b.TempDir(), "s"), nil)
	e := connect(b, nil, s.addr)
	session, err := e.Open(b.Context(), transcribe.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer session.Close()
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	pcm := make([]int16, 1600)
	before := cpu()
	for i := 0; b.Loop(); i++ {
		if _, err := session.Write(b.Context(), audio.Frame{Start: time.Duration(i) * 100 * time.Millisecond, Rate: 16000, PCM: pcm}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}
