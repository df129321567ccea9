package twiliosrc

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestBadInputIsAnsweredByTheProtocol(t *testing.T) {
	rubbish := strings.Replace(mediaOf("inbound", 1, 0, nil), `"payload":""`, `"payload":"*not base64*"`, 1)
	start := func(change ...string) string { return strings.NewReplacer(change...).Replace(twilioStart) }
	for _, c := range []struct {
		name   string
		lines  []string
		times  int // the last line is sent so often
		status websock.Status
		reason string
		calls  int
	}{
		{"no JSON", []string{"hello"}, 1, websock.Invalid, "message: not a JSON object", 0},
		{"no event", []string{`{"type":"start"}`}, 1, websock.Invalid, "message: no event is named", 0},
		{"no start", []string{mediaOf("inbound", 1, 0, nil)}, mostOdd, websock.Policy, "the first messages are none of connected and start", 0},
		{"nothing", nil, 0, websock.Policy, "no start message within 300ms", 0},
		{"an encoding that nobody has", []string{start("audio/x-mulaw", "OPUS")}, 1, websock.Unsupported, `start: "OPUS": encoding is not supported`, 0},
		{"stereo", []string{start(`"channels":1`, `"channels":2`)}, 1, websock.Unsupported, "start: channels: 2 must be 1", 0},
		{"a tenant that is none", []string{start(`"queueName"`, `"tenant"`, "fraud", "a b")}, 1, websock.Policy, `tenant: "a b" must be`, 0},
		{"JSON of 10 MB", []string{twilioStart, `{"event":"media","pad":"` + strings.Repeat("x", 10<<20) + `"}`}, 1, websock.TooBig, "", 1},
		{"base64 rubbish", []string{twilioStart, rubbish}, mostOdd, websock.Invalid, "10 messages in a row could not be understood: a payload that is not base64", 1},
		{"text for audio", []string{twilioStart, "some words"}, mostOdd, websock.Invalid, "10 messages in a row could not be understood: not a JSON object", 1},
		{"some rubbish between good messages", []string{twilioStart, rubbish, mediaOf("inbound", 1, 0, make([]byte, 160)), rubbish, `{"event":"later version"}`, `{"event":"stop"}`}, 1, websock.Normal, "", 1},
		{"start twice, and once more", []string{twilioStart, twilioStart, `{"event":"stop"}`}, 1, websock.Normal, "", 1},
		{"a track that was not announced", []string{start(`"inbound","outbound"`, `"inbound"`), mediaOf("outbound", 1, 0, make([]byte, 160)), `{"event":"stop"}`}, 1, websock.Normal, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := serve(t, func(cfg *Config) { cfg.Web.HelloTimeout = 300 * ms }, nil)
			p := n.dial("")
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for i, l := range c.lines {
					times := 1
					if i == len(c.lines)-1 {
						times = c.times
					}
					for range times {
						_ = p.ws.Write(context.Background(), websocket.MessageText, []byte(l)) // until it is closed
					}
				}
			}()
			status, reason := p.ended()
			if status != c.status || !strings.HasPrefix(reason, c.reason) {
				t.Errorf("closed with %d %q, want %d %q", status, reason, c.status, c.reason)
			}
			_ = p.ws.CloseNow()
			<-sent
			for range c.calls {
				h := <-n.calls
				if c.status != websock.Normal && h.end == nil {
					t.Error("the call ended as if nothing had been wrong")
				}
				if c.name == "a track that was not announced" && len(h.call.Warnings()) != 1 {
					t.Errorf("warnings %q", h.call.Warnings())
				}
			}
			if st := n.Stats(); st.Begun != uint64(c.calls) || c.status != websock.Normal && c.status != websock.Policy && st.Malformed == 0 {
				t.Errorf("counted %+v", st)
			}
			if c.status != websock.Normal && strings.Count(n.logs.String(), "level=WARN") != 1 {
				t.Errorf("logged:\n%s", n.logs)
			}
		})
	}
}

func TestBinaryMessagesAreRefused(t *testing.T) {
	n := serve(t, nil, nil)
	p := n.dial("")
	p.send(twilioStart)
	if err := p.ws.Write(context.Background(), websocket.MessageBinary, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	if status, _ := p.ended(); status != websock.Unsupported {
		t.Errorf("closed with %d", status)
	}
}

func TestOtherCallsAreUntouchedByABadOne(t *testing.T) {
	n := serve(t, nil, nil)
	good, bad := n.dial(""), n.dial("")
	good.send(twilioStart)
	bad.send(strings.ReplaceAll(twilioStart, "CA1", "CA2"))
	for k := range 25 {
		good.send(mediaOf("inbound", k+1, time.Duration(k)*20*ms, audio.MuLaw.Encode(nil, sine(300, 8000, 160))))
		if k < mostOdd {
			bad.send("{")
		}
	}
	if status, _ := bad.ended(); status != websock.Invalid {
		t.Errorf("the bad one was closed with %d", status)
	}
	good.send(`{"event":"stop"}`)
	if status, _ := good.ended(); status != websock.Normal {
		t.Errorf("the good one was closed with %d", status)
	}
	for range 2 {
		if h := <-n.calls; h.call.ID == "CA1" && len(h.pcm(audio.Caller)) != 25*160 {
			t.Errorf("%d samples of the good one were heard", len(h.pcm(audio.Caller)))
		}
	}
}

func TestSignatureIsOfTheURLThatWasAskedFor(t *testing.T) {
	const token = "12345678901234567890123456789012"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	// By openssl dgst -sha1 -hmac TOKEN -binary | base64.
	if got := Signature([]byte(token), "wss://example.com/audiostream"); got != "Krt5p/pfnMdZSMVStdtS+Zwcpks=" {
		t.Fatalf("signature %s", got)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		header func(n *network) http.Header
		status int
	}{
		{"of the URL", nil, func(n *network) http.Header { return signed(token, n.url) }, 101},
		{"without the slash", nil, func(n *network) http.Header { return signed(token, strings.TrimSuffix(n.url, "/")) }, 101},
		{"with the scheme that the proxy has", nil, func(n *network) http.Header { return signed(token, "wss"+strings.TrimPrefix(n.url, "ws")) }, 101},
		{"of the public URL", func(c *Config) { c.Web.PublicURL = "wss://calls.example" }, func(*network) http.Header { return signed(token, "wss://calls.example/v1/twilio/") }, 101},
		{"of the public URL and its port", func(c *Config) { c.Web.PublicURL = "wss://calls.example" }, func(*network) http.Header { return signed(token, "wss://calls.example:443/v1/twilio/") }, 101},
		{"of another URL", nil, func(*network) http.Header { return signed(token, "wss://other.example/") }, 401},
		{"by another token", nil, func(n *network) http.Header { return signed(token+"x", n.url) }, 401},
		{"rubbish", nil, func(*network) http.Header { return http.Header{signatureHeader: {"***"}} }, 401},
		{"none, from this machine", nil, func(*network) http.Header { return nil }, 401},
	} {
		n := serve(t, func(cfg *Config) {
			cfg.Accounts = []Account{{AuthTokenFile: file, Tenant: "bank"}}
			if c.change != nil {
				c.change(cfg)
			}
		}, nil)
		ws, res, err := websocket.Dial(context.Background(), n.url, &websocket.DialOptions{HTTPHeader: c.header(n)}) //nolint:bodyclose // the library has closed it
		if res == nil || res.StatusCode != c.status {
			t.Errorf("%s: %v, %v", c.name, res, err)
		}
		if err == nil {
			p := &peer{t, ws}
			p.send(twilioStart, `{"event":"stop"}`)
			p.ended()
			if h := <-n.calls; h.call.Tenant != "bank" {
				t.Errorf("%s: tenant %s", c.name, h.call.Tenant)
			}
		}
	}
}

func signed(token, u string) http.Header {
	return http.Header{signatureHeader: {Signature([]byte(token), u)}}
}

func TestPromptsAreSaidAndMarked(t *testing.T) {
	prompt := source.Prompt{ID: "hang-up", Text: "Please hang up.", Rate: 16000, PCM: sine(400, 16000, 16000*3/4)}
	const telnyxStart = `{"event":"start","sequence_number":"1","start":{"call_control_id":"v2:a","tracks":["inbound"],"media_format":{"encoding":"PCMA","sample_rate":8000}},"stream_id":"T1"}`
	const exotelStart = `{"event":"start","stream_sid":"E1","start":{"stream_sid":"E1","call_sid":"c","tracks":["inbound"],"media_format":{"encoding":"base64","sample_rate":"8000"}}}`
	for _, c := range []struct {
		name, start, query, config string
		key, id                    string // of the stream
		rate                       int
		decode                     func([]byte) []int16
	}{
		{"Twilio, by its own word", strings.Replace(twilioStart, `"queueName":"fraud"`, `"speak":"same"`, 1), "", "no", "streamsid", "MZ1", 8000, unMuLaw},
		{"Twilio, by configuration", twilioStart, "", "same", "streamsid", "MZ1", 8000, unMuLaw},
		{"Telnyx, in another encoding", telnyxStart, "?speak=PCMU/8000", "no", "streamid", "T1", 8000, unMuLaw},
		{"Telnyx, in the same encoding", telnyxStart, "?speak=same", "no", "streamid", "T1", 8000, func(b []byte) []int16 { return audio.ALaw.Decode(nil, b) }},
		{"Exotel", exotelStart, "", "same", streamSIDSnake, "E1", 8000, func(b []byte) []int16 {
			d := decoder{format: format{linear, 8000}}
			return d.decode(nil, b)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			players := make(chan source.Player, 1)
			n := serve(t, func(cfg *Config) { cfg.Speak = c.config }, func(ctx context.Context, call *source.Call) error {
				p, can := call.Peer.(source.Player)
				if !can {
					t.Errorf("peer %T cannot be spoken to", call.Peer)
				}
				players <- p
				for {
					if _, err := call.Audio.ReadFrame(ctx); err != nil {
						return nil //nolint:nilerr // the call is over
					}
				}
			})
			p := n.dial(c.query)
			p.send(c.start)
			player := <-players
			if err := player.Play(prompt); err != nil {
				t.Fatal(err)
			}
			var payload []byte
			messages := 0
			for {
				m := p.receive()
				if id := m.text(c.key); id != c.id {
					t.Fatalf("%s is %q, want %q", c.key, id, c.id)
				}
				if m.text("event") == eventMark {
					if name := m.object("mark").text("name"); name != "callwarden hang-up" {
						t.Errorf("mark %q", name)
					}
					break
				}
				part, err := base64.StdEncoding.DecodeString(m.object("media").text("payload"))
				if err != nil {
					t.Fatal(err)
				}
				if n := len(c.decode(part)); n != c.rate/5 {
					t.Errorf("a piece of %d samples", n)
				}
				payload = append(payload, part...)
				messages++
			}
			if want := sine(400, c.rate, c.rate*3/4); !same(c.decode(payload)[100:len(want)-100], want[100:len(want)-100], 400) || messages != 4 {
				t.Errorf("%d messages, or other sound than the prompt's", messages)
			}
			// No more than so many are on their way, until one was heard.
			for range mostUnheard - 1 {
				if err := player.Play(prompt); err != nil {
					t.Fatal(err)
				}
			}
			if err := player.Play(prompt); err != source.ErrNoRoom { //nolint:errorlint // itself
				t.Errorf("one too many: %v", err)
			}
			p.send(`{"event":"mark","mark":{"name":"callwarden hang-up"}}`, `{"event":"dtmf","dtmf":{"digit":"1"}}`)
			await(t, func() bool { return player.Play(prompt) == nil })
			_ = p.ws.CloseNow()
			await(t, func() bool { return n.Stats().Calls == 0 })
			if err := player.Play(prompt); err == nil {
				t.Error("a prompt is said into a call that is over")
			}
		})
	}
}

func unMuLaw(b []byte) []int16 { return audio.MuLaw.Decode(nil, b) }

// await waits for what other goroutines do.
func await(t *testing.T, what func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * ms)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !what(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

func TestOneWayStreamsAreNotSpokenInto(t *testing.T) {
	n := serve(t, nil, nil)
	p := n.dial("")
	p.send(twilioStart, `{"event":"stop"}`)
	p.ended()
	if h := <-n.calls; h.call.Peer != nil {
		t.Errorf("peer %T", h.call.Peer)
	}
}

func TestStreamsOfOneCallHaveNamesOfTheirOwn(t *testing.T) {
	n := serve(t, nil, nil)
	first, second := n.dial(""), n.dial("")
	first.send(twilioStart)
	await(t, func() bool { return n.Stats().Calls == 1 })
	second.send(twilioStart)
	await(t, func() bool { return n.Stats().Calls == 2 })
	first.send(`{"event":"stop"}`)
	second.send(`{"event":"stop"}`)
	ids := []string{(<-n.calls).call.ID, (<-n.calls).call.ID}
	slices.Sort(ids)
	if !slices.Equal(ids, []string{"CA1", "CA1-2"}) {
		t.Errorf("ids %v", ids)
	}
}

func TestKeysAndSilenceAreHeard(t *testing.T) {
	n := serve(t, func(c *Config) { c.Web.MediaTimeout = 1500 * ms }, nil)
	p := n.dial("")
	p.send(twilioStart, mediaOf("inbound", 1, 0, make([]byte, 160)),
		`{"event":"dtmf","streamSid":"MZ1","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"7"}}`)
	if status, _ := p.ended(); status != websock.Normal {
		t.Errorf("closed with %d", status)
	}
	h := <-n.calls
	if h.end == nil || h.end.Error() != "no media for 1.5s" {
		t.Errorf("ended with %v", h.end)
	}
	if h.keys() != "7" || h.lost() != 0 {
		t.Errorf("keys %q, lost %v", h.keys(), h.lost())
	}
	marks := 0
	for _, f := range h.frames {
		if len(f.PCM) == 0 && f.Start > 0 {
			marks++
		}
	}
	if marks < 2 {
		t.Errorf("%d time marks: each leg has one a second", marks)
	}
}

func TestNothingIsLeftOfAThousandStreams(t *testing.T) {
	n := serve(t, nil, nil)
	payload := audio.MuLaw.Encode(nil, sine(300, 8000, 160))
	once := func(k int) {
		p := &peer{t, nil}
		ws, _, err := websocket.Dial(context.Background(), n.url, nil) //nolint:bodyclose // the library has closed it
		if err != nil {
			t.Fatal(err)
		}
		p.ws = ws
		p.send(strings.ReplaceAll(twilioStart, "CA1", fmt.Sprint("CA", k)))
		for m := range 3 {
			p.send(mediaOf("inbound", m+1, time.Duration(m)*20*ms, payload))
		}
		switch k % 4 {
		case 0:
			p.send(`{"event":"stop"}`)
			p.ended()
		case 1:
			_ = ws.Close(websocket.StatusNormalClosure, "")
		case 2:
			_ = ws.CloseNow()
		case 3:
			for range mostOdd {
				_ = ws.Write(context.Background(), websocket.MessageText, []byte("{"))
			}
			p.ended()
		}
		<-n.calls
	}
	settle := func() (goroutines int, heap uint64) {
		await(t, func() bool { return n.server.Open() == 0 })
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	for k := range 20 {
		once(k)
	}
	goroutines, heap := settle()
	for k := range 1000 {
		once(k)
	}
	g, h := settle()
	if g > goroutines+5 || h > heap+4<<20 {
		t.Errorf("%d goroutines and %d bytes, %d and %d before", g, h, goroutines, heap)
	}
	if st := n.Stats(); st.Begun != 1020 || st.Calls+st.Legs != 0 {
		t.Errorf("counted %+v", st)
	}
}

func TestTokenOfAnotherTenantEndsTheStream(t *testing.T) {
	const secret = "the secret of bank a"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	n := serve(t, func(c *Config) { c.Web.Tokens = []websock.Token{{File: file, Tenant: "bank-a"}} }, nil)
	n.url += "?token=" + strings.ReplaceAll(secret, " ", "+")
	p := n.dial("")
	p.send(strings.Replace(twilioStart, `"queueName":"fraud"`, `"tenant":"bank-b"`, 1))
	if status, reason := p.ended(); status != websock.Policy || reason != "the token is of another tenant" {
		t.Errorf("closed with %d %s", status, reason)
	}
	p = n.dial("")
	p.send(twilioStart, `{"event":"stop"}`)
	p.ended()
	if h := <-n.calls; h.call.Tenant != "bank-a" || h.call.Attributes["token"] != "" {
		t.Errorf("tenant %s, attributes %v", h.call.Tenant, h.call.Attributes)
	}
	if logged := n.logs.String(); strings.Contains(logged, "secret") || strings.Count(logged, "level=WARN") != 1 {
		t.Errorf("logged:\n%s", logged)
	}
}
