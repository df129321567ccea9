package grpcsrc

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// BenchmarkWatch is from the publishing of an event until the last of so many
// watchers has it in hand.
func BenchmarkWatch(b *testing.B) {
	for _, watchers := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			r, fan := watched(b, defaultLimits(), nil)
			publish(b, fan, "bank", "a", 1, &callwardenv1.CallStarted{})
			var wires []grpc.ServerStreamingClient[callwardenv1.WatchResponse]
			for range watchers {
				wire, err := r.client.Watch(b.Context(), &callwardenv1.WatchRequest{})
				if err != nil {
					b.Fatal(err)
				}
				for range 2 { // state, current
					if _, err := wire.Recv(); err != nil {
						b.Fatal(err)
					}
				}
				wires = append(wires, wire)
			}
			ev := sink.Event{ID: "x", Type: sink.RiskLevel, Tenant: "bank", Call: "a", Data: &callwardenv1.RiskLevel{Advice: &callwardenv1.Advice{Text: "Do not read out the code."}}}
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				_ = fan.Publish(b.Context(), ev)
				for _, wire := range wires {
					if _, err := wire.Recv(); err != nil {
						b.Fatal(err)
					}
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
		})
	}
}
