package metrics

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/back"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	"github.com/callwarden/callwarden/pipeline/sink/webhooksink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

var descOf = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", .*variableLabels: \{([^}]*)\}\}$`)

// rows are what the registered metrics of ours would be in the page.
func rows(t *testing.T, m *Metrics) []string {
	t.Helper()
	descs := make(chan *prometheus.Desc, 200)
	for _, c := range []prometheus.Collector{m.begun, m.ended, m.notMonitored, m.findings, m.alerts, m.heard, m.dropped, m.lost, m.asked} {
		c.Describe(descs)
	}
	close(descs)
	var all []string
	for d := range descs {
		parts := descOf.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("cannot read %s", d)
		}
		kind := "gauge"
		if strings.HasSuffix(parts[1], "_total") {
			kind = "counter"
		}
		all = append(all, fmt.Sprintf("| `%s` | %s | %s | %s |", parts[1], kind, strings.ReplaceAll(parts[3], ",", ", "), parts[2]))
	}
	slices.Sort(all)
	return all
}

func TestPageListsEveryMetric(t *testing.T) {
	page, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") {
			documented = append(documented, strings.TrimSpace(line))
		}
	}
	want := rows(t, New(From{}))
	for _, row := range want {
		if !slices.Contains(documented, row) {
			t.Errorf("docs/metrics.md lacks\n%s", row)
		}
	}
	for _, row := range documented {
		if !slices.Contains(want, row) {
			t.Errorf("docs/metrics.md has what is not registered\n%s", row)
		}
	}
}

func TestNoLabelIsOfACall(t *testing.T) {
	for _, row := range rows(t, New(From{})) {
		labels := strings.Split(row, "|")[3]
		for _, bad := range []string{"call", "number", "from", "to", "tenant", "trunk"} {
			if slices.Contains(strings.Fields(strings.ReplaceAll(labels, ",", " ")), bad) {
				t.Errorf("label %s in %s", bad, row)
			}
		}
	}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d, %v: %s", w.Code, err, b)
	}
	return string(b)
}

func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(text, "\n"+prefix+line+"\n") {
			t.Errorf("it does not say %s", line)
		}
	}
}

func TestEventsAreCounted(t *testing.T) {
	m := New(From{})
	n := 0
	publish := func(call string, data proto.Message) {
		n++
		if err := m.Publish(t.Context(), sink.Event{ID: fmt.Sprint(n), Tenant: "default", Call: call, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	legs := func(h callwardenv1.Hearing, heard, dropped, lost time.Duration) []*callwardenv1.LegStatus {
		return []*callwardenv1.LegStatus{
			{Leg: callwardenv1.Leg_LEG_CALLER, Hearing: callwardenv1.Hearing_HEARING_LISTENING, Heard: durationpb.New(heard)},
			{Leg: callwardenv1.Leg_LEG_CALLEE, Hearing: h, Heard: durationpb.New(heard), Dropped: durationpb.New(dropped), Lost: durationpb.New(lost)},
		}
	}
	listening, deaf := callwardenv1.Hearing_HEARING_LISTENING, callwardenv1.Hearing_HEARING_DEAF
	for _, call := range []string{"a", "b"} {
		publish(call, &callwardenv1.CallStatus{Hearing: listening, Legs: legs(listening, 0, 0, 0)})
	}
	publish("a", &callwardenv1.CallStatus{Hearing: deaf, Legs: legs(deaf, 2*time.Second, time.Second, 0)})
	publish("c", &callwardenv1.CallStatus{Hearing: callwardenv1.Hearing_HEARING_NOT_MONITORED})
	for _, state := range []callwardenv1.FindingState{1, 2, 1, 3} {
		publish("a", &callwardenv1.RiskFinding{Finding: &callwardenv1.Finding{Tactic: "urgency", State: state}})
	}
	for _, level := range []callwardenv1.Level{2, 4, 2, 4} { // up and down again: each is reached once
		publish("a", &callwardenv1.RiskLevel{Level: level})
	}
	says(t, scrape(t, m), `calls 2`, `calls_begun_total 2`, `legs{hearing="deaf"} 1`, `legs{hearing="listening"} 3`,
		`findings_total{state="provisional",tactic="urgency"} 2`, `findings_total{state="retracted",tactic="urgency"} 1`,
		`alerts_total{level="notice"} 1`, `alerts_total{level="warning"} 1`, `alerts_total{level="critical"} 1`,
		`audio_heard_seconds_total 4`, `audio_dropped_seconds_total 1`)
	publish("a", &callwardenv1.CallEnded{Legs: legs(deaf, 5*time.Second, time.Second, 500*time.Millisecond)})
	publish("b", &callwardenv1.CallEnded{Complete: true, Legs: legs(listening, time.Second, 0, 0)})
	m.NotMonitored(Exempt)
	says(t, scrape(t, m), `calls 0`, `legs{hearing="deaf"} 0`, `calls_ended_total{complete="no"} 1`, `calls_ended_total{complete="yes"} 1`,
		`audio_heard_seconds_total 12`, `audio_dropped_seconds_total 1`, `audio_lost_seconds_total 0.5`,
		`calls_not_monitored_total{why="exempt"} 1`, `calls_not_monitored_total{why="busy"} 0`)
}

func TestOtherPartsAreAsked(t *testing.T) {
	there := false
	m := New(From{
		Version: "1.2",
		Listener: func() (listen.Stats, bool) {
			return listen.Stats{Transcribing: 3, Full: true, LagP95: 250 * time.Millisecond}, there
		},
		NATS: func() (natssink.Stats, bool, bool) {
			return natssink.Stats{Published: 7, Delivered: 5, Pending: 2}, true, there
		},
		Sources: func() []Source {
			return []Source{{"rtp", true, source.Stats{Packets: 50, Lost: 2, Stranger: 1, Told: 8, Untold: 3}}}
		},
		Restarts: func() (uint64, bool) { return 4, there },
		Webhooks: func() []webhooksink.Stats {
			return []webhooksink.Stats{{Endpoint: "siem", Delivered: 9, Failed: 1, Dropped: 2, Pending: 4, Attempts: 12, Away: true}}
		},
		Prompts: func() []back.Counts { return []back.Counts{{Source: "rtp", Played: 6, Refused: 5}} },
	})
	if text := scrape(t, m); strings.Contains(text, "lag_seconds") || strings.Contains(text, "nats_") || strings.Contains(text, "restarts") {
		t.Error("it tells of parts that are not there yet")
	}
	there = true
	says(t, scrape(t, m), `build_info{version="1.2"} 1`, `calls_transcribing 3`, `full 1`, `lag_seconds{quantile="0.95"} 0.25`,
		`nats_events_total 7`, `nats_events_pending 2`, `nats_connected 1`, `source_packets_total{source="rtp"} 50`,
		`source_packets_lost_total{source="rtp"} 2`, `source_packets_dropped_total{source="rtp",why="stranger"} 1`, `source_bound{source="rtp"} 1`,
		`transcriber_restarts_total 4`, `source_events_told_total{source="rtp"} 8`, `source_events_untold_total{source="rtp"} 3`,
		`webhook_events_total{endpoint="siem",outcome="delivered"} 9`, `webhook_events_total{endpoint="siem",outcome="failed"} 1`,
		`webhook_events_total{endpoint="siem",outcome="dropped"} 2`, `webhook_events_pending{endpoint="siem"} 4`,
		`webhook_attempts_total{endpoint="siem"} 12`, `webhook_up{endpoint="siem"} 0`,
		`prompts_total{outcome="played",source="rtp"} 6`, `prompts_total{outcome="refused",source="rtp"} 5`)
}
