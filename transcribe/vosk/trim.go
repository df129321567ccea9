package vosk

import "time"

// trimmer gives memory of freed recognisers back to the system. glibc keeps
// what is freed; malloc_trim walks all of it, some 35 ms for 400 MB, so it
// waits until there is something to gain. The engine's lock guards it.
type trimmer struct {
	trim  func(pad uintptr) int32 // nil where the system has none
	count int                     // recognisers closed since the last trim
	heard time.Duration           // by them
	next  time.Time               // not before
}

const (
	trimCount = 20          // recognisers that heard little hold 2 MB each
	trimHeard = time.Minute // of speech: 70 MB and more with the open vocabulary
	trimRest  = 50          // times what the last trim took: at most 2 % of one core
)

func (t *trimmer) closed(heard time.Duration) {
	t.count++
	t.heard += heard
	if (t.count >= trimCount || t.heard >= trimHeard) && time.Now().After(t.next) {
		t.now()
	}
}

func (t *trimmer) now() {
	if t.trim == nil || t.count == 0 {
		return
	}
	begin := time.Now()
	t.trim(0)
	t.count, t.heard = 0, 0
	t.next = begin.Add(trimRest * time.Since(begin))
}
