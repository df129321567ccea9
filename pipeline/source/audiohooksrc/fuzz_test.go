package audiohooksrc

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// FuzzSession has a session take any messages, one a line. What it answers is
// always JSON with numbers without a gap, and frames never go back.
func FuzzSession(f *testing.F) {
	m := func(kind, seq, parameters string) string {
		return `{"version":"2","id":"` + sessionID + `","type":"` + kind + `","seq":` + seq + `,"serverseq":0,"position":"PT0S","parameters":` + parameters + `}`
	}
	open := m("open", "1", openingOf(conversationID, `,"customConfig":{"direction":"outbound","n":1e99}`))
	for _, lines := range [][]string{
		{open, "#audio", m("ping", "2", "{}"), m("close", "3", `{"reason":"end"}`)},
		{open, m("paused", "2", "{}"), "tick", m("resumed", "3", `{"start":"PT0S","discarded":"PT5S"}`), "#audio"},
		{open, m("discarded", "2", `{"start":"PT900H","discarded":"PT1S"}`), m("update", "3", `{"language":"en"}`)},
		{m("open", "1", openingOf(noUUID, "")), "#audio", m("paused", "2", "{}")},
		{open, m("dance", "2", "{}"), open, m("error", "3", `{"code":"x"}`)},
		{"null", `{"version":"2"}`, "\xff\xff"},
	} {
		f.Add(strings.Join(lines, "\n"))
	}
	f.Fuzz(func(t *testing.T, script string) {
		seq := uint64(0)
		s := &session{languages: []string{"en-US"}}
		s.send = func(data []byte) bool {
			var r reply
			if err := json.Unmarshal(data, &r); err != nil || r.Seq != seq+1 {
				t.Fatalf("%s after seq %d: %v", data, seq, err)
			}
			seq++
			return true
		}
		s.open = func(p *openParameters, m media) ([]audio.Leg, time.Duration, error) {
			if p.probes() {
				return nil, 0, nil
			}
			d := describe(p, m, "caller")
			for name, value := range d.attributes {
				if !attribute.MatchString(name) || len(value) > maxAttribute {
					t.Fatalf("attribute %q: %q", name, value)
				}
			}
			return d.legs, time.Second, nil
		}
		now := time.Unix(1_700_000_000, 0)
		at := make(map[audio.Leg]time.Duration)
		for line := range strings.SplitSeq(script, "\n") {
			now = now.Add(700 * ms)
			var err error
			switch rest, sound := strings.CutPrefix(line, "#"); {
			case sound:
				err = s.binary([]byte(rest), now)
			case line == "tick" && s.clock != nil:
				s.clock.tick(now.Sub(s.began))
			default:
				err = s.text([]byte(line), now)
			}
			var by *closing
			var wrong *fault
			if err != nil && !errors.As(err, &by) && !errors.As(err, &wrong) {
				t.Fatalf("error %v is neither a fault nor a close", err)
			}
			if s.clock == nil {
				continue
			}
			for _, f := range s.clock.take() {
				if f.Start < at[f.Leg] {
					t.Fatalf("%s goes back from %v to %v", f.Leg, at[f.Leg], f.Start)
				}
				at[f.Leg] = f.End()
			}
		}
	})
}

// FuzzSignature parses any headers. What it takes has its parameters word for
// word from the header, and is not good for a request that was not signed.
func FuzzSignature(f *testing.F) {
	f.Add(publishedInput, publishedSum)
	f.Add(`a=();created=1`, `a=::`)
	f.Add(`a=("@path" "x");created=1, b=()`, `b=:AAAA:, a=:AAAA:`)
	f.Add(`a=("`, `a=:`)
	f.Fuzz(func(t *testing.T, input, sum string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Signature-Input", input)
		r.Header.Set("Signature", sum)
		s, err := parseSignature(r.Header)
		if err != nil {
			return
		}
		if !strings.Contains(input, s.params) || !strings.HasPrefix(s.params, "(") {
			t.Fatalf("parameters %q are not in %q", s.params, input)
		}
		if s.verify(r, []byte("a secret that nobody knows"), askedOf(r)) == nil {
			t.Fatal("a signature of nobody holds")
		}
	})
}
