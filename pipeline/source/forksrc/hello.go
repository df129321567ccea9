package forksrc

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// fork is what is known of a call when its audio begins.
type fork struct {
	about  websock.About
	rateHz int
	mix    string
	speak  string
	outHz  int // rate of prompts that are streamed
}

// Keys that are for us, without case, - and _.
const (
	keyRate    = "samplerate"
	keyRate2   = "rate"
	keyMix     = "mixtype"
	keyMix2    = "mix"
	keyChannel = "channels"
	keyCallSID = "callsid"
	keyCallID  = "callid"
	keyUUID    = "uuid"
	keyCaller  = "callerchannel"
	keyLeg     = "leg"
	keySpeak   = "speak"
	keyOutRate = "speakrate"
)

var errNotObject = errors.New("the metadata are no JSON object")

// parseHello reads the first message, which may be missing or be text that is
// no JSON, as FreeSWITCH sends whatever it is told to; then the URL's query is
// all there is to know. JSON that is broken is an error.
func parseHello(first []byte, query url.Values, cfg Config) (*fork, error) {
	f := &fork{about: websock.About{Other: make(map[string]string)}}
	for _, key := range []string{
		keyRate, keyRate2, keyMix, keyMix2, keyChannel, keyCallSID, keyCallID, keyUUID, keyCaller, keyLeg, keySpeak, keyOutRate, "token",
	} {
		f.about.Other[key] = ""
	}
	said, err := metadata(first)
	if err != nil {
		return nil, err
	}
	f.about.SetAll(said)
	for _, name := range slices.Sorted(maps.Keys(query)) {
		f.about.Set(name, query.Get(name))
	}
	if err := f.format(cfg); err != nil {
		return nil, err
	}
	return f, nil
}

// metadata are the members of the first message and of those objects in it that
// jambonz and others put their users' words into.
func metadata(first []byte) (map[string]string, error) {
	all := make(map[string]string)
	text := strings.TrimSpace(string(first))
	if !strings.HasPrefix(text, "{") {
		if text != "" && text[0] == '[' {
			return nil, errNotObject
		}
		return all, nil
	}
	var raw map[string]any
	if json.Unmarshal([]byte(text), &raw) != nil {
		// FreeSWITCH's dialplan has commas and quotes of its own, so people
		// write single ones.
		if json.Unmarshal([]byte(strings.ReplaceAll(text, "'", `"`)), &raw) != nil {
			return nil, errNotObject // the library's error quotes the message
		}
	}
	set := func(key string, value any) {
		switch v := value.(type) {
		case string:
			all[key] = v
		case bool:
			all[key] = strconv.FormatBool(v)
		case float64:
			all[key] = strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	for key, value := range raw {
		if inner, ok := value.(map[string]any); ok {
			for _, name := range []string{"metadata", "customerdata", "customparameters"} {
				if strings.EqualFold(strings.ReplaceAll(key, "_", ""), name) {
					for k, v := range inner {
						if _, twice := raw[k]; !twice {
							set(k, v)
						}
					}
				}
			}
			continue
		}
		set(key, value)
	}
	return all, nil
}

// format is what the audio is.
func (f *fork) format(cfg Config) error {
	of := func(keys ...string) string {
		for _, k := range keys {
			if v := f.about.Other[k]; v != "" {
				return strings.ToLower(v)
			}
		}
		return ""
	}
	var err error
	f.rateHz = cfg.RateHz
	if said := of(keyRate, keyRate2); said != "" {
		if f.rateHz, err = rate(said); err != nil {
			return fmt.Errorf("sampleRate: %w", err)
		}
	}
	f.mix = cfg.Mix
	switch said, channels := of(keyMix, keyMix2), of(keyChannel); {
	case said != "":
		f.mix = said
	case channels == "2":
		f.mix = mixStereo
	case channels == "1" && f.mix == mixStereo:
		f.mix = mixMono
	}
	if err := checkMix(f.mix); err != nil {
		return fmt.Errorf("mixType: %w", err)
	}
	f.speak, f.outHz = cfg.Speak, f.rateHz
	if said := of(keySpeak); said != "" {
		f.speak = said
		if err := checkSpeak(f.speak); err != nil {
			return fmt.Errorf("speak: %w", err)
		}
	}
	if said := of(keyOutRate); said != "" {
		if f.outHz, err = rate(said); err != nil {
			return fmt.Errorf("speak_rate: %w", err)
		}
	}
	return nil
}

// rate reads 16000, 16k or 16kHz.
func rate(s string) (int, error) {
	digits, thousands := strings.CutSuffix(strings.TrimSuffix(s, "hz"), "k")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("%.40q must be a number of Hz", s)
	}
	if thousands {
		n *= 1000
	}
	return n, checkRate(n)
}

// legs are whose voices the channels are. The first is the party on whose side
// the call is forked: the caller, unless the call is outbound. The parameters
// caller_channel (0 or 1) and leg override that.
func (f *fork) legs() []audio.Leg {
	first := audio.Caller
	if f.about.Direction == "outbound" {
		first = audio.Callee
	}
	if leg, err := audio.ParseLeg(f.about.Other[keyLeg]); err == nil && leg != audio.Unknown {
		first = leg
	}
	switch f.about.Other[keyCaller] {
	case "0", "left":
		first = audio.Caller
	case "1", "right":
		first = audio.Callee
	}
	switch f.mix {
	case mixStereo:
		return []audio.Leg{first, first.Other()}
	case mixMixed:
		return []audio.Leg{audio.Unknown}
	}
	return []audio.Leg{first}
}
