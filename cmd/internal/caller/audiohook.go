package caller

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// hookSpan is how many packets of 20 ms a message of audio carries: contact
	// centres send 100 to 200 ms.
	hookSpan = 5
	// hookQueue is how many messages may wait for a peer that does not read: 10 s.
	hookQueue = 100

	// What clients of AudioHook wait for answers, at most.
	openWithin  = 5 * time.Second
	closeWithin = 10 * time.Second
	pingEvery   = 5 * time.Second
)

// audioHook is a contact centre's end of AudioHook version 2: a WebSocket for
// each call.
type audioHook struct {
	cfg    Config
	watch  *Progress
	to     *url.URL
	secret []byte // nil: requests are not signed
	client *http.Client
	pacer  *pacer
	plays  []*hookPlay // what calls play, in turn
	org    string
	print  sync.Mutex

	packets, unsent, events atomic.Uint64
}

// hookPlay is a recording as messages of audio, its channels interleaved.
type hookPlay struct {
	rec      *Recording
	channels []string
	messages [][]byte
}

func (c Config) validateAudioHook() error {
	u, err := url.Parse(c.To)
	if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" {
		return fmt.Errorf("--to: %q must be ws://HOST:PORT/PATH, or wss", c.To)
	}
	if c.ClientSecret != "" {
		if c.APIKey == "" {
			return errors.New("--client-secret: needs --api-key")
		}
		if _, err := base64.StdEncoding.DecodeString(c.ClientSecret); err != nil {
			return errors.New("--client-secret: must be base64")
		}
	}
	switch strings.ToUpper(c.Codec) {
	case "PCMU", "L16":
		return nil
	}
	return fmt.Errorf("--codec: AudioHook has no %s: use PCMU or L16", c.Codec)
}

func newAudioHook(cfg Config, recs []*Recording, watch *Progress) (*audioHook, error) {
	to, err := url.Parse(cfg.To)
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	a := &audioHook{cfg: cfg, watch: watch, to: to, pacer: &pacer{flush: func() {}}, org: uuid.NewString()}
	if a.secret, err = base64.StdEncoding.DecodeString(cfg.ClientSecret); err != nil {
		return nil, fmt.Errorf("--client-secret: %w", err)
	}
	if a.client, err = cfg.webSocketClient(); err != nil {
		return nil, err
	}
	for _, rec := range recs {
		p, err := newHookPlay(rec, strings.EqualFold(cfg.Codec, "L16"), cfg.Silent)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rec.Path, err)
		}
		a.plays = append(a.plays, p)
	}
	return a, nil
}

// webSocketClient dials from the address and with the trust that c says.
func (c Config) webSocketClient() (*http.Client, error) {
	d := &net.Dialer{Timeout: hangUpWithin}
	if c.Bind != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.Bind)}
	}
	t := &http.Transport{DialContext: d.DialContext, TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure, //nolint:gosec // when the user says so
	}}
	var err error
	if t.TLSClientConfig.RootCAs, err = c.roots(); err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

// roots are the authorities that are trusted: nil for those of the system.
func (c Config) roots() (*x509.CertPool, error) {
	if c.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca: no certificate in %s", c.CA)
	}
	return roots, nil
}

// newHookPlay interleaves the sides of rec: the caller is who the contact
// centre calls external.
func newHookPlay(rec *Recording, linear bool, silent audio.Leg) (*hookPlay, error) {
	p := &hookPlay{rec: rec}
	var sides [][]int16
	for _, side := range rec.Legs {
		pcm, err := resampled(side.PCM, rec.RateHz, 8000)
		if err != nil {
			return nil, err
		}
		if silent != audio.Unknown && side.Leg == silent {
			pcm = make([]int16, len(pcm))
		}
		sides = append(sides, pcm)
		if side.Leg == audio.Callee {
			p.channels = append(p.channels, "internal")
		} else {
			p.channels = append(p.channels, "external")
		}
	}
	const each = hookSpan * 160 // samples
	for from := 0; from < len(sides[0]); from += each {
		var b []byte
		for i := from; i < from+each; i++ {
			for _, pcm := range sides {
				v := int16(0)
				if i < len(pcm) {
					v = pcm[i]
				}
				if linear {
					b = binary.LittleEndian.AppendUint16(b, uint16(v))
				} else {
					b = audio.MuLaw.Encode(b, []int16{v})
				}
			}
		}
		p.messages = append(p.messages, b)
	}
	return p, nil
}

// run implements way.
func (a *audioHook) run(ctx context.Context) error {
	a.pacer.run(ctx)
	return nil
}

// place implements way.
func (a *audioHook) place(ctx context.Context, n int) outcome {
	p := a.plays[n%len(a.plays)]
	h := &hook{a: a, play: p, id: uuid.NewString(), answers: make(chan answer, 4), audio: make(chan []byte, hookQueue), flushed: make(chan struct{})}
	h.from, h.packets = a.cfg.packets(n, len(p.messages)*hookSpan)
	h.from /= hookSpan
	if err := h.connect(ctx); err != nil {
		return failed(err)
	}
	var working sync.WaitGroup
	defer working.Wait()
	defer func() { _ = h.ws.CloseNow() }()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	working.Go(func() { h.read(life) })
	working.Go(func() { h.write(life) })
	begin := time.Now()
	opened, err := h.ask(ctx, "open", a.opening(p), "", openWithin)
	switch {
	case err != nil:
		return outcome{err: err}
	case opened.kind == "disconnect":
		_ = h.close("disconnect") // it is refused anyhow
		return outcome{refusal: "disconnect: " + opened.why}
	case opened.kind != "opened":
		return outcome{err: fmt.Errorf("open was answered by %.40q", opened.kind)}
	}
	o := outcome{answered: true, setup: time.Since(begin)}
	a.watch.Up.Add(1)
	defer a.watch.Up.Add(-1)
	connected := time.Now()
	o.end = h.talk(ctx)
	o.seconds = time.Since(connected).Seconds()
	if o.end != "" && time.Since(connected) < refusedWithin && strings.HasPrefix(o.end, "disconnect") {
		o = outcome{refusal: o.end}
	}
	if !a.cfg.DropBye && o.end != endBroken {
		reason := "end"
		if o.end != "" || o.refusal != "" {
			reason = "disconnect"
		}
		if err := h.close(reason); err != nil && o.err == nil {
			o.err = err
		}
	}
	return o
}

const endBroken = "connection closed"

// opening are the parameters of open.
func (a *audioHook) opening(p *hookPlay) any {
	type m = map[string]any
	format := strings.ToUpper(a.cfg.Codec)
	offer := []m{{"type": "audio", "format": format, "channels": p.channels, "rate": 8000}}
	return m{
		"organizationId": a.org, "conversationId": uuid.NewString(),
		"participant": m{"id": uuid.NewString(), "ani": "tel:" + a.cfg.From, "aniName": a.cfg.FromName, "dnis": "tel:" + a.cfg.Number},
		"media":       offer,
	}
}

// count implements way.
func (a *audioHook) count(r *Results) {
	r.Packets, r.Unsent, r.Events = a.packets.Load(), a.unsent.Load(), a.events.Load()
	r.Behind = float64(a.pacer.lateness().Microseconds()) / 1000
}

// close implements way.
func (a *audioHook) close() error {
	a.client.CloseIdleConnections()
	return nil
}

// headers are those of a request to a.to (the protocol's "HTTP message
// signature", draft-ietf-httpbis-message-signatures-11).
func (a *audioHook) headers(session string, now time.Time) http.Header {
	h := make(http.Header)
	h.Set("Audiohook-Organization-Id", a.org)
	h.Set("Audiohook-Session-Id", session)
	h.Set("Audiohook-Correlation-Id", uuid.NewString())
	if a.cfg.Token != "" {
		h.Set("Authorization", "Bearer "+a.cfg.Token)
	}
	if a.cfg.APIKey == "" {
		return h
	}
	h.Set("X-Api-Key", a.cfg.APIKey)
	if len(a.secret) == 0 {
		return h
	}
	authority := strings.TrimSuffix(strings.ToLower(a.to.Host), map[string]string{"ws": ":80", "wss": ":443"}[a.to.Scheme])
	var base, names strings.Builder
	for i, c := range [][2]string{
		{"@request-target", a.to.RequestURI()},
		{"@authority", authority},
		{"audiohook-organization-id", a.org},
		{"audiohook-session-id", session},
		{"audiohook-correlation-id", h.Get("Audiohook-Correlation-Id")},
		{"x-api-key", a.cfg.APIKey},
	} {
		if i > 0 {
			names.WriteByte(' ')
		}
		fmt.Fprintf(&names, "%q", c[0])
		fmt.Fprintf(&base, "%q: %s\n", c[0], c[1])
	}
	params := fmt.Sprintf("(%s);keyid=%q;nonce=%q;alg=\"hmac-sha256\";created=%d;expires=%d", names.String(), a.cfg.APIKey, rand.Text(), now.Unix(), now.Unix()+10)
	fmt.Fprintf(&base, "%q: %s", "@signature-params", params)
	mac := hmac.New(sha256.New, a.secret)
	mac.Write([]byte(base.String()))
	h.Set("Signature-Input", "sig1="+params)
	h.Set("Signature", "sig1=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":")
	return h
}

// hook is one call.
type hook struct {
	a       *audioHook
	play    *hookPlay
	id      string
	ws      *websocket.Conn
	from    int // message that it begins with
	packets int // of 20 ms

	audio   chan []byte   // the pacer's goroutine sends, then flush a nil; write takes
	flushed chan struct{} // closed by write after the nil
	answers chan answer   // read sends; cap: open, closed and disconnect at most wait

	mu             sync.Mutex
	seq, serverSeq int
	sent           time.Duration // position
}

// answer is a message of the server that somebody waits for.
type answer struct{ kind, why string }

func (h *hook) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	ws, err := dialSocket(ctx, h.a.to, &websocket.DialOptions{HTTPClient: h.a.client, HTTPHeader: h.a.headers(h.id, time.Now())})
	if err != nil {
		return err
	}
	ws.SetReadLimit(1 << 20)
	h.ws = ws
	return nil
}

// send writes a message of the protocol.
func (h *hook) send(ctx context.Context, kind string, parameters any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	data, err := json.Marshal(map[string]any{
		"version": "2", "id": h.id, "type": kind, "seq": h.seq, "serverseq": h.serverSeq,
		"position": "PT" + strconv.FormatFloat(h.sent.Seconds(), 'f', -1, 64) + "S", "parameters": parameters,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, closeWithin)
	defer cancel()
	return h.ws.Write(ctx, websocket.MessageText, data)
}

// ask sends a message and waits for an answer, one of a kind where it is given.
func (h *hook) ask(ctx context.Context, kind string, parameters any, want string, within time.Duration) (answer, error) {
	if err := h.send(ctx, kind, parameters); err != nil {
		return answer{}, err
	}
	t := time.NewTimer(within)
	defer t.Stop()
	for {
		select {
		case got := <-h.answers:
			if got.kind == "" {
				return got, errors.New(endBroken)
			}
			if want == "" || got.kind == want {
				return got, nil
			}
		case <-t.C:
			return answer{}, fmt.Errorf("%s was not answered within %v", kind, within)
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
	}
}

// close ends the session, also where the calls have to end.
func (h *hook) close(reason string) error {
	_, err := h.ask(context.Background(), "close", map[string]string{"reason": reason}, "closed", closeWithin)
	return err
}

// talk plays the call to its end, until ctx ends, or until the peer ends it,
// and returns why it did.
func (h *hook) talk(ctx context.Context) (end string) {
	playing := h.a.pacer.add(h)
	defer h.a.pacer.stop(playing...)
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-playing[0].done:
			h.flush()
			return ""
		case <-ctx.Done():
			return ""
		case <-ping.C:
			if err := h.send(ctx, "ping", struct{}{}); err != nil {
				return endBroken
			}
		case got := <-h.answers:
			switch got.kind {
			case "":
				return endBroken
			case "disconnect":
				return "disconnect: " + got.why
			default:
				return fmt.Sprintf("%.40q out of turn", got.kind)
			}
		}
	}
}

// packet implements paced: each fifth time a message goes out.
func (h *hook) packet(n int) (more bool) {
	more = n+1 < h.packets
	if (n+1)%hookSpan == 0 || !more {
		select {
		case h.audio <- h.play.messages[(h.from+n/hookSpan)%len(h.play.messages)]:
		default:
			h.a.unsent.Add(1)
		}
	}
	return more
}

// write sends audio until ctx ends.
func (h *hook) write(ctx context.Context) {
	for {
		select {
		case m := <-h.audio:
			if m == nil {
				close(h.flushed)
				return
			}
			if err := h.ws.Write(ctx, websocket.MessageBinary, m); err != nil {
				h.a.unsent.Add(1)
				return
			}
			h.a.packets.Add(1)
			h.mu.Lock()
			h.sent += hookSpan * packetTime
			h.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// flush waits until what the pacer has sent is on its way. It is the last word of
// the pacer's.
func (h *hook) flush() {
	t := time.NewTimer(closeWithin)
	defer t.Stop()
	select {
	case h.audio <- nil:
	case <-t.C:
		return
	}
	select {
	case <-h.flushed:
	case <-t.C:
	}
}

// read takes what the server sends until the connection ends.
func (h *hook) read(ctx context.Context) {
	defer h.answer(answer{})
	for {
		kind, data, err := h.ws.Read(ctx)
		if err != nil {
			return
		}
		var m struct {
			Type       string `json:"type"`
			Seq        int    `json:"seq"`
			Parameters struct {
				Reason   string            `json:"reason"`
				Info     string            `json:"info"`
				Entities []json.RawMessage `json:"entities"`
			} `json:"parameters"`
		}
		if kind != websocket.MessageText || json.Unmarshal(data, &m) != nil {
			h.answer(answer{kind: "no message of AudioHook"})
			return
		}
		h.mu.Lock()
		inTurn := m.Seq == h.serverSeq+1
		h.serverSeq = m.Seq
		h.mu.Unlock()
		if !inTurn {
			h.answer(answer{kind: "seq of " + m.Type})
			return
		}
		switch m.Type {
		case "event":
			h.a.told(m.Parameters.Entities)
		case "opened", "closed", "disconnect":
			why := m.Parameters.Reason
			if m.Parameters.Info != "" {
				why += " (" + m.Parameters.Info + ")"
			}
			h.answer(answer{m.Type, why})
		}
	}
}

// answer gives what was read to whoever waits; what nobody takes is dropped.
func (h *hook) answer(a answer) {
	select {
	case h.answers <- a:
	default:
	}
}

// told counts what came back for the agent's desktop, and prints it.
func (a *audioHook) told(entities []json.RawMessage) {
	a.events.Add(uint64(len(entities)))
	if a.cfg.Events == nil {
		return
	}
	a.print.Lock()
	defer a.print.Unlock()
	for _, e := range entities {
		var line bytes.Buffer
		if json.Compact(&line, e) == nil {
			line.WriteByte('\n')
			_, _ = a.cfg.Events.Write(line.Bytes()) // to a terminal or a pipe; a broken one shows elsewhere
		}
	}
}
