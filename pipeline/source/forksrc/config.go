// Package forksrc takes live calls in from media servers that fork them over a
// WebSocket as bare 16-bit audio: FreeSWITCH with mod_audio_fork or
// mod_audio_stream, and jambonz with its listen verb. The first message says
// what the call is; see docs/mediastreams.md.
package forksrc

import (
	"errors"
	"fmt"

	"github.com/callwarden/callwarden/pipeline/source/websock"
)

// Name is the way in that calls and events carry.
const Name = "fork"

// Config says who may send calls, and what those are that do not say it.
type Config struct {
	Web websock.Config `yaml:",inline"`
	// RateHz and Mix are of audio about which neither the first message nor
	// the URL says anything.
	RateHz int    `yaml:"rate"`
	Mix    string `yaml:"mix"` // mono, mixed or stereo
	// Events sends each call's events to its peer, as JSON.
	Events bool `yaml:"events"`
	// Speak lets prompts into calls that do not say whether they can be: no,
	// json for playAudio messages, or stream for binary audio.
	Speak string `yaml:"speak"`
}

// DefaultConfig takes calls of this machine only.
func DefaultConfig() Config {
	return Config{Web: websock.DefaultConfig(), RateHz: 8000, Mix: mixMono, Events: true, Speak: speakNo}
}

// Rates that can be heard.
const (
	leastRateHz = 8000
	mostRateHz  = 48000
)

// What the channels are.
const (
	mixMono   = "mono"   // the party on whose side the call was forked
	mixMixed  = "mixed"  // both in one
	mixStereo = "stereo" // that party left, the other right
)

// Ways to speak into a call.
const (
	speakNo     = "no"
	speakJSON   = "json"
	speakStream = "stream"
)

func checkRate(rateHz int) error {
	if rateHz < leastRateHz || rateHz > mostRateHz {
		return fmt.Errorf("%d must be %d to %d Hz", rateHz, leastRateHz, mostRateHz)
	}
	return nil
}

func checkMix(mix string) error {
	switch mix {
	case mixMono, mixMixed, mixStereo:
		return nil
	}
	return fmt.Errorf("%.40q must be mono, mixed or stereo", mix)
}

func checkSpeak(speak string) error {
	switch speak {
	case speakNo, speakJSON, speakStream:
		return nil
	}
	return fmt.Errorf("%.40q must be no, json or stream", speak)
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	errs := []error{c.Web.Validate()}
	for _, f := range []struct {
		key string
		err error
	}{{"rate", checkRate(c.RateHz)}, {"mix", checkMix(c.Mix)}, {"speak", checkSpeak(c.Speak)}} {
		if f.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.key, f.err))
		}
	}
	return errors.Join(errs...)
}
