package webhooksink

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	answerMost = 64 << 10         // bytes of an answer that are read, so that the connection can be used again
	afterMost  = 10 * time.Minute // the longest pause that a server may ask for
)

// signer signs by the Standard Webhooks specification, "Signature scheme".
type signer struct{ secrets [][]byte }

// header is the value of webhook-signature: a signature for each secret.
func (s signer) header(id, timestamp string, body []byte) string {
	all := make([]string, len(s.secrets))
	for i, secret := range s.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		all[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(all, " ")
}

// newClient follows no redirect: what is signed for one server is not another's.
func newClient(cfg Config, to Endpoint) (*http.Client, error) {
	secured, err := to.tlsConfig()
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout:       cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: cfg.Timeout}).DialContext,
			TLSClientConfig:        secured,
			TLSHandshakeTimeout:    cfg.Timeout,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    cfg.AtOnce,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
		},
	}, nil
}

// outcome is what came of an attempt.
type outcome struct {
	err     error         // nil: delivered. It never has the URL or what was said
	refused bool          // this event will never be taken
	gone    bool          // nothing will ever be
	after   time.Duration // the server asks for a pause
}

// post sends l once.
func (e *endpoint) post(ctx context.Context, l *letter) outcome {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.to.URL, bytes.NewReader(l.body))
	if err != nil {
		return outcome{err: plain(err), refused: true}
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	req.Header.Set("User-Agent", "callwarden")
	req.Header.Set("Webhook-Id", l.id)
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", e.sign.header(l.id, timestamp, l.body))
	resp, err := e.client.Do(req)
	if err != nil {
		return outcome{err: plain(err)}
	}
	defer resp.Body.Close()
	// An answer counts by its status, however its body ends.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, answerMost))
	return judge(resp, time.Now())
}

// judge reads an answer. Only what says that this event itself is wrong ends it;
// anything else may be another tomorrow, when somebody has looked after it.
func judge(resp *http.Response, now time.Time) outcome {
	code := resp.StatusCode
	said := outcome{err: fmt.Errorf("it answers %d %s", code, http.StatusText(code))}
	switch {
	case code >= 200 && code < 300:
		return outcome{}
	case code >= 300 && code < 400:
		said.err = fmt.Errorf("it answers %d: redirects are not followed, url must be where it leads", code)
	case code == http.StatusGone:
		said.gone = true
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge,
		code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		said.refused = true
	default:
		said.after = min(retryAfter(resp.Header.Get("Retry-After"), now), afterMost)
	}
	return said
}

// retryAfter reads RFC 9110, section 10.2.3: seconds or a date; 0 for neither.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), 86400)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// plain is err without the URL, which may hold a token.
func plain(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		if of.Timeout() {
			return errors.New("no answer in time")
		}
		return of.Err
	}
	return err
}
