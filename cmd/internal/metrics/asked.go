package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callwarden/callwarden/pipeline/back"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	"github.com/callwarden/callwarden/pipeline/sink/webhooksink"
	"github.com/callwarden/callwarden/pipeline/source"
)

const prefix = "callwarden_"

// From are the parts that count for themselves. They are asked from any
// goroutine; what is nil is left out, and so is what says that it is not there
// yet.
type From struct {
	Version  string
	Listener func() (listen.Stats, bool)
	NATS     func() (stats natssink.Stats, connected, ok bool)
	Sources  func() []Source
	Restarts func() (restarts uint64, ok bool) // of the transcriber's process
	Prompts  func() []back.Counts
	Webhooks func() []webhooksink.Stats
}

// Source is a way in at the moment of a scrape.
type Source struct {
	Name  string
	Bound bool
	Stats source.Stats
}

// asked collects what is only known when it is asked for.
type asked struct {
	from From
	legs func() (calls int, legs map[string]int)
}

// metric is the description of one of them and of how its value is sent.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.GaugeValue}
}

func total(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.CounterValue}
}

func (m metric) send(out chan<- prometheus.Metric, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
}

// described are the metrics that are asked for.
type described struct {
	build, calls, legs                                          metric
	transcribing, shed, full, sheds, wakes, lag, running, queue metric
	natsConnected, published, delivered, duplicate, failed      metric
	pending                                                     metric
	bound, sourceCalls, sourceLegs, sourceBegun, sourceRefused  metric
	packets, bytes, packetsLost, packetsLate, packetsDuplicate  metric
	packetsDropped                                              metric
	told, untold, prompts                                       metric
	hooked, hookPending, hookAttempts, hookUp                   metric
	restarts                                                    metric
}

func descriptions() described {
	return described{
		build: gauge("build_info", "Always 1, with the version as a label.", "version"),
		calls: gauge("calls", "Calls that are listened to now."),
		legs:  gauge("legs", "Legs of these calls by how they are heard: listening, degraded or deaf.", "hearing"),

		transcribing: gauge("calls_transcribing", "Calls that are transcribed in full now."),
		shed:         gauge("calls_shed", "Calls that should be transcribed now and are not, because the machine is full."),
		full:         gauge("full", "1 while new calls are refused because the machine is full."),
		sheds:        total("sheds_total", "Calls that lost the open vocabulary because the machine was full."),
		wakes:        total("wakes_total", "Calls that screening has given reason to transcribe."),
		lag:          gauge("lag_seconds", "From the arrival of live audio to the end of its decoding, quantiles of the latest 4,096 steps; 1 is the longest.", "quantile"),
		running:      gauge("decodes_running", "Decodes that run now."),
		queue:        gauge("decodes_waiting", "Decodes that wait for their turn now."),

		natsConnected: gauge("nats_connected", "1 while events can be delivered to NATS."),
		published:     total("nats_events_total", "Events that were taken for delivery to NATS."),
		delivered:     total("nats_events_delivered_total", "Events that NATS has confirmed and had not had before."),
		duplicate:     total("nats_events_duplicate_total", "Events that NATS has confirmed and had already."),
		failed:        total("nats_events_failed_total", "Events that NATS has refused for good."),
		pending:       gauge("nats_events_pending", "Events that wait for confirmation now."),

		bound:            gauge("source_bound", "1 while a way in takes calls.", "source"),
		sourceCalls:      gauge("source_calls", "Calls of a way in now.", "source"),
		sourceLegs:       gauge("source_legs", "Legs of a way in now.", "source"),
		sourceBegun:      total("source_calls_begun_total", "Calls that a way in has taken.", "source"),
		sourceRefused:    total("source_calls_refused_total", "Calls that a way in has answered busy.", "source"),
		packets:          total("source_packets_total", "Media packets that belonged to a call.", "source"),
		bytes:            total("source_bytes_total", "Bytes of these packets.", "source"),
		packetsLost:      total("source_packets_lost_total", "Media packets that never came.", "source"),
		packetsLate:      total("source_packets_late_total", "Media packets that came after their time.", "source"),
		packetsDuplicate: total("source_packets_duplicate_total", "Media packets that came more than once.", "source"),
		packetsDropped:   total("source_packets_dropped_total", "Packets that were not taken: from a stranger to the call, malformed, or unplaced for want of room.", "source", "why"),

		told:    total("source_events_told_total", "Events that were sent back to where their call came from.", "source"),
		untold:  total("source_events_untold_total", "Events that could not be: the peer is gone, or does not read.", "source"),
		prompts: total("prompts_total", "Warnings that were to be spoken into calls: played, or refused because the call cannot be spoken into or too much is waiting.", "source", "outcome"),

		hooked:       total("webhook_events_total", "Events for a webhook endpoint: delivered, failed because it refused them or they became too old, or dropped for want of room.", "endpoint", "outcome"),
		hookPending:  gauge("webhook_events_pending", "Events that wait for a webhook endpoint now.", "endpoint"),
		hookAttempts: total("webhook_attempts_total", "Requests to a webhook endpoint.", "endpoint"),
		hookUp:       gauge("webhook_up", "1 unless the latest request to a webhook endpoint has failed.", "endpoint"),

		restarts: total("transcriber_restarts_total", "Restarts of the transcriber's process."),
	}
}

// Describe tells every metric, those that are left out too.
func (a *asked) Describe(out chan<- *prometheus.Desc) {
	d := descriptions()
	for _, m := range []metric{
		d.build, d.calls, d.legs, d.transcribing, d.shed, d.full, d.sheds, d.wakes, d.lag, d.running, d.queue,
		d.natsConnected, d.published, d.delivered, d.duplicate, d.failed, d.pending,
		d.bound, d.sourceCalls, d.sourceLegs, d.sourceBegun, d.sourceRefused,
		d.packets, d.bytes, d.packetsLost, d.packetsLate, d.packetsDuplicate, d.packetsDropped,
		d.told, d.untold, d.prompts, d.hooked, d.hookPending, d.hookAttempts, d.hookUp, d.restarts,
	} {
		out <- m.desc
	}
}

// Collect asks.
func (a *asked) Collect(out chan<- prometheus.Metric) {
	d := descriptions()
	d.build.send(out, 1, a.from.Version)
	calls, legs := a.legs()
	d.calls.send(out, float64(calls))
	for hearing, n := range legs {
		d.legs.send(out, float64(n), hearing)
	}
	if a.from.Listener != nil {
		if s, ok := a.from.Listener(); ok {
			d.listener(out, s)
		}
	}
	if a.from.NATS != nil {
		if s, connected, ok := a.from.NATS(); ok {
			d.nats(out, s, connected)
		}
	}
	if a.from.Sources != nil {
		for _, s := range a.from.Sources() {
			d.source(out, s)
		}
	}
	if a.from.Prompts != nil {
		for _, c := range a.from.Prompts() {
			d.prompts.send(out, float64(c.Played), c.Source, "played")
			d.prompts.send(out, float64(c.Refused), c.Source, "refused")
		}
	}
	if a.from.Webhooks != nil {
		for _, s := range a.from.Webhooks() {
			d.webhook(out, s)
		}
	}
	if a.from.Restarts != nil {
		if n, ok := a.from.Restarts(); ok {
			d.restarts.send(out, float64(n))
		}
	}
}

func (d *described) listener(out chan<- prometheus.Metric, s listen.Stats) {
	d.transcribing.send(out, float64(s.Transcribing))
	d.shed.send(out, float64(s.Shed))
	d.full.send(out, one(s.Full))
	d.sheds.send(out, float64(s.Sheds))
	d.wakes.send(out, float64(s.Wakes))
	d.lag.send(out, s.LagP50.Seconds(), "0.5")
	d.lag.send(out, s.LagP95.Seconds(), "0.95")
	d.lag.send(out, s.LagMax.Seconds(), "1")
	d.running.send(out, float64(s.Running))
	d.queue.send(out, float64(s.Waiting))
}

func (d *described) nats(out chan<- prometheus.Metric, s natssink.Stats, connected bool) {
	d.natsConnected.send(out, one(connected))
	d.published.send(out, float64(s.Published))
	d.delivered.send(out, float64(s.Delivered))
	d.duplicate.send(out, float64(s.Duplicates))
	d.failed.send(out, float64(s.Failed))
	d.pending.send(out, float64(s.Pending))
}

func (d *described) source(out chan<- prometheus.Metric, s Source) {
	st := s.Stats
	d.bound.send(out, one(s.Bound), s.Name)
	d.sourceCalls.send(out, float64(st.Calls), s.Name)
	d.sourceLegs.send(out, float64(st.Legs), s.Name)
	d.sourceBegun.send(out, float64(st.Begun), s.Name)
	d.sourceRefused.send(out, float64(st.Refused), s.Name)
	d.packets.send(out, float64(st.Packets), s.Name)
	d.bytes.send(out, float64(st.Bytes), s.Name)
	d.packetsLost.send(out, float64(st.Lost), s.Name)
	d.packetsLate.send(out, float64(st.Late), s.Name)
	d.packetsDuplicate.send(out, float64(st.Duplicate), s.Name)
	d.told.send(out, float64(st.Told), s.Name)
	d.untold.send(out, float64(st.Untold), s.Name)
	d.packetsDropped.send(out, float64(st.Stranger), s.Name, "stranger")
	d.packetsDropped.send(out, float64(st.Malformed), s.Name, "malformed")
	d.packetsDropped.send(out, float64(st.Unplaced), s.Name, "unplaced")
}

func (d *described) webhook(out chan<- prometheus.Metric, s webhooksink.Stats) {
	d.hooked.send(out, float64(s.Delivered), s.Endpoint, "delivered")
	d.hooked.send(out, float64(s.Failed), s.Endpoint, "failed")
	d.hooked.send(out, float64(s.Dropped), s.Endpoint, "dropped")
	d.hookPending.send(out, float64(s.Pending), s.Endpoint)
	d.hookAttempts.send(out, float64(s.Attempts), s.Endpoint)
	d.hookUp.send(out, one(!s.Away), s.Endpoint)
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
