// Package caller is a load client: it sends recorded calls the way telephone
// networks do, as many at once as wanted, and tells what became of them.
package caller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Ways to send a call.
const (
	SIPREC      = "siprec"
	RTP         = "rtp"
	AudioSocket = "audiosocket"
	WHIP        = "whip"
	AudioHook   = "audiohook"
	GRPC        = "grpc"
	Twilio      = "twilio"
	Fork        = "fork"
)

// Config says what calls are made. The messages of its errors name the flags
// of the command line.
type Config struct {
	Way string
	// To is where calls go: HOST:PORT; for RTP also one HOST:PORT for each leg
	// by comma, or the http URL of the interface that announces ports.
	To    string
	Bind  string  // local address; empty is the one that routes to To
	Calls int     // in all
	Rate  float64 // calls begun a second
	Loop  bool    // begins the recording again at its end
	// Again is for how long a call that is over is followed by the next; 0 for
	// none.
	Again time.Duration
	// Stagger has the first calls begin somewhere in the middle of their
	// recordings, each elsewhere.
	Stagger bool
	Span    time.Duration // of a call; 0 is the recording's length, or with Loop until ctx ends

	From, FromName, Number, NumberName string // who calls, and who is called

	Codec   string
	Loss    float64   // share of the packets that is not sent
	Reorder int       // some packets are sent up to so many packets late
	Silent  audio.Leg // sends nothing at all; Unknown for none
	DropBye bool      // ends without saying so
	SRTP    bool      // SIPREC only
	NoRTCP  bool      // sends no sender reports

	Transport string   // SIPREC: udp, tcp or tls
	CA        string   // SIPREC: PEM file of the authority of the server's certificate
	Insecure  bool     // SIPREC: takes any certificate
	Headers   []string // SIPREC: more lines of the INVITE, "Name: value"
	NoRecord  bool     // SIPREC: a plain INVITE of a telephone, without metadata

	CallID          string    // WHIP: of the call; more than one get a number too
	TwoPublications bool      // WHIP: each leg of a call is published by itself
	Events          io.Writer // WHIP: gets the events that come back, one a line; nil for none

	APIKey       string // AudioHook; empty for none
	ClientSecret string // AudioHook: in base64; signs the requests where it is not empty

	Message    time.Duration // gRPC: audio in a message
	Dialect    string        // Twilio: one of Dialects
	AuthToken  string        // Twilio: of the account; signs the requests where it is not empty
	Params     []string      // Twilio and Fork: what is said of the call, "name=value"
	Speak      string        // Twilio and Fork: says that prompts can be played, and how; empty says nothing
	Jitter     time.Duration // Twilio and Fork: now and then nothing is sent for up to so long
	SampleRate int           // Fork: Hz; 0 for the recording's

	API   string // AudioSocket: http URL that takes what is known of a call
	Token string // of the HTTP interfaces; empty for none
}

// DefaultConfig makes one call.
func DefaultConfig() Config {
	return Config{
		Calls: 1, Rate: 50, Codec: "PCMU", Transport: "udp", Message: packetTime, Dialect: dialectTwilio,
		From: "+12025550123", FromName: "", Number: "+12025550199",
	}
}

// Validate says which flag is wrong and what it must be.
func (c Config) Validate() error {
	switch {
	case c.To == "":
		return fmt.Errorf("--to: say where the calls go, for example 127.0.0.1:5060")
	case c.Calls < 1:
		return fmt.Errorf("--calls: %d must be at least 1", c.Calls)
	case c.Rate <= 0:
		return fmt.Errorf("--rate: %v must be above 0", c.Rate)
	case c.Span < 0:
		return fmt.Errorf("--duration: %v must not be below 0", c.Span)
	case c.Again < 0:
		return fmt.Errorf("--again: %v must not be below 0", c.Again)
	case c.Loss < 0 || c.Loss >= 1:
		return fmt.Errorf("--loss: %v must be at least 0 and below 100%%", c.Loss)
	case c.Reorder < 0 || c.Reorder > 1000:
		return fmt.Errorf("--reorder: %d must be from 0 to 1000 packets", c.Reorder)
	}
	if c.Way != WHIP || !strings.EqualFold(c.Codec, opusName) {
		if _, err := codecFor(c.Codec, 8000); err != nil {
			return err
		}
	}
	if c.Bind != "" {
		if _, err := netip.ParseAddr(c.Bind); err != nil {
			return fmt.Errorf("--bind: %q must be an IP address", c.Bind)
		}
	}
	switch c.Way {
	case SIPREC:
		return c.validateSIP()
	case RTP:
		return nil
	case AudioSocket:
		if c.API != "" {
			if err := checkURL("--api", c.API); err != nil {
				return err
			}
		}
		return nil
	case WHIP:
		return c.validateWHIP()
	case AudioHook:
		return c.validateAudioHook()
	case GRPC:
		return c.validateGRPC()
	case Twilio, Fork:
		return c.validateStream()
	}
	return fmt.Errorf("%q is none of %s, %s, %s", c.Way, SIPREC, RTP, AudioSocket)
}

func (c Config) validateSIP() error {
	switch c.Transport {
	case "udp", "tcp", "tls":
	default:
		return fmt.Errorf("--transport: %q must be udp, tcp or tls", c.Transport)
	}
	if _, _, err := net.SplitHostPort(c.To); err != nil {
		return fmt.Errorf("--to: %q must be HOST:PORT", c.To)
	}
	for _, h := range c.Headers {
		if name, _, ok := strings.Cut(h, ":"); !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(h, "\r\n") {
			return fmt.Errorf("--header: %q must be Name: value", h)
		}
	}
	return nil
}

func (c Config) validateWHIP() error {
	if strings.EqualFold(c.Codec, "L16") {
		return fmt.Errorf("--codec: WHIP servers take no %s: use PCMU, PCMA or G722, or give an Opus file", c.Codec)
	}
	if c.CallID != "" && !announce.IsToken(c.CallID) {
		return fmt.Errorf("--call-id: %q must be 1 to 128 letters, digits, - or _", c.CallID)
	}
	return checkURL("--to", c.To)
}

func checkURL(flag, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%s: %q must be http://HOST:PORT", flag, s)
	}
	return nil
}

// way sends calls in one manner.
type way interface {
	// place makes call n, stays until it is over and says how it went. When
	// ctx ends it hangs up.
	place(ctx context.Context, n int) outcome
	// run does what all calls share until ctx ends.
	run(ctx context.Context) error
	// count adds what was sent to r. The calls are over.
	count(r *Results)
	close() error
}

// Run makes the calls, which play recs in turn, and returns when all are over.
// When ctx ends they hang up, and the results are marked as interrupted. An
// error means that no call could be made at all.
func Run(ctx context.Context, cfg Config, recs []*Recording, watch *Progress) (*Results, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(recs) == 0 {
		return nil, errors.New("no recording to play")
	}
	for _, r := range recs {
		if r.opus != nil && cfg.Way != WHIP {
			return nil, fmt.Errorf("%s: Opus files are for WHIP", r.Path)
		}
		if len(r.Legs) != len(recs[0].Legs) {
			return nil, fmt.Errorf("%s has %d channels and %s %d; calls play the same number", r.Path, len(r.Legs), recs[0].Path, len(recs[0].Legs))
		}
	}
	w, err := open(cfg, recs, watch)
	if err != nil {
		return nil, err
	}
	shared, end := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error { return w.run(shared) })

	begin := time.Now()
	results := &Results{Way: cfg.Way, To: cfg.To, Codec: strings.ToUpper(cfg.Codec), Transport: cfg.transport()}
	outcomes := placeAll(ctx, cfg, w, watch)
	results.take(outcomes)
	results.WallS = time.Since(begin).Seconds()
	results.Interrupted = ctx.Err() != nil && !(cfg.Loop && cfg.Span == 0)

	end()
	err = group.Wait()
	w.count(results)
	if closing := w.close(); err == nil {
		err = closing
	}
	return results, err
}

func (c Config) transport() string {
	if c.Way == SIPREC {
		return c.Transport
	}
	return ""
}

func open(cfg Config, recs []*Recording, watch *Progress) (way, error) {
	switch cfg.Way {
	case SIPREC:
		return newSIPREC(cfg, recs, watch)
	case RTP:
		return newPlainRTP(cfg, recs, watch)
	case WHIP:
		return newWHIP(cfg, recs, watch)
	case AudioHook:
		return newAudioHook(cfg, recs, watch)
	case GRPC:
		return newGRPC(cfg, recs, watch)
	case Twilio, Fork:
		return newStreamWay(cfg, recs, watch)
	}
	return newAudioSocket(cfg, recs, watch)
}

// placeAll begins the calls at their rate, each followed by others while there
// is time, and waits for all.
func placeAll(ctx context.Context, cfg Config, w way, watch *Progress) []outcome {
	var (
		mu       sync.Mutex
		outcomes []outcome
		lines    sync.WaitGroup
		numbers  atomic.Int64 // of calls after the first of each line
	)
	place := func(n int) {
		watch.Placed.Add(1)
		o := w.place(ctx, n)
		watch.note(o)
		mu.Lock()
		defer mu.Unlock()
		outcomes = append(outcomes, o)
	}
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := range cfg.Calls {
		timer.Reset(time.Until(begin.Add(time.Duration(float64(n) / cfg.Rate * float64(time.Second)))))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		if ctx.Err() != nil {
			break
		}
		lines.Go(func() {
			place(n)
			for ctx.Err() == nil && time.Since(begin) < cfg.Again {
				place(cfg.Calls + int(numbers.Add(1)) - 1)
			}
		})
	}
	lines.Wait()
	return outcomes
}
