package siprecsrc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// refresh is the session timer of a call (RFC 4028): a call that is not
// refreshed within its interval is over.
type refresh struct {
	interval time.Duration // 0 for none
	theirs   bool          // the peer refreshes
	timer    *time.Timer
	since    time.Time // of the last refresh
}

// agree reads what a request wants of the session timer. Who refreshes is for
// the peer to say; where it does not, the peer does if it can.
func (s *Source) agree(req *sip.Request) (refresh, *refusal) {
	values := headers(req, "Session-Expires")
	if len(values) == 0 {
		return refresh{}, nil
	}
	interval, refresher, err := sessionExpires(values[0])
	if err != nil {
		return refresh{}, refuse(400, "Bad Session-Expires")
	}
	able := supports(req, "timer")
	if interval < s.cfg.SessionMin && able {
		seconds := strconv.Itoa(int((s.cfg.SessionMin + time.Second - 1) / time.Second))
		return refresh{}, refuse(422, "Session Interval Too Small", sip.NewHeader("Min-SE", seconds))
	}
	// Who knows nothing of timers cannot be told of ours; we keep to it.
	return refresh{interval: max(interval, s.cfg.SessionMin), theirs: able && refresher != "uas"}, nil
}

// sessionExpires reads SECONDS;refresher=uac|uas.
func sessionExpires(value string) (interval time.Duration, refresher string, err error) {
	number, params, _ := strings.Cut(value, ";")
	seconds, err := strconv.ParseUint(strings.TrimSpace(number), 10, 31)
	if err != nil {
		return 0, "", err
	}
	if seconds == 0 {
		return 0, "", errors.New("an interval of 0 s")
	}
	for one := range strings.SplitSeq(params, ";") {
		if name, v, _ := strings.Cut(one, "="); strings.EqualFold(strings.TrimSpace(name), "refresher") {
			refresher = strings.ToLower(strings.TrimSpace(v))
		}
	}
	return time.Duration(seconds) * time.Second, refresher, nil
}

// header says in an answer what was agreed on; nil for no timer.
func (r *refresh) header() sip.Header {
	if r.interval == 0 {
		return nil
	}
	refresher := "uas"
	if r.theirs {
		refresher = "uac"
	}
	return sip.NewHeader("Session-Expires", fmt.Sprintf("%d;refresher=%s", int(r.interval/time.Second), refresher))
}

// margin is how long before the end of its interval a call is ended, RFC 4028
// section 10.
const margin = 32 * time.Second

// arm begins the interval anew, with the call's lock held.
func (c *call) arm(r refresh) {
	if c.refresh.timer != nil {
		c.refresh.timer.Stop()
	}
	c.refresh = r
	c.refresh.since = time.Now()
	switch {
	case r.interval == 0:
	case r.theirs:
		c.refresh.timer = time.AfterFunc(r.interval-min(margin, r.interval/3), func() { c.finish(errExpired) })
	default:
		c.refresh.timer = time.AfterFunc(r.interval/2, c.refreshNow)
	}
}

// refreshNow refreshes the call, by UPDATE where the peer knows it, else by a
// re-INVITE that changes nothing.
func (c *call) refreshNow() {
	c.mu.Lock()
	if c.dead || c.gone {
		c.mu.Unlock()
		return
	}
	c.s.running.Add(1) // run still counts: it has to take this lock before it ends
	defer c.s.running.Done()
	now := c.refresh
	method, body := sip.UPDATE, []byte(nil)
	if !slices.Contains(tokens(c.invite, "Allow"), "UPDATE") {
		method, body, c.asking = sip.INVITE, c.body, true
	}
	c.mu.Unlock()

	var watch sync.WaitGroup
	defer watch.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 64*c.s.t1) // and the call bounds it
	defer cancel()
	watch.Go(func() {
		select {
		case <-c.over:
			cancel()
		case <-ctx.Done():
		}
	})
	res, err := c.request(ctx, method, body, sip.NewHeader("Session-Expires",
		fmt.Sprintf("%d;refresher=uac", int(now.interval/time.Second))))
	if err == nil && (res.StatusCode == sip.StatusCallTransactionDoesNotExists || res.StatusCode == sip.StatusRequestTimeout) {
		c.finish(errExpired)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = false
	switch {
	case c.dead:
	case err == nil && res.IsSuccess():
		c.arm(now.agreedBy(res))
	case time.Since(now.since) > now.interval-min(margin, now.interval/3):
		c.finish(errExpired)
	default:
		since := c.refresh.since
		c.refresh.timer = time.AfterFunc(now.interval/8, c.refreshNow)
		c.refresh.since = since
	}
}

// agreedBy is the timer that the answer to our refresh sets: roles are told as
// of that request, in which the peer is the server.
func (r refresh) agreedBy(res *sip.Response) refresh {
	next := refresh{interval: r.interval}
	for _, value := range headers(res, "Session-Expires") {
		if interval, refresher, err := sessionExpires(value); err == nil {
			next.interval, next.theirs = interval, refresher == "uas"
		}
	}
	return next
}
