package websock

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/pipeline/source/announce"
)

func TestAboutUnderstandsTheWordsOfMostSystems(t *testing.T) {
	for _, c := range []struct{ said, want string }{
		{`{"from":"+1","to":"+2","direction":"outbound-api","CallerName":"Ann"}`, `{"from":"+1","from_name":"Ann","to":"+2","direction":"outbound"}`},
		{`{"caller_id_number":"1000","destination_number":"2","caller_id_name":"Bo"}`, `{"from":"1000","from_name":"Bo","to":"2"}`},
		{`{"tenant":"bank","consent":"True","queueName":"fraud","X-Header":"v","9":"x"}`, `{"tenant":"bank","consent":true,"attributes":{"queue_name":"fraud","x_header":"v"}}`},
		{`{"direction":"sideways","consent":"perhaps","from":" \u0000\n"}`, `{}`},
		{`{"from":"` + strings.Repeat("é", 200) + `"}`, `{"from":"` + strings.Repeat("é", 128) + `"}`},
		{`{"Caller":"a","from":"b"}`, `{"from":"a"}`},
	} {
		var said map[string]string
		if err := json.Unmarshal([]byte(c.said), &said); err != nil {
			t.Fatal(err)
		}
		var a About
		a.SetAll(said)
		if err := a.Call.Validate(); err != nil {
			t.Errorf("%s: %v", c.said, err)
		}
		if got, _ := json.Marshal(a.Call); string(got) != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.said, got, c.want)
		}
	}
}

func TestAboutKeepsWhatTheProtocolAskedFor(t *testing.T) {
	a := About{Other: map[string]string{"sampleRate": "", "samplerate": "", "speak": "no"}}
	a.Set("sample_rate", "16000")
	a.Set("speak", "yes")
	if a.Other["samplerate"] != "16000" || a.Other["speak"] != "no" || len(a.Attributes) > 0 {
		t.Errorf("%+v", a)
	}
}

func FuzzAboutIsAlwaysValid(f *testing.F) {
	f.Add("from", "+12025550123", "queueName", "x")
	f.Add("Tenant", "a b", "\x00", "\xff")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		var a About
		a.Set(k1, v1)
		a.Set(k2, v2)
		call := a.Call
		call.Call, call.Tenant = "", "" // looked at by who uses them
		if err := call.Validate(); err != nil {
			t.Error(err)
		}
		if id := a.Name("x", v2); !announce.IsToken(id) {
			t.Errorf("id %q", id)
		}
	})
}
