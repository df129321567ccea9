package route

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats are figures since the start.
type Stats struct {
	Backends []BackendStats // by name
	Shadows  []ShadowStats  // in the order of the rules
}

// BackendStats are figures about one backend.
type BackendStats struct {
	Name      string
	Away      bool  // new sessions go to its fallback
	Sessions  int64 // opened
	Failures  int64 // sessions that could not be opened or died
	Takeovers int64 // sessions that it took over from another
}

// ShadowStats are figures about a shadow beside the backend of the legs that
// it hears.
type ShadowStats struct {
	Backend, Shadow string

	Sessions, Failures   int64
	Heard, Dropped, Busy time.Duration // audio, audio that came too late, time in the shadow's calls

	// Words are those that both had their chance to hear; Differences those
	// to change, add or leave out to make the shadow's of the backend's.
	Words, ShadowWords, Differences int

	// Lag is from the arrival of the audio of a final segment's end until the
	// segment.
	Lag, ShadowLag Lag
}

// Lag sums up times.
type Lag struct {
	N         int
	Mean, Max time.Duration
}

// Agreement is the share of the backend's words that the shadow heard alike,
// 0 to 1; ok is false where there are none.
func (s ShadowStats) Agreement() (share float64, ok bool) {
	if s.Words == 0 {
		return 0, false
	}
	return max(0, 1-float64(s.Differences)/float64(s.Words)), true
}

func (l lag) stats() Lag {
	if l.n == 0 {
		return Lag{}
	}
	return Lag{N: l.n, Mean: l.sum / time.Duration(l.n), Max: l.max}
}

// Stats are the figures of the moment.
func (e *Engine) Stats() Stats {
	var s Stats
	for _, b := range e.backends {
		s.Backends = append(s.Backends, BackendStats{
			Name: b.name, Away: b.away(), Sessions: b.sessions.Load(), Failures: b.failures.Load(), Takeovers: b.takeovers.Load(),
		})
	}
	for _, p := range e.pairs() {
		s.Shadows = append(s.Shadows, p.stats())
	}
	return s
}

func (e *Engine) pairs() []*pair {
	var list []*pair
	seen := map[*pair]bool{}
	for _, r := range e.rules {
		if r.pair != nil && !seen[r.pair] {
			seen[r.pair] = true
			list = append(list, r.pair)
		}
	}
	return list
}

func (p *pair) stats() ShadowStats {
	s := ShadowStats{
		Backend: p.backend, Shadow: p.shadow, Sessions: p.sessions.Load(), Failures: p.failures.Load(),
		Heard: time.Duration(p.heard.Load()), Dropped: time.Duration(p.dropped.Load()), Busy: time.Duration(p.busy.Load()),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Words, s.ShadowWords, s.Differences = p.words, p.shadowWords, p.differences
	s.Lag, s.ShadowLag = p.lag[leg].stats(), p.lag[other].stats()
	return s
}

// collector tells Prometheus the figures of an Engine.
type collector struct{ e *Engine }

// Collector tells Prometheus the figures of Stats: docs/backends.md has their
// names.
func (e *Engine) Collector() prometheus.Collector { return collector{e} }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("callwarden_route_"+name, help, labels, nil)
}

// metrics of a Collector.
type metrics struct {
	away, sessions, failures, takeovers                  *prometheus.Desc
	shadowSessions, shadowFailures                       *prometheus.Desc
	shadowHeard, shadowDropped, shadowBusy               *prometheus.Desc
	shadowWords, shadowDifferences, shadowLag, legsOfLag *prometheus.Desc
}

func newMetrics() metrics {
	pair := []string{"backend", "shadow"}
	return metrics{
		away:              describe("away", "1 while new sessions go to the backend's fallback.", "backend"),
		sessions:          describe("sessions_total", "Sessions opened on the backend.", "backend"),
		failures:          describe("failures_total", "Sessions of the backend that could not be opened or died.", "backend"),
		takeovers:         describe("takeovers_total", "Sessions that the backend took over from another.", "backend"),
		shadowSessions:    describe("shadow_sessions_total", "Legs that the shadow heard beside the backend.", pair...),
		shadowFailures:    describe("shadow_failures_total", "Legs that the shadow failed on.", pair...),
		shadowHeard:       describe("shadow_audio_seconds_total", "Audio that the shadow heard.", pair...),
		shadowDropped:     describe("shadow_dropped_seconds_total", "Audio that the shadow was too late for.", pair...),
		shadowBusy:        describe("shadow_busy_seconds_total", "Time spent in calls of the shadow.", pair...),
		shadowWords:       describe("shadow_compared_words_total", "Words of the backend that were compared with the shadow's.", pair...),
		shadowDifferences: describe("shadow_different_words_total", "Words to change, add or leave out to make the shadow's of the backend's.", pair...),
		shadowLag:         describe("shadow_lag_seconds", "From the arrival of audio to the shadow's final words of it.", pair...),
		legsOfLag:         describe("shadow_backend_lag_seconds", "The same of the backend, on the legs that the shadow heard.", pair...),
	}
}

func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c collector) Collect(ch chan<- prometheus.Metric) {
	m := newMetrics()
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	stats := c.e.Stats()
	for _, b := range stats.Backends {
		away := 0.0
		if b.Away {
			away = 1
		}
		ch <- prometheus.MustNewConstMetric(m.away, prometheus.GaugeValue, away, b.Name)
		count(m.sessions, float64(b.Sessions), b.Name)
		count(m.failures, float64(b.Failures), b.Name)
		count(m.takeovers, float64(b.Takeovers), b.Name)
	}
	for _, s := range stats.Shadows {
		pair := []string{s.Backend, s.Shadow}
		count(m.shadowSessions, float64(s.Sessions), pair...)
		count(m.shadowFailures, float64(s.Failures), pair...)
		count(m.shadowHeard, s.Heard.Seconds(), pair...)
		count(m.shadowDropped, s.Dropped.Seconds(), pair...)
		count(m.shadowBusy, s.Busy.Seconds(), pair...)
		count(m.shadowWords, float64(s.Words), pair...)
		count(m.shadowDifferences, float64(s.Differences), pair...)
		for d, l := range map[*prometheus.Desc]Lag{m.shadowLag: s.ShadowLag, m.legsOfLag: s.Lag} {
			ch <- prometheus.MustNewConstSummary(d, uint64(l.N), (time.Duration(l.N) * l.Mean).Seconds(), nil, pair...)
		}
	}
}
