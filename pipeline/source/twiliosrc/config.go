// Package twiliosrc takes live calls in from Twilio Media Streams and from
// whatever else speaks its protocol: Telnyx, SignalWire, Exotel. They send JSON
// over a WebSocket, with the audio in base64; which of them it is shows in the
// spelling. See docs/mediastreams.md.
package twiliosrc

import (
	"errors"
	"fmt"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/websock"
)

// Name is the way in that calls and events carry.
const Name = "twilio"

// Config says who may send calls and how they are heard.
type Config struct {
	Web websock.Config `yaml:",inline"`
	// Accounts are those whose signature lets in.
	Accounts []Account `yaml:"accounts"`
	// Window is how long a message that is missing is waited for.
	Window time.Duration `yaml:"window"`
	// Speak says in which encoding streams can be spoken into that do not say
	// so themselves: no, same as what comes, or one such as PCMU/8000.
	Speak string `yaml:"speak"`
}

// Account is a Twilio account.
type Account struct {
	AuthTokenFile string `yaml:"auth_token_file"`
	Tenant        string `yaml:"tenant"` // whose calls its streams are; empty for any
}

// DefaultConfig takes streams of this machine only.
func DefaultConfig() Config {
	return Config{Web: websock.DefaultConfig(), Window: 200 * time.Millisecond, Speak: speakNo}
}

// Values of speak that are no encoding.
const (
	speakNo   = "no"
	speakSame = "same"
)

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	errs := []error{c.Web.Validate()}
	for i, a := range c.Accounts {
		if a.AuthTokenFile == "" {
			errs = append(errs, fmt.Errorf("accounts[%d].auth_token_file: must name the file that holds the token", i))
		}
		if a.Tenant != "" && !announce.IsToken(a.Tenant) {
			errs = append(errs, fmt.Errorf("accounts[%d].tenant: %q must be 1 to 128 letters, digits, - or _", i, a.Tenant))
		}
	}
	if c.Window < 0 || c.Window > time.Second {
		errs = append(errs, fmt.Errorf("window: %v must be 0s to 1s", c.Window))
	}
	if _, _, err := speaking(c.Speak, format{codec: muLaw, rateHz: 8000}); err != nil {
		errs = append(errs, fmt.Errorf("speak: %w", err))
	}
	return errors.Join(errs...)
}
