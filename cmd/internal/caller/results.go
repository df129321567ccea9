package caller

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// outcome is how one call went: answered, refused with an answer, or failed
// with an error.
type outcome struct {
	answered bool
	refusal  string // the peer's answer, such as "503 Service Unavailable"
	err      error  // no answer, or what broke an answered call
	setup    time.Duration
	end      string // why the peer ended the call, empty where we did
	seconds  float64
}

// Progress is how far the calls are. It may be read from any goroutine.
type Progress struct {
	Placed, Up, Over, Refused, Failed atomic.Int64
}

func (p *Progress) note(o outcome) {
	p.Over.Add(1)
	switch {
	case o.refusal != "":
		p.Refused.Add(1)
	case o.err != nil:
		p.Failed.Add(1)
	}
}

// Results tell what became of the calls.
type Results struct {
	Way         string `json:"way"`
	To          string `json:"to"`
	Transport   string `json:"transport,omitempty"`
	Codec       string `json:"codec"`
	Interrupted bool   `json:"interrupted,omitempty"`

	Placed   int            `json:"placed"`
	Answered int            `json:"answered"`
	Refused  map[string]int `json:"refused,omitempty"` // by the peer's answer
	Failed   map[string]int `json:"failed,omitempty"`  // by error
	Ended    map[string]int `json:"ended_by_peer,omitempty"`

	// Setup is from the first message to the answer that takes the call.
	Setup *Times `json:"setup_ms,omitempty"`

	Packets      uint64  `json:"packets"`
	Unsent       uint64  `json:"packets_unsent"`    // the system did not take them
	Spoilt       uint64  `json:"packets_withheld"`  // by --loss
	Reports      uint64  `json:"receiver_reports"`  // RTCP
	ReportedLost uint64  `json:"packets_lost_told"` // lost, as the receivers' reports say
	Behind       float64 `json:"behind_ms"`         // most that a packet left too late
	Events       uint64  `json:"events,omitempty"`  // that came back
	Prompts      uint64  `json:"prompts,omitempty"` // that came back
	CallSeconds  float64 `json:"call_s"`
	WallS        float64 `json:"wall_s"`
}

// Times are percentiles in milliseconds.
type Times struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Good reports whether every call was taken and came to its own end.
func (r *Results) Good() bool {
	return r.Answered == r.Placed && len(r.Failed) == 0 && len(r.Ended) == 0 && !r.Interrupted
}

func (r *Results) take(outcomes []outcome) {
	r.Placed = len(outcomes)
	r.Refused, r.Failed, r.Ended = map[string]int{}, map[string]int{}, map[string]int{}
	var setups []time.Duration
	for _, o := range outcomes {
		if o.answered {
			r.Answered++
			setups = append(setups, o.setup)
		}
		if o.refusal != "" {
			r.Refused[o.refusal]++
		}
		if o.err != nil {
			r.Failed[o.err.Error()]++
		}
		if o.end != "" {
			r.Ended[o.end]++
		}
		r.CallSeconds += o.seconds
	}
	r.Setup = timesOf(setups)
}

func timesOf(all []time.Duration) *Times {
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	at := func(share float64) float64 { // nearest rank
		i := int(math.Ceil(share*float64(len(all)))) - 1
		return float64(all[max(i, 0)].Microseconds()) / 1000
	}
	return &Times{P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: at(1)}
}
