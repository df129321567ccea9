package reportsink

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// look keeps the sample pages, to be seen in a browser:
// go test ./pipeline/sink/reportsink -run Look -look DIR.
var look = flag.String("look", "", "folder that the sample pages are kept in")

func newSink(t *testing.T, dir string) *Sink {
	t.Helper()
	s, err := New(Config{Dir: dir, Thresholds: thresholds})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publish(t *testing.T, s *Sink, events []sink.Event) {
	t.Helper()
	for _, ev := range events {
		if err := s.Publish(context.Background(), ev); err != nil {
			t.Error(err)
		}
	}
}

func closed(t *testing.T, s *Sink) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSamplePagesToLookAt(t *testing.T) {
	dir := *look
	if dir == "" {
		dir = t.TempDir()
	}
	s := newSink(t, dir)
	s.Failed("holiday.mp3", "not a recording that can be read")
	for _, r := range samples() {
		publish(t, s, r.Events)
		page := filepath.Join(dir, Folder(r.Tenant, r.Call), "report.html")
		if got := read(t, page); !strings.Contains(got, "</html>") {
			t.Errorf("%s: page is %d bytes and not whole", r.Call, len(got))
		}
		// The sink draws from audio; the samples bring their own waveforms.
		if err := os.WriteFile(page, []byte(rendered(t, r)), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
}

func TestIndexHasTheWorstCallFirst(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir)
	for _, r := range samples() {
		publish(t, s, r.Events)
	}
	s.Failed("b.wav", "empty")
	s.Failed("a.wav", "no such file")
	closed(t, s)
	root := parsed(t, read(t, dir, "index.html"))
	var got []string
	for _, a := range elements(root, func(n *html.Node) bool { return n.Data == "a" }) {
		got = append(got, attr(a, "href"))
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(attr(a, "href")))); err != nil {
			t.Errorf("the index leads nowhere: %v", err)
		}
	}
	want := []string{
		"order-cancel/report.html", "helpdesk-mono/report.html", "refund-cut/report.html",
		"no-ears/report.html", "opening-hours/report.html", "silence/report.html",
	}
	if !slices.Equal(got, want) {
		t.Errorf("order is %q, want %q", got, want)
	}
	failed := texts(elements(elements(root, named("section", "banner"))[0], named("li", "")))
	if !slices.Equal(failed, []string{"a.wav no such file", "b.wav empty"}) {
		t.Errorf("failures are %q", failed)
	}
}

func TestIndexIsTheSameWhateverCallEndsFirst(t *testing.T) {
	var pages []string
	for _, backwards := range []bool{false, true} {
		dir, calls := t.TempDir(), samples()
		if backwards {
			slices.Reverse(calls)
		}
		s := newSink(t, dir)
		var wg sync.WaitGroup
		for _, r := range calls {
			wg.Go(func() { publish(t, s, r.Events) })
		}
		wg.Wait()
		closed(t, s)
		pages = append(pages, read(t, dir, "index.html")+read(t, dir, "order-cancel", "report.html"))
	}
	if pages[0] != pages[1] {
		t.Error("pages differ with the order of the calls")
	}
}

func TestCloseWritesCallsThatDidNotEnd(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir)
	r := codeFraud()
	publish(t, s, r.Events[:12])
	s.Draw("default", "never-started", nil)
	closed(t, s)
	closed(t, s)
	if page := read(t, dir, "order-cancel", "report.html"); !strings.Contains(page, "The end of this call was not seen.") {
		t.Error("the page does not say that it is partial")
	}
	if index := read(t, dir, "index.html"); !strings.Contains(index, ">partial<") || strings.Contains(index, "never-started") {
		t.Error("the index does not have the partial call, or has one that never started")
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "*.part"))
	if err != nil || len(left) > 0 {
		t.Errorf("half files stay behind: %q, %v", left, err)
	}
}

func TestLateEventDoesNotSpoilAFinishedPage(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir)
	r := honest()
	publish(t, s, r.Events)
	before := read(t, dir, "opening-hours", "report.html")
	if err := s.Publish(context.Background(), r.Events[3]); !errors.Is(err, ErrOver) {
		t.Errorf("late event: %v, want ErrOver", err)
	}
	closed(t, s)
	if read(t, dir, "opening-hours", "report.html") != before {
		t.Error("the page has changed")
	}
	if err := s.Publish(context.Background(), r.Events[0]); !errors.Is(err, ErrOver) {
		t.Errorf("event after close: %v, want ErrOver", err)
	}
}

func TestCallHeardAgainReplacesItsPage(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir)
	publish(t, s, honest().Events)
	publish(t, s, honest().Events)
	closed(t, s)
	if n := strings.Count(read(t, dir, "index.html"), "opening-hours/report.html"); n != 1 {
		t.Errorf("the index has the call %d times", n)
	}
}

func TestNoCallNameLeavesTheFolder(t *testing.T) {
	seen := make(map[string]string)
	for _, k := range [][2]string{
		{"default", "call-1"},
		{"default", ".."},
		{"default", "../../etc"},
		{"default", `a\b`},
		{"default", "a/b"},
		{"default", ""},
		{"acme", "call-1"},
		{"acme.call-1", "x"},
		{"acme", "call-1.x"},
		{"default", "grüße"},
		{"default", "a b"},
		{"default", "a\x00"},
		{"default", "=2E"},
	} {
		got := Folder(k[0], k[1])
		if got == "" || strings.ContainsAny(got, "/\\\x00 ") || strings.HasPrefix(got, ".") || !filepath.IsLocal(got) {
			t.Errorf("%q: folder %q", k, got)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("%q and %s share folder %q", k, other, got)
		}
		seen[got] = k[0] + " " + k[1]
	}
	if Folder("", "call-1") != "call-1" {
		t.Errorf("plain call is in %q", Folder("", "call-1"))
	}
}

func TestUnwritableFolderIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: file}); err == nil {
		t.Error("a file was taken for a folder")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no folder was taken")
	}
	dir := t.TempDir()
	s := newSink(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "opening-hours"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	var err error
	for _, ev := range honest().Events {
		err = errors.Join(err, s.Publish(context.Background(), ev))
	}
	if err == nil || !strings.Contains(err.Error(), "opening-hours") {
		t.Errorf("page in the place of a file: %v", err)
	}
}

// frames reads a list of frames.
type frames []audio.Frame

func (f *frames) ReadFrame(context.Context) (audio.Frame, error) {
	if len(*f) == 0 {
		return audio.Frame{}, io.EOF
	}
	out := (*f)[0]
	*f = (*f)[1:]
	return out, nil
}

func TestDrawTakesTheWaveformFromWhatIsRead(t *testing.T) {
	loud := make([]int16, 8000)
	for i := range loud {
		loud[i] = int16(12000 * (i % 2))
	}
	src := frames{
		{Leg: audio.Caller, Rate: 8000, PCM: loud},
		{Leg: audio.Callee, Rate: 8000, PCM: make([]int16, 8000)},
		{Leg: audio.Callee, Start: time.Second, Rate: 8000, PCM: loud},
	}
	dir := t.TempDir()
	s := newSink(t, dir)
	r := s.Draw("default", "opening-hours", &src)
	n := 0
	for {
		f, err := r.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		n += len(f.PCM)
	}
	if n != 24000 {
		t.Errorf("%d samples came through, want 24000", n)
	}
	publish(t, s, honest().Events)
	root := parsed(t, read(t, dir, "opening-hours", "report.html"))
	waves := elements(root, named("path", "wave"))
	if len(waves) != 2 || hasClass(waves[0], "flat") || hasClass(waves[1], "flat") || attr(waves[0], "d") == attr(waves[1], "d") {
		t.Errorf("%d waveforms, or not those of the legs", len(waves))
	}
}
