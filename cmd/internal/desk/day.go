package desk

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

// page is a day as the calls tell it that ended then.
type page struct {
	Day         string              `json:"day"`
	Calls       int                 `json:"calls"`
	Alerts      int                 `json:"alerts"`
	ByLevel     map[string]int      `json:"by_level"` // the highest of each call
	ByHour      [24]hour            `json:"by_hour"`  // of an alert's time, else of the call's end
	ByTactic    []tactic            `json:"by_tactic"`
	TimeToAlert timeToAlert         `json:"time_to_alert"`
	Verdicts    map[string]verdicts `json:"verdicts"`  // by level
	Precision   map[string]verdicts `json:"precision"` // of alerts of this level or above
	Hearing     map[string]int      `json:"hearing"`   // how calls were heard at their end
	Sources     map[string]int      `json:"sources"`
}

type hour struct {
	Calls    int `json:"calls"`
	Notice   int `json:"notice"`
	Warning  int `json:"warning"`
	Critical int `json:"critical"`
}

type tactic struct {
	Tactic  string `json:"tactic"`
	Calls   int    `json:"calls"`
	Scam    int    `json:"scam"`     // of these calls, as judged
	NotScam int    `json:"not_scam"` //
}

// verdicts are what people said of calls. Precision is the part of the judged
// ones that are scams; null where none was judged.
type verdicts struct {
	Scam      int      `json:"scam"`
	NotScam   int      `json:"not_scam"`
	Open      int      `json:"open"`
	Precision *float64 `json:"precision"`
}

func (v *verdicts) add(verdict string) {
	switch verdict {
	case "scam":
		v.Scam++
	case "not_scam":
		v.NotScam++
	default:
		v.Open++
	}
}

func (v *verdicts) rate() {
	if n := v.Scam + v.NotScam; n > 0 {
		p := math.Round(1000*float64(v.Scam)/float64(n)) / 1000
		v.Precision = &p
	}
}

// timeToAlert is from a call's beginning to its first warning, in seconds.
type timeToAlert struct {
	P50     *float64 `json:"p50"`
	P90     *float64 `json:"p90"`
	Buckets []bucket `json:"buckets"`
}

type bucket struct {
	To float64 `json:"to"` // seconds; 0 is all above
	N  int     `json:"n"`
}

func (d *Desk) day(w http.ResponseWriter, r *http.Request, u *user) error {
	zone, err := zone(r)
	if err != nil {
		return err
	}
	begin, err := time.ParseInLocation(time.DateOnly, r.PathValue("day"), zone)
	if err != nil {
		return refuse(http.StatusBadRequest, "bad", "the day must be written as 2026-11-22")
	}
	f, err := d.filter(r)
	if err != nil {
		return err
	}
	if d.store == nil {
		return refuse(http.StatusNotFound, "not_found", "no history is kept; set desk.dir in callwarden.yml")
	}
	p := newPage(begin.Format(time.DateOnly))
	from, to := board.Millis(begin.UnixMilli()), board.Millis(begin.AddDate(0, 0, 1).UnixMilli())
	var toAlert []float64
	err = d.store.each(from, to, nil, func(_ []byte, row *board.Row) bool {
		if u.sees(row.Tenant) && f.wants(row) {
			p.add(row, zone)
			if row.Alert != 0 {
				toAlert = append(toAlert, float64(row.AlertAt))
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	p.finish(toAlert)
	return d.send(w, r, http.StatusOK, p)
}

var levels = []string{"none", "notice", "warning", "critical"}

func newPage(day string) *page {
	p := &page{
		Day: day, ByLevel: make(map[string]int), ByTactic: []tactic{}, Verdicts: make(map[string]verdicts),
		Precision: make(map[string]verdicts), Hearing: make(map[string]int), Sources: make(map[string]int),
	}
	for _, l := range levels {
		p.ByLevel[l], p.Verdicts[l] = 0, verdicts{}
	}
	return p
}

func (p *page) add(row *board.Row, zone *time.Location) {
	p.Calls++
	rank := board.LevelRank(row.Peak)
	if rank < 0 {
		return // of a version that knew other levels
	}
	p.ByLevel[row.Peak]++
	p.Hearing[row.Hearing]++
	p.Sources[row.Source]++
	at := row.Ended
	if row.Alert != 0 {
		p.Alerts++
		at = row.Alert
	}
	h := &p.ByHour[at.Time().In(zone).Hour()]
	h.Calls++
	switch row.Peak {
	case "notice":
		h.Notice++
	case "warning":
		h.Warning++
	case "critical":
		h.Critical++
	}
	v := p.Verdicts[row.Peak]
	v.add(row.Verdict)
	p.Verdicts[row.Peak] = v
	for _, l := range levels[2:] {
		if rank >= board.LevelRank(l) {
			v := p.Precision[l]
			v.add(row.Verdict)
			p.Precision[l] = v
		}
	}
	for _, c := range row.Tactics {
		if c.State != "confirmed" || c.Muted {
			continue
		}
		i := slices.IndexFunc(p.ByTactic, func(t tactic) bool { return t.Tactic == c.Tactic })
		if i < 0 {
			i = len(p.ByTactic)
			p.ByTactic = append(p.ByTactic, tactic{Tactic: c.Tactic})
		}
		p.ByTactic[i].Calls++
		switch row.Verdict {
		case "scam":
			p.ByTactic[i].Scam++
		case "not_scam":
			p.ByTactic[i].NotScam++
		}
	}
}

// alertBuckets are the upper ends of the buckets of times to alert, in seconds.
var alertBuckets = []float64{5, 10, 20, 30, 60, 120, 300, 600, 0}

func (p *page) finish(toAlert []float64) {
	for _, m := range []map[string]verdicts{p.Verdicts, p.Precision} {
		for l, v := range m {
			v.rate()
			m[l] = v
		}
	}
	slices.SortFunc(p.ByTactic, func(a, b tactic) int { return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Tactic, b.Tactic)) })
	slices.Sort(toAlert)
	quantile := func(q float64) *float64 {
		if len(toAlert) == 0 {
			return nil
		}
		v := toAlert[int(q*float64(len(toAlert)-1)+0.5)]
		return &v
	}
	p.TimeToAlert.P50, p.TimeToAlert.P90 = quantile(0.5), quantile(0.9)
	from := 0.0
	for _, to := range alertBuckets {
		n := 0
		for _, s := range toAlert {
			if s >= from && (s < to || to == 0) {
				n++
			}
		}
		p.TimeToAlert.Buckets = append(p.TimeToAlert.Buckets, bucket{to, n})
		from = to
	}
}
