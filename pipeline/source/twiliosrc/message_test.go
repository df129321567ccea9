package twiliosrc

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

var messages = []string{
	mediaOf("inbound", 7, 140*ms, make([]byte, 160)),
	mediaOf("outbound", 7, 140*ms, nil),
	`{"event":"media","sequence_number":"4","media":{"track":"inbound","chunk":"2","timestamp":"5","payload":"no+JhoaJjpzS"},"stream_id":"32DE"}`,
	`{"event":"media","stream_sid":"S","sequence_number":3,"media":{"chunk":2,"timestamp":10,"payload":"AAAA"}}`,
	`{"media":{"payload":"AAAA"},"event":"media"}`,
	` { "event" : "media" , "media" : { "payload" : "AA==" } } `,
	`{"event":"media","media":{"chunk":"9999999999999999999","payload":"AAAA"}}`,
	`{"event":"media","media":{"payload":"a\/b+"}}`,
	`{"event":"media","media":{"payload":"\u0041AAA"}}`,
	`{"event":"media","media":{"track":"x","track":"y","payload":"AAAA"}}`,
	`{"event":"media","Event":"stop","media":{"payload":"AAAA"}}`,
	`{"event":"media","media":{"chunk":01,"payload":"AAAA"}}`,
	`{"event":"media","media":{"chunk":1e3,"timestamp":-5,"payload":"AAAA"}}`,
	`{"event":"media","media":{"payload":"AAAA"},}`,
	`{"event":"media","media":{"payload":"AAAA"}}x`,
	`{"event":"media","media":null}`,
	`{"event":"media"}`,
	`{"event":"media","media":{"payload":"é"}}`,
	`{"event":"dtmf","streamSid":"MZ","dtmf":{"track":"inbound_track","digit":"1"}}`,
	`{"event":"connected","protocol":"Call","version":"1.0.0"}`,
	twilioStart,
	`{}`, `[]`, `null`, `"media"`, `{"event":1}`, ``,
}

func sameMedia(a, b media) bool {
	return a.track == b.track && a.chunk == b.chunk && a.stamp == b.stamp && bytes.Equal(a.payload, b.payload)
}

func TestShortCutReadsTheUsualMessages(t *testing.T) {
	for i, m := range messages {
		_, ok := scanMedia([]byte(m))
		if usual := i < 7; ok != usual {
			t.Errorf("%s: read by the short cut: %v", m, ok)
		}
	}
}

func TestParseRefusesWhatIsNoMessage(t *testing.T) {
	for in, want := range map[string]error{
		`{}`: errNoEvent, `{"event":""}`: errNoEvent, `{"event":{}}`: errNoEvent,
		``: errNotJSON, `[]`: errNotJSON, `null`: errNotJSON, `"media"`: errNotJSON, `{"event":"media"`: errNotJSON, "\xff": errNotJSON,
	} {
		if _, err := parse([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", in, err, want)
		}
	}
}

// FuzzScanReadsWhatJSONDoes holds the short cut to encoding/json: what it reads
// is the same, and neither panics on anything.
func FuzzScanReadsWhatJSONDoes(f *testing.F) {
	for _, m := range messages {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fast, ok := scanMedia(data)
		slow, err := parseAny(data)
		if !ok {
			return
		}
		if err != nil || slow.event != eventMedia || !sameMedia(fast, slow.media) {
			t.Errorf("%q is %+v, and by encoding/json %+v, %v", data, fast, slow, err)
		}
	})
}

// FuzzStart holds a stream that has begun to what the rest relies on.
func FuzzStart(f *testing.F) {
	for _, m := range messages {
		f.Add([]byte(m), "")
	}
	f.Add([]byte(`{"event":"start","start":{"tracks":["both_tracks"],"mediaFormat":{"encoding":"L16@24000h"}}}`), "tracks=both&caller_track=outbound")
	f.Add([]byte(`{"event":"start","stream_id":"a","start":{"call_control_id":"v2:a","media_format":{"encoding":"PCMA","sample_rate":"8000"}}}`), "from=1&direction=outbound")
	f.Fuzz(func(t *testing.T, data []byte, query string) {
		m, err := parse(data)
		if err != nil || m.event != eventStart {
			return
		}
		s, err := parseStart(m.all, parseQuery(query))
		if err != nil {
			return
		}
		if s.format.rateHz < leastRateHz || s.format.rateHz > mostRateHz {
			t.Errorf("a rate of %d Hz", s.format.rateHz)
		}
		if len(s.tracks) > 2 {
			t.Errorf("tracks %v", s.tracks)
		}
		if s.leg(trackInbound) == s.leg(trackOutbound) {
			t.Error("both tracks are one leg")
		}
		call := s.about.Call
		call.Call, call.Tenant = "", ""
		if err := call.Validate(); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	payload := make([]byte, 160)
	for i := range payload {
		payload[i] = byte(i)
	}
	data := []byte(mediaOf("inbound", 77, 1540*ms, payload))
	escaped := []byte(strings.Replace(string(data), `"chunk"`, `"ch\u0075nk"`, 1))
	for name, data := range map[string][]byte{"scan": data, "json": escaped} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if m, err := parse(data); err != nil || len(m.media.payload) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLane is what a message costs from its bytes to a frame.
func BenchmarkLane(b *testing.B) {
	l := newTestLane(format{muLaw, 8000})
	payload := make([]byte, 160)
	data := make([][]byte, 50)
	for i := range data {
		data[i] = []byte(mediaOf("inbound", i+1, 0, payload))
	}
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		m, err := parse(data[n%50])
		if err != nil {
			b.Fatal(err)
		}
		m.media.chunk, m.media.stamp = count{n + 1, true}, count{20 * n, true}
		n++
		if err := l.take(m.media, time.Duration(n)*20*ms); err != nil {
			b.Fatal(err)
		}
		l.Take()
	}
}

func newTestLane(f format) *lane {
	return &lane{Track: websock.Track{Leg: audio.Caller}, decoder: decoder{format: f}, window: 200 * ms, count: new(websock.Counters), base: &base{}}
}

func parseQuery(s string) url.Values {
	q, _ := url.ParseQuery(s) // what is good of it
	return q
}
