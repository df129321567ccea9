package caller

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"

	"github.com/coder/websocket"
)

// dialSocket opens a WebSocket. Its error is a refusedError where the server
// answered otherwise, and says else what the network did.
func dialSocket(ctx context.Context, to *url.URL, opt *websocket.DialOptions) (*websocket.Conn, error) {
	ws, res, err := websocket.Dial(ctx, to.String(), opt) //nolint:bodyclose // the library has closed it
	var op *net.OpError
	switch {
	case err == nil:
		return ws, nil
	case res != nil && res.StatusCode != http.StatusSwitchingProtocols:
		return nil, &refusedError{status: res.Status}
	case errors.As(err, &op):
		return nil, op
	}
	return nil, err
}
