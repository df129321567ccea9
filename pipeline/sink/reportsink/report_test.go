package reportsink

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

// look keeps the sample pages, to be looked at in a browser:
// go test ./pipeline/sink/reportsink -run Look -look /tmp/pages
var look = flag.String("look", "", "folder for the sample pages")

func TestSinkWritesPagesToLookAt(t *testing.T) {
	dir := *look
	if dir == "" {
		dir = t.TempDir()
	}
	s, err := New(Config{Dir: dir, Thresholds: thresholds})
	if err != nil {
		t.Fatal(err)
	}
	s.Failed("holiday.mp3", "not a recording that can be read")
	for _, r := range samples() {
		for _, ev := range r.Events {
			if err := s.Publish(context.Background(), ev); err != nil {
				t.Fatal(err)
			}
		}
		// The sink draws from audio; these samples bring their own waveforms.
		page := renderString(t, r)
		if err := os.WriteFile(filepath.Join(dir, Folder(r.Tenant, r.Call), "report.html"), []byte(page), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func renderString(t *testing.T, r Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := Render(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
