package whipsrc

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/pipeline/source/sdp"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	maxOffer  = 64 << 10 // bytes of an SDP offer; Chromium's are 3 to 7 kB
	maxAudio  = 2        // audio m= lines: the legs of a call
	maxLines  = 16       // m= lines in all, which is what the parser takes
	maxNaming = 8        // codecs that an error names
)

// refusal is why a request is not done, with the status that says so.
type refusal struct {
	status int
	why    error
}

func (r *refusal) Error() string { return r.why.Error() }
func (r *refusal) Unwrap() error { return r.why }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Errorf(format, args...)}
}

// offer is what a publication is going to send.
type offer struct {
	text    string
	audio   []section
	channel bool // there is an m= line for data channels
}

// section is an m= line with audio.
type section struct {
	mid     string
	formats []media.Format // those that can be heard
	spoken  string         // codec in which we can answer with sound; empty for none
}

// parseOffer reads an SDP offer (RFC 9725 section 4.2). Its errors are refusals
// with the status that the RFC has for them.
func parseOffer(body []byte) (*offer, *refusal) {
	text := string(body)
	lines, tracks := count(text)
	switch {
	case tracks > maxAudio:
		return nil, refuse(http.StatusNotAcceptable, "the offer has %d audio tracks: a call has one or two", tracks)
	case lines > maxLines:
		return nil, refuse(http.StatusNotAcceptable, "the offer has %d m= lines, at most %d are taken", lines, maxLines)
	}
	said, err := sdp.Parse(body)
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, err}
	}
	o := &offer{text: text}
	for i := range said.Media {
		m := &said.Media[i]
		switch m.Kind {
		case "application":
			o.channel = o.channel || strings.Contains(strings.ToUpper(m.Proto), "SCTP")
		case "audio":
			s, no := audioSection(m)
			if no != nil {
				return nil, no
			}
			o.audio = append(o.audio, s)
		}
	}
	if len(o.audio) == 0 {
		return nil, refuse(http.StatusNotAcceptable, "the offer has no audio track: a call has one or two")
	}
	return o, nil
}

// count are the m= lines of a description, and those of audio.
func count(text string) (lines, audio int) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "m=") {
			lines++
		}
		if strings.HasPrefix(line, "m=audio ") {
			audio++
		}
	}
	return lines, audio
}

// audioSection reads an m= line with audio.
func audioSection(m *sdp.Media) (section, *refusal) {
	s := section{mid: m.Mid}
	var names []string
	heard := false
	for _, f := range m.Formats {
		if f.Check() != nil {
			names = append(names, f.Encoding)
			continue
		}
		s.formats = append(s.formats, f)
		heard = heard || f.Kind() == media.Audio
		if m.Direction == sdp.SendRecv && s.spoken == "" {
			s.spoken = spoken(f)
		}
	}
	switch {
	case !m.Direction.Sends():
		return s, refuse(http.StatusUnprocessableEntity, "the offer's audio is %s: a publication is sendonly or sendrecv", m.Direction)
	case !heard && len(names) > maxNaming:
		names = names[:maxNaming]
		fallthrough
	case !heard:
		return s, refuse(http.StatusNotAcceptable, "none of the offer's codecs can be heard (%s): offer opus, G722, PCMU or PCMA", strings.Join(names, ", "))
	case !m.DTLS:
		return s, refuse(http.StatusUnprocessableEntity, "the offer has no a=fingerprint: WHIP is WebRTC, with keys by DTLS")
	}
	return s, nil
}

// spoken is the codec of a format that we can write, by its MIME type; empty for
// others. There is no Opus encoder.
func spoken(f media.Format) string {
	switch {
	case f.Is("G722"):
		return mimeG722
	case f.Is("PCMU"):
		return mimePCMU
	case f.Is("PCMA"):
		return mimePCMA
	}
	return ""
}

var errStereo = errors.New("stereo=legs takes an offer with one audio track")

// voices are the legs that the tracks bring: one for a track, or two of its
// channels.
func (o *offer) voices(p *publish) ([]voice, error) {
	leg := p.leg
	if len(o.audio) == 2 || p.stereo {
		if leg == audio.Unknown {
			leg = audio.Caller
		}
	}
	switch {
	case p.stereo && len(o.audio) != 1:
		return nil, errStereo
	case p.stereo:
		return []voice{{leg, 0, media.Left}, {leg.Other(), 0, media.Right}}, nil
	case len(o.audio) == 2:
		return []voice{{leg, 0, media.Mixed}, {leg.Other(), 1, media.Mixed}}, nil
	}
	return []voice{{leg, 0, media.Mixed}}, nil
}

// voice is where a leg comes from.
type voice struct {
	leg     audio.Leg
	section int
	channel media.Channel
}
