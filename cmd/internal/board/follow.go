package board

import (
	"slices"
)

// segmentsAtOnce is how many segments come with a call: a long call's first
// words are asked for when somebody wants to see them.
const segmentsAtOnce = 500

// Call is everything that is known of a call, its last segments only. ok is
// false where the call is not on the board.
func (b *Board) Call(key Key) (c Call, ok bool) {
	c, _, ok = b.Follow(key)
	return c, ok
}

// Whole is a call with all of its segments.
func (b *Board) Whole(key Key) (c Call, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e := b.calls[key]
	if e == nil {
		return c, false
	}
	c = e.call()
	c.Segments, c.Earlier = slices.Clone(e.segments.all), 0
	return c, true
}

// Segments are at most limit segments of a call that come before the one
// numbered before, and how many there are before these.
func (b *Board) Segments(key Key, before, limit int) (segs []Segment, earlier int, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e := b.calls[key]
	if e == nil {
		return nil, 0, false
	}
	segs, earlier = e.segments.before(before, limit)
	return segs, earlier, true
}

func (s *segments) before(n, limit int) (segs []Segment, earlier int) {
	to := min(max(n-s.first, 0), len(s.all))
	from := max(to-max(limit, 0), 0)
	return slices.Clone(s.all[from:to]), from
}

// Cursor is how far somebody has followed a call.
type Cursor struct {
	e       *entry
	version uint64
	strips  map[string]place
}

// place is how much of a strip was told.
type place struct {
	step Seconds
	n    int
}

// Update is what has changed of a call: what is empty has not.
type Update struct {
	Row      *Row      `json:"row,omitempty"`
	Facts    *Facts    `json:"facts,omitempty"`
	Legs     []Leg     `json:"legs,omitempty"`
	Findings []Finding `json:"findings,omitempty"` // those that have
	Shares   []Share   `json:"shares,omitempty"`
	Advice   []Advice  `json:"advice,omitempty"`
	Curve    []Point   `json:"curve,omitempty"`
	Steps    []Step    `json:"steps,omitempty"`
	Status   []Status  `json:"status,omitempty"`
	Actions  []Action  `json:"actions,omitempty"`
	Segments []Segment `json:"segments,omitempty"` // those that have
	Dropped  int       `json:"dropped,omitempty"`
	Levels   []Strip   `json:"levels,omitempty"` // from the step that From says; from 0 in place of what was told
	End      *End      `json:"ended,omitempty"`
}

// Facts are what a call's first event says of it.
type Facts struct {
	Attributes map[string]string `json:"attributes,omitempty"`
	Backend    string            `json:"backend,omitempty"`
	Model      string            `json:"model,omitempty"`
}

// Follow returns a call and where it stands, for [Board.Next].
func (b *Board) Follow(key Key) (c Call, at *Cursor, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e := b.calls[key]
	if e == nil {
		return c, nil, false
	}
	at = &Cursor{e: e, version: b.version, strips: make(map[string]place)}
	for _, s := range e.strips {
		at.strips[s.Leg] = place{s.Step, len(s.Below)}
	}
	return e.call(), at, true
}

// call is e with its last segments; what it holds is not changed afterwards.
func (e *entry) call() Call {
	c := Call{
		Row: e.row, Attributes: e.attributes, Backend: e.backend, Model: e.model, Legs: e.legs,
		Findings: slices.Clone(e.findings), Shares: e.shares(), Steps: e.steps, Advice: slices.Clone(e.advice), Curve: e.curve,
		Status: slices.Clone(e.status), Actions: e.actions, Dropped: e.segments.first, End: e.end,
	}
	for i := range c.Findings {
		c.Findings[i].share(e.shares())
	}
	c.Segments, c.Earlier = e.segments.before(e.segments.first+len(e.segments.all), segmentsAtOnce)
	for _, s := range e.strips {
		s.Below = slices.Clone(s.Below)
		c.Levels = append(c.Levels, s)
	}
	return c
}

// share adds what the finding gave to the score at the last change of level.
func (f *Finding) share(shares []Share) {
	f.Share, f.Why = 0, ""
	for _, s := range shares {
		if s.Finding == f.ID {
			f.Share, f.Why = s.Points, s.Why
		}
	}
}

// Next returns what has changed since at, which it moves on, and a channel
// that is closed when something changes again. ok is false when the call has
// left the board.
func (b *Board) Next(at *Cursor) (u Update, changed <-chan struct{}, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, since := at.e, at.version
	if e.removed {
		return u, nil, false
	}
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	at.version = b.version
	if e.rowVersion > since {
		u.Row = e.row
	}
	if e.factsVersion > since {
		u.Facts, u.End = &Facts{e.attributes, e.backend, e.model}, e.end
	}
	if e.legsVersion > since {
		u.Legs = e.legs
	}
	if e.adviceVersion > since {
		u.Advice = slices.Clone(e.advice)
	}
	if e.curveVersion > since {
		u.Curve = e.curve
	}
	if e.statusVersion > since {
		u.Status = slices.Clone(e.status)
	}
	if e.actionsVersion > since {
		u.Actions = e.actions
	}
	if e.stepsVersion > since {
		u.Shares, u.Steps = e.shares(), e.steps
	}
	for _, f := range e.findings {
		if f.version > since || e.stepsVersion > since {
			f.share(e.shares())
			u.Findings = append(u.Findings, f)
		}
	}
	u.Segments = e.segments.since(since)
	if len(u.Segments) > 0 {
		u.Dropped = e.segments.first
	}
	u.Levels = at.levels()
	return u, e.changed, true
}

// since are the segments that have changed after a version.
func (s *segments) since(version uint64) (segs []Segment) {
	for i := range s.all {
		if s.all[i].version > version {
			segs = append(segs, s.all[i])
		}
	}
	return segs
}

// levels are the steps that have not been told.
func (c *Cursor) levels() (strips []Strip) {
	for _, s := range c.e.strips {
		told := c.strips[s.Leg]
		if told.step != s.Step {
			told = place{step: s.Step}
		}
		if told.n < len(s.Below) {
			strips = append(strips, Strip{Leg: s.Leg, Step: s.Step, From: told.n, Below: slices.Clone(s.Below[told.n:])})
		}
		c.strips[s.Leg] = place{s.Step, len(s.Below)}
	}
	return strips
}
