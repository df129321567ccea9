//go:build e2e

package desktest_test

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/memory"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
	"github.com/callwarden/callwarden/cmd/internal/desk"
	"github.com/callwarden/callwarden/cmd/internal/desk/desktest"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// What make bench-desk measures; each benchmark runs once.
var (
	soak   = flag.Duration("soak", time.Minute, "how long memory is watched")
	stirs  = flag.Int("soak-events", 500, "events a second meanwhile: ten times what a busy desk has")
	figure = 300 // calls at once
)

// watching notes when the score of a call was changed on the screen: the frame
// after the one in which its text changed has begun.
const watching = `(() => {
	window.seen = [];
	const pending = new Map();
	let asked = false;
	new MutationObserver(list => {
		for (const m of list) {
			const row = (m.target.nodeType === 3 ? m.target.parentElement : m.target).closest?.("li.call");
			if (row) pending.set(row, true);
		}
		if (asked) return;
		asked = true;
		requestAnimationFrame(() => {
			asked = false;
			const now = performance.timeOrigin + performance.now();
			for (const row of pending.keys()) {
				const id = row.querySelector("a").getAttribute("href").slice(-3), score = row.querySelector(".score").textContent;
				window.seen.push([Number(id), score, now]);
			}
			pending.clear();
		});
	}).observe(document.querySelector("main"), {subtree: true, childList: true, characterData: true});
})()`

// From an event being given to the NATS client to its being on the screen, of a
// desk with 300 live calls and 50 events a second.
func BenchmarkEventToPixels(b *testing.B) {
	s := open(b, nil)
	crowd := s.crowd(figure)
	p := browsertest.Start(b, browsertest.Config{}).Page(b)
	p.Open(s.URL + "/")
	p.Wait("all calls", 2*soon, fmt.Sprintf("%s === %d", rows, figure))
	browsertest.Eval[any](p, watching)
	type key struct {
		call  int
		score string
	}
	for range b.N {
		told := make(map[key]time.Time)
		tick := time.NewTicker(20 * time.Millisecond)
		for range 30 * 50 { // half a minute
			<-tick.C
			at := time.Now()
			i, score, err := crowd.event(b.Context())
			s.must(err)
			told[key{i, score}] = at
		}
		tick.Stop()
		var took []float64
		var missing int
		s.await("the last events", func() bool {
			seen := browsertest.Eval[[][3]any](p, "window.seen")
			first := make(map[key]float64)
			for _, e := range seen {
				k := key{int(e[0].(float64)), e[1].(string)}
				if _, ok := first[k]; !ok {
					first[k] = e[2].(float64)
				}
			}
			took, missing = took[:0], 0
			for k, at := range told {
				if ms, ok := first[k]; ok {
					took = append(took, ms-float64(at.UnixMicro())/1000)
				} else {
					missing++
				}
			}
			return missing == 0
		})
		b.ReportMetric(quantile(took, 0.5), "p50-ms")
		b.ReportMetric(quantile(took, 0.95), "p95-ms")
		b.ReportMetric(quantile(took, 1), "worst-ms")
		frames := browsertest.Eval[[]float64](p, scrolling)
		b.ReportMetric(quantile(frames, 0.5), "frame-p50-ms")
		b.ReportMetric(quantile(frames, 0.95), "frame-p95-ms")
		b.ReportMetric(0, "ns/op")
		b.Logf("%d events, %d calls", len(took), figure)
	}
}

// From the address to calls that can be read, of a browser that has nothing of
// the page yet.
func BenchmarkFirstPaint(b *testing.B) {
	s := open(b, nil)
	s.crowd(figure)
	chromium := browsertest.Start(b, browsertest.Config{})
	warm := chromium.Page(b)
	warm.Open(s.URL + "/")
	warm.Wait("all calls", 2*soon, fmt.Sprintf("%s === %d", rows, figure))
	warm.Close()
	for range b.N {
		var paints, calls []float64
		for range 9 {
			p := chromium.Page(b) // shares no cache
			p.Open(s.URL + "/")
			p.Wait("the calls", soon, `performance.getEntriesByName("calls shown").length`)
			paints = append(paints, browsertest.Eval[float64](p, `performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? -1`))
			calls = append(calls, browsertest.Eval[float64](p, `performance.getEntriesByName("calls shown")[0].startTime`))
			p.Open("about:blank")
		}
		b.ReportMetric(quantile(paints, 0.5), "paint-ms")
		b.ReportMetric(quantile(calls, 0.5), "calls-p50-ms")
		b.ReportMetric(quantile(calls, 1), "calls-worst-ms")
		b.ReportMetric(0, "ns/op")
	}
}

// What the pages hold on to while events come: the overview of 300 calls of
// which some end and others begin, and a call in which much is said.
func BenchmarkMemory(b *testing.B) {
	s := open(b, func(_ string, cfg *desk.Config) { cfg.Keep, cfg.Dir = 20*time.Second, "" })
	crowd := s.crowd(figure)
	talk := s.call("talk", time.Second, "from", "+1 415 ### ####")
	chromium := browsertest.Start(b, browsertest.Config{})
	overview, view := chromium.Page(b), browsertest.Start(b, browsertest.Config{}).Page(b)
	overview.Open(s.URL + "/#/?ended=all")
	overview.Wait("all calls", 2*soon, fmt.Sprintf("%s === %d", rows, figure+1))
	view.Open(s.URL + "/#/call/default/talk")
	view.WaitText(soon, ".verdict", "No sign")
	for range b.N {
		ctx, cancel := context.WithCancel(b.Context())
		var group sync.WaitGroup
		stop := crowd.stir(*stirs)
		group.Go(func() { talks(ctx, b, s, talk) })
		var first, last [2]float64
		const points = 10
		began := time.Now()
		for i := range points + 1 {
			at := began.Add(20*time.Second + time.Duration(i)*(*soak)/points)
			t := time.NewTimer(time.Until(at))
			<-t.C
			last = [2]float64{held(b, overview), held(b, view)}
			if i == 0 {
				first = last
			}
			b.Logf("after %4.0f s: overview %5.2f MB and %6.0f nodes, call %5.2f MB and %6.0f nodes", time.Since(began).Seconds(), last[0], nodes(b, overview), last[1], nodes(b, view))
		}
		cancel()
		group.Wait()
		stop()
		b.ReportMetric(float64(crowd.round*figure+crowd.next), "events")
		b.ReportMetric(first[0], "overview-first-MB")
		b.ReportMetric(last[0], "overview-last-MB")
		b.ReportMetric(first[1], "call-first-MB")
		b.ReportMetric(last[1], "call-last-MB")
		b.ReportMetric(0, "ns/op")
	}
}

// talks says ten stretches a second in a call, and every second ends one other
// call and begins another.
func talks(ctx context.Context, b *testing.B, s *station, c *desktest.Call) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var one *desktest.Call
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		at := time.Duration(i) * 100 * time.Millisecond
		leg := desktest.Caller + callwardenv1.Leg(i%2)
		if _, err := c.Say(ctx, leg, at, fmt.Sprintf("stretch %d of a long talk", i), true); err != nil && ctx.Err() == nil {
			b.Error(err)
		}
		if i%10 != 0 {
			continue
		}
		if err := c.Sound(ctx, at, [10]byte{20, 30}, [10]byte{40, 50}); err != nil && ctx.Err() == nil {
			b.Error(err)
		}
		if one != nil {
			if err := one.End(ctx); err != nil && ctx.Err() == nil {
				b.Error(err)
			}
		}
		var err error
		if one, err = desktest.Start(ctx, s.out, fmt.Sprintf("short-%d", i), 0, nil); err != nil && ctx.Err() == nil {
			b.Error(err)
		}
	}
}

// held is the page's heap after garbage was collected, in MB.
func held(b *testing.B, p *browsertest.Page) float64 {
	b.Helper()
	var used float64
	p.Do(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		for range 2 {
			if _, err := cdp.Call(ctx, t, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
				return chromedp.Void{}, err
			}
		}
		r, err := cdp.Call(ctx, t, cdpruntime.GetHeapUsage, cdp.Empty{})
		used = float64(r.UsedSize) / 1e6
		return chromedp.Void{}, err
	})
	return used
}

func nodes(b *testing.B, p *browsertest.Page) float64 {
	b.Helper()
	var n float64
	p.Do(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		r, err := cdp.Call(ctx, t, memory.GetDOMCounters, cdp.Empty{})
		n = float64(r.Nodes)
		return chromedp.Void{}, err
	})
	return n
}
