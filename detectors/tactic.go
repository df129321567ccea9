package detectors

// Tactic is one of the fixed things that a fraud call does. Packs, findings,
// events and corpora use its name.
type Tactic struct {
	Name string
	// Stages are those that its patterns may play; the first is the usual one.
	Stages []Stage
	// By is who usually says it: "caller", "callee" or "either". It is a
	// description: a fraudster who is called back is the callee.
	By string
}

// Tactics returns the fixed list, in the order of a call.
func Tactics() []Tactic {
	lure, ask := []Stage{Lure}, []Stage{Ask, Instruct}
	comply, pressure := []Stage{Comply, Loss}, []Stage{Pressure, Instruct}
	return []Tactic{
		{"lure_charge", lure, "caller"},
		{"lure_account", lure, "caller"},
		{"lure_legal", lure, "caller"},
		{"lure_refund", lure, "caller"},
		{"lure_delivery", lure, "caller"},
		{"press_key", lure, "caller"},
		{"impersonation", lure, "caller"},
		{"remote_access_request", ask, "caller"},
		{"remote_access_compliance", comply, "callee"},
		{"gift_card_request", ask, "caller"},
		{"gift_card_readback", comply, "callee"},
		{"otp_request", ask, "caller"},
		{"otp_readback", comply, "callee"},
		{"disable_mfa", ask, "caller"},
		{"credential_request", ask, "caller"},
		{"money_transfer_request", ask, "caller"},
		{"overpayment", ask, "caller"},
		{"secrecy", pressure, "caller"},
		{"urgency", pressure, "caller"},
		{"cross_channel", pressure, "caller"},
		{"official_counter_advice", []Stage{Protective}, "either"},
	}
}

// LookupTactic finds a tactic by its name.
func LookupTactic(name string) (Tactic, bool) {
	for _, t := range Tactics() {
		if t.Name == name {
			return t, true
		}
	}
	return Tactic{}, false
}
