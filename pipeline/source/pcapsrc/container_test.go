package pcapsrc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// pcapOf writes packets as a pcap file of a byte order and magic number.
func pcapOf(order binary.AppendByteOrder, magic uint32, unit time.Duration, extra int, all ...[]sent) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint16(b, 4)
	for _, v := range []uint32{0, 0, 65535, 1 | 0x14000000} { // Ethernet, and how long its checksum is
		b = order.AppendUint32(b, v)
	}
	for i, s := range inOrder(all...) {
		ip, v6 := s.ip(uint16(i))
		data := plainEthernet.wrap(ip, v6)
		at := began.Add(s.at)
		for _, v := range []uint32{uint32(at.Unix()), uint32(time.Duration(at.Nanosecond()) / unit), uint32(len(data)), uint32(len(data))} {
			b = order.AppendUint32(b, v)
		}
		b = append(b, make([]byte, extra)...)
		b = append(b, data...)
	}
	return b
}

func TestPcapIsReadInEachOrderAndUnit(t *testing.T) {
	pcm := speech(3200, 1)
	for name, file := range map[string][]byte{
		"little-endian, microseconds":              pcapOf(binary.LittleEndian, 0xa1b2c3d4, time.Microsecond, 0, talk(0, phoneA, phoneB, 1, pcm)),
		"big-endian, microseconds":                 pcapOf(binary.BigEndian, 0xa1b2c3d4, time.Microsecond, 0, talk(0, phoneA, phoneB, 1, pcm)),
		"little-endian, nanoseconds":               pcapOf(binary.LittleEndian, 0xa1b23c4d, time.Nanosecond, 0, talk(0, phoneA, phoneB, 1, pcm)),
		"big-endian, nanoseconds":                  pcapOf(binary.BigEndian, 0xa1b23c4d, time.Nanosecond, 0, talk(0, phoneA, phoneB, 1, pcm)),
		"little-endian, microseconds, Kuznetzov's": pcapOf(binary.LittleEndian, 0xa1b2cd34, time.Microsecond, 8, talk(0, phoneA, phoneB, 1, pcm)),
	} {
		f := one(t, file, Options{})
		if !slices.Equal(f.pcm[audio.Unknown], heardOf(pcm)) || !f.Began.Equal(began) || f.Duration != 380*ms {
			t.Errorf("%s: %d samples, began %v, took %v", name, len(f.pcm[audio.Unknown]), f.Began, f.Duration)
		}
	}
}

// ngOf writes packets as pcapng, those of each list by an interface of its own.
func ngOf(t testing.TB, interfaces []pcapgo.NgInterface, all ...[]sent) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&buf, interfaces[0], pcapgo.DefaultNgWriterOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces[1:] {
		if _, err := w.AddInterface(i); err != nil {
			t.Fatal(err)
		}
	}
	of := make(map[*byte]int)
	for i, list := range all {
		for _, s := range list {
			of[&s.payload[0]] = i
		}
	}
	for i, s := range inOrder(all...) {
		ip, v6 := s.ip(uint16(i))
		nic := of[&s.payload[0]]
		b := ip
		if interfaces[nic].LinkType == layers.LinkTypeEthernet {
			b = plainEthernet.wrap(ip, v6)
		}
		info := gopacket.CaptureInfo{Timestamp: began.Add(s.at), Length: len(b), CaptureLength: len(b), InterfaceIndex: nic}
		if err := w.WritePacket(info, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var twoInterfaces = []pcapgo.NgInterface{
	{Name: "eth0", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9},
	{Name: "tun0", LinkType: layers.LinkTypeRaw, TimestampResolution: 6},
}

func TestPcapngIsReadByInterface(t *testing.T) {
	a, b := speech(3200, 1), speech(3200, 2)
	file := ngOf(t, twoInterfaces, talk(0, phoneA, phoneB, 1, a), talk(10*ms, phoneB, phoneA, 2, b))
	check := func(name string, file []byte) {
		f := one(t, file, Options{})
		if !slices.Equal(f.pcm[audio.Caller], heardOf(a)) || !slices.Equal(f.pcm[audio.Callee], heardOf(b)) || !f.Began.Equal(began) || f.start[audio.Callee] != 10*ms {
			t.Errorf("%s: began %v, %v, %d and %d samples", name, f.Began, f.start, len(f.pcm[audio.Caller]), len(f.pcm[audio.Callee]))
		}
	}
	check("of two interfaces", file)
	other := ngOf(t, twoInterfaces[:1], talk(time.Hour, "192.0.2.9:4000", phoneB, 3, a))
	all, _, err := hear(t, append(slices.Clone(file), other...), Options{})
	if err != nil || len(all) != 2 || !slices.Equal(all[1].pcm[audio.Unknown], heardOf(a)) {
		t.Errorf("of two sections: %d calls, %v", len(all), err)
	}
}

// block is a pcapng block.
func ngBlock(order binary.AppendByteOrder, kind uint32, body ...byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	b := order.AppendUint32(nil, kind)
	b = order.AppendUint32(b, uint32(12+len(body)))
	b = append(b, body...)
	return order.AppendUint32(b, uint32(12+len(body)))
}

func TestPcapngBlocksOfAllKindsAreRead(t *testing.T) {
	order := binary.BigEndian
	pcm := speech(3200, 1)
	section := ngBlock(order, blockSection, order.AppendUint64(order.AppendUint32(order.AppendUint32(nil, 0x1a2b3c4d), 1<<16), 1<<64-1)...)
	// 2^-20 seconds a tick, an hour added.
	options := []byte{0, 9, 0, 1, 0x80 | 20, 0, 0, 0, 0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0x0e, 0x10, 0, 0, 0, 0}
	description := ngBlock(order, blockInterface, append([]byte{0, linkRaw, 0, 0, 0, 0, 0xff, 0xff}, options...)...)
	statistics := ngBlock(order, 5, make([]byte, 8)...)
	for name, wrap := range map[string]func(at time.Time, data []byte) []byte{
		"enhanced": func(at time.Time, data []byte) []byte {
			at = at.Add(-time.Hour)
			ticks := uint64(at.Unix())<<20 + uint64(at.Nanosecond())<<20/1e9
			head := order.AppendUint32(order.AppendUint64(make([]byte, 4), ticks), uint32(len(data)))
			return ngBlock(order, blockEnhanced, append(order.AppendUint32(head, uint32(len(data))), data...)...)
		},
		"obsolete": func(at time.Time, data []byte) []byte {
			at = at.Add(-time.Hour)
			ticks := uint64(at.Unix())<<20 + uint64(at.Nanosecond())<<20/1e9
			head := order.AppendUint32(order.AppendUint64(make([]byte, 4), ticks), uint32(len(data)))
			return ngBlock(order, blockOldPacket, append(order.AppendUint32(head, uint32(len(data))), data...)...)
		},
		"simple, without times": func(_ time.Time, data []byte) []byte {
			return ngBlock(order, blockSimple, append(order.AppendUint32(nil, uint32(len(data))), data...)...)
		},
	} {
		file := slices.Concat(section, statistics, description)
		for i, s := range talk(0, phoneA, phoneB, 1, pcm) {
			ip, _ := s.ip(uint16(i))
			file = append(file, wrap(began.Add(s.at), ip)...)
		}
		f := one(t, file, Options{})
		if !slices.Equal(f.pcm[audio.Unknown], heardOf(pcm)) {
			t.Errorf("%s: %d samples, %q", name, len(f.pcm[audio.Unknown]), f.warnings)
		}
		if off := f.Began.Sub(began).Abs(); name != "simple, without times" && off > 2*time.Microsecond {
			t.Errorf("%s: began %v", name, f.Began)
		}
	}
}

func TestClockUnitsAreExact(t *testing.T) {
	for _, c := range []struct {
		ticks ticks
		n     uint64
		want  time.Duration
	}{
		{ticks{exp: 6}, 1_234_567, 1_234_567_000},
		{ticks{exp: 9}, 1_234_567, 1_234_567},
		{ticks{exp: 0}, 3, 3 * time.Second},
		{ticks{exp: 12}, 5_999, 5},
		{ticks{exp: 127}, 1 << 63, 0},
		{ticks{exp: 10, binary: true}, 1 << 11, 2 * time.Second},
		{ticks{exp: 0, binary: true}, 7, 7 * time.Second},
		{ticks{exp: 32, binary: true}, 1<<33 + 1<<31, 2500 * time.Millisecond},
		{ticks{exp: 70, binary: true}, 1 << 63, 7812500},
		{ticks{exp: 3, offset: -1}, 1500, 500 * time.Millisecond},
	} {
		if got := c.ticks.time(c.n); got != c.want {
			t.Errorf("%+v of %d: %v, want %v", c.ticks, c.n, got, c.want)
		}
	}
}

func TestCaptureCutInAPacketIsHeardUntilThere(t *testing.T) {
	pcm := speech(8000, 1)
	for name, whole := range map[string][]byte{
		"pcap":   capture(plainEthernet, 65535, talk(0, phoneA, phoneB, 1, pcm)),
		"pcapng": ngOf(t, twoInterfaces[:1], talk(0, phoneA, phoneB, 1, pcm)),
	} {
		for _, less := range []int{1, 100, 229} {
			f := one(t, whole[:len(whole)-less], Options{})
			n := len(f.pcm[audio.Unknown])
			if n < 8000-2*160 || n >= 8000 || !slices.Equal(f.pcm[audio.Unknown], heardOf(pcm)[:n]) {
				t.Errorf("%s without %d bytes: %d samples", name, less, n)
			}
			if len(f.warnings) != 1 || !strings.Contains(f.warnings[0], "ends within a packet") {
				t.Errorf("%s without %d bytes: warnings %q", name, less, f.warnings)
			}
		}
	}
}

func TestCaptureThatBreaksIsHeardUntilThere(t *testing.T) {
	file := capture(plainEthernet, 65535, talk(0, phoneA, phoneB, 1, speech(8000, 1)))
	file = append(file, bytes.Repeat([]byte{0xff}, 100)...)
	f := one(t, file, Options{})
	if len(f.pcm[audio.Unknown]) != 8000 || len(f.warnings) != 1 || !strings.Contains(f.warnings[0], "cannot be read any further") {
		t.Errorf("%d samples, warnings %q", len(f.pcm[audio.Unknown]), f.warnings)
	}
}

func TestWhatIsNoCaptureSaysWhatItIs(t *testing.T) {
	good := capture(plainEthernet, 65535)
	for name, c := range map[string]struct {
		file []byte
		err  error
		want string
	}{
		"empty":            {nil, ErrFormat, "0 bytes"},
		"short":            {[]byte{0xa1, 0xb2}, ErrFormat, "2 bytes"},
		"cut header":       {good[:10], ErrFormat, "header"},
		"gzip":             {[]byte{0x1f, 0x8b, 8, 0, 0}, ErrFormat, "gunzip"},
		"a recording":      {[]byte("RIFF....WAVE"), ErrFormat, "52 49 46 46"},
		"no packets":       {good, ErrNoCalls, "in 0 packets"},
		"huge packet":      {append(slices.Clone(good), bytes.Repeat([]byte{0x7f}, 16)...), ErrFormat, "limit 1048576"},
		"section of chaos": {append([]byte{0x0a, 0x0d, 0x0d, 0x0a}, make([]byte, 20)...), ErrFormat, "byte order"},
		"block of nothing": {append(ngBlock(binary.LittleEndian, blockSection, binary.LittleEndian.AppendUint32(nil, 0x1a2b3c4d)...), make([]byte, 12)...), ErrFormat, "block of 0 bytes"},
		"no interface":     {append(ngBlock(binary.LittleEndian, blockSection, binary.LittleEndian.AppendUint32(nil, 0x1a2b3c4d)...), ngBlock(binary.LittleEndian, blockEnhanced, make([]byte, 20)...)...), ErrFormat, "packet block"},
		"other link":       {capture(link{layers.LinkTypeIEEE802_11, plainEthernet.wrap}, 65535, talk(0, phoneA, phoneB, 1, speech(1600, 1))), ErrNoCalls, "10 packets of link type 105"},
	} {
		_, _, err := hear(t, c.file, Options{})
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %q", name, err, c.want)
		}
	}
}

func TestTimesThatGoBackAreOneClock(t *testing.T) {
	pcm := speech(16000, 1)
	packets := talk(0, phoneA, phoneB, 1, pcm)
	for i := 50; i < 100; i++ {
		packets[i].at -= time.Hour // the clock was set
	}
	var file bytes.Buffer
	w := pcapgo.NewWriterNanos(&file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, s := range packets {
		if i%7 == 3 && i < 50 {
			s.at -= 30 * ms // packets passed each other
		}
		ip, v6 := s.ip(uint16(i))
		b := plainEthernet.wrap(ip, v6)
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: began.Add(s.at), Length: len(b), CaptureLength: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
	f := one(t, file.Bytes(), Options{})
	if !slices.Equal(f.pcm[audio.Unknown], heardOf(pcm)) || f.Duration > 2*time.Second || len(f.warnings) != 0 {
		t.Errorf("%d samples in %v, warnings %q", len(f.pcm[audio.Unknown]), f.Duration, f.warnings)
	}
}

func TestPacketsWithoutTimesArePlacedByTheirOwnClock(t *testing.T) {
	a, b := speech(5*8000, 1), speech(5*8000, 2)
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, s := range append(talk(0, phoneA, phoneB, 1, a), talk(0, phoneB, phoneA, 2, b)...) { // one leg after the other
		ip, v6 := s.ip(uint16(i))
		p := plainEthernet.wrap(ip, v6)
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: began, Length: len(p), CaptureLength: len(p)}, p); err != nil {
			t.Fatal(err)
		}
	}
	all, _, err := hear(t, file.Bytes(), Options{})
	if err != nil || len(all) != 1 {
		t.Fatalf("%d calls, %v", len(all), err)
	}
	f := all[0]
	if !slices.Equal(f.pcm[audio.Caller], heardOf(a)) || !slices.Equal(f.pcm[audio.Callee], heardOf(b)) || f.start[audio.Callee] != 0 {
		t.Errorf("%d and %d samples from %v", len(f.pcm[audio.Caller]), len(f.pcm[audio.Callee]), f.start)
	}
	if len(f.warnings) != 2 || !strings.Contains(f.warnings[0], "by their own clock") {
		t.Errorf("warnings %q", f.warnings)
	}
}

func TestPacketsCapturedInPartAreHeardInPart(t *testing.T) {
	f := one(t, capture(plainEthernet, 14+20+8+12+80, talk(0, phoneA, phoneB, 1, speech(8000, 1))), Options{})
	if len(f.warnings) != 1 || f.warnings[0] != "50 of 50 packets were captured without their end, and heard without it" {
		t.Errorf("warnings %q", f.warnings)
	}
	sound := 0
	for _, v := range f.pcm[audio.Unknown] {
		if v != 0 {
			sound++
		}
	}
	if sound < 3500 || sound > 4500 {
		t.Errorf("%d samples of sound, want the first half of each packet", sound)
	}
}

func TestScanStopsWhenItsContextEnds(t *testing.T) {
	file := capture(plainEthernet, 65535, talk(0, phoneA, phoneB, 1, speech(160*checkEvery, 1)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := open(ctx, "x", bytes.NewReader(file), int64(len(file)), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// seeds are small captures of every kind.
func seeds(t testing.TB) [][]byte {
	a := speech(1600, 1)
	var fragmented []byte
	for _, c := range links {
		if c.name == "IPv4 fragments, out of order" {
			fragmented = c.file(a)
		}
	}
	return [][]byte{
		capture(plainEthernet, 65535, plainCall().messages(), talk(100*ms, phoneA, phoneB, 1, a), talk(100*ms, phoneB, phoneA, 2, a)),
		ngOf(t, twoInterfaces, talk(0, phoneA, phoneB, 1, a), talk(0, phoneB, phoneA, 2, a)),
		pcapOf(binary.BigEndian, 0xa1b2c3d4, time.Microsecond, 0, talk(0, "[2001:db8::1]:4000", "[2001:db8::2]:4000", 1, a)),
		capture(plainEthernet, 70, talk(0, phoneA, phoneB, 1, a)),
		fragmented,
	}
}

// Whatever the file, it is read to its end: frames of a leg are in order and
// do not overlap, and hold no more sound than the packets can.
func FuzzCapture(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := open(context.Background(), "x", bytes.NewReader(file), int64(len(file)), Options{})
		if err != nil {
			return
		}
		for _, call := range c.Calls() {
			if call.deaf != nil {
				continue
			}
			r, err := call.read(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			ends := make(map[audio.Leg]time.Duration)
			samples := 0
			for {
				frame, err := r.ReadFrame(context.Background())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(call.Legs, frame.Leg) || frame.Start < ends[frame.Leg] {
					t.Fatalf("frame of %v at %v after %v", frame.Leg, frame.Start, ends[frame.Leg])
				}
				ends[frame.Leg] = frame.End()
				samples += len(frame.PCM)
			}
			if samples > 48_000*(1+len(file)) {
				t.Fatalf("%d samples of a file of %d bytes", samples, len(file))
			}
			r.Warnings()
		}
	})
}

func TestOpenNamesAFileThatIsMissing(t *testing.T) {
	if _, err := Open(context.Background(), t.TempDir()+"/none.pcap", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
