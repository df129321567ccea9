package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// form is one request.
type form struct {
	model, language, prompt string
	rateHz                  int
	pcm                     []int16
}

func (f form) encode() (body *bytes.Buffer, contentType string, err error) {
	body = bytes.NewBuffer(make([]byte, 0, 2*len(f.pcm)+4096))
	m := multipart.NewWriter(body)
	fields := [][2]string{
		{"model", f.model},
		{"response_format", "verbose_json"},
		{"timestamp_granularities[]", "word"},
		{"timestamp_granularities[]", "segment"},
		{"temperature", "0"},
	}
	if f.language != "" {
		fields = append(fields, [2]string{"language", f.language})
	}
	if f.prompt != "" {
		fields = append(fields, [2]string{"prompt", f.prompt})
	}
	for _, kv := range fields {
		if err := m.WriteField(kv[0], kv[1]); err != nil {
			return nil, "", err
		}
	}
	file, err := m.CreateFormFile("file", "speech.wav")
	if err != nil {
		return nil, "", err
	}
	if err := audio.WriteWAV(file, audio.WAVPCM16, f.rateHz, f.pcm); err != nil {
		return nil, "", err
	}
	return body, m.FormDataContentType(), m.Close()
}

// passingError is a failure that may be over when the server is asked again.
type passingError struct {
	err   error
	after time.Duration // the server wants to be left alone for so long
}

func (e *passingError) Error() string { return e.err.Error() }
func (e *passingError) Unwrap() error { return e.err }

// request asks once.
func (e *Engine) request(ctx context.Context, f form) (answer, error) {
	body, contentType, err := f.encode()
	if err != nil {
		return answer{}, err
	}
	asking, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(asking, http.MethodPost, e.url.String(), body)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	if e.key != "" {
		req.Header.Set("Authorization", "Bearer "+e.key)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return answer{}, e.lost(ctx, asking, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, e.lost(ctx, asking, err)
	case resp.StatusCode != http.StatusOK:
		return answer{}, e.refused(resp, data)
	case len(data) > maxAnswer:
		return answer{}, fmt.Errorf("transcription server %s: it answered with over %d bytes", e.url.Host, maxAnswer)
	}
	a, err := parseAnswer(data)
	if err != nil {
		return answer{}, fmt.Errorf("transcription server %s: %w", e.url.Host, err)
	}
	return a, nil
}

// lost is a request that brought no answer. A server that is not there or too
// slow may come back; one that we do not trust will not.
func (e *Engine) lost(ctx, asking context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case asking.Err() != nil:
		err = fmt.Errorf("it did not answer for %v", e.cfg.Timeout)
	case strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "x509: ") || strings.Contains(err.Error(), "HTTP response to HTTPS"):
		return fmt.Errorf("transcription server %s: %w", e.url.Host, err)
	}
	return &passingError{err: fmt.Errorf("transcription server %s: %w", e.url.Host, err)}
}

// refused is an answer with another status than 200.
func (e *Engine) refused(resp *http.Response, data []byte) error {
	err := fmt.Errorf("transcription server %s: %s", e.url.Host, resp.Status)
	var told struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(data, &told) == nil && told.Error.Message != "" {
		err = fmt.Errorf("%w: %.200q", err, told.Error.Message)
	}
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s >= 500 && s != http.StatusNotImplemented:
		return &passingError{err: err, after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return fmt.Errorf("%w; openai.key_file or the variable %s must have a key that it accepts", err, e.cfg.KeyEnv)
	}
	return err
}

// retryAfter reads RFC 9110, section 10.2.3: seconds or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), 3600)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

var errAnswer = errors.New("it answered what is no verbose_json of the interface")
