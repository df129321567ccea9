package desk

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

// status is how the desk itself is, and the machines behind it.
type status struct {
	NATS   string       `json:"nats"` // "up", "away" or "catching_up"
	Since  board.Millis `json:"since"`
	Why    string       `json:"why,omitempty"`
	Missed int          `json:"missed,omitempty"` // events that came too fast

	// Whether these are published; null where that is not known, and Keys what
	// to set for those that are not.
	Transcripts *bool    `json:"transcripts"`
	Levels      *bool    `json:"levels"`
	Keys        []string `json:"keys,omitempty"`

	Machines []machineStatus `json:"machines"`
	Alerts   alerts          `json:"alerts"`
	Notices  []string        `json:"notices,omitempty"`
}

type machineStatus struct {
	Name         string       `json:"name"`
	Version      string       `json:"version,omitempty"`
	Calls        int          `json:"calls"`
	Legs         int          `json:"legs"`
	Transcribing int          `json:"transcribing"`
	Shed         int          `json:"shed,omitempty"`
	Full         bool         `json:"full,omitempty"`
	Drains       bool         `json:"drains,omitempty"`
	LagP50       float64      `json:"lag_p50"`
	LagP95       float64      `json:"lag_p95"`
	LagMax       float64      `json:"lag_max"`
	Cores        int          `json:"cores"`
	Load         float64      `json:"load"`
	CPU          float64      `json:"cpu"`
	Memory       int64        `json:"memory"`
	Seen         board.Millis `json:"seen"`
	Gone         bool         `json:"gone,omitempty"`
}

// alerts are the calls that first reached warning or worse.
type alerts struct {
	Hour   int     `json:"hour"`    // the last 60 minutes
	ByHour [24]int `json:"by_hour"` // of the last 24 hours, the latest last
	Today  int     `json:"today"`   // since midnight where the desk runs
}

// status is what u may know of it.
func (d *Desk) status(u *user) *status {
	now := d.now()
	s := &status{Machines: []machineStatus{}, Alerts: d.alerts(now, u)}
	if d.store != nil {
		s.Notices = d.store.notes()
	}
	if u.role == admin && d.door.tokens != nil {
		if err := d.door.tokens.wrong(); err != nil {
			s.Notices = append(s.Notices, "The tokens file cannot be read: "+err.Error()+". Those from before count.")
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.NATS, s.Since, s.Why, s.Missed = d.nats.state, board.Millis(d.nats.since.UnixMilli()), d.nats.why, d.nats.missed
	var transcripts, levels, known bool
	for _, m := range d.machines {
		known = true
		transcripts, levels = transcripts || m.Transcripts, levels || m.Levels
		out := machineStatus{
			Name: m.Name, Version: m.Version, Calls: m.Calls, Legs: m.Legs, Transcribing: m.Transcribing, Shed: m.Shed,
			Full: m.Full, Drains: m.Drains, LagP50: m.LagP50, LagP95: m.LagP95, LagMax: m.LagMax,
			Cores: m.Cores, Load: m.Load, CPU: m.CPU, Memory: m.Memory,
			Seen: board.Millis(m.seen.UnixMilli()), Gone: now.Sub(m.seen) >= machineGone,
		}
		if !u.sees("*") { // how much others call is theirs to know
			out.Calls, out.Legs, out.Transcribing, out.Shed = 0, 0, 0, 0
		}
		s.Machines = append(s.Machines, out)
	}
	slices.SortFunc(s.Machines, func(a, b machineStatus) int { return strings.Compare(a.Name, b.Name) })
	transcripts, known = transcripts || d.transcribed, known || d.transcribed
	if known {
		s.Transcripts, s.Levels = &transcripts, &levels
		if !transcripts {
			s.Keys = append(s.Keys, "sinks.nats.transcripts")
		}
		if !levels {
			s.Keys = append(s.Keys, "sinks.nats.levels")
		}
	}
	return s
}

// same says whether there is nothing new in s: machines that were heard of
// again, as they were, are none.
func (s *status) same(t *status) bool {
	if t == nil {
		return false
	}
	plain := func(s *status) string {
		c := *s
		c.Machines = slices.Clone(s.Machines)
		for i := range c.Machines {
			c.Machines[i].Seen = 0
		}
		b, err := json.Marshal(&c)
		if err != nil {
			return ""
		}
		return string(b)
	}
	return plain(s) == plain(t)
}

func (d *Desk) alerts(now time.Time, u *user) alerts {
	var a alerts
	y, m, day := now.Date()
	midnight := time.Date(y, m, day, 0, 0, 0, 0, now.Location())
	for _, at := range d.board.Alerts(now, u.sees) {
		ago := now.Sub(at)
		if ago < 0 {
			ago = 0
		}
		if h := int(ago / time.Hour); h < len(a.ByHour) {
			a.ByHour[len(a.ByHour)-1-h]++
		}
		if ago < time.Hour {
			a.Hour++
		}
		if !at.Before(midnight) {
			a.Today++
		}
	}
	return a
}
