package reportsink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// ErrOver refuses an event that comes after its page was written.
var ErrOver = errors.New("report is already written")

// Config is where the pages go and what is drawn in them.
type Config struct {
	// Dir gets <folder of the call>/report.html for each call and index.html
	// over all of them. It is made where it is missing; pages that are there
	// are replaced.
	Dir        string
	Thresholds Thresholds
	Unmasked   bool // the operator opted out of masking
}

// Sink writes one page per call when the call ends, and the index when it is
// closed. Its methods may be called from any goroutine. A call in flight costs
// its final segments and half a megabyte per leg at most, a finished one only
// its line in the index.
type Sink struct {
	cfg Config

	mu       sync.Mutex
	calls    map[callKey]*call
	done     []summary
	place    map[callKey]int // in done
	failures []failure
	closed   bool
}

type callKey struct{ tenant, call string }

// call is one call that has not ended.
type call struct {
	mu       sync.Mutex
	facts    facts
	drawings []*audio.Envelope
}

var _ sink.Sink = (*Sink)(nil)

// New makes the folder for the pages.
func New(cfg Config) (*Sink, error) {
	if cfg.Dir == "" {
		return nil, errors.New("report: folder must be named")
	}
	if err := os.MkdirAll(cfg.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("making report folder: %w", err)
	}
	return &Sink{cfg: cfg, calls: make(map[callKey]*call), place: make(map[callKey]int)}, nil
}

// Folder is the name of a call's folder: the call id for tenant "default",
// tenant.call for others. What a file system may not like in a name is written
// as =XX, so that different calls never share a folder.
func Folder(tenant, call string) string {
	if tenant == "" || tenant == "default" {
		return fileName(call)
	}
	return fileName(tenant) + "." + fileName(call)
}

func fileName(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	if b.Len() == 0 {
		return "="
	}
	return b.String()
}

// Draw returns r as it is, and draws the waveform of the call's page from what
// is read through it. It is called before the call starts; reading must be
// over when the call ends or the sink is closed.
func (s *Sink) Draw(tenant, callID string, r audio.Reader) audio.Reader {
	d := audio.NewEnvelope(r, drawStep, drawPeaks)
	c := s.call(callKey{tenant, callID})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drawings = append(c.drawings, d)
	return d
}

// Failed puts a recording that could not be heard into the index.
func (s *Sink) Failed(name, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, failure{name, reason})
}

func (s *Sink) call(k callKey) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[k]
	if c == nil {
		c = new(call)
		s.calls[k] = c
	}
	return c
}

// Publish keeps ev for the page of its call, and writes the page if ev ends
// the call. An error of that writing means that this one page is missing; one
// wrapping ErrOver that the event is not in the page.
func (s *Sink) Publish(_ context.Context, ev sink.Event) error {
	k := callKey{ev.Tenant, ev.Call}
	if _, starts := ev.Data.(*callwardenv1.CallStarted); s.over(k, starts) {
		return fmt.Errorf("event %s of call %s: %w", ev.Type, ev.Call, ErrOver)
	}
	c := s.call(k)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.facts.add(ev); err != nil {
		return err
	}
	if _, ended := ev.Data.(*callwardenv1.CallEnded); !ended {
		return nil
	}
	s.mu.Lock()
	delete(s.calls, k)
	s.mu.Unlock()
	return s.finish(k, c)
}

// over says whether the call has its page and does not start again.
func (s *Sink) over(k callKey, starts bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, done := s.place[k]
	return s.closed || done && !starts && s.calls[k] == nil
}

// finish writes the page of a call and remembers its line.
func (s *Sink) finish(k callKey, c *call) error {
	r := Report{Tenant: k.tenant, Call: k.call, Thresholds: s.cfg.Thresholds, Unmasked: s.cfg.Unmasked}
	for _, d := range c.drawings {
		r.Waveforms = append(r.Waveforms, waveforms(d)...)
	}
	folder := Folder(k.tenant, k.call)
	if err := os.MkdirAll(filepath.Join(s.cfg.Dir, folder), 0o777); err != nil {
		return fmt.Errorf("making folder of call %s: %w", k.call, err)
	}
	if err := write(filepath.Join(s.cfg.Dir, folder, "report.html"), func(w io.Writer) error { return render(w, r, &c.facts) }); err != nil {
		return fmt.Errorf("writing report of call %s: %w", k.call, err)
	}
	line := summarise(r, &c.facts)
	line.Href = folder + "/report.html"
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, again := s.place[k]; again {
		s.done[i] = line
		return nil
	}
	s.place[k] = len(s.done)
	s.done = append(s.done, line)
	return nil
}

// Close writes a partial page for each call that has not ended, then the
// index. A second Close does nothing.
func (s *Sink) Close(context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	open := s.calls
	s.calls = make(map[callKey]*call)
	s.mu.Unlock()
	var errs []error
	for k, c := range open {
		c.mu.Lock()
		if !c.facts.empty() { // drawn only: the call never started
			errs = append(errs, s.finish(k, c))
		}
		c.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := write(filepath.Join(s.cfg.Dir, "index.html"), func(w io.Writer) error { return renderIndex(w, s.done, s.failures) })
	if err != nil {
		errs = append(errs, fmt.Errorf("writing index of reports: %w", err))
	}
	return errors.Join(errs...)
}

// write makes a file whole or not at all.
func write(path string, fill func(io.Writer) error) (err error) {
	tmp := path + ".part"
	file, err := os.Create(tmp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	b := bufio.NewWriter(file)
	if err = fill(b); err == nil {
		err = b.Flush()
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
