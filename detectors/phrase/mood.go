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
// Whatever stands between the beginning of the clause and the match decides.
// Where the word before the match cannot govern a verb ("if you want to cancel
// | read me the code"), the match begins a clause of its own.
func moodOf(tokens []string, first int, marked bool) Mood {
	head := first // of the clause
	for head > 0 && clauseWords(tokens[head-1])&opener != 0 {
		head--
	}
	plea := head < first // an order's openers stand before the match
	if head > 0 && governs(tokens[head-1]) {
		for low := max(0, first-moodReach); head > low; head-- {
			if head < first && clauseWords(tokens[head-1])&joint != 0 && !isSubjectless(tokens, head, first) {
				break
			}
		}
	}
	lead := tokens[head:first]
	for len(lead) > 0 && clauseWords(lead[0])&(opener|joint) != 0 {
		lead = lead[1:]
	}
	if len(lead) == 0 {
		lead = tokens[first:]
		switch {
		case asksAt(lead):
			return Question
		case len(lead) > 0 && clauseWords(lead[0])&condition != 0:
			return Conditional
		case marked && !plea:
			return Question
		case len(lead) > 0 && clauseWords(lead[0])&subject != 0:
			return Statement
		}
		return Imperative
	}
	for i, w := range lead {
		if clauseWords(w)&condition != 0 {
			return Conditional
		}
		if (w == "should" || w == "would") && !asksAt(lead[i:]) && !wouldLike(lead[i:]) {
			if i > 0 && lead[i-1] == "you" && w == "should" {
				continue // "you should read it to me" is advice: an order
			}
			return Conditional
		}
	}
	switch {
	case lead[0] == "should" && len(lead) > 1 && clauseWords(lead[1])&subject != 0 && lead[1] != "i" && lead[1] != "we":
		return Conditional // should you receive
	case asksAt(lead):
		return Question
	case orders(lead):
		return Imperative
	case marked:
		return Question
	}
	return Statement
}

// governs reports whether a verb after w belongs to w's clause.
func governs(w string) bool {
	return clauseWords(w)&(auxiliary|subject|governor|joint|condition) != 0
}

// isSubjectless reports whether the words from head to the match hold no
// subject and no infinitive, so that they go on with the clause before a joint.
func isSubjectless(tokens []string, head, first int) bool {
	for _, w := range tokens[head:first] {
		if clauseWords(w)&(subject|auxiliary|condition|governor) != 0 {
			return false
		}
	}
	return false
}

// asksAt reports whether a clause that begins so asks: a question word, or an
// auxiliary before its subject.
func asksAt(clause []string) bool {
	if len(clause) == 0 {
		return false
	}
	switch clauseWords(clause[0]) {
	case asking:
		return true
	case auxiliary:
		return len(clause) > 1 && (clauseWords(clause[1])&subject != 0 || clause[1] == "the" || clause[1] == "your")
	}
	return false
}

func wouldLike(clause []string) bool {
	return len(clause) > 1 && clause[0] == "would" && (clause[1] == "like" || clause[1] == "need" || clause[1] == "want")
}

// orders reports whether the words before a verb make it an order: "you need
// to", "I want you to", "you have to", "make sure to", "you can go ahead and".
func orders(lead []string) bool {
	last := lead[len(lead)-1]
	switch last {
	case "to":
		for i, w := range lead {
			switch w {
			case "need", "have", "got", "must", "required", "supposed", "sure", "try", "gotta", "want", "like", "needs", "ask", "request":
				return i == 0 || yours(lead, i)
			}
		}
	case "must", "should", "gotta", "will", "can", "you'll":
		return lead[0] == "you" || lead[0] == "you'll"
	case "and":
		return true
	}
	return false
}

// yours reports whether the verb at i has "you" for a subject or an object.
func yours(lead []string, i int) bool {
	for _, w := range lead[max(0, i-3):min(len(lead), i+3)] {
		if w == "you" || w == "you'll" || w == "sure" {
			return true
		}
	}
	return false
}
