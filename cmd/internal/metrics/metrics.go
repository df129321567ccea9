// Package metrics is what callwarden says of itself to Prometheus. No label
// holds a call's id, a number or anything else of a call; docs/metrics.md has
// every name, and a test compares the two.
package metrics

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// Why a call is not monitored.
const (
	Exempt = "exempt" // by the rules of admission
	Busy   = "busy"   // for want of room
	Failed = "failed" // it could not be begun
)

// Metrics counts what events tell of calls: it is a sink beside others. What
// other parts count themselves it asks of them when somebody scrapes.
type Metrics struct {
	registry *prometheus.Registry

	mu    sync.Mutex
	calls map[[2]string]*call // by tenant and id: those that have begun

	begun                                 prometheus.Counter
	ended, notMonitored, findings, alerts *prometheus.CounterVec
	heard, dropped, lost                  prometheus.Counter
	asked                                 *asked
}

var _ sink.Sink = (*Metrics)(nil)

// call is what a call in progress has been counted with.
type call struct {
	legs  map[callwardenv1.Leg]leg
	level callwardenv1.Level // highest so far
}

type leg struct {
	hearing              callwardenv1.Hearing
	heard, dropped, lost time.Duration
}

// New returns metrics that ask from for what they do not see themselves.
func New(from From) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	}
	m := &Metrics{
		registry:     prometheus.NewRegistry(),
		calls:        make(map[[2]string]*call),
		ended:        counter("calls_ended_total", "Calls that were heard and have ended, by whether all of their audio was heard.", "complete"),
		notMonitored: counter("calls_not_monitored_total", "Calls that are not listened to: exempt by rule, busy, or failed to begin.", "why"),
		findings:     counter("findings_total", "Findings by tactic and state; each is provisional once at most, then confirmed or retracted.", "tactic", "state"),
		alerts:       counter("alerts_total", "Calls that have reached a level for the first time.", "level"),
	}
	seconds := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	m.begun = seconds("calls_begun_total", "Calls that are, or were, listened to.")
	m.heard = seconds("audio_heard_seconds_total", "Audio that was heard, of all legs. Counted when a call's status changes and when it ends.")
	m.dropped = seconds("audio_dropped_seconds_total", "Audio that found no room in the queue of its leg. Counted when a call's status changes and when it ends.")
	m.lost = seconds("audio_lost_seconds_total", "Audio that never came and was made up. Counted when a call's status changes and when it ends.")
	m.asked = &asked{from: from, legs: m.hearing}
	m.registry.MustRegister(
		m.begun, m.ended, m.notMonitored, m.findings, m.alerts, m.heard, m.dropped, m.lost, m.asked,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for _, why := range []string{Exempt, Busy, Failed} {
		m.notMonitored.WithLabelValues(why) // a rate of it is 0 before the first
	}
	for _, level := range []string{"notice", "warning", "critical"} {
		m.alerts.WithLabelValues(level)
	}
	return m
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Also has scrapes answered with the metrics of c too.
func (m *Metrics) Also(c prometheus.Collector) error {
	if err := m.registry.Register(c); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// NotMonitored counts a call that is not listened to.
func (m *Metrics) NotMonitored(why string) { m.notMonitored.WithLabelValues(why).Inc() }

// Publish counts what ev tells. It never refuses.
func (m *Metrics) Publish(_ context.Context, ev sink.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := [2]string{ev.Tenant, ev.Call}
	switch d := ev.Data.(type) {
	case *callwardenv1.CallStatus:
		if d.GetHearing() == callwardenv1.Hearing_HEARING_NOT_MONITORED {
			break // counted by who decided it
		}
		c := m.calls[id]
		if c == nil {
			c = &call{legs: make(map[callwardenv1.Leg]leg)}
			m.calls[id] = c
			m.begun.Inc()
		}
		m.count(c, d.GetLegs())
	case *callwardenv1.RiskFinding:
		state := "confirmed"
		switch d.GetFinding().GetState() {
		case callwardenv1.FindingState_FINDING_STATE_PROVISIONAL:
			state = "provisional"
		case callwardenv1.FindingState_FINDING_STATE_RETRACTED:
			state = "retracted"
		}
		m.findings.WithLabelValues(d.GetFinding().GetTactic(), state).Inc()
	case *callwardenv1.RiskLevel:
		c := m.calls[id]
		if c == nil {
			break
		}
		for ; c.level < d.GetLevel(); c.level++ {
			if name := levelName(c.level + 1); name != "" {
				m.alerts.WithLabelValues(name).Inc()
			}
		}
	case *callwardenv1.CallEnded:
		c := m.calls[id]
		if c == nil {
			break
		}
		m.count(c, d.GetLegs())
		delete(m.calls, id)
		complete := "no"
		if d.GetComplete() {
			complete = "yes"
		}
		m.ended.WithLabelValues(complete).Inc()
	}
	return nil
}

// Close does nothing: what was counted stays to be read.
func (m *Metrics) Close(context.Context) error { return nil }

// count adds what legs have come to since they were counted last.
func (m *Metrics) count(c *call, legs []*callwardenv1.LegStatus) {
	add := func(to prometheus.Counter, now, before time.Duration) time.Duration {
		if now > before {
			to.Add((now - before).Seconds())
		}
		return max(now, before)
	}
	for _, s := range legs {
		l := c.legs[s.GetLeg()]
		l.hearing = s.GetHearing()
		l.heard = add(m.heard, s.GetHeard().AsDuration(), l.heard)
		l.dropped = add(m.dropped, s.GetDropped().AsDuration(), l.dropped)
		l.lost = add(m.lost, s.GetLost().AsDuration(), l.lost)
		c.legs[s.GetLeg()] = l
	}
}

// hearing is how many legs are heard how, and of how many calls they are.
func (m *Metrics) hearing() (calls int, legs map[string]int) {
	legs = map[string]int{"listening": 0, "degraded": 0, "deaf": 0}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.calls {
		for _, l := range c.legs {
			switch l.hearing {
			case callwardenv1.Hearing_HEARING_DEGRADED:
				legs["degraded"]++
			case callwardenv1.Hearing_HEARING_DEAF:
				legs["deaf"]++
			default:
				legs["listening"]++
			}
		}
	}
	return len(m.calls), legs
}

func levelName(l callwardenv1.Level) string {
	switch l {
	case callwardenv1.Level_LEVEL_NOTICE:
		return "notice"
	case callwardenv1.Level_LEVEL_WARNING:
		return "warning"
	case callwardenv1.Level_LEVEL_CRITICAL:
		return "critical"
	}
	return ""
}
