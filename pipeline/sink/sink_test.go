package sink

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func ended() Event {
	return Event{
		ID: EventID("bank", "c1", CallEnded), Type: CallEnded, Tenant: "bank", Call: "c1", Source: "callwarden/file",
		At: 61500 * time.Millisecond, Time: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC),
		Data: &callwardenv1.CallEnded{
			Context:  &callwardenv1.CallContext{Tenant: "bank", Call: "c1", Source: "file"},
			Duration: durationpb.New(61500 * time.Millisecond), Complete: true,
		},
	}
}

func TestEventIDDependsOnEveryPart(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []string{
		EventID("a", "b", CallEnded), EventID("b", "a", CallEnded), EventID("a", "b", CallStarted),
		EventID("a", "b", CallEnded, 1), EventID("a", "b", CallEnded, 1, 2), EventID("a", "b", CallEnded, 12),
		EventID("a b", "", CallEnded), EventID("a", " b", CallEnded),
	} {
		if seen[id] || len(id) != 24 {
			t.Errorf("id %q", id)
		}
		seen[id] = true
	}
	if once, again := EventID("a", "b", CallEnded, 1), EventID("a", "b", CallEnded, 1); once != again {
		t.Error("the same event has two ids")
	}
}

func TestCloudEventComesBack(t *testing.T) {
	want := ended()
	b, err := want.CloudEvent()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseCloudEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got.Data, want.Data) {
		t.Errorf("data %v", got.Data)
	}
	got.Data, want.Data = nil, nil
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseErrorsDoNotQuoteTheData(t *testing.T) {
	for _, b := range []string{
		`{"specversion":"1.0","id":"x","source":"s","subject":"c1","type":"callwarden.transcript.segment.v1","data":{"text":["my code is 123456"]}}`,
		`{"specversion":"1.0","id":"x","source":"s","subject":"c1","type":"callwarden.transcript.segment.v1","data":{"text":123456}}`,
		`{"specversion":123456}`,
		`my code is 123456`,
	} {
		if _, err := ParseCloudEvent([]byte(b)); !errors.Is(err, ErrNotEvent) || strings.Contains(err.Error(), "123456") {
			t.Errorf("%s: %v", b, err)
		}
	}
	if _, err := ParseCloudEvent(make([]byte, maxEvent+1)); !errors.Is(err, ErrNotEvent) || !strings.Contains(err.Error(), "limit") {
		t.Errorf("too large: %v", err)
	}
}

// FuzzParseCloudEvent: what is accepted is written again as an event that is
// accepted, and equal bytes from then on.
func FuzzParseCloudEvent(f *testing.F) {
	b, err := ended().CloudEvent()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"specversion":"1.0","id":"x","source":"s","subject":"c1","type":"callwarden.risk.level.v1","data":{"context":{"tenant":"t","call":"c1"},"at":"-3s"}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, err := ParseCloudEvent(b)
		if err != nil {
			return
		}
		once, err := ev.CloudEvent()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseCloudEvent(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, err := back.CloudEvent(); err != nil || string(twice) != string(once) {
			t.Fatalf("%s became %s, %v", once, twice, err)
		}
	})
}

// list keeps what it is given; with err it refuses.
type list struct {
	events []Event
	closed bool
	err    error
}

func (l *list) Publish(_ context.Context, ev Event) error {
	if l.err != nil {
		return l.err
	}
	l.events = append(l.events, ev)
	return nil
}

func (l *list) Close(context.Context) error {
	l.closed = true
	return l.err
}

func TestTeeGoesOnWhenOneSinkFails(t *testing.T) {
	bad, worse, good := &list{err: errors.New("bad")}, &list{err: errors.New("worse")}, &list{}
	both := Tee(bad, good, worse)
	for name, err := range map[string]error{"Publish": both.Publish(t.Context(), ended()), "Close": both.Close(t.Context())} {
		if !errors.Is(err, bad.err) || !errors.Is(err, worse.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(good.events) != 1 || !good.closed || !bad.closed || !worse.closed {
		t.Errorf("good has %d events, closed %v %v %v", len(good.events), good.closed, bad.closed, worse.closed)
	}
	if err := Tee(good).Publish(t.Context(), ended()); err != nil {
		t.Error(err)
	}
}
