package desk

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkEventToWire is an event of one of 300 calls from its publisher over
// NATS to the bytes of a stream, one after the other. deskload measures it at
// a given rate, and the desk by itself.
func BenchmarkEventToWire(b *testing.B) {
	s := startSite(b, nil)
	calls := make([]*call, 300)
	for i := range calls {
		calls[i] = s.call(fmt.Sprint("c", i))
		calls[i].start()
	}
	calls[299].seen()
	stream := s.stream("/api/live")
	stream.next("snapshot")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		calls[n%300].find(fmt.Sprint("f", n/300%10), float64(n%14), notice, time.Duration(n)*time.Millisecond)
		stream.next("delta")
		n++
	}
}
