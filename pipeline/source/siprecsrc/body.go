package siprecsrc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source/sdp"
	"github.com/callwarden/callwarden/pipeline/source/sipmeta"
)

// content is what the body of a request holds.
type content struct {
	offer     *sdp.Session       // nil for none
	recording *sipmeta.Recording // nil for none
	// unread is why there is no recording though there was metadata: the call
	// is worth hearing without.
	unread error
}

const (
	maxParts   = 8
	typeSDP    = "application/sdp"
	typeMeta   = "application/rs-metadata+xml"
	typeMetaV0 = "application/rs-metadata" // before RFC 7865
)

// errType says that the body is of a kind that is not read; errBody that it is
// broken.
var (
	errType = errors.New("type is not supported")
	errBody = errors.New("body")
)

// parseBody reads an SDP body, recording metadata, or a multipart body with
// either in any order (RFC 5621, RFC 7866 section 9).
func parseBody(contentType string, body []byte) (content, error) {
	var c content
	if len(bytes.TrimSpace(body)) == 0 {
		return c, nil
	}
	kind, boundary, err := mediaType(contentType)
	if err != nil {
		return c, fmt.Errorf("content type %.64q: %w", contentType, errType)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		known, err := c.part(kind, body)
		if err == nil && !known {
			err = fmt.Errorf("content type %.64q: %w", kind, errType)
		}
		return c, err
	}
	if boundary == "" {
		return c, fmt.Errorf("%w: multipart without boundary", errBody)
	}
	// Some end their lines in LF only, or leave out the line end before the
	// first boundary: the reader takes both.
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for n := 0; ; n++ {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			// A closing boundary is often forgotten: what came before counts.
			if c.offer != nil || c.recording != nil {
				return c, nil
			}
			return c, fmt.Errorf("%w: multipart: %w", errBody, err)
		}
		if n >= maxParts {
			return c, fmt.Errorf("%w: more than %d parts", errBody, maxParts)
		}
		text, err := io.ReadAll(p)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return c, fmt.Errorf("%w: multipart: %w", errBody, err)
		}
		kind, _, err := mediaType(p.Header.Get("Content-Type"))
		if err != nil {
			continue
		}
		if _, err := c.part(kind, text); err != nil {
			return c, err
		}
	}
}

// mediaType is the type and, of its parameters, the boundary. Parameters are
// often malformed where that does not matter, such as a boundary with = in it
// that is not quoted.
func mediaType(value string) (kind, boundary string, err error) {
	kind, params, err := mime.ParseMediaType(value)
	if err == nil {
		return kind, params["boundary"], nil
	}
	bare, rest, _ := strings.Cut(value, ";")
	if kind, _, err = mime.ParseMediaType(bare); err != nil {
		return "", "", err
	}
	for one := range strings.SplitSeq(rest, ";") {
		name, v, _ := strings.Cut(strings.TrimSpace(one), "=")
		if strings.EqualFold(strings.TrimSpace(name), "boundary") {
			return kind, strings.Trim(strings.TrimSpace(v), `"`), nil
		}
	}
	return kind, "", nil
}

// part takes one body and reports whether it is known.
func (c *content) part(kind string, text []byte) (known bool, err error) {
	switch kind {
	case typeSDP:
		if c.offer, err = sdp.Parse(text); err != nil {
			return true, fmt.Errorf("%w: %w", errBody, err)
		}
	case typeMeta, typeMetaV0:
		if c.recording, err = sipmeta.ParseRecording(text); err != nil {
			c.unread = err
		}
	default:
		return false, nil
	}
	return true, nil
}
