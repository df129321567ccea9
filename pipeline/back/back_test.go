package back

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kept is the sink behind.
type kept struct {
	mu     sync.Mutex
	events []sink.Event
	refuse error
}

func (k *kept) Publish(_ context.Context, ev sink.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, ev)
	return k.refuse
}

func (k *kept) Close(context.Context) error { return k.refuse }

func (k *kept) types() (all []string) {
	for _, ev := range k.events {
		all = append(all, short(ev.Type))
	}
	return all
}

func short(t sink.Type) string {
	return strings.TrimSuffix(strings.TrimPrefix(string(t), "callwarden."), ".v1")
}

// listener is a peer that only hears.
type listener struct {
	told   []string
	breaks bool
}

func (l *listener) Tell(ev sink.Event) {
	if l.breaks {
		panic("the peer's own fault")
	}
	l.told = append(l.told, short(ev.Type))
}

// spokenTo is one that can be spoken to.
type spokenTo struct {
	listener
	heard  []source.Prompt
	refuse error
}

func (s *spokenTo) Play(p source.Prompt) error {
	if s.breaks {
		panic("the peer's own fault")
	}
	if s.refuse == nil {
		s.heard = append(s.heard, p)
	}
	return s.refuse
}

func callOf(peer source.Peer) *source.Call {
	return &source.Call{ID: "c1", Tenant: "bank", Source: "grpc", Peer: peer}
}

func event(typ sink.Type, level callwardenv1.Level) sink.Event {
	ev := sink.Event{ID: "x", Type: typ, Tenant: "bank", Call: "c1", Source: "callwarden/grpc"}
	if typ == sink.RiskLevel {
		ev.Data = &callwardenv1.RiskLevel{Level: level, Advice: &callwardenv1.Advice{Id: "a", Language: "en", Text: "Hang up."}}
	}
	return ev
}

const (
	warning  = callwardenv1.Level_LEVEL_WARNING
	critical = callwardenv1.Level_LEVEL_CRITICAL
)

var everything = []sink.Type{
	sink.CallStarted, sink.CallStatus, sink.TranscriptSegment, sink.RiskFinding, sink.RiskLevel,
	sink.CallLevels, sink.CallAction, sink.CallEnded,
}

func newBack(t *testing.T, way Way, own ...Own) (*Back, *kept) {
	t.Helper()
	k := &kept{}
	b, err := New(Config{Sources: map[string]Way{"grpc": way}, Prompts: own}, k, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b, k
}

func publish(t *testing.T, b *Back, events ...sink.Event) {
	t.Helper()
	for _, ev := range events {
		if err := b.Publish(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPeerIsToldWhatTheConfigurationSays(t *testing.T) {
	for amount, want := range map[string][]string{
		None:   nil,
		Levels: {"risk.level"},
		Risk:   {"call.status", "risk.finding", "risk.level"},
		All:    {"call.started", "call.status", "transcript.segment", "risk.finding", "risk.level", "call.levels", "call.action", "call.ended"},
	} {
		b, k := newBack(t, Way{Events: amount})
		peer := &listener{}
		leave := b.Attach(callOf(peer))
		for _, typ := range everything {
			publish(t, b, event(typ, warning))
			other := event(typ, warning)
			other.Tenant = "another" // whose call has the same name
			publish(t, b, other)
		}
		leave()
		publish(t, b, event(sink.RiskLevel, critical))
		if !slices.Equal(peer.told, want) {
			t.Errorf("%s: told %v, want %v", amount, peer.told, want)
		}
		if len(k.events) != 2*len(everything)+1 {
			t.Errorf("%s: %d events went on", amount, len(k.events))
		}
	}
}

func TestCallOfAnUnknownWayIsToldNothing(t *testing.T) {
	b, _ := newBack(t, Way{Events: All})
	peer := &listener{}
	call := callOf(peer)
	call.Source = "new"
	defer b.Attach(call)()
	publish(t, b, event(sink.RiskLevel, critical))
	if len(peer.told) != 0 {
		t.Errorf("told %v", peer.told)
	}
}

func TestCriticalIsSpokenOnce(t *testing.T) {
	b, k := newBack(t, Way{Events: Levels, Prompt: Customer})
	peer := &spokenTo{}
	defer b.Attach(callOf(peer))()
	for _, level := range []callwardenv1.Level{warning, critical, warning, critical} {
		publish(t, b, event(sink.RiskLevel, level))
	}
	if len(peer.heard) != 1 || peer.heard[0].ID != Customer || !strings.Contains(peer.heard[0].Text, "hang up") || len(peer.heard[0].PCM) == 0 {
		t.Fatalf("heard %d prompts", len(peer.heard))
	}
	if got, want := k.types(), []string{"risk.level", "risk.level", "call.action", "risk.level", "risk.level"}; !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
	act := k.events[2]
	d := act.Data.(*callwardenv1.CallAction)
	if d.GetAction() != callwardenv1.Action_ACTION_PROMPT_PLAYED || d.GetWho() != Automatic || d.GetNote() != Customer || act.ID == "" || act.Time.IsZero() {
		t.Errorf("action %v", d)
	}
	raw, err := act.CloudEvent()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.ParseCloudEvent(raw); err != nil {
		t.Errorf("the action is no event that others can read: %v", err)
	}
	if c := b.Counts(); len(c) != 1 || c[0] != (Counts{"grpc", 1, 0}) {
		t.Errorf("counts %v", c)
	}
}

func TestCallThatCannotBeSpokenIntoIsToldAllTheSame(t *testing.T) {
	for name, peer := range map[string]source.Peer{"no player": &listener{}, "no room": &spokenTo{refuse: source.ErrNoRoom}} {
		b, k := newBack(t, Way{Events: Levels, Prompt: Agent})
		leave := b.Attach(callOf(peer))
		publish(t, b, event(sink.RiskLevel, critical), event(sink.RiskLevel, warning), event(sink.RiskLevel, critical))
		leave()
		if got := k.types(); len(got) != 3 {
			t.Errorf("%s: published %v", name, got)
		}
		if c := b.Counts(); c[0] != (Counts{"grpc", 0, 1}) {
			t.Errorf("%s: counts %v", name, c)
		}
	}
}

func TestBrokenPeerHurtsOnlyItsOwnCall(t *testing.T) {
	b, k := newBack(t, Way{Events: All, Prompt: Customer})
	broken, well := &spokenTo{listener: listener{breaks: true}}, &spokenTo{}
	other := callOf(well)
	other.ID = "c2"
	defer b.Attach(callOf(broken))()
	defer b.Attach(other)()
	publish(t, b, event(sink.RiskLevel, critical), event(sink.RiskLevel, critical))
	ev := event(sink.RiskLevel, critical)
	ev.Call = "c2"
	publish(t, b, ev)
	if !slices.Equal(well.told, []string{"risk.level", "call.action"}) || len(well.heard) != 1 {
		t.Errorf("the other call was told %v", well.told)
	}
	if len(k.events) != 4 {
		t.Errorf("%d events went on", len(k.events))
	}
	if err := b.Play(t.Context(), "bank", "c1", Agent, "ann"); !errors.Is(err, ErrNoCall) {
		t.Errorf("playing to the broken peer: %v", err)
	}
}

func TestTwoCallsOfOneNameAreToldNothing(t *testing.T) {
	b, k := newBack(t, Way{Events: All})
	first, second := &listener{}, &listener{}
	leaveFirst := b.Attach(callOf(first))
	leaveSecond := b.Attach(callOf(second))
	publish(t, b, event(sink.RiskLevel, critical))
	leaveSecond()
	leaveFirst()
	if len(first.told)+len(second.told) != 0 || len(k.events) != 1 {
		t.Errorf("told %v and %v", first.told, second.told)
	}
	third := &listener{}
	defer b.Attach(callOf(third))()
	publish(t, b, event(sink.RiskLevel, critical))
	if len(third.told) != 1 {
		t.Error("a later call of that name is not told")
	}
}

func TestPromptOnRequestTellsWhoAskedForIt(t *testing.T) {
	b, k := newBack(t, Way{Events: All})
	peer := &spokenTo{}
	leave := b.Attach(callOf(peer))
	if err := b.Play(t.Context(), "bank", "c1", Agent, "ann"); err != nil {
		t.Fatal(err)
	}
	if len(peer.heard) != 1 || peer.heard[0].ID != Agent || !slices.Equal(peer.told, []string{"call.action"}) {
		t.Errorf("heard %d, told %v", len(peer.heard), peer.told)
	}
	if d := k.events[0].Data.(*callwardenv1.CallAction); d.GetWho() != "ann" || d.GetNote() != Agent {
		t.Errorf("action %v", d)
	}
	if err := b.Play(t.Context(), "bank", "c1", "nobody", "ann"); !errors.Is(err, ErrNoPrompt) || !strings.Contains(err.Error(), "customer, agent") {
		t.Errorf("a prompt that is not there: %v", err)
	}
	peer.refuse = source.ErrNoRoom
	if err := b.Play(t.Context(), "bank", "c1", Agent, "ann"); !errors.Is(err, source.ErrNoRoom) {
		t.Errorf("without room: %v", err)
	}
	leave()
	if err := b.Play(t.Context(), "bank", "c1", Agent, "ann"); !errors.Is(err, ErrNoCall) {
		t.Errorf("after the call: %v", err)
	}
	if len(k.events) != 1 {
		t.Errorf("%d events", len(k.events))
	}
	defer b.Attach(callOf(&listener{}))()
	if err := b.Play(t.Context(), "bank", "c1", Agent, "ann"); !errors.Is(err, ErrNotSpokenTo) {
		t.Errorf("a peer that cannot: %v", err)
	}
}

func wav(t *testing.T, rate int, channels int, d time.Duration) string {
	t.Helper()
	pcm := make([][]int16, channels)
	for i := range pcm {
		pcm[i] = slices.Repeat([]int16{100}, int(d.Seconds()*float64(rate)))
	}
	var out bytes.Buffer
	if err := audio.WriteWAV(&out, audio.WAVPCM16, rate, pcm...); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "prompt.wav")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPromptFitsTenantThenLanguage(t *testing.T) {
	own := func(name, tenant, language, text string) Own {
		return Own{Name: name, File: wav(t, 8000, 1, time.Second), Text: text, Language: language, Tenant: tenant}
	}
	b, _ := newBack(t, Way{Events: None, Prompt: Customer},
		own(Customer, "", "de", "deutsch"), own(Customer, "bank", "de", "bank deutsch"),
		own(Customer, "", "en-GB", "british"), own("extra", "", "", "any"))
	for _, c := range []struct{ name, tenant, language, want string }{
		{Customer, "other", "de-AT", "deutsch"},
		{Customer, "bank", "de", "bank deutsch"},
		{Customer, "bank", "en", "bank deutsch"},
		{Customer, "other", "en-GB", "british"},
		{Customer, "other", "en-gb", "british"},
		{Agent, "bank", "de", "Attention"}, // in English rather than not at all
		{Agent, "bank", "", "Attention"},
		{"extra", "bank", "fr", "any"},
	} {
		p, ok := b.prompts.fitting(c.name, c.tenant, c.language)
		if !ok || !strings.HasPrefix(p.Text, c.want) {
			t.Errorf("%s for %s in %s: %.20q, want %q", c.name, c.tenant, c.language, p.Text, c.want)
		}
	}
	if _, ok := b.prompts.fitting("none", "bank", "en"); ok {
		t.Error("a prompt that is not there fits")
	}
}

func TestOwnRecordingSaysTheAdviceOfTheMoment(t *testing.T) {
	path := wav(t, 44100, 1, time.Second)
	b, k := newBack(t, Way{Events: None, Prompt: path})
	peer := &spokenTo{}
	defer b.Attach(callOf(peer))()
	publish(t, b, event(sink.RiskLevel, critical))
	if len(peer.heard) != 1 || peer.heard[0].Rate != 44100 || len(peer.heard[0].PCM) != 44100 || peer.heard[0].Text != "Hang up." {
		t.Errorf("heard %+v", len(peer.heard))
	}
	if note := k.events[1].Data.(*callwardenv1.CallAction).GetNote(); note != "prompt.wav" {
		t.Errorf("the event calls it %q", note)
	}
}

func TestFaultsNameKeyFileAndRule(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.wav")
	if err := os.WriteFile(text, []byte("this is no recording"), 0o600); err != nil {
		t.Fatal(err)
	}
	long, stereo := wav(t, 8000, 1, promptMost+time.Second), wav(t, 8000, 2, time.Second)
	for _, c := range []struct {
		way  Way
		own  []Own
		want []string
	}{
		{Way{Events: "some"}, nil, []string{`sources.grpc.events: "some" must be one of none, levels, risk, all`}},
		{Way{Events: None, Prompt: "custommer"}, nil, []string{`sources.grpc.prompt: "custommer" must be`, "customer, agent"}},
		{Way{Events: None}, []Own{{File: "x.wav"}}, []string{`prompts[0].name: ""`}},
		{Way{Events: None}, []Own{{Name: "a.wav", File: "x.wav"}}, []string{`prompts[0].name: "a.wav"`}},
		{Way{Events: None}, []Own{{Name: "a"}}, []string{`prompts[0].file: ""`}},
		{Way{Events: None, Prompt: "missing.wav"}, nil, []string{"sources.grpc.prompt: ", "missing.wav", "no such file"}},
		{Way{Events: None, Prompt: text}, nil, []string{"sources.grpc.prompt: ", text}},
		{Way{Events: None}, []Own{{Name: "a", File: stereo}}, []string{"prompts[0].file: ", stereo, "2 channels must be 1"}},
		{Way{Events: None}, []Own{{Name: "a", File: long}}, []string{"prompts[0].file: ", long, "longer than 1m0s"}},
	} {
		_, err := New(Config{Sources: map[string]Way{"grpc": c.way}, Prompts: c.own}, &kept{}, slog.New(slog.DiscardHandler))
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v %+v: %v, want %q", c.way, c.own, err, want)
			}
		}
	}
}

func TestErrorOfTheNextSinkIsReturned(t *testing.T) {
	b, k := newBack(t, Way{Events: All})
	k.refuse = errors.New("full")
	peer := &listener{}
	defer b.Attach(callOf(peer))()
	if err := b.Publish(t.Context(), event(sink.RiskLevel, warning)); !errors.Is(err, k.refuse) || len(peer.told) != 1 {
		t.Errorf("%v, told %v", err, peer.told)
	}
	if err := b.Close(t.Context()); !errors.Is(err, k.refuse) {
		t.Errorf("Close: %v", err)
	}
}
