package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/cmd/internal/caller"
)

const callFile = "../../testdata/calls/fraud-code.wav"

func TestCallSendsToKnownPorts(t *testing.T) {
	var to []string
	var conns []net.PacketConn
	for range 2 {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		to, conns = append(to, conn.LocalAddr().String()), append(conns, conn)
	}
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"call", "rtp", callFile, "--to", strings.Join(to, ","), "--duration", "100ms", "--no-rtcp", "--json"}, &out, &errs)
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	var r caller.Results
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Answered != 1 || r.Packets != 10 || r.Codec != "PCMU" {
		t.Errorf("results %s", &out)
	}
	buf := make([]byte, 2000)
	for _, conn := range conns {
		for range 5 {
			if n, _, err := conn.ReadFrom(buf); err != nil || n != 172 {
				t.Errorf("a packet of %d bytes: %v", n, err)
			}
		}
	}
}

// Whoever looks at the exit code alone learns whether all went well.
func TestCallsThatAreNotTakenFail(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0") // answers every request with 486
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		buf := make([]byte, 8000)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			head, _, _ := strings.Cut(string(buf[:n]), "\r\n\r\n")
			if !strings.HasPrefix(head, "INVITE") {
				continue
			}
			answer := "SIP/2.0 486 Busy Here\r\n"
			for _, line := range strings.Split(head, "\r\n")[1:] {
				name, _, _ := strings.Cut(line, ":")
				switch name {
				case "Via", "From", "Call-ID", "CSeq":
					answer += line + "\r\n"
				case "To":
					answer += line + ";tag=busy\r\n"
				}
			}
			_, _ = conn.WriteTo([]byte(answer+"Content-Length: 0\r\n\r\n"), from)
		}
	}()
	defer func() { conn.Close(); <-answered }()
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"call", "siprec", callFile, "--to", conn.LocalAddr().String(), "--quiet"}, &out, &errs)
	if code != exitFailed || !strings.Contains(out.String(), "486 Busy Here") || !strings.Contains(out.String(), "0 of 1 calls answered") {
		t.Errorf("exit code %d: %s%s", code, &out, &errs)
	}
}

func TestCallRefusesWhatItCannotSend(t *testing.T) {
	for args, want := range map[string]string{
		"siprec " + callFile: "--to: say where",
		"siprec " + callFile + " --to 127.0.0.1:1 --loss much":                `--loss: "much"`,
		"siprec " + callFile + " --to 127.0.0.1:1 --caller up":                "--caller:",
		"siprec " + callFile + " --to 127.0.0.1:1 --leg both":                 "--leg:",
		"siprec " + callFile + " --to 127.0.0.1:1 --silent me":                "--silent:",
		"siprec " + callFile + " --to 127.0.0.1:1 --codec GSM":                "--codec:",
		"siprec --to 127.0.0.1:1":                                             "requires at least 1 arg",
		"fax":                                                                 `"fax" is no command`,
		"audiosocket " + callFile + " --to 127.0.0.1:1 --api sip:x":           "--api:",
		"rtp --calls many " + callFile + " --to 127.0.0.1:1,127.0.0.1:3":      "--calls",
		"siprec " + callFile + " --to 127.0.0.1:1 --calls 0":                  "--calls: 0 must be at least 1",
		"siprec " + callFile + " --to 127.0.0.1:1 --transport carrier-pigeon": "--transport:",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"call"}, strings.Fields(args)...), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("call %s: exit code %d, %q does not say %q", args, code, &errs, want)
		}
	}
	for args, want := range map[string]string{
		"siprec nowhere.wav --to 127.0.0.1:1":                                           "nowhere.wav",
		"rtp " + callFile + " --to 127.0.0.1:1":                                         "1 addresses for 2 legs",
		"rtp " + callFile + " --to 127.0.0.1:1,127.0.0.1:3 --calls 2":                   "cannot share the ports",
		"audiosocket " + callFile + " --to 127.0.0.1:1":                                 "two legs",
		"siprec " + callFile + " --to 127.0.0.1:1 --transport tls --tls-ca " + callFile: "no PEM certificate",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"call"}, strings.Fields(args)...), &out, &errs)
		if code != exitFailed || !strings.Contains(errs.String(), want) {
			t.Errorf("call %s: exit code %d, %q does not say %q", args, code, &errs, want)
		}
	}
}

func TestCallsAreSummedUpInWords(t *testing.T) {
	var out bytes.Buffer
	printCalls(&out, &caller.Results{
		Placed: 10, Answered: 7, Packets: 700, Spoilt: 3, Unsent: 1, Reports: 4, ReportedLost: 2, WallS: 12,
		Setup:   &caller.Times{P50: 1, P90: 2, P99: 3, Max: 4},
		Refused: map[string]int{"503 Service Unavailable": 2}, Failed: map[string]int{"no answer": 1}, Ended: map[string]int{"BYE": 1},
	})
	for _, want := range []string{
		"7 of 10 calls answered in 12 s", "p99 3.0 ms", "700 packets sent", "3 lost on purpose", "1 could not be sent",
		"2 lost, say 4 receiver reports", "refused            2  503 Service Unavailable", "failed             1  no answer", "ended by the peer  1  BYE",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, fmt.Sprint(&out))
		}
	}
}
