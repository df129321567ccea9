package openai

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

const rate = 16000

// heard is the recogniser behind the servers of these tests. It hears the same
// audio once and lives as long as the process.
var heard = sync.OnceValues(func() (transcribe.Engine, error) {
	dir, err := models.DataDir("")
	if err != nil {
		return nil, err
	}
	cfg := vosk.DefaultConfig()
	store := models.Open(dir)
	if cfg.Library, err = store.Path(models.DefaultLibrary); err != nil {
		return nil, fmt.Errorf("%w; type: make models", err)
	}
	if cfg.Model, err = store.Path(models.DefaultModel); err != nil {
		return nil, fmt.Errorf("%w; type: make models", err)
	}
	engine, err := vosk.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return transcribetest.NewRemembered(engine), nil
})

func newVosk(t testing.TB) transcribe.Engine {
	t.Helper()
	engine, err := heard()
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func speech(t testing.TB) []int16 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "vosk", "testdata", "speech.wav"))
	if err != nil {
		t.Fatal(err)
	}
	return decode(data[44:])
}

func decode(data []byte) []int16 {
	pcm := make([]int16, len(data)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return pcm
}

// dialect is how a kind of server writes what it heard.
type dialect func(text string, words []transcribe.Word, length float64) any

type object map[string]any

// openAI has words beside segments, without spaces or probabilities.
func openAI(text string, words []transcribe.Word, length float64) any {
	list := []object{}
	for _, w := range words {
		list = append(list, object{"word": w.Text, "start": w.Start.Seconds(), "end": w.End.Seconds()})
	}
	return object{
		"task": "transcribe", "language": "english", "duration": length, "text": text, "words": list,
		"segments": []object{{
			"id": 0, "seek": 0, "start": 0.0, "end": length, "text": " " + text, "tokens": []int{1, 2}, "temperature": 0.0,
			"avg_logprob": -0.3, "compression_ratio": 1.1, "no_speech_prob": 0.01,
		}},
	}
}

// whisperCPP has tokens inside segments; those that go on with a word have no
// space.
func whisperCPP(text string, words []transcribe.Word, length float64) any {
	list := []object{}
	for _, w := range words {
		cut := (len(w.Text) + 1) / 2
		middle := (w.Start + w.End).Seconds() / 2
		list = append(list, object{"word": " " + w.Text[:cut], "start": w.Start.Seconds(), "end": middle, "t_dtw": -1, "probability": w.Confidence})
		if cut < len(w.Text) {
			list = append(list, object{"word": w.Text[cut:], "start": middle, "end": w.End.Seconds(), "t_dtw": -1, "probability": w.Confidence})
		}
	}
	return object{
		"task": "transcribe", "language": "english", "duration": length, "text": text + "\n",
		"segments": []object{{"id": 0, "text": " " + text, "start": 0.0, "end": length, "words": list, "avg_logprob": -0.3, "no_speech_prob": 0.01}},
	}
}

// withoutWords knows the times of segments only.
func withoutWords(text string, words []transcribe.Word, length float64) any {
	if len(words) == 0 {
		return object{"text": "", "segments": []object{}}
	}
	return object{"text": text, "segments": []object{{"text": text, "start": words[0].Start.Seconds(), "end": words[len(words)-1].End.Seconds()}}}
}

// server is the published interface around an engine.
func server(engine transcribe.Engine, write dialect) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail := func(err error) {
			http.Error(w, fmt.Sprintf(`{"error":{"message":%q}}`, err), http.StatusBadRequest)
		}
		if r.Method != http.MethodPost || r.URL.Path != "/v1/audio/transcriptions" {
			http.NotFound(w, r)
			return
		}
		file, _, err := r.FormFile("file")
		if err != nil {
			fail(err)
			return
		}
		if f := r.FormValue("response_format"); f != "verbose_json" || r.FormValue("model") == "" || !slices.Contains(r.MultipartForm.Value["timestamp_granularities[]"], "word") {
			fail(fmt.Errorf("response_format %q", f))
			return
		}
		data, err := io.ReadAll(file)
		if err != nil {
			fail(err)
			return
		}
		if !bytes.HasPrefix(data, []byte("RIFF")) || binary.LittleEndian.Uint32(data[24:]) != rate {
			fail(errors.New("it is no WAV file of 16 kHz"))
			return
		}
		session, err := engine.Open(r.Context(), transcribe.Options{})
		if err != nil {
			fail(err)
			return
		}
		defer session.Close()
		pcm := decode(data[44:])
		segments, err := session.Write(r.Context(), audio.Frame{Rate: rate, PCM: pcm})
		if err == nil {
			var more []transcribe.Segment
			more, err = session.Finish(r.Context())
			segments = append(segments, more...)
		}
		if err != nil {
			fail(err)
			return
		}
		var words []transcribe.Word
		var texts []string
		for _, s := range segments {
			if s.Final && s.Text != "" {
				words = append(words, s.Words...)
				texts = append(texts, s.Text)
			}
		}
		text := strings.Join(texts, " ")
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(write(text, words, audio.Span(len(pcm), rate).Seconds()))
	})
}

func start(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func newEngine(t *testing.T, address string, change func(*Config)) *Engine {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Address, cfg.KeyEnv = address, ""
	if change != nil {
		change(&cfg)
	}
	engine, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func TestConformance(t *testing.T) {
	engine := newVosk(t)
	url := start(t, server(engine, openAI))
	transcribetest.Run(t, func(t *testing.T) transcribetest.Subject {
		return transcribetest.Subject{Engine: newEngine(t, url, nil), RateHz: rate, Speech: speech(t)}
	})
}

// hear speaks pcm in frames of 20 ms and returns the final segments.
func hear(t *testing.T, engine *Engine, opt transcribe.Options, pcm []int16) []transcribe.Segment {
	t.Helper()
	session, err := engine.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var all []transcribe.Segment
	for i := 0; i < len(pcm); i += rate / 50 {
		more, err := session.Write(t.Context(), audio.Frame{Start: audio.Span(i, rate), Rate: rate, PCM: pcm[i:min(i+rate/50, len(pcm))]})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, more...)
	}
	more, err := session.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return append(all, more...)
}

func textOf(segments []transcribe.Segment) string {
	var all []string
	for _, s := range segments {
		if s.Text != "" {
			all = append(all, s.Text)
		}
	}
	return strings.Join(all, " ")
}

func TestEveryDialectSaysTheSameWords(t *testing.T) {
	engine := newVosk(t)
	var want string
	for _, d := range []struct {
		name  string
		write dialect
	}{{"openai", openAI}, {"whisper.cpp", whisperCPP}, {"without words", withoutWords}} {
		e := newEngine(t, start(t, server(engine, d.write)), nil)
		for _, live := range []bool{false, true} {
			got := hear(t, e, transcribe.Options{Live: live}, speech(t))
			if want == "" {
				want = textOf(got)
			}
			if textOf(got) != want || !strings.Contains(want, "tell anyone about this call") {
				t.Errorf("%s, live %v: %q, want %q", d.name, live, textOf(got), want)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Speech without a pause is cut anywhere, also in the middle of words.
func TestWindowsAreStitchedWithoutDoublingOrLosingWords(t *testing.T) {
	engine := newVosk(t)
	url := start(t, server(engine, openAI))
	pcm := speech(t)[8000:54_000]
	long := slices.Concat(pcm, pcm, pcm)
	whole := newEngine(t, url, func(c *Config) { c.MaxWindow = 30 * time.Second })
	defer whole.Close()
	want := strings.Fields(textOf(hear(t, whole, transcribe.Options{}, long)))
	for _, window := range []time.Duration{4300 * time.Millisecond, 7 * time.Second} {
		cut := newEngine(t, url, func(c *Config) { c.MaxWindow = window })
		segments := hear(t, cut, transcribe.Options{}, long)
		got := strings.Fields(textOf(segments))
		if d := distance(got, want); float64(d) > 0.15*float64(len(want)) || len(want) < 15 {
			t.Errorf("windows of %v: %d of %d words differ:\n%q\n%q", window, d, len(want), got, want)
		}
		cut.Close()
	}
}

// distance is how many words must be changed, put in or taken out.
func distance(a, b []string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		last := row[0]
		row[0] = i + 1
		for j := range b {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func TestSilenceAndNoiseAreNotSent(t *testing.T) {
	var asked atomic.Int32
	e := newEngine(t, start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, `{"text":"Thanks for watching!"}`)
	})), nil)
	defer e.Close()
	silence := make([]int16, 20*rate)
	hiss := make([]int16, 20*rate)
	random := uint32(1)
	for i := range hiss {
		random = random*1664525 + 1013904223
		hiss[i] = int16(random>>16) / 256
	}
	click := make([]int16, 10*rate)
	click[5*rate] = 20000
	for _, tt := range []struct {
		name string
		pcm  []int16
		most int32
	}{{"silence", silence, 0}, {"hiss", hiss, 1}, {"a click", click, 0}} { // hiss is new to the gate for a moment
		asked.Store(0)
		if got := hear(t, e, transcribe.Options{}, tt.pcm); len(got) > 0 || asked.Load() > tt.most {
			t.Errorf("%s: asked %d times, heard %v", tt.name, asked.Load(), got)
		}
	}
}

func TestTheServerIsToldWhatHelpsIt(t *testing.T) {
	got := make(chan *http.Request, 8)
	e := newEngine(t, start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseMultipartForm(1 << 20)
		got <- r
		_, _ = io.WriteString(w, `{"text":""}`)
	}))+"/v1/", func(c *Config) {
		c.Model, c.PromptBytes, c.KeyEnv = "large-v3", 20, "CALLWARDEN_TEST_KEY"
	})
	defer e.Close()
	e.key = "s3cret"
	hear(t, e, transcribe.Options{Language: "es-MX", Hints: []string{"zelle", "any desk", "a word that does not fit"}}, speech(t))
	r := <-got
	if r.URL.Path != "/v1/audio/transcriptions" || r.Header.Get("Authorization") != "Bearer s3cret" {
		t.Errorf("%s with %v", r.URL, r.Header)
	}
	for key, want := range map[string]string{"model": "large-v3", "language": "es", "prompt": "zelle, any desk", "response_format": "verbose_json", "temperature": "0"} {
		if v := r.MultipartForm.Value[key]; !slices.Equal(v, []string{want}) {
			t.Errorf("%s: %q, want %q", key, v, want)
		}
	}
}

func TestPassingFailuresAreTriedAgain(t *testing.T) {
	engine := newVosk(t)
	real := server(engine, openAI)
	var asked atomic.Int32
	url := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.Header().Set("Retry-After", "0")
			http.Error(w, `{"error":{"message":"slow down"}}`, http.StatusTooManyRequests)
		case 2:
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		default:
			real.ServeHTTP(w, r)
		}
	}))
	e := newEngine(t, url, nil)
	defer e.Close()
	if got := textOf(hear(t, e, transcribe.Options{}, speech(t))); !strings.Contains(got, "verification") || !strings.Contains(got, "tell anyone") {
		t.Errorf("%q", got)
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "999999999": time.Hour, "soon": 0,
		"Sun, 22 Nov 2026 08:00:30 GMT": 30 * time.Second,
		"Sun, 22 Nov 2026 07:00:30 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

// speakUntil writes speech again and again until a Write says why.
func speakUntil(t *testing.T, session transcribe.Session, why func(error) bool) error {
	t.Helper()
	pcm := speech(t)
	deadline := time.Now().Add(30 * time.Second)
	for at := time.Duration(0); time.Now().Before(deadline); at += audio.Span(len(pcm), rate) {
		if _, err := session.Write(t.Context(), audio.Frame{Start: at, Rate: rate, PCM: pcm}); why(err) {
			return err
		}
	}
	t.Fatal("nothing was said of it")
	return nil
}

func TestServerThatMisbehavesIsNamed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	say := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	for _, tt := range []struct {
		name    string
		handler http.Handler
		says    string
	}{
		{"no JSON", say(200, "<html>"), "no verbose_json"},
		{"other JSON", say(200, `{"status":"ok"}`), "neither text nor segments"},
		{"10 MB", say(200, `{"text":"`+strings.Repeat("a", 10<<20)+`"}`), "over 4194304 bytes"},
		{"a million words", say(200, `{"text":"`+strings.Repeat("a ", 1_000_000)+`"}`), "1000000 words"},
		{"wrong key", say(401, `{"error":{"message":"Incorrect API key"}}`), "Incorrect API key"},
		{"too large", say(413, ``), "413"},
		{"no such path", say(404, ``), "404"},
		{"elsewhere", http.RedirectHandler("http://127.0.0.1:1/", http.StatusTemporaryRedirect), "307"},
		{"always busy", say(429, `{"error":{"message":"quota"}}`), "quota"},
		{"always broken", say(500, `oops`), "500"},
		{"says nothing", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}), "did not answer for 200ms"},
		{"half an answer", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"text":`)
		}), "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(tt.handler)
			defer s.Close()
			e := newEngine(t, s.URL, func(c *Config) {
				if c.GiveUp = 0; tt.name == "says nothing" {
					c.Timeout = 200 * time.Millisecond
				}
			})
			defer e.Close()
			for _, live := range []bool{false, true} {
				session, err := e.Open(t.Context(), transcribe.Options{Live: live})
				if err != nil {
					t.Fatal(err)
				}
				err = speakUntil(t, session, func(err error) bool { return err != nil })
				if !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), s.Listener.Addr().String()) {
					t.Errorf("live %v: %v, want %q of %s", live, err, tt.says, s.Listener.Addr())
				}
				if errors.Is(err, transcribe.ErrFrame) || errors.Is(err, transcribe.ErrOption) || errors.Is(err, transcribe.ErrAway) {
					t.Errorf("%v: the session is over", err)
				}
				if _, err := session.Finish(t.Context()); err == nil {
					t.Error("a dead session finished")
				}
				session.Close()
			}
		})
	}
}

func TestTLSMismatchIsNotTriedAgain(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"text":""}`)
	}))
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	plain := start(t, http.NotFoundHandler())
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		address, ca string
		says        string
	}{
		{secure.URL, "", "certificate"},
		{"https" + strings.TrimPrefix(plain, "http"), "", "HTTPS"},
		{secure.URL, ca, ""},
	} {
		e := newEngine(t, tt.address, func(c *Config) { c.CA = tt.ca })
		session, err := e.Open(t.Context(), transcribe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = session.Write(t.Context(), audio.Frame{Rate: rate, PCM: speech(t)}); err == nil {
			_, err = session.Finish(t.Context())
		}
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want %q", tt.address, err, tt.says)
		}
		session.Close()
		e.Close()
	}
}

// A leg must not wait for a slow server: its answers come later, in order, and
// all of them by the end.
func TestLiveLegsDoNotWaitForAnswers(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	engine := newVosk(t)
	hold := make(chan struct{}) // closed when the server may answer
	real := server(engine, openAI)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-hold
		real.ServeHTTP(w, r)
	}))
	defer s.Close()
	e := newEngine(t, s.URL, nil)
	defer e.Close()
	session, err := e.Open(t.Context(), transcribe.Options{Live: true})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	pcm := slices.Concat(speech(t), make([]int16, rate))
	segments, err := session.Write(t.Context(), audio.Frame{Rate: rate, PCM: pcm})
	if err != nil || len(segments) > 0 {
		t.Fatalf("%v, %v before the server has answered", segments, err)
	}
	if p, ok := session.(transcribe.Pender); !ok || !p.Pending() {
		t.Error("nothing is pending")
	}
	close(hold)
	for deadline := time.Now().Add(20 * time.Second); len(segments) < 2 && time.Now().Before(deadline); {
		more, err := session.Write(t.Context(), audio.Frame{Start: audio.Span(len(pcm), rate), Rate: rate})
		if err != nil {
			t.Fatal(err)
		}
		segments = append(segments, more...)
	}
	rest, err := session.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text := textOf(append(segments, rest...)); !strings.HasSuffix(text, "about this call") || len(segments) < 2 {
		t.Errorf("%d segments before the end, in all %q", len(segments), text)
	}
	if session.(transcribe.Pender).Pending() {
		t.Error("something is pending after the end")
	}
}

func TestAServerThatIsAwayForAWhileLosesNothing(t *testing.T) {
	engine := newVosk(t)
	var back atomic.Bool
	real := server(engine, openAI)
	e := newEngine(t, start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !back.Load() {
			http.Error(w, "restarting", http.StatusServiceUnavailable)
			return
		}
		real.ServeHTTP(w, r)
	})), nil)
	defer e.Close()
	session, err := e.Open(t.Context(), transcribe.Options{Live: true})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	pcm := speech(t)
	if _, err := session.Write(t.Context(), audio.Frame{Rate: rate, PCM: pcm}); err != nil {
		t.Fatal(err)
	}
	empty := audio.Frame{Start: audio.Span(len(pcm), rate), Rate: rate}
	deadline := time.Now().Add(30 * time.Second)
	for !errors.Is(err, transcribe.ErrAway) && time.Now().Before(deadline) {
		if _, err = session.Write(t.Context(), empty); err != nil && !errors.Is(err, transcribe.ErrAway) {
			t.Fatal(err)
		}
	}
	if !errors.Is(err, transcribe.ErrAway) {
		t.Fatal("the leg is not said to be deaf")
	}
	back.Store(true)
	segments, err := session.Finish(t.Context())
	if err != nil || !strings.Contains(textOf(segments), "tell anyone") || !strings.Contains(textOf(segments), "verification") {
		t.Errorf("%q, %v", textOf(segments), err)
	}
}

func TestNoMoreRequestsThanAllowedRunAtOnce(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	e := newEngine(t, start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"text":"hello"}`)
		mu.Lock()
		now--
		mu.Unlock()
	})), func(c *Config) { c.Parallel = 2 })
	defer e.Close()
	var group sync.WaitGroup
	pcm := speech(t)
	for range 8 {
		group.Go(func() {
			session, err := e.Open(t.Context(), transcribe.Options{Live: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer session.Close()
			_, err = session.Write(t.Context(), audio.Frame{Rate: rate, PCM: pcm})
			if err == nil {
				_, err = session.Finish(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if most > 2 {
		t.Errorf("%d at once", most)
	}
}

func TestCancelledWriteReturnsAtOnce(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	e := newEngine(t, start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold })), nil)
	defer e.Close()
	session, err := e.Open(t.Context(), transcribe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	pcm := slices.Concat(speech(t), make([]int16, rate))
	if _, err := session.Write(ctx, audio.Frame{Rate: rate, PCM: pcm}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's error", err)
	}
}

func TestConfigIsRefusedWithItsKey(t *testing.T) {
	t.Setenv("CALLWARDEN_TEST_KEY", "s3cret")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for want, change := range map[string]func(*Config){
		"address":      func(c *Config) { c.Address = "" },
		"ws://a":       func(c *Config) { c.Address = "ws://a" },
		"key_file":     func(c *Config) { c.Address = "http://user:pw@a" },
		"model":        func(c *Config) { c.Model = "" },
		"rate_hz":      func(c *Config) { c.RateHz = 1 },
		"prompt_bytes": func(c *Config) { c.PromptBytes = -1 },
		"max_window":   func(c *Config) { c.MaxWindow = time.Minute },
		"overlap":      func(c *Config) { c.Overlap = c.MaxWindow },
		"parallel":     func(c *Config) { c.Parallel = 0 },
		"timeout":      func(c *Config) { c.Timeout = 0 },
		"give_up":      func(c *Config) { c.GiveUp = -1 },
		"ca":           func(c *Config) { c.CA = "no such file" },
		"in the clear": func(c *Config) { c.Address, c.KeyEnv = "http://192.0.2.1:80", "CALLWARDEN_TEST_KEY" },
		"no such file": func(c *Config) { c.KeyFile = "no such file" },
	} {
		cfg := DefaultConfig()
		cfg.Address, cfg.KeyEnv = "http://"+l.Addr().String(), ""
		change(&cfg)
		engine, err := New(cfg, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "user:pw") {
			t.Errorf("%s: %v", want, err)
		}
		if err == nil {
			engine.Close()
		}
	}
}
