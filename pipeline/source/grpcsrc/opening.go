package grpcsrc

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// opening is what a client says of its call, checked.
type opening struct {
	announce.Call
	language string
	legs     []audio.Leg
	rateHz   int
	encoding callwardenv1.AudioEncoding
	wants    *callwardenv1.CallWants
}

var codecs = map[callwardenv1.AudioEncoding]string{
	callwardenv1.AudioEncoding_AUDIO_ENCODING_LINEAR16: "L16",
	callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMU:     "PCMU",
	callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA:     "PCMA",
}

const maxText = 256 // bytes

// parseOpen says which field is wrong and what it must be.
func parseOpen(o *callwardenv1.CallOpen) (out opening, err error) {
	out = opening{
		Call: announce.Call{
			Call: o.GetId(), Tenant: o.GetTenant(),
			From: o.GetFrom(), FromName: o.GetFromName(), To: o.GetTo(), ToName: o.GetToName(),
			Direction: o.GetDirection(), Trunk: o.GetTrunk(), Consent: o.Consent, Announced: o.Announced,
			Attributes: o.GetAttributes(),
		},
		language: o.GetLanguage(), rateHz: int(o.GetRateHz()), encoding: o.GetEncoding(), wants: o.GetWants(),
	}
	if err := out.Validate(); err != nil {
		return out, refuse(optionRefused, "%v", err)
	}
	if !isLanguage(out.language) {
		return out, refuse(optionRefused, "language: %.40q must be a BCP 47 tag, such as en-US", out.language)
	}
	if out.encoding == callwardenv1.AudioEncoding_AUDIO_ENCODING_UNSPECIFIED {
		out.encoding = callwardenv1.AudioEncoding_AUDIO_ENCODING_LINEAR16
	}
	if codecs[out.encoding] == "" {
		return out, refuse(optionRefused, "encoding: %d must be LINEAR16, PCMU or PCMA", out.encoding)
	}
	// Other rates would need filters of megabytes to be brought to a model's.
	if hz := out.rateHz; hz < 8000 || hz > 48000 || hz%1000 != 0 && hz%11025 != 0 {
		return out, refuse(optionRefused, "rate_hz: %d must be 8000 to 48000, and a multiple of 1000 or of 11025", hz)
	}
	if out.legs, err = parseLegs(o.GetLegs()); err != nil {
		return out, err
	}
	return out, nil
}

func parseLegs(legs []callwardenv1.Leg) (out []audio.Leg, err error) {
	if len(legs) == 0 {
		return []audio.Leg{audio.Caller, audio.Callee}, nil
	}
	for _, l := range legs {
		leg := audio.Leg(l)
		if l < 0 || l > callwardenv1.Leg_LEG_CALLEE || slices.Contains(out, leg) || leg == audio.Unknown && len(legs) > 1 {
			return nil, refuse(optionRefused, "legs: they must be LEG_CALLER and LEG_CALLEE, one of these, or LEG_UNSPECIFIED alone")
		}
		out = append(out, leg)
	}
	slices.Sort(out)
	return out, nil
}

// attributes are the facts of the call for events.
func (o *opening) attributes() map[string]string {
	a := map[string]string{"codec": codecs[o.encoding]}
	o.Describe(a)
	return a
}

// call is the call as a handler gets it.
func (o *opening) call() *source.Call {
	return &source.Call{
		ID: o.Call.Call, Tenant: o.Tenant, Source: Name, Legs: o.legs, Attributes: o.attributes(),
		Live: true, Language: o.language, Hypotheses: o.wants.GetHypotheses(),
	}
}

// isLanguage reports whether s looks like a BCP 47 tag, or is empty.
func isLanguage(s string) bool {
	if len(s) > 35 {
		return false
	}
	for part := range strings.SplitSeq(s, "-") {
		if len(part) > 8 || part == "" && s != "" || strings.ContainsFunc(part, func(r rune) bool {
			return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}) {
			return false
		}
	}
	return true
}

// checkText says what is wrong with a text of a client's.
func checkText(field, s string) error {
	if len(s) > maxText {
		return refuse(optionRefused, "%s: %d bytes must be at most %d", field, len(s), maxText)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return refuse(optionRefused, "%s: must be text without control characters", field)
	}
	return nil
}
