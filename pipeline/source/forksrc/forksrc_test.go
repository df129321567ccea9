package forksrc

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/websock"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// heard is a call as a handler got it.
type heard struct {
	call   *source.Call
	frames []audio.Frame
	end    error
}

func (h *heard) pcm(leg audio.Leg) (all []int16) {
	for _, f := range h.frames {
		if f.Leg == leg {
			all = append(all, f.PCM...)
		}
	}
	return all
}

type network struct {
	t *testing.T
	*Source
	url   string
	calls chan *heard
}

// serve serves a source whose calls are heard after begin was called with them.
func serve(t *testing.T, change func(*Config), begin func(*source.Call)) *network {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Web.Listen = "127.0.0.1:0"
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n := &network{t: t, Source: s, url: "ws://" + s.Addrs()[0].String() + "/v1/fork/", calls: make(chan *heard, 10)}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() {
		served <- s.Serve(ctx, func(ctx context.Context, call *source.Call) error {
			if begin != nil {
				begin(call)
			}
			h := &heard{call: call}
			for {
				f, err := call.Audio.ReadFrame(ctx)
				if err != nil {
					h.end = err
					n.calls <- h
					return nil //nolint:nilerr // the test looks at it
				}
				h.frames = append(h.frames, f)
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	return n
}

func (n *network) dial(query string, protocols ...string) *websocket.Conn {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, n.url+query, &websocket.DialOptions{Subprotocols: protocols}) //nolint:bodyclose // the library has closed it
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

func ended(t *testing.T, ws *websocket.Conn) (websock.Status, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		_, _, err := ws.Read(ctx)
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			return closed.Code, closed.Reason
		}
		if err != nil {
			t.Fatalf("no close frame: %v", err)
		}
	}
}

func send(t *testing.T, ws *websocket.Conn, kind websocket.MessageType, data []byte) {
	t.Helper()
	if err := ws.Write(context.Background(), kind, data); err != nil {
		t.Fatal(err)
	}
}

func sine(hz float64, rateHz, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/float64(rateHz)))
	}
	return out
}

// interleaved are the samples of channels in turn.
func interleaved(channels ...[]int16) (b []byte) {
	for i := range channels[0] {
		for _, c := range channels {
			b = binary.LittleEndian.AppendUint16(b, uint16(c[i]))
		}
	}
	return b
}

func TestForksAreHeard(t *testing.T) {
	both := []audio.Leg{audio.Caller, audio.Callee}
	for _, c := range []struct {
		name     string
		query    string
		protocol string
		first    string // no first message where it is "-"
		rate     int
		legs     []audio.Leg
		id       string
		attrs    map[string]string
	}{
		{
			name: "jambonz, stereo at 48 kHz", protocol: "audio.jambonz.org",
			first: `{"callSid":"0df5bbd1-1","direction":"inbound","from":"15083084809","to":"+15083728299","callId":"f1-sip","sipStatus":200,"callStatus":"in-progress","callerName":"Ann","accountSid":"a-1","sampleRate":48000,"mixType":"stereo","metadata":{"queueName":"fraud","language":"en-US"}}`,
			rate:  48000, legs: both, id: "0df5bbd1-1",
			attrs: map[string]string{
				"from": "15083084809", "to": "+15083728299", "from_name": "Ann", "direction": "inbound", "sip_status": "200",
				"call_status": "in-progress", "account_sid": "a-1", "queue_name": "fraud", "codec": "L16/48000",
			},
		},
		{
			name: "jambonz, mono of a call that was placed", protocol: "audio.jambonz.org",
			first: `{"callSid":"c-2","direction":"outbound","sampleRate":8000,"mixType":"mono"}`,
			rate:  8000, legs: []audio.Leg{audio.Callee}, id: "c-2", attrs: map[string]string{"direction": "outbound", "codec": "L16/8000"},
		},
		{
			name: "mod_audio_fork, metadata as people write them", query: "?rate=16k&mix=stereo", protocol: "audio.drachtio.org",
			first: `{'caller':'1000','callee':'1002','uuid':'a-b-c'}`,
			rate:  16000, legs: both, id: "a-b-c", attrs: map[string]string{"from": "1000", "to": "1002", "codec": "L16/16000"},
		},
		{
			name: "mod_audio_stream, no metadata", query: "?call=x-9&from=1000&mix=mixed",
			first: "-", rate: 8000, legs: []audio.Leg{audio.Unknown}, id: "x-9", attrs: map[string]string{"from": "1000", "codec": "L16/8000"},
		},
		{
			name: "metadata that are no JSON", query: "?uuid=u1&channels=2&caller_channel=1",
			first: "hello there", rate: 8000, legs: []audio.Leg{audio.Callee, audio.Caller}, id: "u1", attrs: map[string]string{"codec": "L16/8000"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := serve(t, nil, nil)
			var protocols []string
			if c.protocol != "" {
				protocols = []string{c.protocol}
			}
			ws := n.dial(c.query, protocols...)
			if ws.Subprotocol() != c.protocol {
				t.Errorf("subprotocol %q", ws.Subprotocol())
			}
			if c.first != "-" {
				send(t, ws, websocket.MessageText, []byte(c.first))
			}
			var channels [][]int16
			for i := range c.legs {
				channels = append(channels, sine(float64(300+200*i), c.rate, 20*c.rate/50))
			}
			all := interleaved(channels...)
			for part := range slices.Chunk(all, len(all)/20) {
				send(t, ws, websocket.MessageBinary, part)
			}
			send(t, ws, websocket.MessageText, []byte(`{"event":"dtmf","dtmf":"5","duration":"1600"}`))
			if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Error(err)
			}
			h := <-n.calls
			if !errors.Is(h.end, io.EOF) {
				t.Errorf("ended with %v", h.end)
			}
			if h.call.ID != c.id || !slices.Equal(h.call.Legs, c.legs) || !h.call.Live {
				t.Errorf("call %s with legs %v", h.call.ID, h.call.Legs)
			}
			if !maps.Equal(h.call.Attributes, c.attrs) {
				t.Errorf("attributes %v, want %v", h.call.Attributes, c.attrs)
			}
			for i, leg := range c.legs {
				if !slices.Equal(h.pcm(leg), channels[i]) {
					t.Errorf("%s: %d samples of %d, or others than were sent", leg, len(h.pcm(leg)), len(channels[i]))
				}
			}
			if last := h.frames[len(h.frames)-1]; !slices.ContainsFunc(h.frames, func(f audio.Frame) bool { return f.Keys == "5" }) {
				t.Errorf("no key 5 was heard; the last frame is at %v", last.Start)
			}
			if st := n.Stats(); st.Packets != 20 || st.Bytes != uint64(len(all)) || st.Malformed > 0 {
				t.Errorf("counted %+v", st)
			}
		})
	}
}

func TestBadInputIsAnsweredByTheProtocol(t *testing.T) {
	const mono = `{"callSid":"c","sampleRate":8000,"mixType":"mono"}`
	texts := func(first string, line []byte, times int) func(*testing.T, *websocket.Conn) {
		return func(_ *testing.T, ws *websocket.Conn) {
			_ = ws.Write(context.Background(), websocket.MessageText, []byte(first))
			for range times {
				_ = ws.Write(context.Background(), websocket.MessageText, line) // until it is closed
			}
		}
	}
	for _, c := range []struct {
		name   string
		do     func(*testing.T, *websocket.Conn)
		status websock.Status
		reason string
	}{
		{"broken JSON", texts(`{"callSid":`, nil, 0), websock.Invalid, "metadata: the metadata are no JSON object"},
		{"an array", texts(`[1]`, nil, 0), websock.Invalid, "metadata: the metadata are no JSON object"},
		{"a rate of no telephone", texts(`{"sampleRate":64000}`, nil, 0), websock.Invalid, "metadata: sampleRate: 64000 must be 8000 to 48000 Hz"},
		{"a rate that is none", texts(`{"sampleRate":"fast"}`, nil, 0), websock.Invalid, `metadata: sampleRate: "fast" must be a number of Hz`},
		{"an unknown mix", texts(`{"mixType":"quad"}`, nil, 0), websock.Invalid, `metadata: mixType: "quad" must be mono, mixed or stereo`},
		{"a tenant that is none", texts(`{"tenant":"a.b"}`, nil, 0), websock.Policy, `tenant: "a.b" must be`},
		{"text for audio", texts(mono, []byte("not audio at all"), 10), websock.Unsupported, "10 text messages in a row"},
		{"JSON of 10 MB", texts(mono, make([]byte, 10<<20), 1), websock.TooBig, ""},
		{"odd bytes", func(_ *testing.T, ws *websocket.Conn) {
			_ = ws.Write(context.Background(), websocket.MessageText, []byte(mono))
			for range 10 {
				_ = ws.Write(context.Background(), websocket.MessageBinary, make([]byte, 321))
			}
		}, websock.Invalid, "10 messages in a row are no whole samples"},
		{"48 kHz stereo said to be 8 kHz", func(t *testing.T, ws *websocket.Conn) {
			_ = ws.Write(context.Background(), websocket.MessageText, []byte(mono))
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for range 50 {
				<-tick.C
				if ws.Write(context.Background(), websocket.MessageBinary, make([]byte, 48000/50*2*2)) != nil {
					return
				}
			}
		}, websock.Invalid, "audio said to be at 8000 Hz comes"},
		{"nothing at all", func(*testing.T, *websocket.Conn) {}, websock.Policy, "no first message within 300ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := serve(t, func(cfg *Config) { cfg.Web.HelloTimeout = 300 * time.Millisecond }, nil)
			ws := n.dial("")
			ws.SetReadLimit(-1)
			done := make(chan struct{})
			go func() { defer close(done); c.do(t, ws) }()
			status, reason := ended(t, ws)
			if status != c.status || !strings.HasPrefix(reason, c.reason) {
				t.Errorf("closed with %d %q, want %d %q", status, reason, c.status, c.reason)
			}
			_ = ws.CloseNow()
			<-done
		})
	}
}

func TestEventsGoBackToThePeer(t *testing.T) {
	n := serve(t, nil, func(call *source.Call) {
		call.Peer.Tell(sink.Event{
			ID: "e1", Type: sink.RiskLevel, Tenant: call.Tenant, Call: call.ID, Source: "callwarden/fork",
			Data: &callwardenv1.RiskLevel{Context: &callwardenv1.CallContext{Tenant: call.Tenant, Call: call.ID}},
		})
		if _, can := call.Peer.(source.Player); can {
			t.Error("a call that does not say so can be spoken into")
		}
	})
	ws := n.dial("")
	send(t, ws, websocket.MessageText, []byte(`{"callSid":"c-1"}`))
	_, data, err := ws.Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var got told
	if err := json.Unmarshal(data, &got); err != nil || got.Type != "callwarden" {
		t.Fatalf("%s: %v", data, err)
	}
	if ev, err := sink.ParseCloudEvent(got.Event); err != nil || ev.Type != sink.RiskLevel || ev.Call != "c-1" {
		t.Errorf("event %s: %v", got.Event, err)
	}
	_ = ws.Close(websocket.StatusNormalClosure, "")
	<-n.calls
	if st := n.Stats(); st.Told != 1 || st.Untold != 0 {
		t.Errorf("counted %+v", st)
	}
}

func TestPromptsAreSaidInThePeersWay(t *testing.T) {
	prompt := source.Prompt{ID: "hang-up", Text: "Please hang up.", Rate: 16000, PCM: sine(400, 16000, 16000)}
	play := func(call *source.Call) {
		p, can := call.Peer.(source.Player)
		if !can {
			t.Errorf("peer %T cannot speak", call.Peer)
			return
		}
		if err := p.Play(prompt); err != nil {
			t.Error(err)
		}
	}
	n := serve(t, func(c *Config) { c.Events = false }, play)

	ws := n.dial("?speak=json")
	ws.SetReadLimit(1 << 20)
	send(t, ws, websocket.MessageText, []byte(`{}`))
	_, data, err := ws.Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Type string
		Data struct {
			AudioContentType, AudioContent, TextContent string
			SampleRate                                  int
		}
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	sound, err := base64.StdEncoding.DecodeString(got.Data.AudioContent)
	if err != nil || got.Type != "playAudio" || got.Data.AudioContentType != "raw" || got.Data.SampleRate != 8000 || len(sound) != 16000 || got.Data.TextContent != prompt.Text {
		t.Errorf("%s with %d bytes of %s at %d Hz, %q: %v", got.Type, len(sound), got.Data.AudioContentType, got.Data.SampleRate, got.Data.TextContent, err)
	}
	_ = ws.Close(websocket.StatusNormalClosure, "")
	<-n.calls

	ws = n.dial("?speak=stream&speak_rate=16000")
	ws.SetReadLimit(1 << 20)
	send(t, ws, websocket.MessageText, []byte(`{}`))
	kind, data, err := ws.Read(context.Background())
	if err != nil || kind != websocket.MessageBinary || !slices.Equal(data, interleaved(prompt.PCM)) {
		t.Errorf("%v message of %d bytes: %v", kind, len(data), err)
	}
	_ = ws.Close(websocket.StatusNormalClosure, "")
	<-n.calls
}

func TestSilenceIsMarkedAndEndsTheCall(t *testing.T) {
	n := serve(t, func(c *Config) { c.Web.MediaTimeout = 1500 * time.Millisecond }, nil)
	ws := n.dial("")
	send(t, ws, websocket.MessageText, []byte(`{}`))
	if status, _ := ended(t, ws); status != websock.Normal {
		t.Errorf("closed with %d", status)
	}
	h := <-n.calls
	if h.end == nil || h.end.Error() != "no media for 1.5s" {
		t.Errorf("ended with %v", h.end)
	}
	if len(h.frames) == 0 || len(h.frames[0].PCM) != 0 || h.frames[0].Start == 0 {
		t.Errorf("%d frames: no time was marked", len(h.frames))
	}
}

func FuzzHello(f *testing.F) {
	f.Add([]byte(`{"callSid":"c","sampleRate":16000,"mixType":"stereo","metadata":{"a":1}}`), "rate=16k&mix=mono&speak=json")
	f.Add([]byte(`{'caller':'1000'}`), "caller_channel=1&leg=callee")
	f.Add([]byte(`[]`), "%")
	f.Add([]byte(nil), "")
	f.Fuzz(func(t *testing.T, first []byte, query string) {
		fk, err := parseHello(first, parseQuery(query), DefaultConfig())
		if err != nil {
			return
		}
		if checkRate(fk.rateHz) != nil || checkMix(fk.mix) != nil || checkSpeak(fk.speak) != nil || checkRate(fk.outHz) != nil {
			t.Errorf("%+v was let through", fk)
		}
		legs := fk.legs()
		if len(legs) != 1 && (len(legs) != 2 || legs[0] == legs[1]) {
			t.Errorf("legs %v", legs)
		}
	})
}

func parseQuery(s string) url.Values {
	q, _ := url.ParseQuery(s) // what is good of it
	return q
}
