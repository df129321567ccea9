package natssink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/callwarden/callwarden/pipeline/sink"
)

// machineRoot begins the subjects on which machines tell how they are, plainly
// and as JSON: it is worth something for seconds only.
const machineRoot = subjectRoot + "machine."

const maxMachine = 16 << 10 // bytes; ours are under 1 kB

// Machine is what a process that hears calls says of itself, every few
// seconds. Lengths of time are in seconds.
type Machine struct {
	Name    string `json:"name"` // unique; part of the subject
	Version string `json:"version,omitempty"`

	Calls        int  `json:"calls"`
	Legs         int  `json:"legs"`
	Transcribing int  `json:"transcribing"`
	Shed         int  `json:"shed"` // calls that should be transcribed and are not
	Full         bool `json:"full,omitempty"`
	Drains       bool `json:"drains,omitempty"` // takes no new calls

	LagP50 float64 `json:"lag_p50"` // from arrival of audio to the end of its decoding
	LagP95 float64 `json:"lag_p95"`
	LagMax float64 `json:"lag_max"`

	Cores  int     `json:"cores"`
	Load   float64 `json:"load"`   // of the whole machine, 0 to 1; 0 where that is not known
	CPU    float64 `json:"cpu"`    // cores that this process and its children use
	Memory int64   `json:"memory"` // bytes of this process

	Transcripts bool `json:"transcripts"` // what was said is published
	Levels      bool `json:"levels"`      // how loud the legs are is published
	Masked      bool `json:"masked"`      // no digit goes out
}

func isMachine(subject string) bool { return strings.HasPrefix(subject, machineRoot) }

func decodeMachine(data []byte) (*Machine, error) {
	var m Machine
	if len(data) > maxMachine {
		return nil, fmt.Errorf("%w: machine of %d bytes, limit %d", sink.ErrNotEvent, len(data), maxMachine)
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Name == "" || len(m.Name) > maxToken {
		return nil, fmt.Errorf("%w: no machine with a name", sink.ErrNotEvent)
	}
	return &m, nil
}

// MachineName makes a name that can be part of a subject of s.
func MachineName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(".*>", r) {
			return '-'
		}
		return r
	}, strings.ToValidUTF8(s, "-"))
	if s == "" {
		return "machine"
	}
	return s[:min(len(s), 64)]
}

// Announce tells every so often how the machine is, until ctx ends. What a
// server that is away does not hear is not said again. Its errors are that of
// a server which refuses us.
func Announce(ctx context.Context, c Connection, every time.Duration, machine func() Machine, log *slog.Logger) error {
	opts, err := c.options()
	if err != nil {
		return err
	}
	nc, err := c.connect(ctx, append(opts, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		log.Warn("nats connection", "err", err)
	})), log, func(error) {})
	if err != nil {
		return notOurEnd(ctx, err)
	}
	defer nc.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		m := machine()
		m.Name = MachineName(m.Name)
		data, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("telling how this machine is: %w", err)
		}
		if nc.IsConnected() { // or it would wait, and be wrong when it comes
			if err := nc.Publish(machineRoot+m.Name, data); err != nil {
				log.Debug("telling how this machine is", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Purge removes a call's events from the stream and says how many those were.
func Purge(ctx context.Context, c Connection, stream, tenant, call string) (events int, err error) {
	for _, name := range []string{tenant, call} {
		if err := checkToken(name); err != nil {
			return 0, err
		}
	}
	opts, err := c.options()
	if err != nil {
		return 0, err
	}
	nc, err := nats.Connect(c.URL, opts...)
	if err != nil {
		return 0, fmt.Errorf("connecting to %s: %w", c.target(), err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	st, err := js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking at stream %q: %w", stream, err)
	}
	subject := subjectRoot + "*." + tenant + "." + call
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, fmt.Errorf("looking at stream %q: %w", stream, err)
	}
	for _, n := range info.State.Subjects {
		events += int(n)
	}
	if events == 0 {
		return 0, nil
	}
	if err := st.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
		return 0, fmt.Errorf("purging stream %q: %w", stream, err)
	}
	return events, nil
}
