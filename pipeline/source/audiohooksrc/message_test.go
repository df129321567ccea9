package audiohooksrc

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestParseNamesFieldAndRule(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"good":             {`{"version":"2","id":"` + sessionID + `","type":"ping","seq":1,"serverseq":0,"position":"PT1.5S","parameters":{}}`, ""},
		"no JSON":          {`hello`, "not JSON from byte 1 on"},
		"audio as text":    {"\xff\xfe\x00\x01", "not JSON"},
		"10 MB":            {strings.Repeat("[", 10<<20), "a message of 10485760 bytes: the limit is 65536"},
		"an array":         {`[]`, ": is a array"},
		"another version":  {`{"version":"3"}`, "version: must be"},
		"no id":            {`{"version":"2"}`, "id: must be a UUID"},
		"id of markup":     {`{"version":"2","id":"<b>"}`, "id: must be a UUID"},
		"no type":          {`{"version":"2","id":"` + sessionID + `"}`, "type: must be"},
		"seq of 0":         {`{"version":"2","id":"` + sessionID + `","type":"ping","seq":0}`, "seq: must be above 0"},
		"seq below 0":      {`{"version":"2","id":"` + sessionID + `","type":"ping","seq":-1}`, "seq: is a number -1"},
		"no position":      {`{"version":"2","id":"` + sessionID + `","type":"ping","seq":1}`, "position: must be there"},
		"position of text": {`{"version":"2","id":"` + sessionID + `","type":"ping","seq":1,"position":"1.5"}`, "is no duration"},
		"no parameters":    {`{"version":"2","id":"` + sessionID + `","type":"ping","seq":1,"position":"PT0S"}`, "parameters: must be an object"},
		"parameters text":  {`{"version":"2","id":"` + sessionID + `","type":"ping","seq":1,"position":"PT0S","parameters":"x"}`, "parameters: must be an object"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse([]byte(c.text))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestPositionsAreExactToTheMicrosecond(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT0S": 0, "PT1.5S": 1500 * time.Millisecond, "PT.25S": 250 * time.Millisecond, "PT1M2.5S": 62500 * time.Millisecond,
		"PT1H": time.Hour, "PT3599.999999S": time.Hour - time.Microsecond, "PT12.0001250S": 12*time.Second + 125*time.Microsecond,
	} {
		var p position
		if err := json.Unmarshal([]byte(`"`+text+`"`), &p); err != nil || time.Duration(p) != want {
			t.Errorf("%s is %v, %v; want %v", text, time.Duration(p), err, want)
		}
		var again position
		if err := json.Unmarshal([]byte(`"`+p.String()+`"`), &again); err != nil || again != p {
			t.Errorf("%s was written as %s, which is %v", text, p, again)
		}
	}
	for _, text := range []string{"", "PT", "PTS", "PT.S", "1S", "PT-1S", "PT1e9S", "P1D", "PT9999999H", "PT1S ", "pt1s"} {
		var p position
		if err := json.Unmarshal([]byte(`"`+text+`"`), &p); err == nil {
			t.Errorf("%q is taken as %v", text, time.Duration(p))
		}
	}
}

func TestBothPartiesInPCMUAreLikedBest(t *testing.T) {
	both, one := []string{external, internal}, []string{internal}
	pcmu := func(channels []string) media { return media{"audio", "PCMU", channels, 8000} }
	l16 := func(channels []string, rate int) media { return media{"audio", "L16", channels, rate} }
	for name, c := range map[string]struct {
		offered []media
		want    int // index; -1 for none
	}{
		"all that is usual":   {[]media{pcmu(both), pcmu(one)}, 0},
		"best last":           {[]media{l16(one, 8000), pcmu(one), l16(both, 8000), pcmu(both)}, 3},
		"two parties first":   {[]media{pcmu(one), l16(both, 16000)}, 1},
		"one party":           {[]media{pcmu(one), pcmu([]string{external})}, 0},
		"the other way round": {[]media{pcmu([]string{internal, external})}, 0},
		"video":               {[]media{{"video", "PCMU", both, 8000}}, -1},
		"opus":                {[]media{{"audio", "OPUS", both, 48000}}, -1},
		"PCMU at 48 kHz":      {[]media{{"audio", "PCMU", both, 48000}}, -1},
		"no channel":          {[]media{pcmu(nil)}, -1},
		"three channels":      {[]media{pcmu([]string{external, internal, external})}, -1},
		"twice the same":      {[]media{pcmu([]string{external, external})}, -1},
		"unknown channel":     {[]media{pcmu([]string{"left"})}, -1},
		"rate of 0":           {[]media{l16(one, 0)}, -1},
	} {
		got, err := choose(c.offered)
		switch {
		case c.want < 0 && err == nil:
			t.Errorf("%s: %+v is chosen", name, got)
		case c.want >= 0 && (err != nil || got.worth() != c.offered[c.want].worth() || got.Channels[0] != c.offered[c.want].Channels[0] || got.Rate != c.offered[c.want].Rate):
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
