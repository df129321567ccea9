package twiliosrc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/callwarden/callwarden/transcribe/audio"
)

func little(pcm []int16) (b []byte) {
	for _, v := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return b
}

func big(pcm []int16) (b []byte) {
	for _, v := range pcm {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return b
}

// script sends 20 pieces of 20 ms of each track's tone.
func script(p *peer, rate int, tracks []string, encode func([]int16) []byte, media func(track string, chunk, stamp int, payload string) string) (sent map[string][]int16) {
	sent = make(map[string][]int16)
	each := rate / 50
	tones := map[string][]int16{}
	for i, track := range tracks {
		tones[track] = sine(float64(300+200*i), rate, 20*each)
	}
	for n := range 20 {
		for _, track := range tracks {
			part := tones[track][n*each : (n+1)*each]
			sent[track] = append(sent[track], part...)
			p.send(media(track, n+1, n*20, b64(encode(part))))
		}
	}
	return sent
}

func TestDialectsAreHeard(t *testing.T) {
	for _, c := range []struct {
		name   string
		query  string
		first  []string
		tracks []string
		rate   int
		encode func([]int16) []byte
		media  func(track string, chunk, stamp int, payload string) string
		last   string
		within int

		id    string
		legs  []audio.Leg
		attrs map[string]string
	}{
		{
			name:   "Twilio, both tracks",
			first:  []string{`{"event":"connected","protocol":"Call","version":"1.0.0"}`, twilioStart},
			tracks: []string{"inbound", "outbound"}, rate: 8000, within: 300,
			encode: func(pcm []int16) []byte { return audio.MuLaw.Encode(nil, pcm) },
			media: func(track string, chunk, stamp int, payload string) string {
				return fmt.Sprintf(`{"event":"media","sequenceNumber":"%d","media":{"track":"%s","chunk":"%d","timestamp":"%d","payload":"%s"},"streamSid":"MZ1"}`, 2*chunk, track, chunk, stamp, payload)
			},
			last: `{"event":"stop","sequenceNumber":"45","stop":{"accountSid":"AC1","callSid":"CA1"},"streamSid":"MZ1"}`,
			id:   "CA1", legs: []audio.Leg{audio.Caller, audio.Callee},
			attrs: map[string]string{"from": "+12025550123", "queue_name": "fraud", "codec": "PCMU/8000", "dialect": "twilio"},
		},
		{
			name: "Twilio, one track of a call that we have placed",
			first: []string{`{"event":"connected","protocol":"Call","version":"1.0.0"}`, `{"event":"start","sequenceNumber":"1","start":{"streamSid":"MZ1","callSid":"CA1","tracks":["inbound"],` +
				`"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{"direction":"outbound-api","call":"mine","language":"en-GB"}},"streamSid":"MZ1"}`},
			tracks: []string{"inbound"}, rate: 8000, within: 300,
			encode: func(pcm []int16) []byte { return audio.MuLaw.Encode(nil, pcm) },
			media: func(track string, chunk, stamp int, payload string) string {
				return fmt.Sprintf(`{"event":"media","sequenceNumber":"%d","media":{"track":"%s","chunk":"%d","timestamp":"%d","payload":"%s"},"streamSid":"MZ1"}`, chunk, track, chunk, stamp, payload)
			},
			last: `{"event":"stop","streamSid":"MZ1"}`,
			id:   "mine", legs: []audio.Leg{audio.Callee},
			attrs: map[string]string{"direction": "outbound", "codec": "PCMU/8000", "dialect": "twilio"},
		},
		{
			name: "Telnyx, tracks not told, L16 at 16 kHz, high byte first",
			first: []string{
				`{"event":"connected","version":"1.0.0"}`,
				`{"event":"start","sequence_number":"1","start":{"user_id":"u","call_control_id":"v2:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJiSw8d6A9BborherQ","call_session_id":"ada0e4f0","from":"+13122010094","to":"+13122123456","custom_parameters":{"consent":true},"media_format":{"encoding":"L16","sample_rate":16000,"channels":1}},"stream_id":"32DE0DEA"}`,
			},
			tracks: []string{"inbound", "outbound"}, rate: 16000, encode: big,
			media: func(track string, chunk, stamp int, payload string) string {
				return fmt.Sprintf(`{"event":"media","sequence_number":"%d","media":{"track":"%s","chunk":"%d","timestamp":"%d","payload":"%s"},"stream_id":"32DE0DEA"}`, 2*chunk, track, chunk, stamp, payload)
			},
			last: `{"event":"stop","sequence_number":"5","stop":{"user_id":"u","call_control_id":"v2:T02"},"stream_id":"32DE0DEA"}`,
			id:   "ada0e4f0", legs: []audio.Leg{audio.Caller, audio.Callee},
			attrs: map[string]string{"from": "+13122010094", "to": "+13122123456", "consent": "true", "codec": "L16/16000", "dialect": "telnyx"},
		},
		{
			name: "Telnyx, PCMA, numbers as numbers, parameters in the query", query: "?from=%2B49301&direction=inbound",
			first: []string{
				`{"event":"connected","version":"1.0.0"}`,
				`{"event":"start","sequence_number":1,"start":{"call_control_id":"v2:T02","media_format":{"encoding":"PCMA","sample_rate":"8000","channels":1}},"stream_id":"32DE0DEA"}`,
			},
			tracks: []string{"inbound"}, rate: 8000, within: 300,
			encode: func(pcm []int16) []byte { return audio.ALaw.Encode(nil, pcm) },
			media: func(track string, chunk, stamp int, payload string) string {
				return fmt.Sprintf(`{"event":"media","sequence_number":%d,"media":{"track":"%s","chunk":%d,"timestamp":%d,"payload":"%s"},"stream_id":"32DE0DEA"}`, chunk, track, chunk, stamp, payload)
			},
			last: `{"event":"stop","stream_id":"32DE0DEA"}`,
			id:   "v2-T02", legs: []audio.Leg{audio.Caller},
			attrs: map[string]string{"from": "+49301", "direction": "inbound", "codec": "PCMA/8000", "dialect": "telnyx"},
		},
		{
			name: "Exotel, one unnamed track, L16",
			first: []string{
				`{"event":"connected"}`,
				`{"event":"start","sequence_number":"1","stream_sid":"S1","start":{"stream_sid":"S1","call_sid":"C1","account_sid":"A1","from":"09999999999","to":"08888888888","custom_parameters":{"FirstName":"x"},"media_format":{"encoding":"base64","sample_rate":"8000","bit_rate":"128kbps"}}}`,
			},
			tracks: []string{""}, rate: 8000, encode: little,
			media: func(_ string, chunk, stamp int, payload string) string {
				return fmt.Sprintf(`{"event":"media","sequence_number":"%d","stream_sid":"S1","media":{"chunk":"%d","timestamp":"%d","payload":"%s"}}`, chunk+1, chunk, stamp, payload)
			},
			last: `{"event":"stop","sequence_number":"9","stream_sid":"S1","stop":{"call_sid":"C1","reason":"callended"}}`,
			id:   "C1", legs: []audio.Leg{audio.Caller},
			attrs: map[string]string{"from": "09999999999", "to": "08888888888", "first_name": "x", "codec": "L16/8000", "dialect": "exotel"},
		},
		{
			name: "SignalWire, L16 at 24 kHz, no stamps, caller named", query: "",
			first: []string{
				`{"event":"connected","protocol":"Call","version":"0.2.0"}`,
				`{"event":"start","sequenceNumber":"1","start":{"streamSid":"c0c7d59b","callSid":"e53d2a1c","tracks":["both_tracks"],"customParameters":{"caller_track":"outbound_track"},"mediaFormat":{"encoding":"L16@24000h","sampleRate":24000,"channels":1}},"streamSid":"c0c7d59b"}`,
			},
			tracks: []string{"inbound", "outbound"}, rate: 24000, encode: little,
			media: func(track string, chunk, stamp int, payload string) string {
				return fmt.Sprintf(`{ "event" : "media", "extra": null, "media": {"track":"%s", "payload":"%s"} }`, track, payload)
			},
			last: `{"event":"stop"}`,
			id:   "e53d2a1c", legs: []audio.Leg{audio.Callee, audio.Caller},
			attrs: map[string]string{"codec": "L16/24000", "dialect": "twilio"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := serve(t, nil, nil)
			p := n.dial(c.query)
			p.send(c.first...)
			sent := script(p, c.rate, c.tracks, c.encode, c.media)
			p.send(c.last)
			if status, reason := p.ended(); status != 1000 {
				t.Errorf("closed with %d %s", status, reason)
			}
			h := <-n.calls
			if !errors.Is(h.end, io.EOF) {
				t.Errorf("ended with %v", h.end)
			}
			if h.call.ID != c.id || !slices.Equal(h.call.Legs, c.legs) || h.call.Tenant != "default" || !h.call.Live {
				t.Errorf("call %s of %s with legs %v", h.call.ID, h.call.Tenant, h.call.Legs)
			}
			if !maps.Equal(h.call.Attributes, c.attrs) {
				t.Errorf("attributes %v, want %v", h.call.Attributes, c.attrs)
			}
			for i, track := range c.tracks {
				got, want := h.pcm(c.legs[i]), sent[track]
				if !same(got, want, c.within) {
					t.Errorf("track %q: %d samples of %d, or others than were sent", track, len(got), len(want))
				}
			}
			if st := n.Stats(); st.Packets != uint64(20*len(c.tracks)) || st.Lost+st.Late+st.Malformed+st.Unplaced > 0 || st.Calls+st.Legs > 0 {
				t.Errorf("counted %+v", st)
			}
		})
	}
}
