package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// running is a Service that serves, and a client of it.
type running struct {
	*Service
	addr   string
	client callwardenv1.TranscribeServiceClient
	conn   *grpc.ClientConn
	stop   context.CancelFunc // begins to drain
	ended  chan error         // holds what Serve returned
}

func start(t testing.TB, engine transcribe.Engine, change func(*Config), options ...grpc.DialOption) *running {
	t.Helper()
	return impatient(t, engine, change, limits{config: 10 * time.Second, answer: 30 * time.Second}, options...)
}

// impatient is start with other limits.
func impatient(t testing.TB, engine transcribe.Engine, change func(*Config), limits limits, options ...grpc.DialOption) *running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.Grace = "127.0.0.1:0", 0
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, engine, quiet())
	if err != nil {
		t.Fatal(err)
	}
	s.limits = limits
	return run(t, s, options...)
}

func run(t testing.TB, s *Service, options ...grpc.DialOption) *running {
	t.Helper()
	lis, err := Open(s.cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Service: s, addr: lis.Addr().String(), stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- s.Serve(ctx, lis) }() // ends with the cleanup
	target := "passthrough:///" + r.addr
	if lis.Addr().Network() == "unix" {
		target = "unix:" + r.addr
	}
	if len(options) == 0 {
		options = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	if r.conn, err = grpc.NewClient(target, options...); err != nil {
		t.Fatal(err)
	}
	r.client = callwardenv1.NewTranscribeServiceClient(r.conn)
	t.Cleanup(func() {
		r.conn.Close()
		stop()
		if err := <-r.ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n, _, _ := s.door.load(); n != 0 {
			t.Errorf("%d streams are counted after the end", n)
		}
	})
	return r
}

// leg is a client's stream; an error of it is told at the next answer.
type leg struct {
	t    testing.TB
	wire grpc.BidiStreamingClient[callwardenv1.TranscribeRequest, callwardenv1.TranscribeResponse]
}

func (r *running) leg(t testing.TB) leg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	wire, err := r.client.Transcribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return leg{t, wire}
}

func (l leg) send(reqs ...*callwardenv1.TranscribeRequest) leg {
	for _, req := range reqs {
		_ = l.wire.Send(req) // what the server thinks of it is in its answer
	}
	return l
}

// ask sends req and returns its answer.
func (l leg) ask(req *callwardenv1.TranscribeRequest) *callwardenv1.TranscribeResponse {
	l.t.Helper()
	answer, err := l.send(req).wire.Recv()
	if err != nil {
		l.t.Fatalf("asked with %T: %v", req.Request, err)
	}
	return answer
}

// end reads to the end of the stream.
func (l leg) end() (answers []*callwardenv1.TranscribeResponse, err error) {
	for {
		answer, err := l.wire.Recv()
		if errors.Is(err, io.EOF) {
			return answers, nil
		}
		if err != nil {
			return answers, err
		}
		answers = append(answers, answer)
	}
}

func config(change func(*callwardenv1.TranscribeConfig)) *callwardenv1.TranscribeRequest {
	c := &callwardenv1.TranscribeConfig{PartialResults: true, Words: true, Leg: callwardenv1.Leg_LEG_CALLEE}
	if change != nil {
		change(c)
	}
	return &callwardenv1.TranscribeRequest{Request: &callwardenv1.TranscribeRequest_Config{Config: c}}
}

func sound(at time.Duration, pcm ...int16) *callwardenv1.TranscribeRequest {
	samples := make([]byte, 0, 2*len(pcm))
	for _, v := range pcm {
		samples = append(samples, byte(v), byte(uint16(v)>>8))
	}
	return &callwardenv1.TranscribeRequest{Request: &callwardenv1.TranscribeRequest_Audio{Audio: &callwardenv1.TranscribeAudio{
		Start: durationpb.New(at), Samples: samples,
	}}}
}

func raw(audio *callwardenv1.TranscribeAudio) *callwardenv1.TranscribeRequest {
	return &callwardenv1.TranscribeRequest{Request: &callwardenv1.TranscribeRequest_Audio{Audio: audio}}
}

func pause() *callwardenv1.TranscribeRequest {
	return &callwardenv1.TranscribeRequest{Request: &callwardenv1.TranscribeRequest_Pause{Pause: &callwardenv1.TranscribePause{}}}
}

// said is the text of final segments.
func said(answers ...*callwardenv1.TranscribeResponse) string {
	var all []string
	for _, a := range answers {
		for _, s := range a.GetSegments() {
			if s.Final {
				all = append(all, s.Text)
			}
		}
	}
	return strings.Join(all, " ")
}

func retryOf(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.RetryDelay.AsDuration()
		}
	}
	return 0
}

func TestEveryMessageIsAnsweredOnceInOrder(t *testing.T) {
	r := start(t, &transcribetest.Echo{}, nil)
	l := r.leg(t)
	if a := l.ask(config(nil)); a.Opened == nil || !a.Opened.Pauses || a.Heard != nil {
		t.Errorf("opened by %v", a)
	}
	pcm := transcribetest.Speak(16000, []int16{1, 2, 3, 4, 5, 6}, 200*time.Millisecond, 3)
	var answers []*callwardenv1.TranscribeResponse
	for i := 0; i < len(pcm); i += 1600 {
		end := min(i+1600, len(pcm))
		a := l.ask(sound(audio.Span(i, 16000), pcm[i:end]...))
		if got, want := a.Heard.AsDuration(), audio.Span(end, 16000); got != want {
			t.Errorf("heard until %v, want %v", got, want)
		}
		for _, s := range a.Segments {
			if s.Final && a.Settled.AsDuration() < s.End.AsDuration() {
				t.Errorf("final until %v and settled until %v", s.End.AsDuration(), a.Settled.AsDuration())
			}
			if s.Leg != callwardenv1.Leg_LEG_CALLEE || len(s.Words) == 0 {
				t.Errorf("segment %v", s)
			}
		}
		answers = append(answers, a)
	}
	if err := l.wire.CloseSend(); err != nil {
		t.Fatal(err)
	}
	rest, err := l.end()
	if err != nil || len(rest) != 1 {
		t.Fatalf("%d answers after the end, %v; want one", len(rest), err)
	}
	if got, want := said(append(answers, rest...)...), "wb wc wd we wf wg"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestPauseMakesFinalAndSettles(t *testing.T) {
	l := start(t, &transcribetest.Echo{}, nil).leg(t)
	l.ask(config(nil))
	l.ask(sound(time.Second, transcribetest.Speak(16000, []int16{7}, 500*time.Millisecond, 2)...))
	a := l.ask(pause())
	if said(a) != "wh" || a.Settled.AsDuration() != 1500*time.Millisecond {
		t.Errorf("paused: %v", a)
	}
}

func TestOnlyTheDetailThatIsWantedIsSent(t *testing.T) {
	l := start(t, &transcribetest.Echo{}, nil).leg(t)
	l.ask(config(func(c *callwardenv1.TranscribeConfig) { c.PartialResults, c.Words = false, false }))
	if a := l.ask(sound(0, transcribetest.Speak(16000, []int16{7, 8}, 500*time.Millisecond, 9)...)); len(a.Segments) != 0 {
		t.Errorf("unfinished segments: %v", a.Segments)
	}
	if a := l.ask(pause()); len(a.Segments) != 1 || len(a.Segments[0].Words) != 0 {
		t.Errorf("segments: %v", a.Segments)
	}
}

// Every stream that is wrong ends with its own status, and one beside it is
// heard to its end.
func TestWrongStreamsAreRefusedByNameAndDisturbNobody(t *testing.T) {
	engine := &transcribetest.Echo{Language: "en-US", Write: func(f audio.Frame) error {
		if f.PCM[0] == 666 {
			return errors.New("the lattice is empty")
		}
		return nil
	}}
	r := impatient(t, engine, nil, limits{config: 2 * time.Second, answer: 30 * time.Second})
	beside := r.leg(t)
	beside.ask(config(nil))
	pcm := transcribetest.Speak(16000, []int16{1, 2, 3}, 300*time.Millisecond, 9)
	at := 0
	for name, c := range map[string]struct {
		send   []*callwardenv1.TranscribeRequest
		close  bool
		code   codes.Code
		reason string
	}{
		"audio before the configuration":  {send: []*callwardenv1.TranscribeRequest{sound(0, 1, 1)}, code: codes.FailedPrecondition, reason: reasonConfigExpected},
		"a pause before it":               {send: []*callwardenv1.TranscribeRequest{pause()}, code: codes.FailedPrecondition, reason: reasonConfigExpected},
		"an empty message before it":      {send: []*callwardenv1.TranscribeRequest{{}}, code: codes.FailedPrecondition, reason: reasonConfigExpected},
		"a second configuration":          {send: []*callwardenv1.TranscribeRequest{config(nil), config(nil)}, code: codes.FailedPrecondition, reason: reasonConfigExpected},
		"an empty message":                {send: []*callwardenv1.TranscribeRequest{config(nil), {}}, code: codes.InvalidArgument, reason: reasonAudioRefused},
		"closed before the configuration": {close: true, code: codes.InvalidArgument, reason: reasonConfigMissing},
		"no configuration":                {code: codes.DeadlineExceeded, reason: reasonConfigLate},
		"a rate that is none": {
			send: []*callwardenv1.TranscribeRequest{config(func(c *callwardenv1.TranscribeConfig) { c.RateHz = 4000 })},
			code: codes.InvalidArgument, reason: reasonOptionRefused,
		},
		"a negative rate": {
			send: []*callwardenv1.TranscribeRequest{config(func(c *callwardenv1.TranscribeConfig) { c.RateHz = -8000 })},
			code: codes.InvalidArgument, reason: reasonOptionRefused,
		},
		"an unknown encoding": {
			send: []*callwardenv1.TranscribeRequest{config(func(c *callwardenv1.TranscribeConfig) { c.Encoding = 99 })},
			code: codes.InvalidArgument, reason: reasonOptionRefused,
		},
		"an unknown leg": {
			send: []*callwardenv1.TranscribeRequest{config(func(c *callwardenv1.TranscribeConfig) { c.Leg = 7 })},
			code: codes.InvalidArgument, reason: reasonOptionRefused,
		},
		"an unknown language": {
			send: []*callwardenv1.TranscribeRequest{config(func(c *callwardenv1.TranscribeConfig) { c.Language = "tlh" })},
			code: codes.InvalidArgument, reason: reasonOptionRefused,
		},
		"half a sample": {
			send: []*callwardenv1.TranscribeRequest{config(nil), raw(&callwardenv1.TranscribeAudio{Samples: []byte{1, 0, 1}})},
			code: codes.InvalidArgument, reason: reasonAudioRefused,
		},
		"audio that overlaps": {
			send: []*callwardenv1.TranscribeRequest{config(nil), sound(0, pcm...), sound(100*time.Millisecond, pcm...)},
			code: codes.InvalidArgument, reason: reasonAudioRefused,
		},
		"audio before the call": {
			send: []*callwardenv1.TranscribeRequest{config(nil), sound(-time.Second, pcm...)},
			code: codes.InvalidArgument, reason: reasonAudioRefused,
		},
		"a time that is none": {
			send: []*callwardenv1.TranscribeRequest{config(nil), raw(&callwardenv1.TranscribeAudio{Start: &durationpb.Duration{Seconds: 1, Nanos: -5}})},
			code: codes.InvalidArgument, reason: reasonAudioRefused,
		},
		"audio in a thousand years": {
			send: []*callwardenv1.TranscribeRequest{config(nil), raw(&callwardenv1.TranscribeAudio{Start: &durationpb.Duration{Seconds: 31_536_000_000}})},
			code: codes.InvalidArgument, reason: reasonAudioRefused,
		},
		"a message of 10 MB": {
			send: []*callwardenv1.TranscribeRequest{config(nil), raw(&callwardenv1.TranscribeAudio{Samples: make([]byte, 10<<20)})},
			code: codes.ResourceExhausted, reason: "ResourceExhausted",
		},
		"a recogniser that fails": {
			send: []*callwardenv1.TranscribeRequest{config(nil), sound(0, 666, 666)},
			code: codes.Internal, reason: reasonRecogniserFailed,
		},
	} {
		l := r.leg(t).send(c.send...)
		if c.close {
			_ = l.wire.CloseSend()
		}
		_, err := l.end()
		if status.Code(err) != c.code || reasonOf(err) != c.reason {
			t.Errorf("%s: %v with reason %s, want %v with %s", name, err, reasonOf(err), c.code, c.reason)
		}
		if end := at + len(pcm)/40; end <= len(pcm) {
			beside.ask(sound(audio.Span(at, 16000), pcm[at:end]...))
			at = end
		}
	}
	beside.ask(sound(audio.Span(at, 16000), pcm[at:]...))
	_ = beside.wire.CloseSend()
	answers, err := beside.end()
	if err != nil || said(answers...) != "wb wc wd" {
		t.Errorf("the stream beside them said %q, %v", said(answers...), err)
	}
	if n := engine.Now.Load(); n != 0 {
		t.Errorf("%d sessions are open", n)
	}
}

// A stream that is closed without audio has nothing to say, and that is fine.
func TestHalfClosedStreamEndsInOrder(t *testing.T) {
	r := start(t, &transcribetest.Echo{}, nil)
	l := r.leg(t).send(config(nil))
	_ = l.wire.CloseSend()
	answers, err := l.end()
	if err != nil || len(answers) != 2 || said(answers...) != "" {
		t.Errorf("%d answers, %v", len(answers), err)
	}
}

// A client that sends and never reads is let go; others are served meanwhile.
func TestClientThatStopsReadingHoldsNobodyElse(t *testing.T) {
	engine := &transcribetest.Echo{}
	r := impatient(t, engine, nil, limits{config: 10 * time.Second, answer: 2 * time.Second})
	stuck := r.leg(t).send(config(nil))
	// An utterance of many words in each second: the answers fill the window.
	pcm := make([]int16, 16000)
	for i := range 10000 {
		pcm[i] = int16(i/160 + 1)
	}
	sending := make(chan error, 1) // holds why sending ended
	go func() {
		for i := 0; ; i++ {
			if err := stuck.wire.Send(sound(time.Duration(i)*time.Second, pcm...)); err != nil {
				sending <- err
				return
			}
		}
	}()
	beside := r.leg(t)
	beside.ask(config(nil))
	at := 0
	waitFor(t, "the session to be given up", func() bool {
		beside.ask(sound(time.Duration(at)*100*time.Millisecond, make([]int16, 1600)...))
		at++
		return engine.Now.Load() == 1
	})
	_, err := stuck.end()
	if status.Code(err) != codes.DeadlineExceeded || reasonOf(err) != reasonAnswersNotRead {
		t.Errorf("ended with %v, reason %s", err, reasonOf(err))
	}
	if err := <-sending; !errors.Is(err, io.EOF) {
		t.Errorf("sending ended with %v", err)
	}
	beside.ask(sound(time.Duration(at)*100*time.Millisecond, make([]int16, 1600)...))
}

// A client that goes away leaves nothing behind.
func TestClientThatGoesAwayIsForgotten(t *testing.T) {
	engine := &transcribetest.Echo{}
	r := start(t, engine, nil)
	l := r.leg(t)
	l.ask(config(nil))
	r.conn.Close()
	waitFor(t, "the session to be closed", func() bool { return engine.Now.Load() == 0 })
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

func TestFullServerRefusesWithATimeToTryAgain(t *testing.T) {
	r := start(t, &transcribetest.Echo{}, func(c *Config) { c.Streams = 2 })
	var open []leg
	for range 2 {
		l := r.leg(t)
		l.ask(config(nil))
		open = append(open, l)
	}
	_, err := r.leg(t).send(config(nil)).end()
	if status.Code(err) != codes.ResourceExhausted || reasonOf(err) != reasonFull || retryOf(err) != retryFull {
		t.Errorf("third stream: %v, reason %s, retry %v", err, reasonOf(err), retryOf(err))
	}
	caps, err := r.client.GetCapabilities(t.Context(), &callwardenv1.GetCapabilitiesRequest{})
	if err != nil || caps.Streams != 2 || caps.Capacity != 2 || !caps.Full {
		t.Errorf("capabilities: %v, %v", caps, err)
	}
	_ = open[0].wire.CloseSend()
	if _, err := open[0].end(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "room", func() bool { n, _, _ := r.door.load(); return n < 2 })
	r.leg(t).ask(config(nil))
}

// Live streams are refused once audio has been heard late for ten seconds, and
// taken again when it has not for three.
func TestServerThatIsBehindRefusesLiveStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{capacity: 10, empty: make(chan struct{}), began: time.Now()}
		step := func(lag time.Duration, seconds int) {
			for range seconds * 10 {
				d.note(lag)
				<-time.After(100 * time.Millisecond)
			}
		}
		step(10*time.Millisecond, 5)
		step(time.Second, 9)
		if err := d.admit(true); err != nil {
			t.Errorf("after nine bad seconds: %v", err)
		}
		step(time.Second, 2)
		if err := d.admit(true); status.Code(err) != codes.ResourceExhausted || retryOf(err) == 0 {
			t.Errorf("after eleven: %v", err)
		}
		if err := d.admit(false); err != nil {
			t.Errorf("a recording can wait: %v", err)
		}
		step(10*time.Millisecond, 2)
		if err := d.admit(true); err == nil {
			t.Error("taken again at the first good second")
		}
		step(10*time.Millisecond, 2)
		if err := d.admit(true); err != nil {
			t.Errorf("after four good seconds: %v", err)
		}
		step(time.Second, 11)
		<-time.After(10 * time.Second)
		if err := d.admit(true); err != nil {
			t.Errorf("when nobody has said anything for long: %v", err)
		}
	})
}

func TestDrainingServerTakesNoStreamsAndEndsThoseItHas(t *testing.T) {
	engine := &transcribetest.Echo{}
	r := start(t, engine, func(c *Config) { c.Grace = time.Minute })
	l := r.leg(t)
	l.ask(config(nil))
	if a := l.ask(sound(0, 5, 5)); a.Draining {
		t.Error("draining before the end")
	}
	r.stop()
	waitFor(t, "draining", r.door.isDraining)
	if _, err := r.leg(t).send(config(nil)).end(); status.Code(err) != codes.Unavailable || reasonOf(err) != reasonDraining {
		t.Errorf("a new stream: %v, reason %s", err, reasonOf(err))
	}
	if a, err := healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil || a.Status != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v, %v", a, err)
	}
	if a := l.ask(sound(time.Second, 6, 6)); !a.Draining {
		t.Error("an answer does not say that the server is about to end")
	}
	_ = l.wire.CloseSend()
	if answers, err := l.end(); err != nil || !strings.HasSuffix(said(answers...), "wg") {
		t.Errorf("the open stream ended with %v, %v", answers, err)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	r.ended <- nil
}

func TestGraceTimeEnds(t *testing.T) {
	r := start(t, &transcribetest.Echo{}, func(c *Config) { c.Grace = 50 * time.Millisecond })
	l := r.leg(t)
	l.ask(config(nil))
	r.stop()
	if _, err := l.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("cut off with %v", err)
	}
}

func TestHealthAndReflectionAnswer(t *testing.T) {
	r := start(t, &transcribetest.Echo{}, nil)
	for _, name := range []string{"", "callwarden.v1.TranscribeService"} {
		a, err := healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
		if err != nil || a.Status != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", name, a, err)
		}
	}
	ask, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = ask.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	answer, err := ask.Recv()
	if err != nil || !strings.Contains(fmt.Sprint(answer), "callwarden.v1.TranscribeService") {
		t.Errorf("reflection: %v, %v", answer, err)
	}
	_ = ask.CloseSend()
}

func TestCapabilitiesAndWords(t *testing.T) {
	r := start(t, &transcribetest.Echo{Language: "en-GB"}, func(c *Config) { c.Version = "1.2" })
	caps, err := r.client.GetCapabilities(t.Context(), &callwardenv1.GetCapabilitiesRequest{})
	if err != nil || caps.Backend != "echo" || caps.RateHz != 16000 || caps.Languages[0] != "en-GB" || !caps.Phrases || !caps.Hints || !caps.Vocabulary || caps.Version != "1.2" {
		t.Errorf("capabilities: %v, %v", caps, err)
	}
	words, err := r.client.LookUpWords(t.Context(), &callwardenv1.LookUpWordsRequest{Words: []string{"wa", "other", "wb"}})
	if err != nil || len(words.Unknown) != 1 || words.Unknown[0] != "other" {
		t.Errorf("unknown: %v, %v", words, err)
	}
	other := start(t, &transcribetest.Faulty{}, nil)
	if caps, err := other.client.GetCapabilities(t.Context(), &callwardenv1.GetCapabilitiesRequest{}); err != nil || caps.Hints {
		t.Errorf("an engine that uses no hints: %v, %v", caps, err)
	}
	if _, err := other.client.LookUpWords(t.Context(), &callwardenv1.LookUpWordsRequest{Words: []string{"a"}}); status.Code(err) != codes.Unimplemented {
		t.Errorf("words of an engine that tells none: %v", err)
	}
}

// Telephone audio is brought to the model's rate.
func TestTelephoneAudioIsBroughtToTheModelsRate(t *testing.T) {
	var heard atomic.Int64
	engine := &transcribetest.Echo{Write: func(f audio.Frame) error {
		heard.Add(int64(len(f.PCM)))
		return nil
	}}
	r := start(t, engine, nil)
	for _, encoding := range []callwardenv1.AudioEncoding{
		callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMU, callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA, callwardenv1.AudioEncoding_AUDIO_ENCODING_LINEAR16,
	} {
		heard.Store(0)
		l := r.leg(t)
		l.ask(config(func(c *callwardenv1.TranscribeConfig) { c.RateHz, c.Encoding = 8000, encoding }))
		n := 800 // bytes of 100 ms
		if encoding == callwardenv1.AudioEncoding_AUDIO_ENCODING_LINEAR16 {
			n *= 2
		}
		for i := range 10 { // without times: one after the other
			a := l.ask(raw(&callwardenv1.TranscribeAudio{Samples: make([]byte, n)}))
			if want := time.Duration(i+1) * 100 * time.Millisecond; a.Heard.AsDuration() != want {
				t.Errorf("%v: heard until %v, want %v", encoding, a.Heard.AsDuration(), want)
			}
		}
		_ = l.wire.CloseSend()
		if _, err := l.end(); err != nil {
			t.Fatal(err)
		}
		if got := heard.Load(); got < 15900 || got > 16100 {
			t.Errorf("%v: a second of 8 kHz became %d samples at 16 kHz", encoding, got)
		}
	}
}

func TestOneNativeDecodePerCore(t *testing.T) {
	var running, most atomic.Int32
	engine := &transcribetest.Faulty{Native: true, Write: func(int, int, audio.Frame) ([]transcribe.Segment, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		runtime.Gosched()
		return nil, nil
	}}
	r := start(t, engine, nil)
	var all sync.WaitGroup
	for range 20 {
		l := r.leg(t)
		l.ask(config(nil))
		all.Go(func() {
			for i := range 20 {
				if _, err := l.send(sound(time.Duration(i)*time.Second, make([]int16, 8000)...)).wire.Recv(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if got := int(most.Load()); got < 1 || got > runtime.GOMAXPROCS(0) {
		t.Errorf("%d decodes at once on %d cores", got, runtime.GOMAXPROCS(0))
	}
}

func TestFiguresAreThere(t *testing.T) {
	r := start(t, &transcribetest.Echo{}, nil)
	l := r.leg(t)
	l.ask(config(func(c *callwardenv1.TranscribeConfig) { c.Live = true }))
	l.ask(sound(0, transcribetest.Speak(16000, []int16{1, 2}, time.Second, 2)...))
	again := sound(3*time.Second, make([]int16, 16000)...)
	again.GetAudio().Again = true
	l.ask(again)
	_, _ = r.leg(t).send(pause()).end()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.Service)
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		"callwarden_transcriber_streams 1",
		`callwarden_transcriber_streams_total{reason="CONFIG_EXPECTED"} 1`,
		"callwarden_transcriber_audio_seconds_total 3.31",
		"callwarden_transcriber_audio_again_seconds_total 1",
		"callwarden_transcriber_lag_seconds_count 1",
		`callwarden_transcriber_segments_total{kind="final"} 1`,
	} {
		if !strings.Contains(page.Body.String(), want+"\n") {
			t.Errorf("no line %q in\n%s", want, page.Body.String())
		}
	}
}

func TestSocketFileOfADeadServerIsReplacedAndOfALivingOneNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	living, err := Open("unix:" + path)
	if err != nil {
		t.Fatalf("over a dead one: %v", err)
	}
	defer living.Close()
	if second, err := Open("unix:" + path); err == nil {
		second.Close()
		t.Error("took the address of a living server")
	}
}

func TestConfigNamesKeyValueAndRule(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`listen: "" must be`:             func(c *Config) { c.Listen = "" },
		"streams: 0 must be from 1":      func(c *Config) { c.Streams = 0 },
		"grace: 2h0m0s must be from":     func(c *Config) { c.Grace = 2 * time.Hour },
		"tls.cert: it must be set":       func(c *Config) { c.TLS.CA = "ca.pem" },
		`tls.cert: "c" and key: "" must`: func(c *Config) { c.TLS.Cert = "c" },
		"token_file: ":                   func(c *Config) { c.TokenFile = "/nonexistent" },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if _, err := New(cfg, &transcribetest.Echo{}, quiet()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
