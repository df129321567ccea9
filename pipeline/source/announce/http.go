package announce

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

const (
	maxBody  = 64 << 10 // bytes of an announcement
	minToken = 16       // bytes of a bearer token
	maxToken = 4096
)

// Door lets in whoever shows the bearer token; without a token, whoever asks
// from this machine.
type Door struct {
	digest *[sha256.Size]byte // of the token; nil without
}

// OpenDoor reads the token from a file; white space around it does not count.
// An empty name is a door without token.
func OpenDoor(tokenFile string) (*Door, error) {
	if tokenFile == "" {
		return &Door{}, nil
	}
	f, err := os.Open(tokenFile)
	if err != nil {
		return nil, fmt.Errorf("reading bearer token: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return nil, fmt.Errorf("reading bearer token: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) < minToken || len(text) > maxToken {
		return nil, fmt.Errorf("bearer token in %s: %d bytes must be %d to %d", tokenFile, len(text), minToken, maxToken)
	}
	digest := sha256.Sum256(text)
	return &Door{digest: &digest}, nil
}

// Guard answers 401 to strangers, and has h answer the others.
func (d *Door) Guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := d.refuses(r); why != "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			Refuse(w, http.StatusUnauthorized, errors.New(why))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// refuses returns why r may not come in.
func (d *Door) refuses(r *http.Request) string {
	if d.digest == nil {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !from.Addr().Unmap().IsLoopback() {
			return "without a token_file in the configuration only this machine may ask"
		}
		return ""
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	digest := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(digest[:], d.digest[:]) != 1 {
		return "the bearer token is missing or wrong"
	}
	return ""
}

// Decode reads the JSON body of r into v. Fields that v does not have are
// refused: a misspelt field is not lost in silence. When it returns false the
// answer has been given. JSON has to be called so, which keeps web pages of
// other sites from announcing through a browser on this machine.
func Decode(w http.ResponseWriter, r *http.Request, v any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		Refuse(w, http.StatusUnsupportedMediaType, errors.New("the body must have Content-Type application/json"))
		return false
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil && dec.More() {
		err = errors.New("more than one value")
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		Refuse(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the body must be at most %d bytes", maxBody))
	case err != nil:
		Refuse(w, http.StatusBadRequest, fmt.Errorf("body: %s", strings.TrimPrefix(err.Error(), "json: ")))
	}
	return err == nil
}

// Answer writes v as JSON.
func Answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // v is one of ours: a wiring fault
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the asker may have gone
}

// Refuse answers with why.
func Refuse(w http.ResponseWriter, status int, why error) {
	Answer(w, status, struct {
		Error string `json:"error"`
	}{why.Error()})
}
