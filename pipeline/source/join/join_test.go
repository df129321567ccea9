package join

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

func caller(call string) Place {
	return Place{Tenant: "t", Call: call, Leg: audio.Caller, Two: true}
}

func callee(call string) Place {
	return Place{Tenant: "t", Call: call, Leg: audio.Callee, Two: true}
}

func TestTwoPartsBecomeOneCallWithTheCallerFirst(t *testing.T) {
	for _, order := range [][2]Place{{caller("c"), callee("c")}, {callee("c"), caller("c")}} {
		var table Table[audio.Leg]
		first, leads := table.Join(order[0], order[0].Leg)
		if !leads {
			t.Fatal("the first part does not lead")
		}
		second, leads := table.Join(order[1], order[1].Leg)
		if leads || second != first {
			t.Fatal("the second part is not of the first one's call")
		}
		legs, parts, missing := first.Gather(t.Context(), time.Minute)
		want := []audio.Leg{audio.Caller, audio.Callee}
		if !slices.Equal(legs, want) || !slices.Equal(parts, want) || missing {
			t.Errorf("gathered %v %v, missing %t", legs, parts, missing)
		}
		first.Leave()
		<-second.Over()
	}
}

func TestSecondPartIsWaitedForOnlySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table Table[string]
		c, _ := table.Join(caller("c"), "a")
		began := time.Now()
		legs, parts, missing := c.Gather(t.Context(), 2*time.Second)
		if waited := time.Since(began); waited != 2*time.Second || !missing || len(legs) != 1 || !slices.Equal(parts, []string{"a"}) {
			t.Errorf("%v %v missing %t after %v", legs, parts, missing, waited)
		}
		late, leads := table.Join(callee("c"), "b")
		if !leads || late.ID() != "c-callee" {
			t.Errorf("the late part leads %t as %s", leads, late.ID())
		}
		again, leads := table.Join(callee("c"), "b2")
		if !leads || again.ID() != "c-callee-2" {
			t.Errorf("the part after it leads %t as %s", leads, again.ID())
		}
		if _, _, missing := again.Gather(t.Context(), time.Hour); missing {
			t.Error("a part that has no other was waited for")
		}
	})
}

func TestOnlyTheOtherLegOfTheSameTenantJoins(t *testing.T) {
	for _, c := range []struct {
		name string
		at   Place
		own  string
	}{
		{"the same leg", caller("c"), "c-caller"},
		{"an unknown leg", Place{Tenant: "t", Call: "c", Two: true}, "c-2"},
		{"a call of one part", Place{Tenant: "t", Call: "c", Leg: audio.Callee}, "c-callee"},
		{"another tenant", Place{Tenant: "u", Call: "c", Leg: audio.Callee, Two: true}, "c"},
	} {
		var table Table[int]
		table.Join(caller("c"), 1)
		if got, leads := table.Join(c.at, 2); !leads || got.ID() != c.own {
			t.Errorf("%s: leads %t as %s, want %s", c.name, leads, got.ID(), c.own)
		}
	}
}

func TestCallThatWasLeftIsForgotten(t *testing.T) {
	var table Table[int]
	for range 3 {
		c, leads := table.Join(caller("c"), 1)
		if !leads || c.ID() != "c" || c.First() != 1 {
			t.Fatalf("leads %t as %s", leads, c.ID())
		}
		c.Leave()
	}
	if len(table.calls) != 0 {
		t.Errorf("%d calls are left", len(table.calls))
	}
}
