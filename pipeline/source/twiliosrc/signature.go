package twiliosrc

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source/websock"
)

const signatureHeader = "X-Twilio-Signature"

var errSignature = errors.New("the signature is not that of an account of ours for this URL")

type account struct {
	secret []byte
	tenant string
}

// guard checks signatures by the accounts of cfg; nil where there are none.
func guard(accounts []Account) (websock.Guard, error) {
	if len(accounts) == 0 {
		return nil, nil
	}
	var all []account
	for i, a := range accounts {
		secret, err := websock.Secret(a.AuthTokenFile)
		if err != nil {
			return nil, fmt.Errorf("accounts[%d].auth_token_file: %w", i, err)
		}
		all = append(all, account{secret, a.Tenant})
	}
	return func(r *http.Request, asked *url.URL) (tenant string, proven bool, err error) {
		shown := r.Header.Get(signatureHeader)
		if shown == "" {
			return "", false, nil
		}
		got, err := base64.StdEncoding.DecodeString(shown)
		if err != nil {
			return "", false, errSignature
		}
		for _, a := range all {
			for _, u := range spellings(asked) {
				if hmac.Equal(got, sign(a.secret, u)) {
					return a.tenant, true, nil
				}
			}
		}
		return "", false, errSignature
	}, nil
}

// sign is Twilio's signature of a request without a body: the HMAC-SHA1 of its
// URL by the account's token.
func sign(secret []byte, u string) []byte {
	h := hmac.New(sha1.New, secret)
	h.Write([]byte(u))
	return h.Sum(nil)
}

// Signature is what a peer of the account with that token sends in
// X-Twilio-Signature when it asks for u.
func Signature(token []byte, u string) string {
	return base64.StdEncoding.EncodeToString(sign(token, u))
}

// spellings are the ways in which the URL of a stream has been written where
// it was signed: the scheme of the WebSocket or of its handshake, with and
// without the usual port, with and without a slash at the end.
func spellings(asked *url.URL) []string {
	hosts := []string{asked.Host}
	if host, port, err := net.SplitHostPort(asked.Host); err != nil {
		hosts = append(hosts, asked.Host+":443")
	} else if port == "443" || port == "80" {
		hosts = append(hosts, host)
	}
	var all []string
	for _, scheme := range []string{"wss", "https", "ws", "http"} {
		for _, host := range hosts {
			u := *asked
			u.Scheme, u.Host = scheme, host
			all = append(all, u.String())
			if u.Path = strings.TrimSuffix(u.Path, "/"); u.Path == asked.Path {
				u.Path += "/"
			}
			u.RawPath = ""
			all = append(all, u.String())
		}
	}
	return all
}
