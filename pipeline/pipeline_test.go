package pipeline

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/dialogue"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/textsrc"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const fraud = `
caller: this is the security department of your bank
callee: oh no what happened
caller: we just sent a six digit code to your phone please read me the code
callee: okay the code is four seven two nine one six
caller: thank you`

// memory is a sink that keeps events as their bytes go out.
type memory struct {
	mu     sync.Mutex
	events []sink.Event
	lines  bytes.Buffer
	refuse error
}

func (m *memory) Publish(_ context.Context, ev sink.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return m.refuse
	}
	b, err := ev.CloudEvent()
	if err != nil {
		return err
	}
	m.lines.Write(append(b, '\n'))
	m.events = append(m.events, ev)
	return nil
}

func (m *memory) Close(context.Context) error { return nil }

func of[T any](m *memory) (all []T) {
	for _, ev := range m.events {
		if d, ok := ev.Data.(T); ok {
			all = append(all, d)
		}
	}
	return all
}

func (m *memory) ended(t *testing.T) *callwardenv1.CallEnded {
	t.Helper()
	all := of[*callwardenv1.CallEnded](m)
	if len(all) != 1 || m.events[len(m.events)-1].Type != sink.CallEnded {
		t.Fatalf("%d call.ended events, want one at the end", len(all))
	}
	return all[0]
}

func transcript(t *testing.T, text string) script.Transcript {
	t.Helper()
	tr, err := script.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func judge(t *testing.T) Judge {
	t.Helper()
	lib, err := tactics.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return func(*source.Call) (detectors.Detector, *risk.Meter) {
		return dialogue.New(lib.Set, dialogue.Config{}), risk.NewMeter(risk.DefaultConfig())
	}
}

func newPipeline(t *testing.T, cfg Config, e transcribe.Engine, out sink.Sink) *Pipeline {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l, err := listen.New(e, listen.DefaultConfig(), log)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(cfg, l, judge(t), out, log)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func recorded(d time.Duration) *source.Call {
	legs := []audio.Leg{audio.Caller, audio.Callee}
	return &source.Call{
		ID: "call", Tenant: "default", Source: "text", Legs: legs,
		Attributes: map[string]string{"from": "+1 202 555 0143", "file": "call-7.wav"},
		Audio:      textsrc.Silence(d, legs...),
	}
}

func scripted(tr script.Transcript) transcribe.Engine {
	return script.NewGrowing(func(string) (script.Transcript, error) { return tr, nil }, 3)
}

func TestSameRecordingGivesByteEqualEvents(t *testing.T) {
	tr := transcript(t, fraud)
	var first []byte
	for i := range 5 {
		var out memory
		cfg := DefaultConfig()
		cfg.Hypotheses = true
		if err := newPipeline(t, cfg, scripted(tr), &out).Listen(context.Background(), recorded(tr.Duration()+time.Second)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = bytes.Clone(out.lines.Bytes())
			if e := out.ended(t); e.Level != callwardenv1.Level_LEVEL_CRITICAL || !e.Complete {
				t.Fatalf("the fraud ended as %v", e)
			}
		} else if !bytes.Equal(first, out.lines.Bytes()) {
			t.Fatalf("run %d differs from the first", i)
		}
	}
	ids := map[string]bool{}
	for line := range bytes.Lines(first) {
		ev, err := sink.ParseCloudEvent(bytes.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		if ids[ev.ID] {
			t.Errorf("event id %s is used twice", ev.ID)
		}
		ids[ev.ID] = true
	}
}

func TestNoDigitLeavesUnlessOptedOut(t *testing.T) {
	tr := transcript(t, fraud)
	for _, unmasked := range []bool{false, true} {
		var out memory
		cfg := DefaultConfig()
		cfg.Unmasked = unmasked
		if err := newPipeline(t, cfg, scripted(tr), &out).Listen(context.Background(), recorded(tr.Duration()+time.Second)); err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, s := range of[*callwardenv1.TranscriptSegment](&out) {
			said = append(said, s.Text)
			for _, w := range s.Words {
				said = append(said, w.Text)
			}
		}
		for _, f := range of[*callwardenv1.RiskFinding](&out) {
			said = append(said, f.Finding.Words)
		}
		said = append(said, of[*callwardenv1.CallStarted](&out)[0].Attributes["from"])
		all := strings.Join(said, " ")
		for _, digit := range []string{"four", "seven", "nine", "0143"} {
			if strings.Contains(all, digit) != unmasked {
				t.Errorf("unmasked %v: %q in the events is %v", unmasked, digit, !unmasked)
			}
		}
		if !unmasked && !strings.Contains(all, "# # # # # #") {
			t.Errorf("the count of digits is lost: %s", all)
		}
	}
}

func TestCancelKeepsWhatWasHeard(t *testing.T) {
	tr := transcript(t, fraud)
	var out memory
	ctx, cancel := context.WithCancel(context.Background())
	call := recorded(tr.Duration() + time.Second)
	call.Audio = &cutOff{call.Audio, 12 * time.Second, cancel}
	err := newPipeline(t, Config{QueueFrames: 2, Grace: time.Second}, scripted(tr), &out).Listen(ctx, call)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Listen returned %v, want context.Canceled", err)
	}
	e := out.ended(t)
	if e.Complete || e.Reason != "cancelled" {
		t.Errorf("a call that was cut off ended complete %v, reason %q", e.Complete, e.Reason)
	}
	if len(of[*callwardenv1.TranscriptSegment](&out)) == 0 {
		t.Error("what was heard before the end is lost")
	}
}

// cutOff cancels when so much has been read.
type cutOff struct {
	audio.Reader
	at     time.Duration
	cancel func()
}

func (c *cutOff) ReadFrame(ctx context.Context) (audio.Frame, error) {
	f, err := c.Reader.ReadFrame(ctx)
	if err == nil && f.Start >= c.at {
		c.cancel()
	}
	return f, err
}

func TestUndeliveredEventsAreAnError(t *testing.T) {
	tr := transcript(t, fraud)
	full := errors.New("disk full")
	err := newPipeline(t, DefaultConfig(), scripted(tr), &memory{refuse: full}).Listen(context.Background(), recorded(time.Second))
	if !errors.Is(err, full) {
		t.Errorf("Listen returned %v, want %v", err, full)
	}
}

// A leg may send nothing, as with silence suppression; the other must be
// judged all the same, and its own last words become final.
func TestQuietLegHoldsUpNobody(t *testing.T) {
	tr := transcript(t, fraud)
	var out memory
	call := recorded(tr.Duration() + 5*time.Second)
	call.Audio = &muted{call.Audio, audio.Callee}
	if err := newPipeline(t, Config{QueueFrames: 2, Grace: time.Second}, scripted(tr), &out).Listen(context.Background(), call); err != nil {
		t.Fatal(err)
	}
	var asked bool
	for _, f := range of[*callwardenv1.RiskFinding](&out) {
		asked = asked || f.Finding.Tactic == "otp_request"
	}
	if !asked {
		t.Error("the caller's ask was not judged")
	}
	if e := out.ended(t); !e.Complete {
		t.Errorf("ended %v", e)
	}
}

// muted passes on one leg's first frame only.
type muted struct {
	audio.Reader
	leg audio.Leg
}

func (m *muted) ReadFrame(ctx context.Context) (audio.Frame, error) {
	for {
		f, err := m.Reader.ReadFrame(ctx)
		if err != nil || f.Leg != m.leg || f.Start == 0 {
			return f, err
		}
	}
}

func hearings(m *memory) (all []callwardenv1.Hearing) {
	for _, s := range of[*callwardenv1.CallStatus](m) {
		all = append(all, s.Hearing)
	}
	return all
}

func TestLegIsReopenedOnceThenDeafAndSaid(t *testing.T) {
	e := &transcribetest.Faulty{}
	e.Write = func(_, n int, _ audio.Frame) ([]transcribe.Segment, error) {
		if n == 5 {
			return nil, errors.New("crashed")
		}
		return nil, nil
	}
	var out memory
	call := recorded(4 * time.Second)
	call.Legs = []audio.Leg{audio.Caller}
	call.Audio = textsrc.Silence(4*time.Second, audio.Caller)
	if err := newPipeline(t, DefaultConfig(), e, &out).Listen(context.Background(), call); err != nil {
		t.Fatal(err)
	}
	if n := e.Opened.Load(); n != 2 {
		t.Errorf("opened %d sessions, want 2", n)
	}
	got := hearings(&out)
	want := []callwardenv1.Hearing{callwardenv1.Hearing_HEARING_LISTENING, callwardenv1.Hearing_HEARING_DEAF}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("hearing was %v, want %v", got, want)
	}
	e2 := out.ended(t)
	if e2.Complete || !strings.Contains(e2.Legs[0].Reason, "crashed") {
		t.Errorf("a deaf call ended as %v", e2)
	}
	if h := e2.Legs[0].Heard.AsDuration(); h < time.Second || h > 3*time.Second {
		t.Errorf("said to have heard %v, went deaf in the middle of 4s", h)
	}
}

// live yields frames of 20 ms in real time.
type live struct {
	frames int
	next   int
}

func (l *live) ReadFrame(ctx context.Context) (audio.Frame, error) {
	if l.next == l.frames {
		return audio.Frame{}, io.EOF
	}
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return audio.Frame{}, ctx.Err()
	}
	f := audio.Frame{Leg: audio.Caller, Start: time.Duration(l.next) * 20 * time.Millisecond, Rate: 8000, PCM: make([]int16, 160)}
	l.next++
	return f, nil
}

func TestLiveDropsWholeBacklogAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &transcribetest.Faulty{}
		e.Write = func(_, n int, _ audio.Frame) ([]transcribe.Segment, error) {
			if n == 10 {
				<-time.After(time.Second) // a recogniser that stalls, on the bubble's clock
			}
			return nil, nil
		}
		var out memory
		call := &source.Call{
			ID: "live", Tenant: "default", Source: "test", Legs: []audio.Leg{audio.Caller},
			Live: true, Audio: &live{frames: 500},
		}
		cfg := DefaultConfig()
		cfg.QueueFrames = 20
		if err := newPipeline(t, cfg, e, &out).Listen(context.Background(), call); err != nil {
			t.Fatal(err)
		}
		leg := out.ended(t).Legs[0]
		// 1 s stalled is 50 frames; the queue holds 20 and is emptied whole twice.
		if got, want := leg.Dropped.AsDuration(), 800*time.Millisecond; got != want {
			t.Errorf("dropped %v, want the whole backlog twice, %v", got, want)
		}
		if got, want := leg.Heard.AsDuration()+leg.Dropped.AsDuration(), 10*time.Second; got != want {
			t.Errorf("heard and dropped are %v, want the whole call, %v", got, want)
		}
		degraded := 0
		for _, h := range hearings(&out) {
			if h == callwardenv1.Hearing_HEARING_DEGRADED {
				degraded++
			}
		}
		if degraded == 0 {
			t.Error("audio was dropped in silence")
		}
	})
}

// spokenTo is a peer whose call can be spoken into, deaf one whose cannot.
type (
	deaf     struct{}
	spokenTo struct{ deaf }
)

func (deaf) Tell(sink.Event)              {}
func (spokenTo) Play(source.Prompt) error { return nil }

func TestStartSaysWhetherTheCallCanBeSpokenInto(t *testing.T) {
	tr := transcript(t, fraud)
	for _, c := range []struct {
		peer source.Peer
		want bool
	}{{nil, false}, {deaf{}, false}, {spokenTo{}, true}} {
		var out memory
		p := newPipeline(t, DefaultConfig(), scripted(tr), &out)
		call := recorded(time.Second)
		call.Peer = c.peer
		if err := p.Listen(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		if err := p.Skip(t.Context(), call, "exempt"); err != nil {
			t.Fatal(err)
		}
		all := of[*callwardenv1.CallStarted](&out)
		if len(all) != 2 || all[0].GetCanPlay() != c.want || all[1].GetCanPlay() {
			t.Errorf("peer %T: started %v", c.peer, all)
		}
	}
}
