package whipsrc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// aboutHeader carries what is known of the call as JSON, for those who would
// rather not have it in a URL, where proxies log it.
const aboutHeader = "Callwarden-Call"

// about is that JSON. Query parameters of the same names count more.
type about struct {
	announce.Call
	// Leg is whose voice comes: caller or callee; or agent or customer, which
	// Direction makes one of them: who rings up is the customer, unless the
	// direction is outbound.
	Leg string `json:"leg,omitempty"`
	// Language is what is spoken, BCP 47.
	Language string `json:"language,omitempty"`
	// Listen is full or screen where the call is listened to in another way than
	// others.
	Listen string `json:"listen,omitempty"`
	// Stereo is legs where a stereo track has two legs: left that of Leg, or the
	// caller's, right the other's.
	Stereo string `json:"stereo,omitempty"`
	// Hypotheses wants the words as they come, before they are certain.
	Hypotheses bool `json:"hypotheses,omitempty"`
}

// publish is a publication as its request describes it.
type publish struct {
	about
	leg    audio.Leg
	role   string // agent or customer where it was said so
	stereo bool
}

// two reports whether the call may have another publication.
func (p *publish) two() bool { return p.Call.Call != "" && p.leg != audio.Unknown && !p.stereo }

var language = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}$`)

// parsePublish reads what a request says of the call.
func parsePublish(r *http.Request) (*publish, error) {
	p := &publish{}
	if text := r.Header.Get(aboutHeader); text != "" {
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&p.about); err != nil {
			return nil, fmt.Errorf("%s: must be JSON with the fields of a call: %s", aboutHeader, strings.TrimPrefix(err.Error(), "json: "))
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("the query is not URL-encoded")
	}
	for key, to := range map[string]*string{
		"call": &p.Call.Call, "tenant": &p.Tenant, "from": &p.From, "from_name": &p.FromName, "to": &p.To, "to_name": &p.ToName,
		"direction": &p.Direction, "trunk": &p.Trunk, "leg": &p.Leg, "language": &p.Language, "listen": &p.Listen, "stereo": &p.Stereo,
	} {
		if query.Has(key) {
			*to = query.Get(key)
			query.Del(key)
		}
	}
	for key, to := range map[string]**bool{"consent": &p.Consent, "announced": &p.Announced} {
		if query.Has(key) {
			v, err := strconv.ParseBool(query.Get(key))
			if err != nil {
				return nil, fmt.Errorf("%s: %.20q must be true or false", key, query.Get(key))
			}
			*to = &v
			query.Del(key)
		}
	}
	if query.Has("hypotheses") {
		if p.Hypotheses, err = strconv.ParseBool(query.Get("hypotheses")); err != nil {
			return nil, fmt.Errorf("hypotheses: %.20q must be true or false", query.Get("hypotheses"))
		}
		query.Del("hypotheses")
	}
	for key := range query {
		return nil, fmt.Errorf("%.40q is no parameter of a publication", key)
	}
	return p, p.check()
}

// check says which parameter is wrong, and finds whose voice it is.
func (p *publish) check() error {
	if err := p.Validate(); err != nil {
		return err
	}
	if p.Language != "" && !language.MatchString(p.Language) {
		return fmt.Errorf("language: %.40q must be a BCP 47 tag, such as en-US", p.Language)
	}
	if p.Listen != "" && p.Listen != "full" && p.Listen != "screen" {
		return fmt.Errorf("listen: %.40q must be full or screen", p.Listen)
	}
	switch p.Stereo {
	case "", "legs":
		p.stereo = p.Stereo != ""
	default:
		return fmt.Errorf("stereo: %.40q must be legs", p.Stereo)
	}
	switch outbound := p.Direction == "outbound"; p.Leg {
	case "agent", "customer":
		p.role, p.leg = p.Leg, audio.Caller
		if (p.Leg == "customer") == outbound {
			p.leg = audio.Callee
		}
	default:
		if !slices.Contains([]string{"", "caller", "callee", "unknown"}, p.Leg) {
			return fmt.Errorf("leg: %.40q must be caller, callee, agent or customer", p.Leg)
		}
		p.leg, _ = audio.ParseLeg(p.Leg) // one of the above
	}
	return nil
}
