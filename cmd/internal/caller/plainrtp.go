package caller

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/rtpsrc"
)

// plainRTP sends RTP to ports that are known, or that an HTTP interface
// announces for each call.
type plainRTP struct {
	*media
	watch *Progress
	ears  []ear // static ports
	api   *api  // nil with static ports
}

func newPlainRTP(cfg Config, recs []*Recording, watch *Progress) (*plainRTP, error) {
	p := &plainRTP{watch: watch}
	peer := ""
	if strings.Contains(cfg.To, "://") {
		if err := checkURL("--to", cfg.To); err != nil {
			return nil, err
		}
		p.api = newAPI(cfg.To, cfg.Token)
		peer = p.api.hostPort()
	} else {
		if cfg.Calls > 1 {
			return nil, fmt.Errorf("--calls: %d calls cannot share the ports %s; give the http URL that announces ports as --to", cfg.Calls, cfg.To)
		}
		for to := range strings.SplitSeq(cfg.To, ",") {
			e, err := resolve(to)
			if err != nil {
				return nil, err
			}
			p.ears = append(p.ears, e)
			peer = to
		}
		if len(p.ears) != len(recs[0].Legs) {
			return nil, fmt.Errorf("--to: %d addresses for %d legs of %s", len(p.ears), len(recs[0].Legs), recs[0].Path)
		}
	}
	var err error
	if p.media, err = newMedia(cfg, recs, peer); err != nil {
		return nil, err
	}
	return p, nil
}

func resolve(hostPort string) (ear, error) {
	addr, err := net.ResolveUDPAddr("udp", hostPort)
	if err != nil {
		return ear{}, fmt.Errorf("--to: %w", err)
	}
	a := addr.AddrPort()
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	return ear{rtp: a, rtcp: netip.AddrPortFrom(a.Addr(), a.Port()+1)}, nil
}

// run implements way.
func (p *plainRTP) run(ctx context.Context) error {
	p.media.run(ctx)
	return nil
}

// place implements way.
func (p *plainRTP) place(ctx context.Context, n int) (o outcome) {
	begin := time.Now()
	ears, location := p.ears, ""
	if p.api != nil {
		var err error
		if ears, location, err = p.announce(ctx, n); err != nil {
			return failed(err)
		}
	}
	o = outcome{answered: true, setup: time.Since(begin)}
	p.watch.Up.Add(1)
	defer p.watch.Up.Add(-1)
	var streams []*stream
	for i, e := range ears {
		s, err := p.stream(n, i, e)
		if err != nil {
			o.err = err
			return o
		}
		streams = append(streams, s)
	}
	answered := time.Now()
	o.end = p.play(ctx, streams, nil, nil, nil)
	o.seconds = time.Since(answered).Seconds()
	if location != "" && !p.cfg.DropBye {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpWithin)
		defer cancel()
		o.err = p.api.do(ending, http.MethodDelete, location, nil, nil)
	}
	return o
}

// announce asks for ports for call n; location ends it again.
func (p *plainRTP) announce(ctx context.Context, n int) (ears []ear, location string, err error) {
	legs := p.turn(n).rec.Legs
	ask := rtpsrc.Request{Call: p.cfg.announcement()}
	for i, side := range legs {
		ask.Legs = append(ask.Legs, rtpsrc.RequestLeg{
			Leg: announce.Leg(side.Leg), Formats: []string{p.codec.rtpmap()},
			Remote: netip.AddrPortFrom(p.local, uint16(p.lanes[i].port())).String(),
		})
	}
	var said rtpsrc.Answer
	if err := p.api.do(ctx, http.MethodPost, "/v1/rtp/calls", ask, &said); err != nil {
		return nil, "", err
	}
	if len(said.Legs) == 0 && said.State != "" {
		return nil, "", &refusedError{status: said.State}
	}
	if len(said.Legs) != len(legs) {
		return nil, "", fmt.Errorf("the answer announces %d ports for %d legs", len(said.Legs), len(legs))
	}
	for _, l := range said.Legs {
		e, err := resolve(l.Address)
		if err != nil {
			return nil, "", err
		}
		ears = append(ears, e)
	}
	return ears, "/v1/rtp/calls/" + said.Call, nil
}

// close implements way.
func (p *plainRTP) close() error {
	if p.api != nil {
		p.api.close()
	}
	if p.media == nil {
		return nil
	}
	return p.media.close()
}
