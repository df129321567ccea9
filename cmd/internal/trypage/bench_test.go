//go:build e2e

package trypage_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	benchCalls = 10
	benchPages = 2                       // of them in a browser, which takes more of the machine than the service; the rest are load clients
	benchLead  = 4 * time.Second         // of silence, in which a page connects
	benchStep  = 4300 * time.Millisecond // people do not talk in step
)

// publishing is what a page does in the benchmark: it publishes its microphone
// by the page's own client, and notes on one clock when the recording began in
// the microphone and when each event came.
const publishing = `(async () => {
	const { publish } = await import("./whip.js");
	const { fromMicrophones } = await import("./microphone.js");
	const call = globalThis.call = { onset: 0, events: [], over: false };
	const source = await fromMicrophones([""]);
	// The first sample that is not silence, on the clock of the page.
	const context = new AudioContext(), analyser = new AnalyserNode(context, { fftSize: 32768 });
	new MediaStreamAudioSourceNode(context, { mediaStream: new MediaStream(source.tracks) }).connect(analyser);
	const samples = new Float32Array(analyser.fftSize);
	const looking = setInterval(() => {
		analyser.getFloatTimeDomainData(samples);
		const at = performance.now(), first = samples.findIndex((s) => s !== 0);
		if (first < 0) return;
		call.onset = at - (samples.length - first) / context.sampleRate * 1000;
		clearInterval(looking);
		context.close();
	}, 50);
	const publication = await publish({
		url: "../v1/whip/?leg=caller&listen=%s", tracks: source.tracks,
		onEvent(event) { call.events.push({ at: performance.now(), event }); },
		onEnd() { call.over = true; source.stop(); },
	});
	globalThis.hangUp = () => publication.end();
	return true;
})()`

// seen is an event as a page has it.
type seen struct {
	At    float64 `json:"at"` // ms, the page's clock
	Event struct {
		Type string `json:"type"`
		Data struct {
			Finding finding `json:"finding"`
		} `json:"data"`
	} `json:"event"`
}

type finding struct {
	ID     string `json:"id"`
	Tactic string `json:"tactic"`
	Rule   string `json:"rule"`
	State  string `json:"state"`
	End    string `json:"end"`
	Words  string `json:"words"`
}

func (f finding) end(b *testing.B) time.Duration {
	b.Helper()
	d, err := time.ParseDuration(f.End)
	if err != nil {
		b.Fatalf("a finding ends at %q: %v", f.End, err)
	}
	return d
}

// BenchmarkWordsToPage has ten callers publish a demo call at the same time, two
// of them by pages of one Chromium, and tells how long after the last word of a
// finding was in the microphone the page has its first event, and its confirmed
// one. Browser, clients and service share the machine.
func BenchmarkWordsToPage(b *testing.B) {
	binary := browsertest.Build(b)
	for _, listen := range []string{"full", "screen"} {
		b.Run(listen, func(b *testing.B) {
			var first, confirmed []time.Duration
			for range b.N {
				for _, recording := range []string{"fraud-code.wav", "fraud-giftcards.wav", "fraud-remote.wav"} {
					f, c := wordsToPage(b, binary, recording, listen)
					first, confirmed = append(first, f...), append(confirmed, c...)
				}
			}
			slices.Sort(first)
			slices.Sort(confirmed)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(len(first)), "findings")
			for name, of := range map[string][]time.Duration{"first": first, "confirmed": confirmed} {
				b.ReportMetric(quantile(of, 0.5), name+"-p50-ms")
				b.ReportMetric(quantile(of, 0.95), name+"-p95-ms")
			}
		})
	}
}

// quantile of what is sorted, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Milliseconds())
}

func wordsToPage(b *testing.B, binary, recording, listen string) (first, confirmed []time.Duration) {
	b.Helper()
	file := filepath.Join(b.TempDir(), "microphone.wav")
	if err := browsertest.Microphone(file, filepath.Join("../../../testdata/calls", recording), audio.Caller, benchLead); err != nil {
		b.Fatal(err)
	}
	spoken := spokenAt(b, binary, file)
	served := browsertest.Serve(b, binary, with)
	browser := browsertest.Start(b, browsertest.Config{Microphone: file})
	pages := make([]*browsertest.Page, benchPages)
	for i := range pages {
		pages[i] = browser.Page(b)
		pages[i].Open(served.URL + "/try/")
	}
	var others sync.WaitGroup
	talking, enough := context.WithCancel(b.Context())
	defer func() { enough(); others.Wait() }()
	others.Go(func() {
		out, err := exec.CommandContext(talking, binary, "call", "whip", file, "--codec", "G722", "--leg", "caller", "--calls", fmt.Sprint(benchCalls-benchPages), "--rate", "1",
			"--again", (audioLength(b, file) + benchPages*benchStep).String(), "--to", served.URL+"/v1/whip/?listen="+listen, "--quiet").CombinedOutput()
		if err != nil && talking.Err() == nil {
			b.Errorf("the other callers: %v\n%s", err, out)
		}
	})
	var publishingAll sync.WaitGroup
	for _, p := range pages {
		publishingAll.Go(func() { browsertest.Eval[bool](p, fmt.Sprintf(publishing, listen)) })
		<-time.After(benchStep)
	}
	publishingAll.Wait()
	length := audioLength(b, file)
	<-time.After(length)
	for _, p := range pages {
		p.Do(browsertest.Script("hangUp()"))
	}
	for i, p := range pages {
		p.Wait("the end", 30*time.Second, "call.over")
		onset := browsertest.Eval[float64](p, "call.onset")
		events := browsertest.Eval[[]seen](p, "call.events")
		f, c := delays(b, events, onset, spoken)
		b.Logf("%s %s page %d: %d findings, first %v, confirmed %v", listen, recording, i, len(f), f, c)
		first, confirmed = append(first, f...), append(confirmed, c...)
	}
	enough()
	others.Wait()
	served.Stop()
	return first, confirmed
}

func audioLength(b *testing.B, file string) time.Duration {
	b.Helper()
	f, err := audio.OpenFile(file, audio.FileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	return f.Info().Duration
}

// spokenAt is where in the recording the words of each finding end, by rule:
// replay hears it without a network.
func spokenAt(b *testing.B, binary, file string) map[string][]time.Duration {
	b.Helper()
	out, err := exec.Command(binary, "replay", file, "--json", "--listen", "full").Output()
	if err != nil {
		b.Fatalf("replay: %v", err)
	}
	ends := make(map[string][]time.Duration)
	for line := range strings.Lines(string(out)) {
		var ev struct {
			Type string `json:"type"`
			Data struct {
				Finding finding `json:"finding"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			b.Fatal(err)
		}
		if f := ev.Data.Finding; ev.Type == "callwarden.risk.finding.v1" && f.State == "FINDING_STATE_CONFIRMED" {
			ends[f.Rule] = append(ends[f.Rule], f.end(b))
		}
	}
	return ends
}

// delays are how long after its last word each finding came, for the first
// time and confirmed. The call's media clock begins with its first packet; how
// far that is into the recording is the median of what its findings say.
func delays(b *testing.B, events []seen, onset float64, spoken map[string][]time.Duration) (first, confirmed []time.Duration) {
	b.Helper()
	var shifts []time.Duration
	for _, e := range events {
		f := e.Event.Data.Finding
		if f.State == "FINDING_STATE_CONFIRMED" && len(spoken[f.Rule]) > 0 {
			nearest := slices.MinFunc(spoken[f.Rule], func(x, y time.Duration) int {
				return cmp.Compare((x - f.end(b) - benchLead/2).Abs(), (y - f.end(b) - benchLead/2).Abs())
			})
			shifts = append(shifts, nearest-f.end(b))
		}
	}
	if len(shifts) == 0 || onset == 0 {
		b.Logf("a page without findings that replay has: %d events, onset %v", len(events), onset)
		return nil, nil
	}
	slices.Sort(shifts)
	shift := shifts[len(shifts)/2]
	// Where words end is known when the utterance is over; before that it is
	// guessed, on the late side of half a second.
	ends := make(map[string]time.Duration)
	for _, e := range events {
		if f := e.Event.Data.Finding; f.ID != "" && (ends[f.ID] == 0 || f.State == "FINDING_STATE_CONFIRMED") {
			ends[f.ID] = f.end(b)
		}
	}
	known, sure := make(map[string]bool), make(map[string]bool)
	for _, e := range events {
		f := e.Event.Data.Finding
		if e.Event.Type != "callwarden.risk.finding.v1" || f.State == "FINDING_STATE_RETRACTED" {
			continue
		}
		inMicrophone := time.Duration(onset*1e6) + ends[f.ID] + shift - benchLead
		late := (time.Duration(e.At*1e6) - inMicrophone).Round(time.Millisecond)
		if !known[f.ID] {
			known[f.ID] = true
			first = append(first, late)
		}
		if !sure[f.ID] && f.State == "FINDING_STATE_CONFIRMED" {
			sure[f.ID] = true
			confirmed = append(confirmed, late)
		}
	}
	return first, confirmed
}
