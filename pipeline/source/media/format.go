// Package media takes the sound of live calls out of RTP packets.
//
// A [Track] is the arithmetic of one stream: packets and the times at which
// they came go in, frames come out, and the same packets always give the same
// frames. A [Session] is the sockets of one live call, with a track for each of
// its streams; [Ports] is the range of ports that sessions share.
package media

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrCodec says that a format cannot be heard. The error that wraps it names
// the format and what can be.
var ErrCodec = errors.New("codec not supported")

// Format is one payload type of an RTP stream, as an SDP a=rtpmap line or
// RFC 3551 says it.
type Format struct {
	PayloadType uint8  // 0 to 127
	Encoding    string // such as PCMU; case does not matter
	ClockHz     int    // of the timestamps; of the audio see RateHz
	Channels    int    // 0 counts as 1
	Params      string // of a=fmtp
}

// Kind is what a format carries.
type Kind uint8

const (
	Audio  Kind = iota // sound
	Noise              // comfort noise, RFC 3389
	Events             // keypad digits, RFC 4733
)

// Channel is what is heard of a stream that may have two channels. Of one that
// has one it makes no difference.
type Channel uint8

const (
	Mixed Channel = iota // their mean
	Left
	Right
)

// one is what is heard of a sample of both channels.
func (c Channel) one(left, right int16) int16 {
	switch c {
	case Left:
		return left
	case Right:
		return right
	}
	return int16((int(left) + int(right)) / 2)
}

// DynamicFrom is the first payload type that means nothing without a
// description of the stream, RFC 3551 section 6.
const DynamicFrom = 96

// static are the payload types with a fixed meaning, RFC 3551 table 4. Those
// that cannot be heard are here to be refused by name.
var static = [...]Format{
	0:  {Encoding: "PCMU", ClockHz: 8000},
	3:  {Encoding: "GSM", ClockHz: 8000},
	4:  {Encoding: "G723", ClockHz: 8000},
	5:  {Encoding: "DVI4", ClockHz: 8000},
	6:  {Encoding: "DVI4", ClockHz: 16000},
	7:  {Encoding: "LPC", ClockHz: 8000},
	8:  {Encoding: "PCMA", ClockHz: 8000},
	9:  {Encoding: "G722", ClockHz: 8000},
	10: {Encoding: "L16", ClockHz: 44100, Channels: 2},
	11: {Encoding: "L16", ClockHz: 44100},
	12: {Encoding: "QCELP", ClockHz: 8000},
	13: {Encoding: "CN", ClockHz: 8000},
	14: {Encoding: "MPA", ClockHz: 90000},
	15: {Encoding: "G728", ClockHz: 8000},
	16: {Encoding: "DVI4", ClockHz: 11025},
	17: {Encoding: "DVI4", ClockHz: 22050},
	18: {Encoding: "G729", ClockHz: 8000},
	19: {Encoding: "CN", ClockHz: 8000}, // reserved now; old gateways send it
}

// Static returns what a payload type means without any description, and false
// for those that mean nothing.
func Static(payloadType uint8) (Format, bool) {
	if int(payloadType) >= len(static) || static[payloadType].Encoding == "" {
		return Format{}, false
	}
	f := static[payloadType]
	f.PayloadType, f.Channels = payloadType, max(1, f.Channels)
	return f, true
}

// StaticFormats are all formats that can be heard without a description.
func StaticFormats() []Format {
	var all []Format
	for pt := range static {
		if f, ok := Static(uint8(pt)); ok && f.Check() == nil {
			all = append(all, f)
		}
	}
	return all
}

// ParseFormat reads what a=rtpmap says after the payload type:
// ENCODING/CLOCK or ENCODING/CLOCK/CHANNELS, such as opus/48000/2.
func ParseFormat(payloadType int, rtpmap string) (Format, error) {
	if payloadType < 0 || payloadType > 127 {
		return Format{}, fmt.Errorf("payload type %d must be from 0 to 127", payloadType)
	}
	encoding, rest, ok := strings.Cut(strings.TrimSpace(rtpmap), "/")
	if !ok || encoding == "" {
		return Format{}, fmt.Errorf("format %q must be ENCODING/CLOCK, such as PCMU/8000", rtpmap)
	}
	clock, channels, stereo := strings.Cut(rest, "/")
	f := Format{PayloadType: uint8(payloadType), Encoding: encoding, Channels: 1}
	var err error
	if f.ClockHz, err = strconv.Atoi(clock); err != nil || f.ClockHz < 1 {
		return Format{}, fmt.Errorf("format %q: clock %q must be a number of Hz", rtpmap, clock)
	}
	if stereo {
		if f.Channels, err = strconv.Atoi(channels); err != nil || f.Channels < 1 {
			return Format{}, fmt.Errorf("format %q: channels %q must be a number from 1", rtpmap, channels)
		}
	}
	return f, nil
}

func (f Format) String() string {
	if f.Channels > 1 {
		return fmt.Sprintf("%s/%d/%d", f.Encoding, f.ClockHz, f.Channels)
	}
	return fmt.Sprintf("%s/%d", f.Encoding, f.ClockHz)
}

// Is reports whether f has the encoding of that name.
func (f Format) Is(encoding string) bool { return strings.EqualFold(f.Encoding, encoding) }

// Kind is what f carries; Audio too for what cannot be heard.
func (f Format) Kind() Kind {
	switch {
	case f.Is("CN"):
		return Noise
	case f.Is("telephone-event"):
		return Events
	}
	return Audio
}

const (
	minRateHz, maxRateHz = 8000, 48000 // what the front end of a recogniser takes
	wideHz               = 16000       // what speech is worth: Opus and G.722 are heard so
)

// RateHz is the sample rate at which f is heard; 0 for what is no audio. That
// of G.722 is twice its clock, by an old mistake that RFC 3551 section 4.5.2
// keeps.
func (f Format) RateHz() int {
	switch {
	case f.Kind() != Audio:
		return 0
	case f.Is("G722"), f.Is("opus"):
		return wideHz
	}
	return f.ClockHz
}

// Check returns nil where f can be taken in, else an error wrapping [ErrCodec]
// that names it.
func (f Format) Check() error {
	ok := false
	switch {
	case f.Is("PCMU"), f.Is("PCMA"):
		ok = f.ClockHz >= minRateHz && f.ClockHz <= maxRateHz && f.Channels <= 1
	case f.Is("G722"):
		// Some stamp it at the rate of the audio and say so.
		ok = (f.ClockHz == 8000 || f.ClockHz == 16000) && f.Channels <= 1
	case f.Is("opus"):
		ok = f.ClockHz == 48000
	case f.Is("L16"):
		ok = f.ClockHz >= minRateHz && f.ClockHz <= maxRateHz && f.Channels <= 2
	case f.Kind() == Noise, f.Kind() == Events:
		ok = f.ClockHz > 0
	default:
		return fmt.Errorf("%s is not supported: send PCMU, PCMA, G722, opus or L16: %w", f.Encoding, ErrCodec)
	}
	if !ok {
		return fmt.Errorf("%s is not supported: of %s only PCMU/8000, PCMA/8000, G722/8000, opus/48000/2, "+
			"L16 of 8000 to 48000 Hz with 1 or 2 channels: %w", f, f.Encoding, ErrCodec)
	}
	return nil
}
