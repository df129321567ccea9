package sipmeta

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const twoParties = `<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
  <datamode>complete</datamode>
  <group group_id="g1"><associate-time>2026-01-05T10:00:00Z</associate-time></group>
  <session session_id="s1"><sipSessionID>ab30;remote=47</sipSessionID><group-ref>g1</group-ref></session>
  <participant participant_id="p1"><nameID aor="sip:+1-555-0100;noa=3;srvattri=national@carrier.test"><name xml:lang="en">Ann  Example</name></nameID></participant>
  <participant participant_id="p2"><nameID aor="tel:+15550199"><name>Bank</name></nameID></participant>
  <stream stream_id="t1" session_id="s1"><label>96</label></stream>
  <stream stream_id="t2" session_id="s1"><label>97</label></stream>
  <participantsessionassoc participant_id="p1" session_id="s1"><associate-time>2026-01-05T10:00:00Z</associate-time></participantsessionassoc>
  <participantstreamassoc participant_id="p1"><send>t1</send><recv>t2</recv></participantstreamassoc>
  <participantstreamassoc participant_id="p2"><send>t2</send><recv>t1</recv></participantstreamassoc>
</recording>`

// Clients that are older or differ from RFC 7865.
const (
	noStreams = `<recording><participant participant_id="a"><nameID aor="sip:100@pbx"/></participant>
<participant participant_id="b"><nameID aor="sip:200@pbx"/></participant>
<participantstreamassoc participant_id="b"><send>1</send></participantstreamassoc>
<participantstreamassoc participant_id="a"><send>2</send></participantstreamassoc></recording>`

	nested = `<RECORDING><Session ID="x"/><participant id="p1" session="x"><aor>sip:alice@a.test</aor><name>Alice</name>
<send>s1</send><recv>s2</recv></participant><participant id="p2" session="x"><aor>sip:bob@b.test</aor><send>s2</send></participant>
<stream id="s1" session="x"><label>1</label></stream><stream id="s2" session="x"><label>2</label></stream></RECORDING>`

	bare = `<r:recording xmlns:r="urn:ietf:params:xml:ns:recording:1"><r:participant participant_id="p1"><r:nameID aor="sip:1@x"/></r:participant><r:participant participant_id="p2"><r:nameID aor="sip:2@x"/></r:participant></r:recording>`

	oracle = `<recording><participant participant_id="p1"><nameID aor="sip:callee@x"><name>Callee</name></nameID><send>a</send>
<extensiondata xmlns:apkt="http://acmepacket.com/siprec/extensiondata"><apkt:callingParty>false</apkt:callingParty></extensiondata></participant>
<participant participant_id="p2"><nameID aor="sip:caller@x"/><send>b</send><extensiondata><apkt:callingParty>true</apkt:callingParty></extensiondata></participant>
<stream stream_id="a"><label>1</label></stream><stream stream_id="b"><label>2</label></stream></recording>`

	mixed = `<recording><participant participant_id="p1"><nameID aor="sip:1@x"/></participant><participant participant_id="p2"><nameID aor="sip:2@x"/></participant>
<stream stream_id="m"><label>0</label></stream><participantstreamassoc participant_id="p1"><send>m</send></participantstreamassoc>
<participantstreamassoc participant_id="p2"><send>m</send></participantstreamassoc></recording>`
)

func TestSidesAreFoundHoweverTheClientSaysThem(t *testing.T) {
	for _, c := range []struct {
		name   string
		doc    string
		labels []string
		hints  Hints
		legs   []audio.Leg
		caller Party
		callee Party
	}{
		{
			"by stream and association", twoParties,
			[]string{"96", "97"},
			Hints{},
			[]audio.Leg{audio.Caller, audio.Callee},
			Party{"+15550100", "Ann Example"},
			Party{"+15550199", "Bank"},
		},
		{
			"lines in another order than streams", twoParties,
			[]string{"97", "96"},
			Hints{},
			[]audio.Leg{audio.Callee, audio.Caller},
			Party{"+15550100", "Ann Example"},
			Party{"+15550199", "Bank"},
		},
		{
			"the client names the called party first", twoParties,
			[]string{"96", "97"},
			Hints{CalleeFirst: true},
			[]audio.Leg{audio.Callee, audio.Caller},
			Party{"+15550199", "Bank"},
			Party{"+15550100", "Ann Example"},
		},
		{
			"the session's own From and To tell", twoParties,
			[]string{"96", "97"},
			Hints{From: "+15550199", To: "+15550100"},
			[]audio.Leg{audio.Callee, audio.Caller},
			Party{"+15550199", "Bank"},
			Party{"+15550100", "Ann Example"},
		},
		{
			"lines without labels go by order", twoParties,
			[]string{"", ""},
			Hints{},
			[]audio.Leg{audio.Caller, audio.Callee},
			Party{"+15550100", "Ann Example"},
			Party{"+15550199", "Bank"},
		},
		{
			"no stream objects: associations name the label", noStreams,
			[]string{"1", "2"},
			Hints{},
			[]audio.Leg{audio.Callee, audio.Caller},
			Party{"100", ""},
			Party{"200", ""},
		},
		{
			"an old draft", nested,
			[]string{"1", "2"},
			Hints{},
			[]audio.Leg{audio.Caller, audio.Callee},
			Party{"alice", "Alice"},
			Party{"bob", ""},
		},
		{
			"participants only", bare,
			[]string{"5", "6"},
			Hints{},
			[]audio.Leg{audio.Caller, audio.Callee},
			Party{"1", ""},
			Party{"2", ""},
		},
		{
			"an extension says who is calling", oracle,
			[]string{"1", "2"},
			Hints{},
			[]audio.Leg{audio.Callee, audio.Caller},
			Party{"caller", ""},
			Party{"callee", "Callee"},
		},
		{
			"one line with both parties is nobody's", mixed,
			[]string{"0"},
			Hints{},
			[]audio.Leg{audio.Unknown},
			Party{"1", ""},
			Party{"2", ""},
		},
		{
			"one line of one party", twoParties,
			[]string{"97"},
			Hints{},
			[]audio.Leg{audio.Callee},
			Party{"+15550100", "Ann Example"},
			Party{"+15550199", "Bank"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ParseRecording([]byte(c.doc))
			if err != nil {
				t.Fatal(err)
			}
			got := r.Sides(c.labels, c.hints)
			if want := (Sides{c.legs, c.caller, c.callee}); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestNoMetadataGoesByOrder(t *testing.T) {
	got := (&Recording{}).Sides([]string{"1", "2"}, Hints{})
	if want := []audio.Leg{audio.Caller, audio.Callee}; !reflect.DeepEqual(got.Legs, want) {
		t.Errorf("got %v, want %v", got.Legs, want)
	}
}

func TestPartialMetadataKeepsWhatItDoesNotName(t *testing.T) {
	first, err := ParseRecording([]byte(twoParties))
	if err != nil {
		t.Fatal(err)
	}
	update, err := ParseRecording([]byte(`<recording><datamode>partial</datamode>
<participant participant_id="p3"><nameID aor="sip:300@x"/></participant>
<participantsessionassoc participant_id="p2" session_id="s1"><disassociate-time>2026-01-05T10:05:00Z</disassociate-time></participantsessionassoc>
<participant participant_id="p2"/><participantstreamassoc participant_id="p3"><send>t2</send></participantstreamassoc></recording>`))
	if err != nil {
		t.Fatal(err)
	}
	all := first.Merge(update)
	if len(all.Participants) != 3 || len(all.Streams) != 2 || all.Session != "s1" {
		t.Fatalf("got %+v", all)
	}
	if p2 := all.Participants[1]; p2.Name != "Bank" || !reflect.DeepEqual(p2.Send, []string{"t2"}) {
		t.Errorf("the second party lost what was known: %+v", p2)
	}
	if len(first.Participants) != 2 {
		t.Error("the update changed the first document")
	}
	if whole := first.Merge(&Recording{}); len(whole.Participants) != 0 {
		t.Error("complete metadata kept what it does not name")
	}
}

// bad are documents that must be refused, and why.
var bad = map[string]string{
	"":                           "no XML elements",
	"v=0\r\no=- 1 1 IN IP4 x":    "no XML elements",
	"<recording><participant>":   "ends inside",
	"<recording></participant>":  "closes nothing",
	"<a b=>":                     "", // whatever the decoder says
	"<recording>\x00</recording": "",
	`<?xml version="1.0" encoding="UTF-16"?><recording/>`:                                                     "character set",
	`<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><recording><session session_id="&b;"/>`:         "document type",
	`<!DOCTYPE r SYSTEM "file:///etc/passwd"><recording/>`:                                                    "document type",
	strings.Repeat("<a>", maxDepth+1):                                                                         "nested deeper",
	"<r>" + strings.Repeat("<a/>", maxElements) + "</r>":                                                      "elements",
	"<r>" + strings.Repeat("<participant/>", maxObjects) + `<participant id="x"/></r>`:                        "",
	"<r>" + strings.Repeat(`<stream id="x"/>`, maxObjects+1) + "</r>":                                         "streams",
	"<r>" + strings.Repeat(" ", maxRecording) + "</r>":                                                        "limit",
	`<recording>&bomb;</recording>` + strings.Repeat(`<participant participant_id="&bomb;"/>`, 0) + `</oops>`: "closes nothing",
}

func TestBadMetadataIsRefused(t *testing.T) {
	for doc, why := range bad {
		if why == "" {
			continue
		}
		_, err := ParseRecording([]byte(doc))
		if !errors.Is(err, ErrMetadata) || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60q: error %v, want %q", doc, err, why)
		}
	}
}

func TestEntitiesAreNeverExpanded(t *testing.T) {
	r, err := ParseRecording([]byte(`<recording><session session_id="&bomb;&#65;&amp;"/></recording>`))
	if err != nil {
		t.Fatal(err)
	}
	if r.Session != "&bomb;A&" {
		t.Errorf("session id %q", r.Session)
	}
}

// Whatever the bytes, what comes out is bounded, and sides are found for as
// many lines as were asked for, without panic.
func FuzzRecording(f *testing.F) {
	for _, doc := range []string{twoParties, noStreams, nested, bare, oracle, mixed} {
		f.Add([]byte(doc), "96", true)
	}
	for doc := range bad {
		if len(doc) < 4096 {
			f.Add([]byte(doc), "1", false)
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte, label string, calleeFirst bool) {
		r, err := ParseRecording(doc)
		if err != nil {
			return
		}
		if len(r.Participants) > maxObjects || len(r.Streams) > maxObjects {
			t.Fatalf("%d participants, %d streams", len(r.Participants), len(r.Streams))
		}
		labels := []string{label, "2", ""}
		for n := range labels {
			s := r.Merge(r).Sides(labels[:n+1], Hints{CalleeFirst: calleeFirst})
			if len(s.Legs) != n+1 {
				t.Fatalf("%d legs for %d lines", len(s.Legs), n+1)
			}
			if n == 1 && s.Legs[0] == s.Legs[1] && s.Legs[0] != audio.Unknown {
				t.Fatalf("both lines are the %s's", s.Legs[0])
			}
		}
	})
}
