package remote_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/remote"
	"github.com/callwarden/callwarden/transcribe/service"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// numbers are the words 1 to n.
func numbers(n int) (all []int16) {
	for i := range n {
		all = append(all, int16(i+1))
	}
	return all
}

// inOrder is what is said when all of them are heard once.
func inOrder(n int) string {
	var words []string
	for _, w := range numbers(n) {
		words = append(words, transcribetest.EchoWord(w))
	}
	return strings.Join(words, " ")
}

// talk drives a session and keeps what it says.
type talk struct {
	t       testing.TB
	session transcribe.Session
	pcm     []int16
	at      int // sample
	said    []string
	shown   string
	away    int // Writes that said so
	last    int // utterance that is final
	after   time.Duration
}

func listenTo(t testing.TB, e transcribe.Engine, opt transcribe.Options, pcm []int16) *talk {
	t.Helper()
	s, err := e.Open(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &talk{t: t, session: s, pcm: pcm, last: -1}
}

// hear writes so many frames of 50 ms.
func (k *talk) hear(frames int) {
	k.t.Helper()
	for ; frames > 0 && k.at < len(k.pcm); frames-- {
		n := min(800, len(k.pcm)-k.at)
		segs, err := k.session.Write(context.Background(), audio.Frame{Leg: audio.Caller, Start: audio.Span(k.at, 16000), Rate: 16000, PCM: k.pcm[k.at : k.at+n]})
		k.take(segs, err)
		k.at += n
	}
}

func (k *talk) take(segs []transcribe.Segment, err error) {
	k.t.Helper()
	switch {
	case errors.Is(err, transcribe.ErrAway):
		k.away++
	case err != nil:
		k.t.Fatalf("at %v: %v", audio.Span(k.at, 16000), err)
	}
	for _, s := range segs {
		if s.Utterance <= k.last || s.Start < k.after || !s.Final && s.Text == k.shown {
			k.t.Errorf("after utterance %d, which ended at %v, with %q shown: %+v", k.last, k.after, k.shown, s)
		}
		if k.shown = s.Text; s.Final {
			k.said = append(k.said, s.Text)
			k.shown, k.last, k.after = "", s.Utterance, s.End
		}
	}
}

// back looks until the session hears again, or has caught up.
func (k *talk) back(caughtUp bool) {
	k.t.Helper()
	waitFor(k.t, "the session to be back", func() bool {
		before := k.away
		k.take(k.session.Write(context.Background(), audio.Frame{Rate: 16000}))
		return k.away == before && !(caughtUp && k.session.(transcribe.Trailer).Behind() > 0)
	})
}

func (k *talk) pause() {
	k.t.Helper()
	k.take(k.session.(transcribe.Pauser).Pause(context.Background()))
}

func (k *talk) finish() string {
	k.t.Helper()
	k.take(k.session.Finish(context.Background()))
	return strings.Join(k.said, " ")
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

// A recording whose recogniser ends goes on with another, and says every word
// once.
func TestRecordingGoesOnElsewhere(t *testing.T) {
	engines := [2]*transcribetest.Echo{{}, {}}
	one, two := serve(t, engines[0], "", nil), serve(t, engines[1], "", nil)
	e := connect(t, nil, one.addr, two.addr)
	const n = 40
	k := listenTo(t, e, transcribe.Options{}, transcribetest.Speak(16000, numbers(n), 250*time.Millisecond, 7))
	k.hear(60) // in the middle of an utterance
	used := one
	if engines[1].Now.Load() > 0 {
		used = two
	}
	if err := used.stop(); err != nil {
		t.Fatal(err)
	}
	k.hear(1000)
	if got := k.finish(); got != inOrder(n) {
		t.Errorf("said %q", got)
	}
	if k.away > 0 {
		t.Errorf("a recording was away %d times", k.away)
	}
}

// A live leg whose recogniser ends is away, takes audio all the same, and has
// said every word once when another has come up in its place.
func TestLiveLegIsAwayAndCatchesUp(t *testing.T) {
	addr := "unix:" + filepath.Join(t.TempDir(), "s")
	first := serve(t, &transcribetest.Echo{}, addr, nil)
	e := connect(t, nil, addr)
	const n = 40
	k := listenTo(t, e, transcribe.Options{Live: true}, transcribetest.Speak(16000, numbers(n), 250*time.Millisecond, 7))
	k.hear(60)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	k.hear(80)
	if k.away < 60 {
		t.Errorf("of 80 frames without a recogniser %d said that it was away", k.away)
	}
	serve(t, &transcribetest.Echo{}, addr, nil)
	k.back(true)
	k.hear(1000)
	if got := k.finish(); got != inOrder(n) {
		t.Errorf("said %q", got)
	}
}

// A leg whose new recogniser is there hears again, however much that has still
// to hear; how much it is, it says.
func TestLegThatCatchesUpIsBehindAndNotAway(t *testing.T) {
	addr := "unix:" + filepath.Join(t.TempDir(), "s")
	first := serve(t, &transcribetest.Echo{}, addr, nil)
	e := connect(t, nil, addr)
	k := listenTo(t, e, transcribe.Options{Live: true}, transcribetest.Speak(16000, numbers(40), 250*time.Millisecond, 40))
	k.hear(60)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	k.hear(40)
	release := make(chan struct{})
	slow := &transcribetest.Echo{Write: func(audio.Frame) error { <-release; return nil }}
	serve(t, slow, addr, nil)
	late := k.session.(transcribe.Trailer)
	k.back(false)
	if b := late.Behind(); b < 4*time.Second || !k.session.(transcribe.Pender).Pending() {
		t.Errorf("%v behind with none of 5 s heard by it", b)
	}
	away := k.away
	k.hear(20)
	if b := late.Behind(); k.away > away || b < 5*time.Second {
		t.Errorf("after another second: away %d times more, %v behind", k.away-away, b)
	}
	close(release)
	waitFor(t, "it to have caught up", func() bool { return late.Behind() == 0 })
	k.hear(1000)
	if got := k.finish(); got != inOrder(40) {
		t.Errorf("said %q", got)
	}
}

// A leg that was quiet when its recogniser ended, and learns of that when
// another is there, need not be deaf.
func TestQuietLegNeedNotNoticeARestart(t *testing.T) {
	unnoticed := 0
	for round := range 5 { // what is known of a peer may be old for a moment
		addr := fmt.Sprintf("unix:%s/%d", t.TempDir(), round)
		first := serve(t, &transcribetest.Echo{}, addr, nil)
		e := connect(t, nil, addr)
		k := listenTo(t, e, transcribe.Options{Live: true}, transcribetest.Speak(16000, numbers(40), 250*time.Millisecond, 7))
		k.hear(60)
		if err := first.stop(); err != nil {
			t.Fatal(err)
		}
		serve(t, &transcribetest.Echo{}, addr, nil)
		other, err := e.Open(t.Context(), transcribe.Options{}) // waits until it is there
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
		k.hear(1000)
		if got := k.finish(); got != inOrder(40) {
			t.Errorf("said %q", got)
		}
		if k.away == 0 {
			unnoticed++
		}
	}
	if unnoticed == 0 {
		t.Error("it was away after each of five restarts that were over before it spoke")
	}
}

// A call that begins while no recogniser is there is heard from its beginning.
func TestLiveLegMayBeginAway(t *testing.T) {
	addr := "unix:" + filepath.Join(t.TempDir(), "s")
	first := serve(t, &transcribetest.Echo{}, addr, nil)
	e := connect(t, nil, addr)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it to be missed", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := e.Open(ctx, transcribe.Options{})
		return err != nil
	})
	k := listenTo(t, e, transcribe.Options{Live: true, Phrases: []string{"wb"}}, transcribetest.Speak(16000, numbers(20), 250*time.Millisecond, 7))
	k.hear(30)
	k.pause()
	serve(t, &transcribetest.Echo{}, addr, nil)
	k.back(true)
	k.hear(1000)
	if got := k.finish(); got != inOrder(20) {
		t.Errorf("said %q", got)
	}
}

// However often and wherever it breaks, everything is said once.
func TestNothingIsLostOrSaidTwice(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	was := checks.Value.String()
	_ = checks.Value.Set("20") // each waits for some connections
	defer func() { _ = checks.Value.Set(was) }()
	dir, number := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		number++
		addr := fmt.Sprintf("unix:%s/%d", dir, number)
		cut := func() *server { return serve(t, &transcribetest.Echo{}, addr, nil) }
		s := cut()
		e := connect(t, nil, addr)
		live := rapid.Bool().Draw(rt, "live")
		n := rapid.IntRange(5, 30).Draw(rt, "words")
		per := rapid.IntRange(1, 9).Draw(rt, "words an utterance")
		k := listenTo(t, e, transcribe.Options{Live: live}, transcribetest.Speak(16000, numbers(n), 150*time.Millisecond, per))
		for range rapid.IntRange(1, 4).Draw(rt, "breaks") {
			k.hear(rapid.IntRange(0, 40).Draw(rt, "frames before"))
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if live {
				k.hear(rapid.IntRange(0, 40).Draw(rt, "frames without"))
				if rapid.Bool().Draw(rt, "pause") {
					k.pause()
				}
			}
			s = cut()
			if rapid.Bool().Draw(rt, "wait") {
				k.back(true)
			}
		}
		k.hear(1000)
		got := k.finish()
		// A pause within a word makes two of it, as it would without a break.
		words := strings.Fields(got)
		var once []string
		for i, w := range words {
			if i == 0 || w != words[i-1] {
				once = append(once, w)
			}
		}
		if got := strings.Join(once, " "); got != inOrder(n) {
			t.Errorf("said %q", got)
		}
		_ = k.session.Close()
		_ = e.Close()
		_ = s.stop()
	})
}

// What is away for longer than the ring is lost from its beginning, and the
// leg goes on all the same.
func TestRingIsBounded(t *testing.T) {
	addr := "unix:" + filepath.Join(t.TempDir(), "s")
	first := serve(t, &transcribetest.Echo{}, addr, nil)
	e := connect(t, func(c *remote.Config) { c.Ring = 2 * time.Second }, addr)
	k := listenTo(t, e, transcribe.Options{Live: true}, transcribetest.Speak(16000, numbers(60), 100*time.Millisecond, 100))
	k.hear(10) // 0.5 s, shown and not final
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	k.hear(80) // 4 s more
	serve(t, &transcribetest.Echo{}, addr, nil)
	k.back(true)
	k.hear(1000)
	got := strings.Fields(k.finish())
	all := strings.Fields(inOrder(60))
	if len(got) < 35 || len(got) > 45 || got[0] != all[0] || got[len(got)-1] != all[59] {
		t.Errorf("said %q: want the first words, which were shown, and those of the last two seconds", got)
	}
}

// The least busy of several recognisers gets the next leg.
func TestLegsAreSpreadByLoad(t *testing.T) {
	engines := [2]*transcribetest.Echo{{}, {}}
	one := serve(t, engines[0], "", func(c *service.Config) { c.Streams = 30 })
	two := serve(t, engines[1], "", func(c *service.Config) { c.Streams = 10 })
	e := connect(t, nil, one.addr, two.addr)
	waitFor(t, "both to be there", func() bool { return bothUp(t, e, engines) })
	a, b := engines[0].Now.Load(), engines[1].Now.Load()
	for range 20 {
		listenTo(t, e, transcribe.Options{}, nil)
	}
	a, b = engines[0].Now.Load()-a, engines[1].Now.Load()-b
	if a < 13 || a > 17 || b < 3 {
		t.Errorf("%d legs on the one with room for 30, %d on the one with room for 10", a, b)
	}
}

// bothUp opens legs until both engines have had one.
func bothUp(t *testing.T, e *remote.Engine, engines [2]*transcribetest.Echo) bool {
	t.Helper()
	s, err := e.Open(t.Context(), transcribe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	up := engines[0].Opened.Load() > 0 && engines[1].Opened.Load() > 0
	if up {
		s.Close()
	} else {
		t.Cleanup(func() { s.Close() })
	}
	return up
}

// A leg moves away from a server that drains, without being away.
func TestDrainingServerIsLeft(t *testing.T) {
	engines := [2]*transcribetest.Echo{{}, {}}
	var servers [2]*server
	for i, e := range engines {
		servers[i] = serve(t, e, "", func(c *service.Config) { c.Grace = time.Minute })
	}
	e := connect(t, nil, servers[0].addr, servers[1].addr)
	var others []transcribe.Session
	waitFor(t, "both to be there", func() bool {
		s, err := e.Open(t.Context(), transcribe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, s)
		return engines[0].Opened.Load() > 0 && engines[1].Opened.Load() > 0
	})
	for _, s := range others {
		s.Close()
	}
	waitFor(t, "them to be closed", func() bool { return engines[0].Now.Load()+engines[1].Now.Load() == 0 })
	k := listenTo(t, e, transcribe.Options{Live: true}, transcribetest.Speak(16000, numbers(60), 150*time.Millisecond, 4))
	k.hear(20)
	from := 0
	if engines[1].Now.Load() > 0 {
		from = 1
	}
	servers[from].kill() // it drains
	waitFor(t, "the leg to be elsewhere", func() bool {
		k.hear(1)
		return engines[1-from].Now.Load() == 1
	})
	if err := servers[from].stop(); err != nil { // long before the grace time is over
		t.Errorf("Serve: %v", err)
	}
	if k.at >= len(k.pcm) {
		t.Error("it has not moved before the end")
	}
	k.hear(1000)
	if got := k.finish(); got != inOrder(60) || k.away > 0 {
		t.Errorf("said %q, away %d times", got, k.away)
	}
}

// Where all are full a live leg is away, and comes in when there is room.
func TestFullServersAreWaitedFor(t *testing.T) {
	s := serve(t, &transcribetest.Echo{}, "", func(c *service.Config) { c.Streams = 1 })
	e := connect(t, nil, s.addr)
	first := listenTo(t, e, transcribe.Options{Live: true}, transcribetest.Speak(16000, numbers(3), 150*time.Millisecond, 4))
	second := listenTo(t, e, transcribe.Options{Live: true}, transcribetest.Speak(16000, numbers(3), 150*time.Millisecond, 4))
	second.hear(1000)
	if second.away == 0 {
		t.Error("heard without room")
	}
	first.hear(1000)
	first.finish()
	_ = first.session.Close()
	second.back(true)
	if got := second.finish(); got != inOrder(3) {
		t.Errorf("said %q", got)
	}
}

// Recordings wait for as long as they may, then say why.
func TestPatienceEnds(t *testing.T) {
	s := serve(t, &transcribetest.Echo{}, "", nil)
	e := connect(t, func(c *remote.Config) { c.Patience = 200 * time.Millisecond }, s.addr)
	k := listenTo(t, e, transcribe.Options{}, transcribetest.Speak(16000, numbers(20), 100*time.Millisecond, 4))
	k.hear(10)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil && k.at < len(k.pcm) {
		_, err = k.session.Write(t.Context(), audio.Frame{Start: audio.Span(k.at, 16000), Rate: 16000, PCM: k.pcm[k.at : k.at+1600]})
		k.at += 1600
	}
	if err == nil || !strings.Contains(err.Error(), "no transcriber for 200ms") || !strings.Contains(err.Error(), s.addr) {
		t.Errorf("error %v", err)
	}
	if _, err := e.Open(t.Context(), transcribe.Options{}); err == nil || !strings.Contains(err.Error(), "no transcriber for 200ms") {
		t.Errorf("another leg: %v", err)
	}
}

// A recogniser of another kind among the addresses is not used, and said.
func TestAnotherModelIsNotUsed(t *testing.T) {
	one := serve(t, &transcribetest.Echo{}, "", nil)
	e := connect(t, nil, one.addr)
	odd := &transcribetest.Echo{RateHz: 8000}
	two := serve(t, odd, "", nil)
	both := connect(t, nil, one.addr, two.addr)
	if r := both.Info().RateHz; r != 16000 && r != 8000 {
		t.Errorf("rate %d", r)
	}
	for range 10 {
		s, err := both.Open(t.Context(), transcribe.Options{RateHz: both.Info().RateHz})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if both.Info().RateHz == e.Info().RateHz && odd.Opened.Load() > 0 {
		t.Error("legs went to a model of another rate")
	}
}

// Whoever cannot be used says why at once, or within the time to connect.
func TestWhyNobodyAnswersIsSaid(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for want, addr := range map[string]string{
		"connection refused":      gone.Addr().String(),
		"it has not answered yet": silent.Addr().String(),
		"no such file":            "unix:" + filepath.Join(t.TempDir(), "none"),
	} {
		cfg := remote.DefaultConfig()
		cfg.Addresses, cfg.Connect = []string{addr}, 300*time.Millisecond
		e, err := remote.New(cfg, quiet())
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), addr) {
			t.Errorf("error %v, want %q of %s", err, want, addr)
		}
	}
}
