package grpcsrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// listener is a handler that keeps what it hears, and tells each call's peer
// that it began and ended.
type listener struct {
	mu     sync.Mutex
	calls  []heard
	refuse error                                        // in place of hearing
	then   func(ctx context.Context, call *source.Call) // once admitted, where not nil
}

type heard struct {
	*source.Call
	pcm  map[audio.Leg][]int16
	end  map[audio.Leg]time.Duration
	lost time.Duration
	keys string
	err  error
}

func event(call *source.Call, typ sink.Type, data any) sink.Event {
	ev := sink.Event{ID: string(typ) + "-1", Type: typ, Tenant: call.Tenant, Call: call.ID}
	about := &callwardenv1.CallContext{Tenant: call.Tenant, Call: call.ID, Source: call.Source}
	switch d := data.(type) {
	case *callwardenv1.CallStarted:
		d.Context, ev.Data = about, d
	case *callwardenv1.RiskLevel:
		d.Context, ev.Data = about, d
	case *callwardenv1.CallEnded:
		d.Context, ev.Data = about, d
	case *callwardenv1.TranscriptSegment:
		d.Context, ev.Data = about, d
	case *callwardenv1.CallLevels:
		d.Context, ev.Data = about, d
	}
	return ev
}

func (l *listener) handle(ctx context.Context, call *source.Call) error {
	if l.refuse != nil {
		return l.refuse
	}
	call.Admitted()
	call.Peer.Tell(event(call, sink.CallStarted, &callwardenv1.CallStarted{}))
	if l.then != nil {
		l.then(ctx, call)
	}
	h := heard{Call: call, pcm: make(map[audio.Leg][]int16), end: make(map[audio.Leg]time.Duration)}
	for h.err == nil {
		var f audio.Frame
		if f, h.err = call.Audio.ReadFrame(ctx); h.err != nil {
			break
		}
		if f.Start < h.end[f.Leg] {
			h.err = fmt.Errorf("%v frame at %v after %v", f.Leg, f.Start, h.end[f.Leg])
		}
		h.end[f.Leg] = f.End()
		h.pcm[f.Leg] = append(h.pcm[f.Leg], f.PCM...)
		h.lost += f.Lost
		h.keys += f.Keys
	}
	call.Peer.Tell(event(call, sink.CallEnded, &callwardenv1.CallEnded{Reason: h.err.Error()}))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, h)
	if errors.Is(h.err, io.EOF) {
		return nil
	}
	return fmt.Errorf("reading call %s: %w", call.ID, h.err)
}

// running is a source that serves, and a client of it.
type running struct {
	*Source
	conn   *grpc.ClientConn
	client callwardenv1.CallServiceClient
	stop   func() // ends Serve and waits for it
	end    context.CancelFunc
}

func start(t testing.TB, handle source.Handler, change func(*Config), options ...grpc.DialOption) *running {
	t.Helper()
	return impatient(t, handle, defaultLimits(), change, options...)
}

// impatient is start with other limits.
func impatient(t testing.TB, handle source.Handler, limits limits, change func(*Config), options ...grpc.DialOption) *running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	s.limits = limits
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, handle) }()
	r := &running{Source: s, end: cancel}
	if len(options) == 0 {
		options = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	if r.conn, err = grpc.NewClient("passthrough:///"+s.Addr().String(), options...); err != nil {
		t.Fatal(err)
	}
	r.client = callwardenv1.NewCallServiceClient(r.conn)
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve returned %v", err)
		}
		if s.door.calls != 0 || s.door.watchers != 0 || len(s.door.live) != 0 {
			t.Errorf("the door counts %d calls, %d watchers, %d names after the end", s.door.calls, s.door.watchers, len(s.door.live))
		}
		r.conn.Close()
	})
	t.Cleanup(r.stop)
	return r
}

// inside is how many calls are open.
func (r *running) inside() int {
	r.door.mu.Lock()
	defer r.door.mu.Unlock()
	return r.door.calls
}

// until waits for a thing to be so.
func until(t testing.TB, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * ms)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !so() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited for: %s", what)
		}
	}
}

// line is a client's side of a call.
type line struct {
	t    testing.TB
	wire grpc.BidiStreamingClient[callwardenv1.StreamRequest, callwardenv1.StreamResponse]
}

// call sends messages; an error of that is told at the next answer.
func (r *running) call(t testing.TB, say ...*callwardenv1.StreamRequest) *line {
	t.Helper()
	return r.callAs(t.Context(), t, say...)
}

func (r *running) callAs(ctx context.Context, t testing.TB, say ...*callwardenv1.StreamRequest) *line {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	t.Cleanup(cancel)
	wire, err := r.client.Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l := &line{t, wire}
	l.say(say...)
	return l
}

func (l *line) say(all ...*callwardenv1.StreamRequest) {
	for _, m := range all {
		_ = l.wire.Send(m)
	}
}

// hear is what comes until the end, which it returns.
func (l *line) hear() (all []*callwardenv1.StreamResponse, err error) {
	for {
		r, err := l.wire.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return all, err
		}
		all = append(all, r)
	}
}

// texts are responses in short.
func texts(all []*callwardenv1.StreamResponse) (out []string) {
	for _, r := range all {
		switch r := r.Response.(type) {
		case *callwardenv1.StreamResponse_Opened:
			out = append(out, "opened "+r.Opened.GetTenant()+" "+r.Opened.GetId())
		case *callwardenv1.StreamResponse_Prompt:
			out = append(out, "prompt "+r.Prompt.GetText())
		case *callwardenv1.StreamResponse_Missed:
			out = append(out, "missed")
		case *callwardenv1.StreamResponse_Event:
			out = append(out, strings.TrimPrefix(fmt.Sprintf("%T", r.Event.GetData()), "*callwardenv1.CallEvent_"))
		}
	}
	return out
}

func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.Domain == "callwarden" {
			return info.Reason
		}
	}
	return status.Code(err).String()
}

func opens(o *callwardenv1.CallOpen) *callwardenv1.StreamRequest {
	if o.RateHz == 0 {
		o.RateHz = 8000
	}
	return &callwardenv1.StreamRequest{Open: o}
}

func sounds(leg callwardenv1.Leg, samples ...byte) *callwardenv1.StreamRequest {
	return &callwardenv1.StreamRequest{Audio: []*callwardenv1.CallAudio{{Leg: leg, Samples: samples}}}
}

func hangsUp() *callwardenv1.StreamRequest {
	return &callwardenv1.StreamRequest{HangUp: &callwardenv1.CallHangUp{}}
}

const (
	callerLeg = callwardenv1.Leg_LEG_CALLER
	calleeLeg = callwardenv1.Leg_LEG_CALLEE
	nobodyLeg = callwardenv1.Leg_LEG_UNSPECIFIED
)

// tone is n samples that tell which they are.
func tone(n, from int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(from + i)
	}
	return pcm
}

func TestCallIsHeardAsSentAndToldOf(t *testing.T) {
	l := &listener{then: func(_ context.Context, call *source.Call) {
		call.Peer.Tell(event(call, sink.TranscriptSegment, &callwardenv1.TranscriptSegment{Final: true}))
		call.Peer.Tell(event(call, sink.TranscriptSegment, &callwardenv1.TranscriptSegment{}))
		call.Peer.Tell(event(call, sink.CallLevels, &callwardenv1.CallLevels{}))
		call.Peer.Tell(event(call, sink.RiskLevel, &callwardenv1.RiskLevel{}))
	}}
	r := start(t, l.handle, nil)
	yes := true
	c := r.call(t, opens(&callwardenv1.CallOpen{
		Id: "c-1", Tenant: "bank", From: "+15550100", ToName: "B", Direction: "inbound", Consent: &yes,
		Attributes: map[string]string{"queue": "7"}, Language: "en-US", Wants: &callwardenv1.CallWants{Transcripts: true},
	}))
	for i := range 10 {
		at := durationpb.New(time.Duration(i) * 20 * ms)
		c.say(&callwardenv1.StreamRequest{Audio: []*callwardenv1.CallAudio{
			{Leg: callerLeg, Start: at, Samples: encode(callwardenv1.AudioEncoding_AUDIO_ENCODING_LINEAR16, tone(160, 160*i))},
			{Leg: calleeLeg, Start: at, Samples: encode(callwardenv1.AudioEncoding_AUDIO_ENCODING_LINEAR16, tone(160, 5000+160*i)), Lost: durationpb.New(ms)},
		}})
	}
	c.say(&callwardenv1.StreamRequest{Keys: []*callwardenv1.CallKeys{{Leg: callerLeg, Keys: "42#"}}}, hangsUp())
	got, err := c.hear()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"opened bank c-1", "Started", "Transcript", "Level", "Ended"}; !slices.Equal(texts(got), want) {
		t.Errorf("got %q, want %q", texts(got), want)
	}
	if ev := got[1].GetEvent(); ev.GetId() == "" || ev.GetStarted().GetContext().GetCall() != "c-1" {
		t.Errorf("the first event is %v", ev)
	}
	h := l.calls[0]
	if h.Source != "grpc" || !h.Live || h.Began.IsZero() || h.Language != "en-US" || h.Hypotheses || !slices.Equal(h.Legs, []audio.Leg{audio.Caller, audio.Callee}) {
		t.Errorf("call %+v", h.Call)
	}
	for k, v := range map[string]string{"from": "+15550100", "to_name": "B", "direction": "inbound", "consent": "true", "queue": "7", "codec": "L16"} {
		if h.Attributes[k] != v {
			t.Errorf("attribute %s is %q, want %q", k, h.Attributes[k], v)
		}
	}
	if !slices.Equal(h.pcm[audio.Caller], tone(1600, 0)) || !slices.Equal(h.pcm[audio.Callee], tone(1600, 5000)) {
		t.Errorf("heard %d and %d samples, not those that were sent", len(h.pcm[audio.Caller]), len(h.pcm[audio.Callee]))
	}
	if h.keys != "42#" || h.lost != 10*ms || h.end[audio.Caller] != 200*ms {
		t.Errorf("keys %q, lost %v, end %v", h.keys, h.lost, h.end)
	}
	if st := r.Stats(); st.Begun != 1 || st.Calls != 0 || st.Legs != 0 || st.Packets != 20 || st.Bytes != 6400 || st.Told != 4 || st.Untold != 0 || st.Refused+st.Malformed+st.Stranger+st.Unplaced != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestEncodingsAndLegsAreAsTheOpenSays(t *testing.T) {
	pcm := tone(400, -200)
	for _, c := range []struct {
		encoding callwardenv1.AudioEncoding
		legs     []callwardenv1.Leg
		send     callwardenv1.Leg
		want     audio.Leg
		pcm      []int16
		codec    string
	}{
		{callwardenv1.AudioEncoding_AUDIO_ENCODING_UNSPECIFIED, []callwardenv1.Leg{calleeLeg}, calleeLeg, audio.Callee, pcm, "L16"},
		{callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMU, []callwardenv1.Leg{nobodyLeg}, nobodyLeg, audio.Unknown, audio.MuLaw.Decode(nil, audio.MuLaw.Encode(nil, pcm)), "PCMU"},
		{callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA, []callwardenv1.Leg{calleeLeg, callerLeg}, callerLeg, audio.Caller, audio.ALaw.Decode(nil, audio.ALaw.Encode(nil, pcm)), "PCMA"},
	} {
		l := &listener{}
		r := start(t, l.handle, nil)
		line := r.call(t, opens(&callwardenv1.CallOpen{Encoding: c.encoding, Legs: c.legs, RateHz: 16000}), sounds(c.send, encode(c.encoding, pcm)...))
		_ = line.wire.CloseSend()
		if _, err := line.hear(); err != nil {
			t.Fatal(err)
		}
		h := l.calls[0]
		if !slices.Equal(h.pcm[c.want], c.pcm) || h.Attributes["codec"] != c.codec || !strings.HasPrefix(h.ID, "grpc-") || h.Tenant != "default" {
			t.Errorf("%v: call %+v heard %d samples", c.encoding, h.Call, len(h.pcm[c.want]))
		}
	}
}

func TestPromptsComeAsTheCallSounds(t *testing.T) {
	playing := make(chan error, 2)
	l := &listener{then: func(_ context.Context, call *source.Call) {
		player, ok := call.Peer.(source.Player)
		if !ok {
			playing <- errors.New("it is no player")
			return
		}
		playing <- player.Play(source.Prompt{ID: "a", Text: "Beware.", Rate: 16000, PCM: make([]int16, 16000)})
		playing <- player.Play(source.Prompt{ID: "b", Rate: 16000, PCM: make([]int16, 31*16000)})
	}}
	r := start(t, l.handle, nil)
	c := r.call(t, opens(&callwardenv1.CallOpen{Encoding: callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA, Wants: &callwardenv1.CallWants{Prompts: true}}), hangsUp())
	got, err := c.hear()
	if err != nil || !slices.Equal(texts(got)[1:], []string{"Started", "prompt Beware.", "Ended"}) {
		t.Fatalf("%q, %v", texts(got), err)
	}
	if p := got[2].GetPrompt(); p.GetId() != "a" || len(p.GetSamples()) != 8000 {
		t.Errorf("prompt %s of %d bytes", p.GetId(), len(p.GetSamples()))
	}
	if err := <-playing; err != nil {
		t.Error(err)
	}
	if err := <-playing; err == nil || !strings.Contains(err.Error(), "31s") {
		t.Errorf("a prompt of 31 s: %v", err)
	}
	c = r.call(t, opens(&callwardenv1.CallOpen{}), hangsUp())
	if _, err := c.hear(); err != nil {
		t.Fatal(err)
	}
	if err := <-playing; err == nil {
		t.Error("a client that did not ask for prompts is a player")
	}
}

func TestWhatIsWrongHasItsReason(t *testing.T) {
	good := opens(&callwardenv1.CallOpen{Id: "bad"})
	ten := make([]byte, 10<<20)
	for name, c := range map[string]struct {
		say  []*callwardenv1.StreamRequest
		code codes.Code
		want string
		text string
	}{
		"audio first":               {[]*callwardenv1.StreamRequest{sounds(callerLeg, 0, 0)}, codes.FailedPrecondition, "OPEN_EXPECTED", "first message"},
		"nothing":                   {nil, codes.InvalidArgument, "OPEN_MISSING", "before open"},
		"an empty message":          {[]*callwardenv1.StreamRequest{{}}, codes.FailedPrecondition, "OPEN_EXPECTED", "first message"},
		"open twice":                {[]*callwardenv1.StreamRequest{good, good}, codes.FailedPrecondition, "OPEN_EXPECTED", "one open"},
		"no rate":                   {[]*callwardenv1.StreamRequest{{Open: &callwardenv1.CallOpen{}}}, codes.InvalidArgument, "OPTION_REFUSED", "rate_hz: 0"},
		"a rate of odd filters":     {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{RateHz: 47999})}, codes.InvalidArgument, "OPTION_REFUSED", "rate_hz: 47999"},
		"an id that is a subject":   {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{Id: "a.>"})}, codes.InvalidArgument, "OPTION_REFUSED", "call: "},
		"a tenant that is none":     {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{Tenant: "a b"})}, codes.InvalidArgument, "OPTION_REFUSED", "tenant: "},
		"an unknown encoding":       {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{Encoding: 9})}, codes.InvalidArgument, "OPTION_REFUSED", "encoding: 9"},
		"a third leg":               {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{Legs: []callwardenv1.Leg{3}})}, codes.InvalidArgument, "OPTION_REFUSED", "legs: "},
		"a leg below all":           {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{Legs: []callwardenv1.Leg{-255}})}, codes.InvalidArgument, "OPTION_REFUSED", "legs: "},
		"a leg twice":               {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{Legs: []callwardenv1.Leg{callerLeg, callerLeg}})}, codes.InvalidArgument, "OPTION_REFUSED", "legs: "},
		"all on one and one apart":  {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{Legs: []callwardenv1.Leg{callerLeg, nobodyLeg}})}, codes.InvalidArgument, "OPTION_REFUSED", "legs: "},
		"a language that is none":   {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{Language: "english, please"})}, codes.InvalidArgument, "OPTION_REFUSED", "language: "},
		"control characters":        {[]*callwardenv1.StreamRequest{opens(&callwardenv1.CallOpen{FromName: "a\x00"})}, codes.InvalidArgument, "OPTION_REFUSED", "from_name: "},
		"audio of no leg":           {[]*callwardenv1.StreamRequest{good, sounds(nobodyLeg, 0, 0)}, codes.InvalidArgument, "AUDIO_REFUSED", "LEG_UNSPECIFIED"},
		"audio of leg 257":          {[]*callwardenv1.StreamRequest{good, sounds(257, 0, 0)}, codes.InvalidArgument, "AUDIO_REFUSED", "257"},
		"half a sample":             {[]*callwardenv1.StreamRequest{good, sounds(callerLeg, 0)}, codes.InvalidArgument, "AUDIO_REFUSED", "1 bytes"},
		"a start below 0":           {[]*callwardenv1.StreamRequest{good, {Audio: []*callwardenv1.CallAudio{{Leg: callerLeg, Start: durationpb.New(-ms)}}}}, codes.InvalidArgument, "AUDIO_REFUSED", "start: "},
		"a start that is no time":   {[]*callwardenv1.StreamRequest{good, {Audio: []*callwardenv1.CallAudio{{Leg: callerLeg, Start: &durationpb.Duration{Seconds: 1 << 62}}}}}, codes.InvalidArgument, "AUDIO_REFUSED", "start: "},
		"a start in two minutes":    {[]*callwardenv1.StreamRequest{good, {Audio: []*callwardenv1.CallAudio{{Leg: callerLeg, Start: durationpb.New(2 * time.Minute), Samples: make([]byte, 320)}}}}, codes.InvalidArgument, "AUDIO_REFUSED", "starts at 2m0s"},
		"a loss below 0":            {[]*callwardenv1.StreamRequest{good, {Audio: []*callwardenv1.CallAudio{{Leg: callerLeg, Lost: durationpb.New(-ms)}}}}, codes.InvalidArgument, "AUDIO_REFUSED", "lost: "},
		"the same audio twice":      {[]*callwardenv1.StreamRequest{good, {Audio: []*callwardenv1.CallAudio{{Leg: callerLeg, Start: durationpb.New(0), Samples: make([]byte, 8000)}, {Leg: callerLeg, Start: durationpb.New(0), Samples: make([]byte, 8000)}}}}, codes.InvalidArgument, "AUDIO_REFUSED", "overlaps"},
		"keys that are none":        {[]*callwardenv1.StreamRequest{good, {Keys: []*callwardenv1.CallKeys{{Leg: callerLeg, Keys: "E"}}}}, codes.InvalidArgument, "OPTION_REFUSED", "keys: "},
		"a page of keys":            {[]*callwardenv1.StreamRequest{good, {Keys: []*callwardenv1.CallKeys{{Leg: callerLeg, Keys: strings.Repeat("1", 17)}}}}, codes.InvalidArgument, "OPTION_REFUSED", "keys: "},
		"a reason of a page":        {[]*callwardenv1.StreamRequest{good, {HangUp: &callwardenv1.CallHangUp{Reason: strings.Repeat("a", 257)}}}, codes.InvalidArgument, "OPTION_REFUSED", "hang_up.reason: "},
		"10 MB":                     {[]*callwardenv1.StreamRequest{good, sounds(callerLeg, ten...)}, codes.ResourceExhausted, "ResourceExhausted", "4194304"},
		"10 MB in the first":        {[]*callwardenv1.StreamRequest{sounds(callerLeg, ten...)}, codes.ResourceExhausted, "ResourceExhausted", "4194304"},
		"a hang-up with its reason": {[]*callwardenv1.StreamRequest{good, {HangUp: &callwardenv1.CallHangUp{Reason: "trunk down"}}}, codes.OK, "OK", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := &listener{}
			r := start(t, l.handle, nil)
			other := r.call(t, opens(&callwardenv1.CallOpen{Id: "other"}), sounds(callerLeg, 1, 0, 2, 0))
			if first, err := other.wire.Recv(); err != nil || first.GetOpened() == nil {
				t.Fatalf("%v, %v", first, err)
			}
			bad := r.call(t, c.say...)
			_ = bad.wire.CloseSend()
			got, err := bad.hear()
			if status.Code(err) != c.code || reasonOf(err) != c.want || !strings.Contains(status.Convert(err).Message(), c.text) {
				t.Errorf("%v %v %v, want %v %v with %q", status.Code(err), reasonOf(err), err, c.code, c.want, c.text)
			}
			if n := len(got); n > 0 && c.want != "ResourceExhausted" && got[n-1].GetEvent().GetEnded() == nil {
				t.Errorf("the last word is %v", got[n-1])
			}
			other.say(sounds(callerLeg, 3, 0), hangsUp())
			if _, err := other.hear(); err != nil {
				t.Errorf("the other call: %v", err)
			}
			for _, h := range l.calls {
				if h.ID == "other" && !slices.Equal(h.pcm[audio.Caller], []int16{1, 2, 3}) {
					t.Errorf("the other call heard %v", h.pcm)
				}
			}
		})
	}
}

func TestEndsOfCallsAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		l    *listener
		want string
		more uint64 // Refused
	}{
		"busy":          {&listener{refuse: fmt.Errorf("no: %w", source.ErrBusy)}, "BUSY", 1},
		"broken":        {&listener{refuse: errors.New("secret of ours")}, "FAILED", 0},
		"not monitored": {&listener{}, "NOT_MONITORED", 0},
	} {
		handle := c.l.handle
		if name == "not monitored" {
			handle = func(context.Context, *source.Call) error { return nil }
		}
		r := start(t, handle, nil)
		got, err := r.call(t, opens(&callwardenv1.CallOpen{})).hear()
		if len(got) != 0 || reasonOf(err) != c.want || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %q, %v", name, texts(got), err)
		}
		if st := r.Stats(); st.Refused != c.more || st.Calls != 0 {
			t.Errorf("%s: stats %+v", name, st)
		}
		retry := false
		for _, d := range status.Convert(err).Details() {
			_, is := d.(*errdetails.RetryInfo)
			retry = retry || is
		}
		if retry != (name == "busy") {
			t.Errorf("%s: told to try again: %v", name, retry)
		}
	}
}

func TestOneCallOfAName(t *testing.T) {
	l := &listener{}
	r := start(t, l.handle, func(c *Config) { c.Calls = 2 })
	first := r.call(t, opens(&callwardenv1.CallOpen{Id: "c"}))
	if _, err := first.wire.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.call(t, opens(&callwardenv1.CallOpen{Id: "c"})).hear(); reasonOf(err) != "CALL_EXISTS" || status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same name: %v", err)
	}
	other := r.call(t, opens(&callwardenv1.CallOpen{Id: "c", Tenant: "another"}))
	if _, err := other.wire.Recv(); err != nil {
		t.Errorf("another tenant's: %v", err)
	}
	if _, err := r.call(t, opens(&callwardenv1.CallOpen{})).hear(); reasonOf(err) != "FULL" {
		t.Errorf("a third call: %v", err)
	}
	first.say(hangsUp())
	if _, err := first.hear(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.call(t, opens(&callwardenv1.CallOpen{Id: "c"}), hangsUp()).hear(); err != nil {
		t.Errorf("after its end: %v", err)
	}
	if st := r.Stats(); st.Unplaced != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestOpenIsWaitedForOnlyForAWhile(t *testing.T) {
	limits := defaultLimits()
	limits.open = 50 * ms
	r := impatient(t, (&listener{}).handle, limits, nil)
	if _, err := r.call(t).hear(); reasonOf(err) != "OPEN_LATE" || status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
}

func TestCallWithoutAudioEnds(t *testing.T) {
	l := &listener{}
	r := start(t, l.handle, func(c *Config) { c.MediaTimeout = time.Second })
	got, err := r.call(t, opens(&callwardenv1.CallOpen{})).hear()
	if reasonOf(err) != "NO_AUDIO" || len(got) == 0 || got[len(got)-1].GetEvent().GetEnded().GetReason() != "nothing came for 1s" {
		t.Errorf("%q, %v", texts(got), err)
	}
}

func TestClientThatIsGoneEndsItsCall(t *testing.T) {
	l := &listener{}
	r := start(t, l.handle, nil)
	ctx, cancel := context.WithCancel(t.Context())
	c := r.callAs(ctx, t, opens(&callwardenv1.CallOpen{}), sounds(callerLeg, 1, 0))
	if _, err := c.wire.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	r.stop()
	if len(l.calls) != 1 || !errors.Is(l.calls[0].err, errGone) && !errors.Is(l.calls[0].err, context.Canceled) {
		t.Errorf("calls %+v", l.calls)
	}
}

func TestDrainingLetsCallsEnd(t *testing.T) {
	l := &listener{}
	// As serve does: the end of ctx does not end calls.
	r := start(t, func(ctx context.Context, call *source.Call) error { return l.handle(context.WithoutCancel(ctx), call) }, nil)
	c := r.call(t, opens(&callwardenv1.CallOpen{}), sounds(callerLeg, 1, 0))
	if _, err := c.wire.Recv(); err != nil {
		t.Fatal(err)
	}
	idle := r.call(t) // has not said what it is
	r.end()
	if _, err := idle.hear(); reasonOf(err) != "DRAINING" {
		t.Errorf("a stream without open: %v", err)
	}
	for { // until the door is closed
		_, err := r.call(t, opens(&callwardenv1.CallOpen{}), hangsUp()).hear()
		if reasonOf(err) == "DRAINING" {
			break
		}
		if err != nil {
			t.Fatalf("a new call: %v", err)
		}
	}
	if h, err := healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "callwarden.v1.CallService"}); err != nil || h.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v, %v", h, err)
	}
	c.say(sounds(callerLeg, 2, 0), hangsUp())
	if _, err := c.hear(); err != nil {
		t.Errorf("the call: %v", err)
	}
	r.stop()
}

func TestCallsThatAreCutOffAreTold(t *testing.T) {
	r := start(t, (&listener{}).handle, nil)
	c := r.call(t, opens(&callwardenv1.CallOpen{}))
	if _, err := c.wire.Recv(); err != nil {
		t.Fatal(err)
	}
	r.end()
	if _, err := c.hear(); reasonOf(err) != "CUT_OFF" || status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// A client that does not read is heard all the same, and so are others.
func TestClientThatNeverReadsIsHeard(t *testing.T) {
	limits := defaultLimits()
	limits.read = 100 * ms
	told := make(chan struct{})
	l := &listener{}
	l.then = func(_ context.Context, call *source.Call) {
		if call.ID != "deaf" {
			return
		}
		for range 20 * passingMost { // some fill its windows
			call.Peer.Tell(event(call, sink.TranscriptSegment, &callwardenv1.TranscriptSegment{Final: true, Text: strings.Repeat("word ", 100)}))
		}
		close(told)
	}
	r := impatient(t, l.handle, limits, nil)
	deaf := r.call(t, opens(&callwardenv1.CallOpen{Id: "deaf", Wants: &callwardenv1.CallWants{Transcripts: true}}), sounds(callerLeg, 1, 0))
	<-told
	if got, err := r.call(t, opens(&callwardenv1.CallOpen{}), hangsUp()).hear(); err != nil || len(got) != 3 {
		t.Errorf("another call: %q, %v", texts(got), err)
	}
	deaf.say(sounds(callerLeg, 2, 0), hangsUp())
	until(t, "the call ends without having been read", func() bool { return r.inside() == 0 })
	got, err := deaf.hear()
	if reasonOf(err) != "EVENTS_NOT_READ" || status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%d answers, %v", len(got), err)
	}
	for _, h := range l.calls {
		if h.ID == "deaf" && !slices.Equal(h.pcm[audio.Caller], []int16{1, 2}) {
			t.Errorf("heard %v", h.pcm)
		}
	}
	if st := r.Stats(); st.Untold == 0 || st.Told == 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestSlowClientIsToldThatItMissedAndHowItEnded(t *testing.T) {
	told := make(chan struct{})
	const segments = 20 * passingMost
	l := &listener{then: func(_ context.Context, call *source.Call) {
		for range segments {
			call.Peer.Tell(event(call, sink.TranscriptSegment, &callwardenv1.TranscriptSegment{Final: true, Text: strings.Repeat("word ", 100)}))
		}
		call.Peer.Tell(event(call, sink.RiskLevel, &callwardenv1.RiskLevel{}))
		close(told)
	}}
	r := start(t, l.handle, nil)
	c := r.call(t, opens(&callwardenv1.CallOpen{Wants: &callwardenv1.CallWants{Transcripts: true}}), hangsUp())
	<-told
	got, err := c.hear()
	if err != nil {
		t.Fatal(err)
	}
	events, missed := 0, 0
	for _, m := range got {
		if m.GetEvent().GetTranscript() != nil {
			events++
		}
		missed += int(m.GetMissed().GetEvents())
	}
	if events+missed != segments || missed == 0 {
		t.Errorf("%d events and %d missed", events, missed)
	}
	if all := texts(got); !slices.Equal(all[len(all)-3:], []string{"missed", "Level", "Ended"}) {
		t.Errorf("the end is %q", all[len(all)-3:])
	}
}

func as(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}
