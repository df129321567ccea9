package identity

import (
	"slices"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// claim is what the pack's pattern finds where the caller says words.
func claim(id, words string, state detectors.State) detectors.Finding {
	return detectors.Finding{
		ID: id, Tactic: Tactic, Stage: detectors.Lure, Leg: audio.Caller, Words: words,
		Confidence: 0.9, Weight: 0.75, State: state, Rule: "impersonation/calling-from", Pack: "impersonation/en@1",
	}
}

func rules(found []detectors.Finding) string {
	var all []string
	for _, f := range found {
		all = append(all, strings.TrimPrefix(f.Rule, "identity/"))
	}
	return strings.Join(all, " ")
}

func TestClaimIsHeldAgainstWhoIsCalling(t *testing.T) {
	for name, c := range map[string]struct {
		attributes []string
		words      string
		want       string
	}{
		"signed as somebody else":            {[]string{"rcd_name", "Quick Loans LLC"}, "calling from amazon", "signed-name"},
		"asserted as somebody else":          {[]string{"asserted_name", "SMITH JOHN"}, "calling from amazon", "asserted-name"},
		"shown as somebody else":             {[]string{"from_name", "John Smith"}, "calling from amazon", "shown-name"},
		"the strongest name counts":          {[]string{"from_name", "John", "asserted_name", "SMITH JOHN", "rcd_name", "Quick Loans"}, "i am from the i r s", "signed-name"},
		"signed as who he says":              {[]string{"rcd_name", "AMAZON.COM Services"}, "calling from amazon", ""},
		"in one word":                        {[]string{"rcd_name", "WellsFargo"}, "calling from wells fargo", ""},
		"under another name of the firm":     {[]string{"asserted_name", "JPMORGAN"}, "this is dan from chase", ""},
		"one of his names fits":              {[]string{"asserted_name", "SMITH JOHN", "rcd_name", "Netflix"}, "this is netflix", ""},
		"a firm that has the name in it":     {[]string{"rcd_name", "Pineapple Loans"}, "calling from apple support", ""},
		"nobody is shown":                    {[]string{"from_name", "+1 202 555 0143", "asserted_name", "Anonymous"}, "calling from amazon", ""},
		"a directory's no name":              {[]string{"from_name", "WIRELESS CALLER"}, "calling from amazon", ""},
		"no firm that is listed":             {[]string{"rcd_name", "Quick Loans"}, "calling from your bank", ""},
		"signature failed":                   {[]string{"identity_verified", "no"}, "calling from amazon", "signature-failed"},
		"network says that it failed":        {[]string{"identity_verstat", "TN-Validation-Failed"}, "calling from amazon", "signature-failed"},
		"attested as a gateway":              {[]string{"identity_attest", "C"}, "calling from amazon", "attested-as-gateway"},
		"both":                               {[]string{"identity_attest", "C", "rcd_name", "John"}, "calling from amazon", "signed-name attested-as-gateway"},
		"a good signature says nothing":      {[]string{"identity_attest", "A", "identity_verified", "yes"}, "calling from amazon", ""},
		"nor does it heal a name":            {[]string{"identity_attest", "A", "identity_verified", "yes", "rcd_name", "John"}, "calling from amazon", "signed-name"},
		"the longest name in the words":      {[]string{"rcd_name", "Bank of America"}, "this is bank of america", ""},
		"windows support claims a different": {[]string{"rcd_name", "Microsoft"}, "calling from windows technical department", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := make(map[string]string)
			for i := 0; i < len(c.attributes); i += 2 {
				a[c.attributes[i]] = c.attributes[i+1]
			}
			found := New(a).Claims([]detectors.Finding{claim("impersonation:caller:0:0", c.words, detectors.Confirmed)})
			if got := rules(found); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			for _, f := range found {
				if f.Tactic != Tactic || f.Weight <= 0 || f.Weight > signedPoints || f.State != detectors.Confirmed || f.ID == "impersonation:caller:0:0" {
					t.Errorf("%+v", f)
				}
				if _, ok := detectors.LookupTactic(f.Tactic); !ok {
					t.Errorf("tactic %q", f.Tactic)
				}
			}
		})
	}
}

func TestOnlyTheCallersOwnClaimCounts(t *testing.T) {
	d := New(map[string]string{"rcd_name": "Quick Loans"})
	for name, change := range map[string]func(*detectors.Finding){
		"of the called side":  func(f *detectors.Finding) { f.Leg = audio.Callee },
		"of nobody knows who": func(f *detectors.Finding) { f.Leg = audio.Unknown },
		"reported speech":     func(f *detectors.Finding) { f.Muted = "reported" },
		"another tactic":      func(f *detectors.Finding) { f.Tactic = "lure_charge" },
		"taken back":          func(f *detectors.Finding) { f.State = detectors.Retracted },
	} {
		f := claim("x", "calling from amazon", detectors.Confirmed)
		change(&f)
		if found := d.Claims([]detectors.Finding{f}); len(found) > 0 {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

func TestNobodyToCompareWithIsNoDetector(t *testing.T) {
	for _, a := range []map[string]string{nil, {"from": "+12025550143"}, {"from_name": "Unknown"}, {"identity_attest": "A"}} {
		if d := New(a); d != nil {
			t.Errorf("%v has one", a)
		}
	}
	if found := New(nil).Claims([]detectors.Finding{claim("x", "calling from amazon", detectors.Confirmed)}); found != nil {
		t.Errorf("%v", found)
	}
}

// Each id is provisional at most once, then confirmed or retracted at most once,
// and one claim that is repeated is one.
func TestSignsFollowTheClaim(t *testing.T) {
	d := New(map[string]string{"rcd_name": "Quick Loans"})
	var got []string
	for _, step := range []detectors.Finding{
		claim("a", "calling from amazon", detectors.Provisional),
		claim("a", "calling from amazon", detectors.Provisional),
		claim("b", "this is amazon", detectors.Confirmed), // the same again
		claim("a", "calling from amazon", detectors.Retracted),
		claim("a", "calling from amazon", detectors.Retracted),
		claim("c", "this is amazon", detectors.Provisional),
		claim("c", "this is amazon", detectors.Confirmed),
		claim("d", "this is amazon", detectors.Confirmed),
		claim("e", "this is netflix", detectors.Confirmed),
	} {
		for _, f := range d.Claims([]detectors.Finding{step}) {
			got = append(got, f.ID+" "+f.State.String())
		}
	}
	want := []string{
		"a:signed-name provisional", "a:signed-name retracted",
		"c:signed-name provisional", "c:signed-name confirmed", "e:signed-name confirmed",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEveryBrandIsSaidAndNamed(t *testing.T) {
	seen := make(map[string]bool)
	all := brands()
	if len(all) < 50 {
		t.Fatalf("%d brands", len(all))
	}
	for _, b := range all {
		for _, s := range b.said {
			if s == "" || seen[s] {
				t.Errorf("%q is empty or there twice", s)
			}
			seen[s] = true
		}
		if slices.Contains(b.named, "") {
			t.Errorf("%q has an empty name", b.said[0])
		}
	}
}

func FuzzClaims(f *testing.F) {
	f.Add("Quick Loans LLC", "calling from amazon", "C")
	f.Add("", "this is bank of america", "A")
	f.Add("é\x00ﬃ", "i r s", "")
	f.Fuzz(func(t *testing.T, name, words, attest string) {
		d := New(map[string]string{"rcd_name": name, "identity_attest": attest})
		found := d.Claims([]detectors.Finding{claim("x", words, detectors.Confirmed)})
		sum := 0.0
		for _, s := range found {
			sum += s.Weight
		}
		// Never above a notice alone, and nothing is ever lowered.
		if sum < 0 || sum > 5.5 || len(found) > 2 {
			t.Errorf("%q of %q gives %v", words, name, found)
		}
	})
}
