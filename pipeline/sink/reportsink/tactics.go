package reportsink

import "strings"

// tacticWord is how a tactic is told to a person.
type tacticWord struct {
	label  string // what the side that uses it does: "asks for a one-time code"
	family string // tactics of one family share a colour; see palette
}

// tacticWords has the tactics that our packs use. Others are shown by their
// name in a neutral colour.
var tacticWords = map[string]tacticWord{
	"lure_charge":              {"claims a charge or order", "lure"},
	"lure_account":             {"claims an account is locked or hacked", "lure"},
	"lure_legal":               {"threatens with the law or the authorities", "lure"},
	"lure_refund":              {"offers a refund", "lure"},
	"lure_delivery":            {"claims trouble with a delivery", "lure"},
	"press_key":                {"says to press a key or call back", "lure"},
	"impersonation":            {"claims to be a known organisation", "lure"},
	"remote_access_request":    {"asks for remote access", "remote"},
	"remote_access_compliance": {"gives remote access", "remote"},
	"gift_card_request":        {"asks for gift cards", "card"},
	"gift_card_readback":       {"reads out a gift card number", "card"},
	"otp_request":              {"asks for a one-time code", "code"},
	"otp_readback":             {"reads out a one-time code", "code"},
	"disable_mfa":              {"asks to turn off two-step verification", "code"},
	"credential_request":       {"asks for a card number, PIN or password", "code"},
	"money_transfer_request":   {"asks to move money", "money"},
	"overpayment":              {"claims to have paid too much", "money"},
	"secrecy":                  {"asks to keep it secret", "pressure"},
	"urgency":                  {"puts under time pressure", "pressure"},
	"cross_channel":            {"points to an email, text or other app", "pressure"},
	"official_counter_advice":  {"warns about fraud", "guard"},
}

// tactic is the wording of any tactic, known or not.
func tactic(name string) tacticWord {
	if t, ok := tacticWords[name]; ok {
		return t
	}
	if name == "" {
		name = "unnamed tactic"
	}
	return tacticWord{strings.ReplaceAll(name, "_", " "), "other"}
}
