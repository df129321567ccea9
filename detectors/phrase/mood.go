package phrase

// Mood is what a clause does: tell, ask, order, or suppose.
type Mood uint8

const (
	Statement Mood = iota
	Question
	Imperative
	Conditional
)

var moodNames = [...]string{"statement", "question", "imperative", "conditional"}

func (m Mood) String() string { return nameOf(moodNames[:], int(m)) }

// MoodSet is a set of moods: bit 1<<m for each.
type MoodSet uint8

// AllMoods holds every mood.
const AllMoods MoodSet = 1<<len(moodNames) - 1

// Has reports whether m is in the set.
func (s MoodSet) Has(m Mood) bool { return s&(1<<m) != 0 }

// part says what a word can be at the head of an English clause.
type part uint8

const (
	auxiliary part = 1 << iota // before its subject it makes a question
	asking                     // question word
	subject                    // pronoun that a verb follows
	condition                  // if, when
	joint                      // a new clause begins after it
	opener                     // said before an order: please, just, now
	governor                   // the verb after it is not an order: to, not, never
)

// clauseWords is English: packs of other languages cannot ask for a mood.
// A recogniser writes no punctuation, so words are all there is.
func clauseWords(w string) part {
	switch w {
	case "can", "could", "will", "do", "did", "does", "are", "is", "was", "were", "am", "has",
		"may", "might", "shall", "must", "can't", "couldn't", "won't", "don't", "didn't",
		"doesn't", "aren't", "isn't", "haven't":
		return auxiliary
	case "would", "should", "have", "wouldn't", "shouldn't", "had":
		return auxiliary
	case "what", "what's", "which", "who", "who's", "where", "where's", "why", "how", "whose":
		return asking
	case "you", "i", "we", "they", "he", "she", "it", "anyone", "anybody", "someone", "somebody",
		"nobody", "everybody", "everyone", "people", "there", "this", "that", "these", "those",
		"you'll", "i'll", "we'll", "they'll", "he'll", "she'll", "i'd", "you'd", "we'd", "they'd", "he'd", "she'd":
		return subject
	case "if", "when", "whenever", "unless", "once", "until", "till", "whether":
		return condition
	case "and", "but", "so", "then", "or", "because", "otherwise":
		return joint
	case "please", "kindly", "just", "now", "okay", "ok", "simply", "quickly", "first", "next", "also",
		"go", "ahead", "alright", "right", "well", "yes", "sir", "madam", "ma'am", "let's", "again",
		"only", "directly", "immediately", "carefully", "slowly":
		return opener
	case "to", "not", "never", "ever":
		return governor
	}
	return 0
}

const moodReach = 16 // words before a match in which its clause is looked for

// moodOf judges the clause of the match that begins with token first. tokens
// is the utterance; marked says that it has a question mark.
//
// What stands between the beginning of the clause and the match decides. Where
// the word before the match cannot govern a verb ("if you want to cancel | read
// me the code"), the match begins a clause of its own.
func moodOf(tokens []string, first int, marked bool) Mood {
	lead := tokens[max(0, first-moodReach):first]
	opened := false
	for len(lead) > 0 && clauseWords(lead[len(lead)-1])&opener != 0 {
		opened, lead = true, lead[:len(lead)-1]
	}
	if len(lead) == 0 || clauseWords(lead[len(lead)-1])&^opener == 0 {
		return moodOfOwn(tokens[first:], opened, marked)
	}
	last := lead[len(lead)-1]
	goesOn := last == "and" || last == "or" // "open the app and | read", "he called and | read"
	if clauseWords(last)&joint != 0 && !goesOn {
		return moodOfOwn(tokens[first:], opened, marked)
	}
	// From the match to the left, the first clause that is one decides.
	for i := len(lead) - 1; i >= 0; i-- {
		clause := lead[i:]
		conditional := i > 0 && clauseWords(lead[i-1])&condition != 0
		switch kind := clauseWords(clause[0]); {
		case kind&condition != 0:
			return Conditional
		case clause[0] == "should" && len(clause) > 1 && supposed(clause[1]):
			return Conditional // should anyone ask you to
		case asksAt(clause):
			return Question
		case (clause[0] == "would" || clause[0] == "should") && !ordersAt(lead, i):
			return Conditional
		case kind&subject != 0 && !conditional && orders(clause):
			return Imperative
		}
	}
	switch {
	case forbids(lead) || orders(lead) || goesOn && !tells(lead):
		return Imperative
	case marked:
		return Question
	}
	return Statement
}

// moodOfOwn judges a match that begins its clause.
func moodOfOwn(clause []string, opened, marked bool) Mood {
	kind := clauseWords(clause[0])
	switch {
	case asksAt(clause):
		return Question
	case kind&condition != 0:
		return Conditional
	case marked && !opened:
		return Question
	case kind&subject != 0:
		return Statement
	}
	return Imperative
}

// asksAt reports whether a clause that begins so asks: a question word, or an
// auxiliary before its subject.
func asksAt(clause []string) bool {
	switch clauseWords(clause[0]) {
	case asking:
		return true
	case auxiliary:
		return len(clause) > 1 && (clauseWords(clause[1])&subject != 0 || clause[1] == "the" || clause[1] == "your")
	}
	return false
}

// supposed reports whether "should" before w supposes: "should anyone ask",
// not "should I read".
func supposed(w string) bool {
	return clauseWords(w)&subject != 0 && w != "i" && w != "we"
}

// ordersAt reports whether would or should at i is part of an order: "I would
// like you to", "you should".
func ordersAt(lead []string, i int) bool {
	if lead[i] == "would" {
		return i+1 < len(lead) && (lead[i+1] == "like" || lead[i+1] == "need" || lead[i+1] == "want")
	}
	return i > 0 && lead[i-1] == "you" && (i == 1 || clauseWords(lead[i-2])&condition == 0)
}

// orders reports whether a clause before a verb makes it an order: "you need
// to", "I want you to", "make sure to", "you can".
func orders(clause []string) bool {
	switch clause[0] {
	case "they", "he", "she", "it", "someone", "somebody", "anyone", "anybody", "people", "who":
		return false
	}
	switch last := clause[len(clause)-1]; last {
	case "to":
		for i, w := range clause {
			switch w {
			case "need", "have", "got", "required", "supposed", "sure", "try", "want", "like", "ask", "request", "asking", "needing":
				return w == "sure" || w == "try" || yours(clause, i)
			}
		}
	case "must", "should", "gotta", "will", "can", "you'll":
		return clause[0] == "you" || clause[0] == "you'll"
	}
	return false
}

// yours reports whether the verb at i has "you" for a subject or an object.
func yours(clause []string, i int) bool {
	for _, w := range clause[max(0, i-3):min(len(clause), i+3)] {
		if w == "you" || w == "you'll" || w == "you've" {
			return true
		}
	}
	return false
}

// forbids reports whether the words before a verb are "never", "not", "do not".
func forbids(lead []string) bool {
	n := len(lead)
	for n > 0 && (lead[n-1] == "never" || lead[n-1] == "not" || lead[n-1] == "ever") {
		n--
	}
	if n > 0 && (lead[n-1] == "do" || lead[n-1] == "don't") {
		n--
	}
	return n < len(lead) && (n == 0 || clauseWords(lead[n-1])&(subject|auxiliary|condition|governor|asking) == 0)
}

// tells reports whether a clause begins with somebody who does something.
func tells(lead []string) bool {
	for len(lead) > 0 && clauseWords(lead[0])&(opener|joint) != 0 {
		lead = lead[1:]
	}
	return len(lead) > 0 && clauseWords(lead[0])&subject != 0
}
