package media

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// BenchmarkThousandCalls is ten seconds of 1,000 calls of two legs: 100,000
// packets a second from the wire to frames. It needs a quiet machine of two
// cores and is run by
//
//	go test -run '^$' -bench ThousandCalls -benchtime 1x ./pipeline/source/media
func BenchmarkThousandCalls(b *testing.B) {
	const calls, length = 1000, 10 * time.Second
	ports := loopback(b, 4*calls)
	ports.cfg.Poll = DefaultConfig().Poll
	for b.Loop() {
		var (
			sessions []*Session
			to       []netip.AddrPort
			readers  sync.WaitGroup
		)
		for range calls {
			s := ports.NewSession(nil)
			for _, leg := range []audio.Leg{audio.Caller, audio.Callee} {
				st := addStream(b, s, StreamConfig{Leg: leg})
				to = append(to, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(st.Port())))
			}
			sessions = append(sessions, s)
			readers.Go(func() {
				for {
					if _, err := s.ReadFrame(b.Context()); err != nil {
						return
					}
				}
			})
		}
		before := usage(b, unix.RUSAGE_SELF)
		sender := make(chan time.Duration)
		go func() { sender <- send(b, to, length) }()
		spent := <-sender
		cpu := usage(b, unix.RUSAGE_SELF) - before - spent
		var packets, lost, unplaced uint64
		for _, s := range sessions {
			s.End(nil)
		}
		readers.Wait()
		for _, s := range sessions {
			c := s.Stats()
			packets, lost, unplaced = packets+c.Packets, lost+c.Lost, unplaced+c.Unplaced
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
		legSeconds := float64(2*calls) * length.Seconds()
		b.ReportMetric(float64(packets), "packets")
		b.ReportMetric(float64(lost), "lost")
		b.ReportMetric(float64(unplaced), "unplaced")
		b.ReportMetric(float64(cpu.Microseconds())/1000/legSeconds, "cpu-ms/leg-s")
	}
}

// send sends 20 ms of PCMU to each port every 20 ms and returns how much of a
// core that took.
func send(b *testing.B, to []netip.AddrPort, length time.Duration) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Error(err)
		return 0
	}
	defer conn.Close()
	packet := make([]byte, rtpHeader+160)
	packet[0] = 0x80
	began := usage(b, unix.RUSAGE_THREAD)
	tick := time.NewTicker(20 * ms)
	defer tick.Stop()
	for i := range uint32(length / (20 * ms)) {
		binary.BigEndian.PutUint16(packet[2:], uint16(i))
		binary.BigEndian.PutUint32(packet[4:], 160*i)
		for _, at := range to {
			if _, err := conn.WriteToUDPAddrPort(packet, at); err != nil {
				b.Error(err)
				return 0
			}
		}
		<-tick.C
	}
	return usage(b, unix.RUSAGE_THREAD) - began
}

// usage is the time that the process, or the thread, has had of the cores.
func usage(b *testing.B, who int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		b.Error(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
