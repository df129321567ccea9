package caller

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/audiosocketsrc"
	"github.com/callwarden/callwarden/pipeline/source/rtpsrc"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// ledger keeps what a source hears.
type ledger struct {
	mu     sync.Mutex
	calls  []*source.Call
	heard  []map[audio.Leg][]int16 // by call
	refuse error
	tell   []sink.Event   // at the end of each call, or with say
	say    *source.Prompt // at the beginning of each call
}

func (l *ledger) handle(ctx context.Context, call *source.Call) error {
	if l.refuse != nil {
		return l.refuse
	}
	if call.Admitted != nil {
		call.Admitted()
	}
	if l.say != nil {
		for _, ev := range l.tell {
			call.Peer.Tell(ev)
		}
		if err := call.Peer.(source.Player).Play(*l.say); err != nil {
			return err
		}
	}
	pcm := make(map[audio.Leg][]int16)
	for {
		f, err := call.Audio.ReadFrame(ctx)
		if err != nil {
			if l.say == nil {
				for _, ev := range l.tell {
					call.Peer.Tell(ev)
				}
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.calls, l.heard = append(l.calls, call), append(l.heard, pcm)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		pcm[f.Leg] = append(pcm[f.Leg], f.PCM...)
	}
}

// serve runs s until the test ends.
func serve(t *testing.T, s source.Source, l *ledger) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l.handle) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
}

// contains reports whether part comes in whole, in one piece.
func contains(whole, part []int16) bool {
	for i := 0; i+len(part) <= len(whole); i++ {
		if slices.Equal(whole[i:i+len(part)], part) {
			return true
		}
	}
	return false
}

func TestPlainRTPIsHeardAsSent(t *testing.T) {
	rec := twoLegs(500 * time.Millisecond)
	for _, c := range []struct {
		codec string
		want  func(pcm []int16) []int16
	}{
		{"PCMU", func(pcm []int16) []int16 { return audio.MuLaw.Decode(nil, audio.MuLaw.Encode(nil, pcm)) }},
		{"PCMA", func(pcm []int16) []int16 { return audio.ALaw.Decode(nil, audio.ALaw.Encode(nil, pcm)) }},
		{"L16", func(pcm []int16) []int16 { return pcm }},
		{"G722", func(pcm []int16) []int16 {
			up, err := resampled(pcm, 8000, 16000)
			if err != nil {
				t.Fatal(err)
			}
			var d audio.G722Decoder
			return d.Decode(nil, g722(up))
		}},
	} {
		t.Run(c.codec, func(t *testing.T) {
			src, err := rtpsrc.New(rtpsrc.DefaultConfig(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			var l ledger
			serve(t, src, &l)
			api := httptest.NewServer(src.Handler())
			defer api.Close()
			cfg := DefaultConfig()
			cfg.Way, cfg.To, cfg.Codec, cfg.Calls, cfg.From = RTP, api.URL, c.codec, 3, "+12025550177"
			if got := run(t, cfg, rec); !got.Good() || got.Answered != 3 {
				t.Fatalf("results %+v", got)
			}
			await(t, "three calls", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.calls) == 3 })
			for i, call := range l.calls {
				if call.Attributes["from"] != "+12025550177" {
					t.Errorf("attributes %v", call.Attributes)
				}
				for _, side := range rec.Legs {
					if !contains(l.heard[i][side.Leg], c.want(side.PCM)) {
						t.Errorf("call %d: what was heard of the %s is not what was sent", i, side.Leg)
					}
				}
			}
		})
	}
}

func TestAudioSocketLegsAreOneCall(t *testing.T) {
	cfg := audiosocketsrc.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	src, err := audiosocketsrc.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var l ledger
	serve(t, src, &l)
	api := httptest.NewServer(src.Handler())
	defer api.Close()
	rec := twoLegs(500 * time.Millisecond)
	ask := DefaultConfig()
	ask.Way, ask.To, ask.API, ask.Calls = AudioSocket, src.Addr().String(), api.URL, 3
	if got := run(t, ask, rec); !got.Good() || got.Packets != 3*2*25 {
		t.Fatalf("results %+v", got)
	}
	await(t, "three calls", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.calls) == 3 })
	for i, call := range l.calls {
		if call.Attributes["to"] != ask.Number || len(call.Legs) != 2 {
			t.Errorf("legs %v, attributes %v", call.Legs, call.Attributes)
		}
		for _, side := range rec.Legs {
			if !contains(l.heard[i][side.Leg], side.PCM) {
				t.Errorf("call %d: what was heard of the %s is not what was sent", i, side.Leg)
			}
		}
	}
}

func TestRefusalsOfOurSourcesAreTold(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	l := ledger{refuse: source.ErrBusy}
	cfg := audiosocketsrc.DefaultConfig()
	cfg.Listen, cfg.AnnounceWait = "127.0.0.1:0", 0
	sockets, err := audiosocketsrc.New(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, sockets, &l)
	rec := twoLegs(time.Hour / 3600)
	one, err := rec.Only(audio.Caller)
	if err != nil {
		t.Fatal(err)
	}
	ask := DefaultConfig()
	ask.Way, ask.To, ask.Loop = AudioSocket, sockets.Addr().String(), true
	if got := run(t, ask, one); got.Answered != 0 || len(got.Refused) != 1 {
		t.Errorf("AudioSocket: results %+v", got)
	}

	rtp := rtpsrc.DefaultConfig()
	rtp.Calls = 0
	full, err := rtpsrc.New(rtp, quiet)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, full, &l)
	api := httptest.NewServer(full.Handler())
	defer api.Close()
	ask.Way, ask.To = RTP, api.URL
	got := run(t, ask, rec)
	if got.Answered != 0 || len(got.Refused) != 1 || slices.Collect(maps.Values(got.Refused))[0] != 1 {
		t.Errorf("RTP: results %+v", got)
	}
}

func TestAudioSocketOfTwoLegsNeedsTheAPI(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Way, cfg.To = AudioSocket, "127.0.0.1:1"
	if _, err := Run(t.Context(), cfg, []*Recording{twoLegs(time.Second)}, &Progress{}); err == nil {
		t.Error("two sockets were sent without saying that they are one call")
	}
}
