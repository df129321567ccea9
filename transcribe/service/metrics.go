package service

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the figures of a Service. None has a call in its labels.
type metrics struct {
	streams    prometheus.Collector
	ended      *prometheus.CounterVec // by reason
	refused    *prometheus.CounterVec // by reason
	audio      prometheus.Counter
	again      prometheus.Counter
	decoding   prometheus.Counter
	lag        prometheus.Histogram
	segments   *prometheus.CounterVec // by kind
	handshakes prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "callwarden_transcriber_" + name, Help: help})
	}
	by := func(label, name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "callwarden_transcriber_" + name, Help: help}, []string{label})
	}
	return &metrics{
		ended:    by("reason", "streams_total", "Streams that have ended, by why: OK, a reason of the service, or a gRPC code."),
		refused:  by("reason", "refused_total", "Requests that were refused before anything was heard."),
		audio:    counter("audio_seconds_total", "Audio that was heard."),
		again:    counter("audio_again_seconds_total", "Of that, audio that another stream had sent before it broke."),
		decoding: counter("decoding_seconds_total", "Time in which the recogniser was at work, of all its threads."),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "callwarden_transcriber_lag_seconds", Help: "From the arrival of live audio until it was heard.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		segments:   by("kind", "segments_total", "Segments that were sent, final and partial."),
		handshakes: counter("handshakes_refused_total", "TLS handshakes that did not succeed."),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.streams, m.ended, m.refused, m.audio, m.again, m.decoding, m.lag, m.segments, m.handshakes}
}

// Describe implements [prometheus.Collector].
func (s *Service) Describe(out chan<- *prometheus.Desc) {
	for _, c := range s.metrics.all() {
		c.Describe(out)
	}
}

// Collect implements [prometheus.Collector].
func (s *Service) Collect(out chan<- prometheus.Metric) {
	for _, c := range s.metrics.all() {
		c.Collect(out)
	}
}

// seconds for a counter.
func seconds(d time.Duration) float64 { return max(0, d.Seconds()) }
