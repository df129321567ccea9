package phrase

import (
	"slices"
	"testing"
)

// The mood is that of the clause in which "read" stands.
func TestMoodIsOfTheClauseAroundTheMatch(t *testing.T) {
	for _, c := range []struct {
		text string
		want Mood
	}{
		{"read me the code", Imperative},
		{"please read me the code", Imperative},
		{"okay now just read me the code", Imperative},
		{"go ahead and read me the code", Imperative},
		{"open the app and read me the code", Imperative},
		{"never tell anybody but read me the code", Imperative},
		{"don't tell them and read me the code", Imperative},
		{"you need to read me the code", Imperative},
		{"you have to read me the code", Imperative},
		{"i need you to read me the code", Imperative},
		{"i would like you to read me the code", Imperative},
		{"you should read me the code", Imperative},
		{"make sure to read me the code", Imperative},
		{"never read the code to anybody", Imperative},
		{"don't ever read the code to anybody", Imperative},
		{"if you want to cancel read me the code", Imperative},
		{"when you get it you need to read me the code", Imperative},
		{"could you read me the code", Question},
		{"can you please read me the code", Question},
		{"when it comes can you read me the code", Question},
		{"should i read you the code", Question},
		{"did they read it", Question},
		{"how do i read the code", Question},
		{"you read the code?", Question},
		{"if you read me the code", Conditional},
		{"if anyone asks you to read the code hang up", Conditional},
		{"should anyone ask you to read the code hang up", Conditional},
		{"he would read the code", Conditional},
		{"i told her to read the code", Statement},
		{"they read the code", Statement},
		{"i called and read the code", Statement},
		{"i read the code", Statement},
	} {
		tokens, question := Tokenize(c.text, nil)
		if got := moodOf(tokens, slices.Index(tokens, "read"), question); got != c.want {
			t.Errorf("%q: got %s, want %s", c.text, got, c.want)
		}
	}
}
