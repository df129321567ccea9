package main

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/jsonsink"
	"github.com/callwarden/callwarden/pipeline/sink/reportsink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/filesrc"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// BenchmarkReplay hears the demo calls with the real recogniser, everything
// transcribed, and splits the CPU of one and the same run in two: inside the
// recogniser's sessions, and all around it (files, resampling, detectors,
// events over NATS, JSON and report). It reports
//
//	around-%     CPU around the recogniser, in percent of that inside it
//	audio-s/s    seconds of two-leg audio a second, on all cores
//	per-core     the same a core, by CPU time
func BenchmarkReplay(b *testing.B) {
	a := &app{out: io.Discard, err: io.Discard}
	hear := hearFlags{backend: "vosk", model: "vosk-small-en-us", library: "libvosk"}
	engine, err := hear.engine(a, discardLog())
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	metered := &meteredEngine{Engine: engine}
	listener, err := listen.New(metered, listen.DefaultConfig(), discardLog())
	if err != nil {
		b.Fatal(err)
	}
	_, judge, err := (&judgeFlags{}).judge(discardLog())
	if err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	var heard atomic.Int64 // nanoseconds of calls
	var allCPU, wall time.Duration
	for b.Loop() {
		nats, server, err := (&natsFlags{}).open(context.Background(), log, true)
		if err != nil {
			b.Fatal(err)
		}
		dir := b.TempDir()
		reports, err := reportsink.New(reportsink.Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		out := sink.Tee(reports, newEventFiles(dir, jsonsink.Config{Transcripts: true}), nats)
		cfg := pipeline.DefaultConfig()
		cfg.Hypotheses = true // the most that can be published
		pipe, err := pipeline.New(cfg, listener, judge, out, log)
		if err != nil {
			b.Fatal(err)
		}
		files := filesrc.DefaultConfig()
		files.Paths = []string{filepath.Join("..", "..", "testdata", "calls")}
		src, err := filesrc.New(files)
		if err != nil {
			b.Fatal(err)
		}
		began, cpu := time.Now(), processCPU()
		err = src.Serve(context.Background(), func(ctx context.Context, call *source.Call) error {
			heard.Add(int64(call.Duration))
			call.Audio = reports.Draw(call.Tenant, call.ID, call.Audio)
			return pipe.Listen(ctx, call)
		})
		if err != nil {
			b.Fatal(err)
		}
		if err := closeSink(out, time.Minute); err != nil {
			b.Fatal(err)
		}
		allCPU += processCPU() - cpu
		wall += time.Since(began)
		server.Shutdown()
	}
	inside := time.Duration(metered.cpu.Load())
	audioS := time.Duration(heard.Load()).Seconds()
	b.ReportMetric(100*(allCPU-inside).Seconds()/inside.Seconds(), "around-%")
	b.ReportMetric(audioS/wall.Seconds(), "audio-s/s")
	b.ReportMetric(audioS/allCPU.Seconds(), "per-core")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkScreen is what screening ordinary talk costs, as processor time per
// second of a two-leg call, and how much of it is around the recogniser. The
// gate and the front end are; the lists are compiled before.
func BenchmarkScreen(b *testing.B) {
	a := &app{out: io.Discard, err: io.Discard}
	hear := hearFlags{backend: "vosk", model: "vosk-small-en-us", library: "libvosk", listen: listen.Screening}
	engine, err := hear.engine(a, discardLog())
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	packs, judge, err := (&judgeFlags{}).judge(discardLog())
	if err != nil {
		b.Fatal(err)
	}
	metered := &meteredEngine{Engine: engine}
	cfg, closeListening := hear.listening(a, engine, packs.Library, discardLog())
	defer func() { _ = closeListening() }()
	listener, err := listen.New(metered, cfg, discardLog())
	if err != nil {
		b.Fatal(err)
	}
	pipe, err := pipeline.New(pipeline.DefaultConfig(), listener, judge, jsonsink.New(io.Discard, jsonsink.Config{}), discardLog())
	if err != nil {
		b.Fatal(err)
	}
	files := filesrc.DefaultConfig()
	files.Paths = []string{filepath.Join("..", "..", "testdata", "ordinary")}
	files.Parallel = 1
	var heard, cpu time.Duration
	hearAll := func() {
		src, err := filesrc.New(files)
		if err != nil {
			b.Fatal(err)
		}
		err = src.Serve(context.Background(), func(ctx context.Context, call *source.Call) error {
			heard += call.Duration
			return pipe.Listen(ctx, call)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	hearAll() // loads the second model
	heard = 0
	metered.cpu.Store(0)
	for b.Loop() {
		began := processCPU()
		hearAll()
		cpu += processCPU() - began
	}
	inside := time.Duration(metered.cpu.Load())
	b.ReportMetric(1000*cpu.Seconds()/heard.Seconds(), "cpu-ms/s")
	b.ReportMetric(1000*inside.Seconds()/heard.Seconds(), "inside-ms/s")
	b.ReportMetric(0, "ns/op")
}

// meteredEngine adds up the CPU time that its sessions take.
type meteredEngine struct {
	transcribe.Engine
	cpu atomic.Int64 // nanoseconds
}

func (e *meteredEngine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	defer e.meter()()
	s, err := e.Engine.Open(ctx, opt)
	return &meteredSession{s, e}, err
}

type meteredSession struct {
	transcribe.Session
	e *meteredEngine
}

func (s *meteredSession) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	defer s.e.meter()()
	return s.Session.Write(ctx, f)
}

func (s *meteredSession) Pause(ctx context.Context) ([]transcribe.Segment, error) {
	defer s.e.meter()()
	return s.Session.(transcribe.Pauser).Pause(ctx) //nolint:forcetypeassert // the benchmarks are of vosk
}

func (s *meteredSession) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	defer s.e.meter()()
	return s.Session.Finish(ctx)
}

func (s *meteredSession) Close() error {
	defer s.e.meter()()
	return s.Session.Close()
}

// meter adds the CPU time of this thread until the returned function is called.
func (e *meteredEngine) meter() func() {
	runtime.LockOSThread()
	began := threadCPU()
	return func() {
		e.cpu.Add(int64(threadCPU() - began))
		runtime.UnlockOSThread()
	}
}

func threadCPU() time.Duration  { return cpuClock(unix.CLOCK_THREAD_CPUTIME_ID) }
func processCPU() time.Duration { return cpuClock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func cpuClock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		panic(err) // these clocks are always there on Linux
	}
	return time.Duration(t.Nano())
}
