package dialogue

import (
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// cardGuard mutes the talk of gift cards where one side has a card of its own
// that does not work, or wants to buy some, and calls who sells them: to ask for
// the number on it is how such a shop finds it.
const cardGuard = "own-card"

// plainBuying are the points from which a pattern tells to buy cards or to pay
// with them: who serves a card's owner does neither.
const plainBuying = 6

// ownCard is the sides that spoke of a card of theirs before the other side
// asked anything about cards.
type ownCard struct {
	owner [3]bool
	asked [3]bool // the leg asked for cards or for what is on them
}

func (o *ownCard) hear(side audio.Leg, tokens []string) {
	if side == audio.Unknown || o.owner[side] || o.asked[side.Other()] {
		return
	}
	o.owner[side] = ownsCard(tokens)
}

// covers reports whether p, said by side, is the talk of a card's owner or of
// who serves one.
func (o *ownCard) covers(side audio.Leg, p *phrase.Pattern) bool {
	if side == audio.Unknown {
		return false
	}
	ofCards := p.Tactic == "gift_card_request" || p.Tactic == "gift_card_readback"
	return ofCards && p.Points < plainBuying && (o.owner[side] || o.owner[side.Other()])
}

// ownsCard reports whether tokens are of somebody who has trouble with a gift
// card or orders some: "I bought a gift card and it says it isn't activated".
func ownsCard(tokens []string) bool {
	named, plain, value, mine, trouble := false, false, false, false, false
	for i, t := range tokens {
		next := at(tokens, i+1)
		switch t {
		case "gift", "vanilla", "voucher", "vouchers", "giftcard", "egift":
			named = true
		case "card", "cards":
			plain = true
		case "dollar", "pound", "euro", "rupee":
			value = true
		case "i", "i've", "i'm", "we", "we've", "my", "i'd", "we'd":
			mine = true
		case "bought", "received":
			value = true
			trouble = trouble || before(tokens, i, 2, "i", "i've", "we", "just")
		case "gave", "given":
			trouble = trouble || next == "me" || next == "it" || before(tokens, i, 2, "was", "got")
		case "activated", "active", "activate", "declined", "drained", "redeemed", "expired", "inactive", "rejected", "empty":
			trouble = trouble || !before(tokens, i, 2, "don't", "not", "never") || before(tokens, i, 2, "is", "was", "been")
		case "balance", "work", "working", "works", "scan", "load":
			trouble = trouble || before(tokens, i, 6, "zero", "no", "not", "doesn't", "won't", "isn't", "wrong", "low", "didn't", "check", "shows", "says")
		case "looking":
			trouble = trouble || next == "to" && before(tokens, min(len(tokens), i+6), 4, "get", "buy", "order", "purchase")
		case "like", "want", "wanted", "need":
			trouble = trouble || next == "to" && before(tokens, i, 3, "i", "i'd", "we", "we'd") && before(tokens, min(len(tokens), i+4), 2, "buy", "order", "purchase", "check")
		}
	}
	return mine && trouble && (named || plain && value)
}
