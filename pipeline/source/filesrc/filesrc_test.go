package filesrc

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// recording writes a stereo WAV of d in which left and right differ.
func recording(t *testing.T, path string, d time.Duration) {
	t.Helper()
	const rate = 8000
	n := int(d.Seconds() * rate)
	left, right := slices.Repeat([]int16{1000}, n), slices.Repeat([]int16{-1000}, n)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := audio.WriteWAV(f, audio.WAVPCM16, rate, left, right); err != nil {
		t.Fatal(err)
	}
}

// drain reads a call to its end and returns how long each leg was.
func drain(ctx context.Context, call *source.Call) (map[audio.Leg]time.Duration, error) {
	ends := make(map[audio.Leg]time.Duration)
	for {
		f, err := call.Audio.ReadFrame(ctx)
		if errors.Is(err, io.EOF) {
			return ends, nil
		}
		if err != nil {
			return ends, err
		}
		ends[f.Leg] = f.End()
	}
}

func serve(t *testing.T, cfg Config) ([]*source.Call, error) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var calls []*source.Call
	err = s.Serve(context.Background(), func(ctx context.Context, call *source.Call) error {
		mu.Lock()
		calls = append(calls, call)
		mu.Unlock()
		_, err := drain(ctx, call)
		return err
	})
	return calls, err
}

func TestGoodFilesAreHeardBesideBadOnes(t *testing.T) {
	dir := t.TempDir()
	recording(t, filepath.Join(dir, "good.wav"), 100*time.Millisecond)
	sub := filepath.Join(dir, "sub")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	recording(t, filepath.Join(sub, "other.WAV"), 200*time.Millisecond)
	text := filepath.Join(dir, "text.wav")
	if err := os.WriteFile(text, []byte("this is no recording"), 0o644); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none")
	if err := os.Mkdir(none, 0o755); err != nil {
		t.Fatal(err)
	}

	cfg := DefaultConfig()
	missing := filepath.Join(dir, "missing.wav")
	cfg.Paths = []string{missing, dir, none, filepath.Join(dir, "good.wav")}
	calls, err := serve(t, cfg)
	if len(calls) != 2 {
		t.Errorf("heard %d calls, want the 2 good ones, each once", len(calls))
	}
	var bad []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var fe *FileError
		if !errors.As(e, &fe) {
			t.Fatalf("%v is no FileError", e)
		}
		bad = append(bad, fe.Path)
		if !strings.Contains(e.Error(), fe.Path) {
			t.Errorf("error %q does not name its file", e)
		}
	}
	slices.Sort(bad)
	want := []string{missing, none, text}
	slices.Sort(want)
	if !slices.Equal(bad, want) {
		t.Errorf("bad files %q, want %q", bad, want)
	}
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, audio.ErrFormat) {
		t.Errorf("the reasons are lost in %v", err)
	}
}

func TestCallIDFollowsContentAndName(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for path, d := range map[string]time.Duration{
		filepath.Join(a, "my call (1).wav"): 100 * time.Millisecond,
		filepath.Join(b, "my call (1).wav"): 100 * time.Millisecond,
		filepath.Join(b, "longer.wav"):      300 * time.Millisecond,
	} {
		recording(t, path, d)
	}
	id := func(elem ...string) string {
		got, err := callID(filepath.Join(elem...))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if id(a, "my call (1).wav") != id(b, "my call (1).wav") {
		t.Error("the same recording in two folders has two ids")
	}
	if id(b, "longer.wav")[len("longer"):] == id(b, "my call (1).wav")[len("my-call-1"):] {
		t.Error("two recordings share what should tell them apart")
	}
	if got := id(a, "my call (1).wav"); !strings.HasPrefix(got, "my-call-1-") || strings.ContainsAny(got, " .()>*") {
		t.Errorf("id %q is no subject token made of the name", got)
	}
}

func TestCallerIsLeftUnlessRight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "call.wav")
	recording(t, path, 100*time.Millisecond)
	for _, right := range []bool{false, true} {
		cfg := DefaultConfig()
		cfg.Paths, cfg.CallerRight = []string{path}, right
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Serve(context.Background(), func(ctx context.Context, call *source.Call) error {
			for {
				f, err := call.Audio.ReadFrame(ctx)
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				if isLeft := f.PCM[0] > 0; isLeft != (f.Leg == audio.Caller) != right {
					t.Errorf("caller right %v: left %v is %v", right, isLeft, f.Leg)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpeedOneTakesAsLongAsTheCall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "call.wav")
	recording(t, path, 3*time.Second)
	for speed, want := range map[float64]time.Duration{0: 0, 1: 3 * time.Second, 2: 1500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Paths, cfg.Speed = []string{path}, speed
			began := time.Now()
			if _, err := serve(t, cfg); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took < want-100*time.Millisecond || took > want {
				t.Errorf("speed %v took %v, want about %v", speed, took, want)
			}
		})
	}
}

func TestConfigNamesKeyAndRule(t *testing.T) {
	for want, cfg := range map[string]Config{
		"file.paths":    {Parallel: 1},
		"file.speed":    {Paths: []string{"x"}, Speed: -1, Parallel: 1},
		"file.parallel": {Paths: []string{"x"}},
	} {
		if _, err := New(cfg); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestFileOfSeveralCallsIsHeardCallByCall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trunk.wav")
	recording(t, path, 100*time.Millisecond)
	other := filepath.Join(filepath.Dir(path), "other.wav")
	recording(t, other, 100*time.Millisecond)
	cfg := DefaultConfig()
	cfg.Paths = []string{path, other}
	broken := errors.New("not understood")
	cfg.Split = func(_ context.Context, p string) ([]Part, bool, error) {
		if p == other {
			return nil, false, nil
		}
		open := func(string) (*Recording, error) { return OpenAudio(p, false) }
		return []Part{
			{Token: "a", Began: time.Unix(1, 0), Attributes: map[string]string{"from": "1"}, Open: open},
			{Token: "b", Open: func(string) (*Recording, error) { return nil, broken }},
			{Token: "c", Open: open},
		}, true, nil
	}
	calls, err := serve(t, cfg)
	var files []string
	for _, c := range calls {
		files = append(files, c.Attributes["file"])
		token := strings.TrimPrefix(strings.TrimPrefix(c.Attributes["file"], "trunk.wav"), "#")
		if c.Attributes["file"] != "other.wav" && !strings.HasSuffix(c.ID, "-"+token) {
			t.Errorf("id %q of %q", c.ID, c.Attributes["file"])
		}
		if token == "a" && (c.Attributes["from"] != "1" || !c.Began.Equal(time.Unix(1, 0))) {
			t.Errorf("call %+v", c)
		}
	}
	slices.Sort(files)
	if !slices.Equal(files, []string{"other.wav", "trunk.wav#a", "trunk.wav#c"}) {
		t.Errorf("heard %q", files)
	}
	var fe *FileError
	if !errors.Is(err, broken) || !errors.As(err, &fe) || fe.Path != path+"#b" {
		t.Errorf("error %v", err)
	}
}
