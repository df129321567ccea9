package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/cmd/internal/board"
	"github.com/callwarden/callwarden/cmd/internal/caller"
)

func TestServeShowsItsCallsAtTheDesk(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	s := startServer(t, fraudInShort, func(c *serveConfig) {
		c.Desk.Config.Dir = dir
		c.Sinks.NATS.Config.Transcripts = true
	})
	if code, page := s.get("/"); code != http.StatusOK || !strings.Contains(page, "<html") {
		t.Errorf("the page: %d %.100s", code, page)
	}
	if r, err := s.call(t.Context(), caller.AudioSocket, 1, shortCall); err != nil || !r.Good() {
		t.Fatalf("%v, %+v", err, r)
	}
	var found struct{ Calls []*board.Row }
	until(t, "the call in the history", func() bool {
		_, text := s.get("/api/history")
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return len(found.Calls) == 1
	})
	row := found.Calls[0]
	if row.Peak != "critical" || row.State != board.Ended || strings.ContainsAny(row.From, "0123456789") || row.FromID == "" {
		t.Errorf("row is %+v", row)
	}
	_, text := s.get("/api/calls/" + row.Tenant + "/" + row.ID)
	var c board.Call
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if len(c.Levels) != 2 || len(c.Levels[0].Below) < 20 || len(c.Segments) == 0 || len(c.Advice) == 0 || len(c.Steps) == 0 {
		t.Errorf("levels %v, %d segments, %d advice, %d steps", c.Levels, len(c.Segments), len(c.Advice), len(c.Steps))
	}
	// The number that nobody can read is found all the same.
	if _, text := s.get("/api/history?number=%2B12025550123"); !strings.Contains(text, row.ID) {
		t.Errorf("by its number is found %s", text)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "number.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key of numbers: %v, %v", info, err)
	}
}

func TestServeWithoutNATSHasNoDesk(t *testing.T) {
	s := startServer(t, fraudInShort, func(c *serveConfig) { c.Sinks.NATS.Enabled = false })
	if code, _ := s.get("/"); code != http.StatusNotFound {
		t.Errorf("status %d", code)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

func TestDeskSaysWhatIsWrongWithItsFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"--nats":         {"--nats", "http://127.0.0.1"},
		"days":           {"--days", "0"},
		"proxy.networks": {"--proxy", "nowhere"},
		"--cert":         {"--cert", "c.pem"},
	} {
		var out, errs lines
		code := run(t.Context(), append([]string{"desk", "--dir", ""}, args...), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: exit %d: %s", args, code, errs.String())
		}
	}
	var out, errs lines
	if code := run(t.Context(), []string{"desk", "--listen", "127.0.0.1:0", "--dir", "", "--tokens", filepath.Join(t.TempDir(), "none")}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "tokens_file") {
		t.Errorf("without its tokens: exit %d: %s", code, errs.String())
	}
}

func TestBusynessIsReadFromProc(t *testing.T) {
	b := newBusyness()
	_, _, memory := b.look()
	if memory < 1<<20 {
		t.Errorf("this process holds %d bytes", memory)
	}
	b.proc = t.TempDir() // as where there is no /proc
	if machine, cores, memory := b.look(); machine != 0 || cores != 0 || memory != 0 {
		t.Errorf("of nothing it knows %v, %v, %v", machine, cores, memory)
	}
}
