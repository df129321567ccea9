package caller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/announce"
)

// api is the HTTP interface at which calls are announced.
type api struct {
	base   string
	token  string
	client *http.Client
}

// refusedError is an answer that is no success.
type refusedError struct{ status, text string }

func (e *refusedError) Error() string {
	if e.text == "" {
		return e.status
	}
	return e.status + " (" + e.text + ")"
}

func newAPI(base, token string) *api {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64 // calls begin many at once
	return &api{base: strings.TrimSuffix(base, "/"), token: token, client: &http.Client{Transport: t, Timeout: 10 * time.Second}}
}

// hostPort is where the interface is.
func (a *api) hostPort() string {
	u, err := url.Parse(a.base)
	if err != nil || u.Port() != "" {
		return u.Host
	}
	return u.Host + ":80"
}

// do asks and reads the answer into out, unless it is nil.
func (a *api) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		var said struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(data, &said) // a proxy may answer in another way
		if _, why, ok := strings.Cut(said.Error, ": "); ok && strings.HasPrefix(said.Error, "call ") {
			said.Error = why // without the call's name, so that equal refusals are counted as one
		}
		return &refusedError{res.Status, said.Error}
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			return fmt.Errorf("%s %s: reading the answer: %w", method, path, err)
		}
	}
	return nil
}

func (a *api) close() { a.client.CloseIdleConnections() }

// failed is a call that an interface did not take.
func failed(err error) outcome {
	var refused *refusedError
	var u *url.Error
	switch {
	case errors.As(err, &refused):
		return outcome{refusal: refused.Error()}
	case errors.As(err, &u):
		return outcome{err: u.Err} // without the URL, which differs from call to call
	}
	return outcome{err: err}
}

func (c Config) announcement() announce.Call {
	return announce.Call{From: c.From, FromName: c.FromName, To: c.Number, ToName: c.NumberName}
}
