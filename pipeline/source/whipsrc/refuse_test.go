package whipsrc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/callwarden/callwarden/pipeline/source"
)

// refused posts a publication and wants it refused with that status and text.
func refused(t *testing.T, s *server, kind, query, body string, status int, say string, headers ...string) {
	t.Helper()
	res, text := ask(t, http.DefaultClient, http.MethodPost, s.url+Path+query, kind, body, headers...)
	http.DefaultClient.CloseIdleConnections()
	if res.StatusCode != status {
		t.Errorf("POST %s: %s %s, want %d", query, res.Status, text, status)
	}
	problem(t, res, text, say)
}

// problem wants problem details with that text.
func problem(t *testing.T, res reply, text, say string) {
	t.Helper()
	var said struct {
		Title, Detail string
		Status        int
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the problem is %s %q: %v", res.Header.Get("Content-Type"), text, err)
	}
	if said.Status != res.StatusCode || !strings.Contains(said.Detail, say) {
		t.Errorf("the problem is %d %q, want %d and %q", said.Status, said.Detail, res.StatusCode, say)
	}
}

// offerOf is an SDP offer of these m= sections.
func offerOf(sections ...string) string {
	return "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=setup:actpass\r\n" +
		"a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n" +
		"a=fingerprint:sha-256 " + strings.TrimSuffix(strings.Repeat("AB:", 32), ":") + "\r\n" + strings.Join(sections, "")
}

func audioLine(mid int, rest string) string {
	return fmt.Sprintf("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:%d\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:0 PCMU/8000\r\n", mid) + rest
}

const videoLine = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"

// badOffers are those that are refused.
func badOffers() []struct {
	name, offer string
	status      int
	say         string
} {
	hundred := make([]string, 100)
	for i := range hundred {
		hundred[i] = audioLine(i, "")
	}
	many := []string{audioLine(0, "")}
	for range 20 {
		many = append(many, videoLine)
	}
	unknown := strings.NewReplacer("SAVPF 0", "SAVPF 96 97", "a=rtpmap:0 PCMU/8000", "a=rtpmap:96 speex/16000\r\na=rtpmap:97 AMR/8000").Replace(audioLine(0, ""))
	return []struct {
		name, offer string
		status      int
		say         string
	}{
		{"empty", "", 400, "no lines"},
		{"rubbish", "\x00\x01hello", 400, "no lines"},
		{"no media", offerOf(), 400, "no m= line"},
		{"no audio", offerOf(videoLine), 406, "no audio track"},
		{"a hundred tracks", offerOf(hundred...), 406, "100 audio tracks"},
		{"three tracks", offerOf(audioLine(0, ""), audioLine(1, ""), audioLine(2, "")), 406, "3 audio tracks"},
		{"too many lines", offerOf(many...), 406, "21 m= lines"},
		{"unknown codecs", offerOf(unknown), 406, "speex, AMR"},
		{"recvonly", strings.Replace(offerOf(audioLine(0, "")), "sendonly", "recvonly", 1), 422, "recvonly"},
		{"inactive", strings.Replace(offerOf(audioLine(0, "")), "sendonly", "inactive", 1), 422, "inactive"},
		{"no fingerprint", strings.Replace(offerOf(audioLine(0, "")), "a=fingerprint", "a=finger", 1), 422, "fingerprint"},
		{"no credentials", strings.Replace(offerOf(audioLine(0, "")), "a=ice-ufrag", "a=ice", 1), 400, "ufrag"},
		{"port of letters", strings.Replace(offerOf(audioLine(0, "")), "m=audio 9", "m=audio x", 1), 400, "port"},
		{"not for the library", strings.Replace(offerOf(audioLine(0, "")), "t=0 0", "t=x", 1), 400, "cannot be taken"},
	}
}

func TestOffersThatCannotBeTakenAreToldWhy(t *testing.T) {
	s := serve(t, local(), nil)
	for _, c := range badOffers() {
		t.Run(c.name, func(t *testing.T) { refused(t, s, typeSDP, "", c.offer, c.status, c.say) })
	}
	good := offerOf(audioLine(0, ""))
	refused(t, s, "text/plain", "", good, 415, typeSDP)
	refused(t, s, "", "", good, 415, typeSDP)
	refused(t, s, typeSDP, "", strings.Repeat("a=x\r\n", 20000), 413, "65536")
	refused(t, s, typeSDP, "?leg=nobody", good, 400, "leg")
	refused(t, s, typeSDP, "?call=a.b", good, 400, "call")
	refused(t, s, typeSDP, "?stereo=yes", good, 400, "stereo")
	refused(t, s, typeSDP, "?listen=never", good, 400, "listen")
	refused(t, s, typeSDP, "?language=%0a", good, 400, "language")
	refused(t, s, typeSDP, "?consent=perhaps", good, 400, "consent")
	refused(t, s, typeSDP, "?hypotheses=perhaps", good, 400, "hypotheses")
	refused(t, s, typeSDP, "?colour=red", good, 400, "colour")
	refused(t, s, typeSDP, "?a=%zz", good, 400, "query")
	refused(t, s, typeSDP, "", good, 400, aboutHeader, aboutHeader, `{"call":`)
	refused(t, s, typeSDP, "", good, 400, aboutHeader, aboutHeader, `{"colour":"red"}`)
	refused(t, s, typeSDP, "?stereo=legs", offerOf(audioLine(0, ""), audioLine(1, "")), 422, "one audio track")
	for _, c := range []struct{ method, path, allow string }{
		{http.MethodGet, Path, "OPTIONS, POST"},
		{http.MethodPut, Path + "/", "OPTIONS, POST"},
		{http.MethodGet, Path + "/x", "DELETE, OPTIONS, PATCH"},
		{http.MethodPost, Path + "/x", "DELETE, OPTIONS, PATCH"},
	} {
		res, text := ask(t, http.DefaultClient, c.method, s.url+c.path, "", "")
		if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %s, Allow %q", c.method, c.path, res.Status, res.Header.Get("Allow"))
		}
		problem(t, res, text, c.allow)
	}
	for _, method := range []string{http.MethodPatch, http.MethodDelete} {
		res, text := ask(t, http.DefaultClient, method, s.url+Path+"/x", typeFragment, "a=mid:0")
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s of no publication: %s", method, res.Status)
		}
		problem(t, res, text, "no such publication")
	}
	http.DefaultClient.CloseIdleConnections()
	select {
	case h := <-s.calls:
		t.Errorf("there was a call: %+v", h.call)
	default:
	}
	if st := s.Stats(); st.Malformed == 0 || st.Begun != 0 || len(s.publications) != 0 {
		t.Errorf("counted %+v, %d publications", st, len(s.publications))
	}
}

func TestVideoIsRejectedAndAudioHeard(t *testing.T) {
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU)
	if _, err := p.conn.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{
		Direction: webrtc.RTPTransceiverDirectionRecvonly,
	}); err != nil {
		t.Fatal(err)
	}
	p.publish(s, "")
	if answer := p.conn.RemoteDescription().SDP; !strings.Contains(answer, "m=video 0 ") {
		t.Errorf("the answer is\n%s", answer)
	}
	p.connected()
	p.say(0, 440, 10)
	s.came(t, 10)
	p.hangUp()
	s.over(t)
}

func TestAnswerIsAsTheStandardWantsIt(t *testing.T) {
	cfg := local()
	secret := filepath.Join(t.TempDir(), "turn")
	if err := os.WriteFile(secret, []byte("geheim\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.ICEServers = []ICEServer{
		{URL: "stun:stun.example.net"},
		{URL: "turn:turn.example.net?transport=udp", Username: "callwarden", CredentialFile: secret},
	}
	s := serve(t, cfg, nil)
	res, answer := ask(t, http.DefaultClient, http.MethodPost, s.url+Path, typeSDP, offerOf(audioLine(0, "")))
	if res.StatusCode != http.StatusCreated || res.Header.Get("Content-Type") != typeSDP {
		t.Fatalf("%s %s", res.Status, answer)
	}
	location, etag := res.Header.Get("Location"), res.Header.Get("ETag")
	if !strings.HasPrefix(location, Path+"/") || len(etag) < 12 || etag[0] != '"' {
		t.Errorf("Location %q, ETag %q", location, etag)
	}
	links := []string{
		`<stun:stun.example.net>; rel="ice-server"`,
		`<turn:turn.example.net?transport=udp>; rel="ice-server"; username="callwarden"; credential="geheim"; credential-type="password"`,
	}
	if got := res.Header.Values("Link"); !slices.Equal(got, links) {
		t.Errorf("Link %q", got)
	}
	for _, want := range []string{"a=recvonly\r\n", "a=candidate:", "127.0.0.1", "a=end-of-candidates", "a=setup:active"} {
		if !strings.Contains(answer, want) {
			t.Errorf("the answer has no %q:\n%s", want, answer)
		}
	}
	res, _ = ask(t, http.DefaultClient, http.MethodOptions, s.url+Path, "", "")
	if res.StatusCode != http.StatusNoContent || res.Header.Get("Accept-Post") != typeSDP || !slices.Equal(res.Header.Values("Link"), links) {
		t.Errorf("OPTIONS: %s %v", res.Status, res.Header)
	}
	res, _ = ask(t, http.DefaultClient, http.MethodDelete, s.url+location, "", "")
	if res.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %s", res.Status)
	}
	res, _ = ask(t, http.DefaultClient, http.MethodDelete, s.url+location, "", "")
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("DELETE again: %s", res.Status)
	}
	http.DefaultClient.CloseIdleConnections()
	s.over(t)
}

const (
	tokenA   = "0123456789abcdef-a"
	tokenB   = "0123456789abcdef-b"
	tokenOld = "0123456789abcdef-old"
)

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

func TestTokensDecideWhoPublishesForWhom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	write("# who may\nbank-a "+tokenA+"\nbank-b "+tokenB+" 2999-01-01T00:00:00Z\n\nbank-a "+tokenOld+" 2020-01-01T00:00:00Z\n", began)
	cfg := local()
	cfg.TokensFile = file
	s := serve(t, cfg, nil)
	good := offerOf(audioLine(0, ""))
	refused(t, s, typeSDP, "", good, 401, "missing or wrong")
	refused(t, s, typeSDP, "", good, 401, "missing or wrong", bearer("0123456789abcdef-x")...)
	refused(t, s, typeSDP, "", good, 401, "missing or wrong", "Authorization", "Basic "+tokenA)
	refused(t, s, typeSDP, "", good, 401, "expired", bearer(tokenOld)...)
	refused(t, s, typeSDP, "?tenant=bank-b", good, 403, "another tenant", bearer(tokenA)...)
	if st := s.Stats(); st.Stranger != 5 {
		t.Errorf("counted %+v", st)
	}
	p := newPage(t, mimePCMU)
	p.publish(s, "?tenant=bank-a", bearer(tokenA)...)
	for _, c := range []struct {
		headers []string
		status  int
	}{{nil, 401}, {bearer(tokenB), 403}, {bearer(tokenA), 200}} {
		res, _ := ask(t, p.http, http.MethodDelete, p.location, "", "", c.headers...)
		if res.StatusCode != c.status {
			t.Errorf("DELETE with %v: %s, want %d", c.headers, res.Status, c.status)
		}
	}
	if h := s.over(t); h.call.Tenant != "bank-a" {
		t.Errorf("the call is of %s", h.call.Tenant)
	}

	write("bank-c "+tokenOld+"\n", began.Add(time.Minute)) // it has changed
	refused(t, s, typeSDP, "", good, 401, "missing or wrong", bearer(tokenA)...)
	write("what is this", began.Add(2*time.Minute)) // wrong: the old ones count
	again := newPage(t, mimePCMU)
	again.publish(s, "", bearer(tokenOld)...)
	res, _ := ask(t, again.http, http.MethodDelete, again.location, "", "", bearer(tokenOld)...)
	if res.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %s", res.Status)
	}
	if h := s.over(t); h.call.Tenant != "bank-c" {
		t.Errorf("the call is of %s", h.call.Tenant)
	}
}

func TestTokenFilesThatAreWrongAreRefusedWithoutTellingThem(t *testing.T) {
	for _, c := range []struct{ text, say string }{
		{"", "there is none"},
		{"bank-a\n", "line 1"},
		{"bank.a " + tokenA, "tenant"},
		{"bank-a short", "5 bytes"},
		{"bank-a " + tokenA + " tomorrow", "tomorrow"},
		{"bank-a " + tokenA + " 2999-01-01T00:00:00Z more", "line 1"},
	} {
		_, err := parseTokens([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), tokenA) {
			t.Errorf("%q: %v, want %q", c.text, err, c.say)
		}
	}
}

func TestStrangersNeedATokenFile(t *testing.T) {
	open, err := openTokens("")
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]error{"127.0.0.1:1": nil, "[::1]:1": nil, "[::ffff:127.0.0.1]:1": nil, "192.0.2.1:1": errStranger, "": errStranger} {
		if _, _, err := open.tenant(&http.Request{RemoteAddr: from}); !errors.Is(err, want) {
			t.Errorf("from %q: %v, want %v", from, err, want)
		}
	}
}

func TestOnlyKnownSitesPublish(t *testing.T) {
	cfg := local()
	cfg.Origins = []string{"https://bank.example"}
	s := serve(t, cfg, nil)
	good := offerOf(audioLine(0, ""))
	for _, from := range []string{"https://evil.example", "https://bank.example.evil.example", "http://bank.example", "null"} {
		refused(t, s, typeSDP, "", good, 403, "origin", "Origin", from)
	}
	res, _ := ask(t, http.DefaultClient, http.MethodOptions, s.url+Path, "", "",
		"Origin", "https://bank.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
	h := res.Header
	if res.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != "https://bank.example" ||
		!strings.Contains(h.Get("Access-Control-Allow-Methods"), "PATCH") || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("preflight: %s %v", res.Status, h)
	}
	for _, from := range []string{"https://bank.example", s.url} {
		res, text := ask(t, http.DefaultClient, http.MethodPost, s.url+Path, typeSDP, good, "Origin", from)
		if res.StatusCode != http.StatusCreated {
			t.Fatalf("from %s: %s %s", from, res.Status, text)
		}
		if from != s.url && !strings.Contains(res.Header.Get("Access-Control-Expose-Headers"), "Location") {
			t.Errorf("a page cannot see where it is: %v", res.Header)
		}
		if res, _ = ask(t, http.DefaultClient, http.MethodDelete, s.url+res.Header.Get("Location"), "", ""); res.StatusCode != http.StatusOK {
			t.Errorf("DELETE: %s", res.Status)
		}
		s.over(t)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestWantOfRoomIsBusy(t *testing.T) {
	cfg := local()
	cfg.Publications = 1
	s := serve(t, cfg, nil)
	p := newPage(t, mimePCMU)
	p.publish(s, "")
	good := offerOf(audioLine(0, ""))
	refused(t, s, typeSDP, "", good, 503, "as many as are taken")
	p.hangUp()
	s.over(t)

	for _, c := range []struct {
		name   string
		err    error
		status int
		say    string
	}{
		{"busy", fmt.Errorf("full: %w", source.ErrBusy), 503, "no room"},
		{"failed", errors.New("broken"), 503, "cannot be listened to"},
		{"none of ours", nil, 403, "not listened to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, local(), func(context.Context, *source.Call) error { return c.err })
			res, text := ask(t, http.DefaultClient, http.MethodPost, s.url+Path, typeSDP, good)
			http.DefaultClient.CloseIdleConnections()
			if res.StatusCode != c.status || c.status == 503 && res.Header.Get("Retry-After") != "10" {
				t.Errorf("%s, Retry-After %q", res.Status, res.Header.Get("Retry-After"))
			}
			problem(t, res, text, c.say)
		})
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Config)
		say    string
	}{
		{func(c *Config) { c.Listen = "8443" }, `listen: "8443"`},
		{func(c *Config) { c.Listen, c.TLS.Key = ":1", "k" }, "tls: cert"},
		{func(c *Config) { c.TLS = TLSConfig{"c", "k"} }, "tls.cert"},
		{func(c *Config) { c.Origins = []string{"https://a.example/"} }, "origins[0]"},
		{func(c *Config) { c.Origins = []string{"*", "bank"} }, "origins[1]"},
		{func(c *Config) { c.Tenant = "a b" }, "tenant"},
		{func(c *Config) { c.Publications = 0 }, "publications: 0"},
		{func(c *Config) { c.RetryAfter = 0 }, "retry_after: 0s"},
		{func(c *Config) { c.UDP = "localhost:1" }, "udp"},
		{func(c *Config) { c.TCP = "x" }, "tcp"},
		{func(c *Config) { c.Advertise = []string{"0.0.0.0"} }, "advertise[0]"},
		{func(c *Config) { c.Networks = []string{"10"} }, "networks[0]"},
		{func(c *Config) { c.ICEServers = []ICEServer{{URL: "http://x"}} }, "ice_servers[0].url"},
		{func(c *Config) { c.ICEServers = []ICEServer{{URL: "turn:x"}} }, "ice_servers[0].username"},
		{func(c *Config) { c.ConnectTimeout = 0 }, "connect_timeout"},
		{func(c *Config) { c.MediaTimeout = 0 }, "media_timeout"},
		{func(c *Config) { c.JoinWait = time.Minute }, "join_wait: 1m0s"},
		{func(c *Config) { c.Window = time.Minute }, "window"},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%v, want %q", err, c.say)
		}
	}
}
