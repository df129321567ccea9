package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/none"
)

// nowhere takes events.
type nowhere struct{}

func (nowhere) Publish(context.Context, sink.Event) error { return nil }
func (nowhere) Close(context.Context) error               { return nil }

// unmoved is a detector that finds nothing.
type unmoved struct{}

func (unmoved) Observe(transcribe.Segment) []detectors.Finding { return nil }

// paced is a live call of two legs in frames of a length, in real time from
// began on, as the media core gives them.
type paced struct {
	frame, at, length time.Duration
	began             time.Time
	talk              []int16 // 8 kHz, of both legs
	callee            bool    // is next
}

func (p *paced) ReadFrame(ctx context.Context) (audio.Frame, error) {
	if p.at >= p.length {
		return audio.Frame{}, io.EOF
	}
	leg := audio.Callee
	if !p.callee {
		leg = audio.Caller
		t := time.NewTimer(time.Until(p.began.Add(p.at + p.frame)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return audio.Frame{}, ctx.Err()
		}
	}
	from, n := int(p.at*8000/time.Second), int(p.frame*8000/time.Second)
	f := audio.Frame{Leg: leg, Start: p.at, Rate: 8000, PCM: p.talk[from : from+n : from+n]}
	if p.callee {
		p.at += p.frame
	}
	p.callee = !p.callee
	return f, nil
}

func cpuTime(b testing.TB) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// callerOf is what the caller says in a recorded call.
func callerOf(b testing.TB) (pcm []int16) {
	b.Helper()
	f, err := audio.OpenFile(filepath.Join("..", "testdata", "calls", "honest-card-shop.wav"), audio.FileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for {
		frame, err := f.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			return pcm
		}
		if err != nil {
			b.Fatal(err)
		}
		if frame.Leg == audio.Caller {
			pcm = append(pcm, frame.PCM...)
		}
	}
}

// unheard is a pipeline of which only the hearing is missing.
func unheard(b testing.TB) *Pipeline {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	l, err := listen.New(none.New(), listen.DefaultConfig(), log)
	if err != nil {
		b.Fatal(err)
	}
	p, err := New(DefaultConfig(), l, func(*source.Call) (detectors.Detector, *risk.Meter) {
		return unmoved{}, risk.NewMeter(risk.DefaultConfig())
	}, nowhere{}, log)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// BenchmarkLiveCalls tells what everything between the media core and the
// recogniser costs: CPU for a second of a leg's audio, and memory for a call.
func BenchmarkLiveCalls(b *testing.B) {
	const calls, length = 200, 4 * time.Second
	for _, frame := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond} {
		b.Run(frame.String(), func(b *testing.B) {
			p := unheard(b)
			talk := callerOf(b)
			for b.Loop() {
				before, cpu, began := inUse(), cpuTime(b), time.Now()
				var all sync.WaitGroup
				for i := range calls {
					all.Go(func() {
						err := p.Listen(context.Background(), &source.Call{
							ID: fmt.Sprint(i), Tenant: "default", Source: "bench", Live: true, Legs: []audio.Leg{audio.Caller, audio.Callee},
							Audio: &paced{frame: frame, length: length, began: began.Add(frame * time.Duration(i) / calls), talk: talk},
						})
						if err != nil {
							b.Error(err)
						}
					})
				}
				time.AfterFunc(length/2, func() {
					b.ReportMetric(float64(inUse()-before)/calls/1024, "KiB/call")
					b.ReportMetric(float64(runtime.NumGoroutine())/calls, "goroutines/call")
				})
				all.Wait()
				legSeconds := 2 * calls * length.Seconds()
				b.ReportMetric(float64(cpuTime(b)-cpu)/float64(time.Millisecond)/legSeconds, "cpu-ms/leg-s")
			}
		})
	}
}
