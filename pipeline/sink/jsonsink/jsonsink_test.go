package jsonsink

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func level(call string, n int) sink.Event {
	return sink.Event{
		ID: fmt.Sprintf("%s-%d", call, n), Type: sink.RiskLevel, Tenant: "bank", Call: call, Source: "callwarden/file",
		At: time.Duration(n) * time.Second,
		Data: &callwardenv1.RiskLevel{
			Context: &callwardenv1.CallContext{Tenant: "bank", Call: call, Source: "file"},
			At:      durationpb.New(time.Duration(n) * time.Second),
			Level:   callwardenv1.Level_LEVEL_CRITICAL,
			Score:   87.5,
			Advice:  &callwardenv1.Advice{Id: "stop", Language: "en", Text: "Don't read <it> out & hang up."},
		},
	}
}

func segment() sink.Event {
	return sink.Event{
		ID: "s", Type: sink.TranscriptSegment, Tenant: "bank", Call: "c1", Source: "callwarden/file",
		Data: &callwardenv1.TranscriptSegment{Context: &callwardenv1.CallContext{Tenant: "bank", Call: "c1"}, Text: "hello"},
	}
}

const levelLine = `{"specversion":"1.0","id":"c1-3","source":"callwarden/file","type":"callwarden.risk.level.v1",` +
	`"subject":"c1","datacontenttype":"application/json","data":{"context":{"tenant":"bank","call":"c1","source":"file"},` +
	`"at":"3s","level":"LEVEL_CRITICAL","score":87.5,"advice":{"id":"stop","language":"en","text":"Don't read <it> out & hang up."}}}` + "\n"

func TestEventIsOneLineOfStructuredCloudEvent(t *testing.T) {
	for range 20 { // protojson varies its white space from build to build, maps vary from run to run
		var b bytes.Buffer
		s := New(&b, DefaultConfig())
		if err := errors.Join(s.Publish(t.Context(), level("c1", 3)), s.Publish(t.Context(), segment()), s.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
		if b.String() != levelLine {
			t.Fatalf("got  %swant %s", b.String(), levelLine)
		}
	}
}

func TestTimeIsThereOnlyWhereKnown(t *testing.T) {
	var b bytes.Buffer
	ev := level("c1", 3)
	ev.Time = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := New(&b, Config{}).Publish(t.Context(), ev); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(levelLine, `"subject":"c1",`, `"subject":"c1","time":"2026-01-02T03:04:05Z",`, 1)
	if b.String() != want {
		t.Errorf("got  %swant %s", b.String(), want)
	}
}

func TestLinesAreReadBackAsTheEventsThatWereWritten(t *testing.T) {
	var b bytes.Buffer
	s := New(&b, Config{Transcripts: true})
	events := []sink.Event{level("c1", 1), segment(), level("c2", 7)}
	for _, ev := range events {
		if err := s.Publish(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewScanner(&b)
	for _, want := range events {
		lines.Scan()
		got, err := sink.ParseCloudEvent(lines.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got.Data, want.Data) {
			t.Errorf("data %v, want %v", got.Data, want.Data)
		}
		got.Data, want.Data = nil, nil
		if got != want {
			t.Errorf("event %+v, want %+v", got, want)
		}
	}
}

func TestManyCallsDoNotMixLines(t *testing.T) {
	var b bytes.Buffer
	s := New(&b, Config{})
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for n := range 100 {
				if err := s.Publish(t.Context(), level(fmt.Sprint("c", c), n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for line := range strings.Lines(b.String()) {
		if n++; !json.Valid([]byte(line)) {
			t.Fatalf("line %d is %s", n, line)
		}
	}
	if n != 800 {
		t.Errorf("%d lines, want 800", n)
	}
}

// fullDisk takes room bytes and then has no space left, as a file does.
type fullDisk struct {
	bytes.Buffer
	room int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), d.room)
	d.room -= n
	d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func TestFullDiskIsToldOnceAndAtClose(t *testing.T) {
	d := &fullDisk{room: len(levelLine) + 10}
	s := New(d, Config{})
	var told int
	for n := range 4 {
		if err := s.Publish(t.Context(), level("c1", n)); err != nil {
			if told++; n != 1 || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("event %d: %v", n, err)
			}
		}
	}
	err := s.Close(context.Background())
	if told != 1 || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "3 events not written") {
		t.Errorf("told %d times, Close: %v", told, err)
	}
	if d.Len() != len(levelLine)+10 {
		t.Errorf("%d bytes: written on after half a line", d.Len())
	}
}

func TestCloseFlushesAndTellsWhenItCannot(t *testing.T) {
	d := &fullDisk{room: 10}
	s := New(bufio.NewWriterSize(d, 1<<16), Config{})
	if err := s.Publish(t.Context(), level("c1", 3)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close: %v", err)
	}
	if err := s.Publish(t.Context(), level("c1", 4)); !errors.Is(err, ErrClosed) {
		t.Errorf("Publish after Close: %v", err)
	}
}

func BenchmarkPublish(b *testing.B) {
	s := New(new(discard), Config{})
	ev := level("c1", 3)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Publish(b.Context(), ev); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
