package whipsrc

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/pion/webrtc/v4"
)

const (
	maxFragment   = 16 << 10 // bytes of a PATCH
	maxCandidates = 64       // of one, and of a publication in all
)

// fragment is the body of a PATCH, application/trickle-ice-sdpfrag (RFC 8840
// section 9).
type fragment struct {
	ufrag, pwd string
	candidates []candidate
}

type candidate struct{ mid, text string }

// Characters of ICE credentials, RFC 8839 section 5.4.
var iceChars = regexp.MustCompile(`^[A-Za-z0-9+/]+$`)

var errFragment = errors.New("no trickle-ice-sdpfrag")

// parseFragment reads a fragment. What it returns has credentials of legal
// characters and length, or none, and at most maxCandidates candidates on one
// line each.
func parseFragment(body []byte) (*fragment, error) {
	if len(body) > maxFragment {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", errFragment, len(body), maxFragment)
	}
	f := &fragment{}
	mid, lines := "", 0
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(line) < 2 || line[1] != '=' {
			return nil, fmt.Errorf("%w: line %d is not TYPE=VALUE", errFragment, lines+1)
		}
		lines++
		if strings.ContainsFunc(line, unicode.IsControl) {
			return nil, fmt.Errorf("%w: line %d has control characters", errFragment, lines)
		}
		name, value, _ := strings.Cut(line[2:], ":")
		if line[0] == 'm' {
			mid = ""
		}
		if line[0] != 'a' {
			continue
		}
		switch name {
		case "mid":
			mid = value
		case "ice-ufrag":
			f.ufrag = value
		case "ice-pwd":
			f.pwd = value
		case "candidate":
			if len(f.candidates) == maxCandidates {
				return nil, fmt.Errorf("%w: more than %d candidates", errFragment, maxCandidates)
			}
			f.candidates = append(f.candidates, candidate{mid, line[2:]})
		}
	}
	switch {
	case lines == 0:
		return nil, fmt.Errorf("%w: it is empty", errFragment)
	case (f.ufrag == "") != (f.pwd == ""):
		return nil, fmt.Errorf("%w: ice-ufrag and ice-pwd come together", errFragment)
	case f.ufrag != "" && (len(f.ufrag) < 4 || len(f.ufrag) > 256 || !iceChars.MatchString(f.ufrag)):
		return nil, fmt.Errorf("%w: ice-ufrag must be 4 to 256 letters, digits, + or /", errFragment)
	case f.pwd != "" && (len(f.pwd) < 22 || len(f.pwd) > 256 || !iceChars.MatchString(f.pwd)):
		return nil, fmt.Errorf("%w: ice-pwd must be 22 to 256 letters, digits, + or /", errFragment)
	}
	return f, nil
}

// credentials are the first ICE ones of a description.
func credentials(text string) (ufrag, pwd string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "a=ice-ufrag:"); ok && ufrag == "" {
			ufrag = v
		}
		if v, ok := strings.CutPrefix(line, "a=ice-pwd:"); ok && pwd == "" {
			pwd = v
		}
	}
	return ufrag, pwd
}

// renew is the offer text with the credentials and candidates of f in place of
// its own: what a client that restarts ICE would offer, RFC 9725 section 4.3.3.
func renew(text string, f *fragment) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "a=candidate:"), strings.HasPrefix(line, "a=end-of-candidates"):
			continue
		case strings.HasPrefix(line, "a=ice-ufrag:"):
			line = "a=ice-ufrag:" + f.ufrag
		case strings.HasPrefix(line, "a=ice-pwd:"):
			line = "a=ice-pwd:" + f.pwd
		}
		b.WriteString(line)
		b.WriteString("\r\n")
	}
	return b.String()
}

// write is the answer to a restart: the first m= section's ICE lines of the
// description that is ours now.
func write(description string) string {
	var session, first strings.Builder
	sections := 0
	for line := range strings.Lines(description) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "m=") {
			if sections++; sections > 1 {
				break
			}
			// As RFC 8840 section 9 has it: the port and format mean nothing.
			first.WriteString("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n")
			continue
		}
		to := &first
		if sections == 0 {
			to = &session
		}
		for _, keep := range []string{"a=ice-", "a=mid:", "a=candidate:", "a=end-of-candidates"} {
			if strings.HasPrefix(line, keep) {
				to.WriteString(line + "\r\n")
			}
		}
	}
	return session.String() + first.String()
}

// init is the candidate as the library takes it.
func (c candidate) init(ufrag string) webrtc.ICECandidateInit {
	init := webrtc.ICECandidateInit{Candidate: c.text, UsernameFragment: &ufrag}
	if c.mid != "" {
		init.SDPMid = &c.mid
	}
	return init
}
