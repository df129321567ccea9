package voskws

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

func newVosk(t *testing.T) transcribe.Engine {
	t.Helper()
	dir, err := models.DataDir("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := vosk.DefaultConfig()
	store := models.Open(dir)
	if cfg.Library, err = store.Path(models.DefaultLibrary); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	if cfg.Model, err = store.Path(models.DefaultModel); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	engine, err := vosk.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine
}

// speech is two sentences at 16 kHz, as bytes of a message.
func speech(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "vosk", "testdata", "speech.wav"))
	if err != nil {
		t.Fatal(err)
	}
	return data[44:]
}

// halved is speech as a telephone's 8 kHz.
func halved(t *testing.T, data []byte) []byte {
	t.Helper()
	r, err := audio.NewResampler(16000, 8000)
	if err != nil {
		t.Fatal(err)
	}
	in := make([]float32, len(data)/2)
	for i := range in {
		in[i] = float32(int16(binary.LittleEndian.Uint16(data[2*i:])))
	}
	var out []byte
	for _, v := range r.Flush(r.Process(nil, in)) {
		out = binary.LittleEndian.AppendUint16(out, uint16(int16(v)))
	}
	return out
}

// start serves engine and returns where.
func start(t *testing.T, engine transcribe.Engine, change func(*Config)) (s *Server, url string) {
	t.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	s, err := NewServer(engine, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, "ws" + strings.TrimPrefix(server.URL, "http")
}

// leavesNothing looks for goroutines when the test and its clean-ups are over.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// oneUse keeps no connection for another request.
var oneUse = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// talk is a connection used as the clients of vosk-server do: one message,
// one answer.
type talk struct {
	t    *testing.T
	conn *websocket.Conn
}

func dial(t *testing.T, url string) talk {
	t.Helper()
	conn, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: oneUse})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body != nil {
		resp.Body.Close()
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return talk{t, conn}
}

func (c talk) send(kind websocket.MessageType, data string) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), kind, []byte(data)); err != nil {
		c.t.Fatal(err)
	}
}

type reply struct {
	Partial *string
	Text    *string
	Result  []struct {
		Conf, Start, End float64
		Word             string
	}
	Alternatives []struct {
		Confidence float64
		Text       string
		Result     []struct {
			Start, End float64
			Word       string
		}
	}
}

func (c talk) receive() reply {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	kind, data, err := c.conn.Read(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	var r reply
	if err := json.Unmarshal(data, &r); err != nil || kind != websocket.MessageText {
		c.t.Fatalf("%q: %v", data, err)
	}
	return r
}

// say speaks in messages of size bytes and returns the results.
func (c talk) say(data []byte, size int) (results []reply, partials int) {
	c.t.Helper()
	for i := 0; i < len(data); i += size {
		c.send(websocket.MessageBinary, string(data[i:min(i+size, len(data))]))
		switch r := c.receive(); {
		case r.Partial == nil:
			results = append(results, r)
		case *r.Partial != "":
			partials++
		}
	}
	return results, partials
}

func texts(replies []reply) string {
	var all []string
	for _, r := range replies {
		if r.Text != nil && *r.Text != "" {
			all = append(all, *r.Text)
		}
	}
	return strings.Join(all, " | ")
}

func TestClientsOfTheVoskServerAreServed(t *testing.T) {
	leavesNothing(t)
	engine := newVosk(t)
	server, url := start(t, engine, nil)
	pcm := speech(t)

	t.Run("with a configuration", func(t *testing.T) {
		c := dial(t, url)
		c.send(websocket.MessageText, `{"config" : {"sample_rate" : 16000.0, "words" : 1}}`)
		results, partials := c.say(pcm, 8000)
		c.send(websocket.MessageText, `{"eof" : 1}`)
		results = append(results, c.receive())
		if _, _, err := c.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Errorf("after eof: %v, want a normal close", err)
		}
		if len(results) < 2 || partials == 0 || !strings.Contains(texts(results), "do not tell anyone") {
			t.Fatalf("%q and %d partials", texts(results), partials)
		}
		at, length := 0.0, float64(len(pcm))/2/16000
		for _, r := range results {
			var words []string
			for _, w := range r.Result {
				if w.Start < at || w.End < w.Start || w.End > length || w.Conf < 0 || w.Conf > 1 {
					t.Errorf("word %+v after %g of %g s", w, at, length)
				}
				at = w.End
				words = append(words, w.Word)
			}
			if *r.Text != strings.Join(words, " ") {
				t.Errorf("words %q of %q", words, *r.Text)
			}
		}
		if at < length/2 {
			t.Errorf("the last word ends at %g of %g s: times are not of the stream", at, length)
		}
	})
	t.Run("without one, at 8 kHz", func(t *testing.T) {
		c := dial(t, url)
		results, _ := c.say(halved(t, pcm), 3200)
		c.send(websocket.MessageText, `{"eof" : 1}`)
		results = append(results, c.receive())
		if !strings.Contains(texts(results), "tell anyone") {
			t.Errorf("%q", texts(results))
		}
	})
	t.Run("without words", func(t *testing.T) {
		c := dial(t, url)
		c.send(websocket.MessageText, `{"config":{"sample_rate":16000,"words":false}}`)
		results, _ := c.say(pcm, 1<<20)
		c.send(websocket.MessageText, `{"eof":1}`)
		for _, r := range append(results, c.receive()) {
			if len(r.Result) > 0 {
				t.Errorf("%+v has words", r)
			}
		}
	})
	t.Run("all in one message", func(t *testing.T) {
		c := dial(t, url)
		c.send(websocket.MessageText, `{"config":{"sample_rate":16000,"max_alternatives":1}}`)
		c.send(websocket.MessageBinary, string(pcm))
		first := c.receive()
		c.send(websocket.MessageText, `{"eof":1}`)
		last := c.receive()
		var all string
		for _, r := range []reply{first, last} {
			if len(r.Alternatives) != 1 || r.Text != nil {
				t.Fatalf("%+v, want one alternative", r)
			}
			if a := r.Alternatives[0]; len(strings.Fields(a.Text)) != len(a.Result) {
				t.Errorf("%q with %d words", a.Text, len(a.Result))
			}
			all += " " + r.Alternatives[0].Text
		}
		if !strings.Contains(all, "do not tell anyone") || !strings.Contains(all, "verification") {
			t.Errorf("heard %q: the end of one utterance swallowed another", all)
		}
	})
	t.Run("phrase list", func(t *testing.T) {
		c := dial(t, url)
		c.send(websocket.MessageText, `{"config":{"sample_rate":16000,"phrase_list":["do not tell anyone","[unk]"]}}`)
		results, _ := c.say(pcm, 8000)
		c.send(websocket.MessageText, `{"eof":1}`)
		heard := texts(append(results, c.receive()))
		if !strings.Contains(heard, "do not tell anyone") || strings.Contains(heard, "code") || strings.Contains(heard, "…") {
			t.Errorf("%q", heard)
		}
	})
	t.Run("reset", func(t *testing.T) {
		c := dial(t, url)
		c.send(websocket.MessageText, `{"config":{"sample_rate":16000}}`)
		half := len(pcm) / 4 * 2
		results, _ := c.say(pcm[:half], 8000)
		c.send(websocket.MessageText, `{"reset" : 1}`)
		results = append(results, c.receive())
		more, _ := c.say(pcm[half:], 8000)
		c.send(websocket.MessageBinary, `{"eof" : 1}`) // as clients of the batch server do
		results = append(append(results, more...), c.receive())
		if !strings.Contains(texts(results), "tell anyone") || !strings.Contains(texts(results), "code") {
			t.Errorf("%q", texts(results))
		}
		last := results[len(results)-1]
		for i := len(results) - 1; len(last.Result) == 0; i-- {
			last = results[i]
		}
		if at, from := last.Result[0].Start, float64(half)/2/16000; at < from {
			t.Errorf("a word after the reset is at %g s, which is before it (%g s)", at, from)
		}
	})
	t.Run("nothing but eof", func(t *testing.T) {
		c := dial(t, url)
		c.send(websocket.MessageText, `{"eof" : 1}`)
		if r := c.receive(); r.Text == nil || *r.Text != "" {
			t.Errorf("%+v, want an empty text", r)
		}
	})
	t.Run("a connection that is dropped", func(t *testing.T) {
		c := dial(t, url)
		c.say(pcm[:16000], 8000)
		_ = c.conn.CloseNow()
	})
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n := server.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// echo hears a word in each frame.
func echo() *transcribetest.Faulty {
	return &transcribetest.Faulty{Write: func(_, frame int, f audio.Frame) ([]transcribe.Segment, error) {
		return []transcribe.Segment{{Utterance: frame, Final: true, Start: f.Start, End: f.End(), Text: "word"}}, nil
	}}
}

func TestMistakesOfClientsAreTold(t *testing.T) {
	_, url := start(t, echo(), func(c *Config) { c.MaxMessage = 4096; c.Idle = time.Minute })
	for _, tt := range []struct {
		name, message string
		kind          websocket.MessageType
		code          websocket.StatusCode
		says          string
	}{
		{"no JSON", "hello", websocket.MessageText, websocket.StatusInvalidFramePayloadData, "hello"},
		{"another message", `{"type":"start"}`, websocket.MessageText, websocket.StatusPolicyViolation, "neither config"},
		{"a rate that is none", `{"config":{"sample_rate":0}}`, websocket.MessageText, websocket.StatusPolicyViolation, "sample_rate"},
		{"a rate beyond all", `{"config":{"sample_rate":1e300}}`, websocket.MessageText, websocket.StatusPolicyViolation, "sample_rate"},
		{"a phrase list of numbers", `{"config":{"phrase_list":[1]}}`, websocket.MessageText, websocket.StatusInvalidFramePayloadData, "phrase_list"},
		{"too big", strings.Repeat("a", 5000), websocket.MessageBinary, websocket.StatusMessageTooBig, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, url)
			c.send(tt.kind, tt.message)
			_, _, err := c.conn.Read(t.Context())
			if websocket.CloseStatus(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %v and %q", err, tt.code, tt.says)
			}
		})
	}
}

func TestRecogniserThatFailsEndsItsSessionOnly(t *testing.T) {
	engine := &transcribetest.Faulty{Write: func(session, _ int, _ audio.Frame) ([]transcribe.Segment, error) {
		if session == 1 {
			return nil, errors.New("out of memory")
		}
		return nil, nil
	}}
	_, url := start(t, engine, nil)
	bad := dial(t, url)
	bad.send(websocket.MessageBinary, "\x00\x00")
	if _, _, err := bad.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusInternalError || strings.Contains(err.Error(), "memory") {
		t.Errorf("%v", err)
	}
	good := dial(t, url)
	good.say(make([]byte, 3200), 320)
}

func TestNoMoreSessionsThanThereIsRoomFor(t *testing.T) {
	server, url := start(t, echo(), func(c *Config) { c.MaxSessions = 2 })
	for range 2 {
		dial(t, url).say(make([]byte, 320), 320)
	}
	_, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: oneUse})
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("%v, want 503 and when to try again", err)
	}
	resp.Body.Close()
	if n := server.Sessions(); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
}

func TestShutdownLetsSessionsEndAndThenEndsThem(t *testing.T) {
	leavesNothing(t)
	server, url := start(t, echo(), nil)
	ending, staying := dial(t, url), dial(t, url)
	ending.say(make([]byte, 320), 320)
	staying.say(make([]byte, 320), 320)
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	group.Go(func() {
		if err := server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v, want that it had to end a session", err)
		}
	})
	for refused := false; !refused; { // until the shutdown has begun
		conn, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: oneUse})
		if refused = err != nil; refused {
			resp.Body.Close()
			continue
		}
		_ = conn.CloseNow()
	}
	ending.send(websocket.MessageText, `{"eof" : 1}`)
	ending.receive()
	cancel()
	if _, _, err := staying.conn.Read(t.Context()); err == nil {
		t.Error("a session outlived the server")
	}
	group.Wait()
}

func TestIdleClientsAreSentAway(t *testing.T) {
	_, url := start(t, echo(), func(c *Config) { c.Idle = 50 * time.Millisecond })
	c := dial(t, url)
	if _, _, err := c.conn.Read(t.Context()); err == nil {
		t.Error("still there")
	}
}

// Whatever a client writes is refused or means something that can be done.
func FuzzControl(f *testing.F) {
	for _, s := range []string{
		`{"config" : {"sample_rate" : 8000.0, "words" : true, "phrase_list" : ["yes"], "max_alternatives" : 3}}`,
		`{"eof" : 1}`, `{"reset" : 1}`, `{"config":{"words":0}}`, `{"config":null}`, `[]`, `1`, ``, `{"eof":"x"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseControl(data)
		var refused *refusal
		if err != nil {
			if !errors.As(err, &refused) || len(refused.why) > 120 {
				t.Fatalf("%v", err)
			}
			return
		}
		if m.Config != nil && m.Config.SampleRate != nil && (*m.Config.SampleRate < minRateHz || *m.Config.SampleRate > maxRateHz) {
			t.Fatalf("rate %g", *m.Config.SampleRate)
		}
	})
}

func TestConfigIsRefusedWithItsKey(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"rate_hz":      func(c *Config) { c.RateHz = 1 },
		"max_sessions": func(c *Config) { c.MaxSessions = -1 },
		"idle":         func(c *Config) { c.Idle = -1 },
		"max_message":  func(c *Config) { c.MaxMessage = 0 },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if _, err := NewServer(echo(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
