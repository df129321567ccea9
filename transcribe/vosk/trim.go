package vosk

import "time"

// trimmer gives memory of closed recognisers back to the system. glibc keeps
// what is freed; malloc_trim walks all of it, some 35 ms for 400 MB, so it
// waits until there is something to gain. The engine's lock guards it.
type trimmer struct {
	trim  func(pad uintptr) int32 // nil where the system has none
	count int                     // recognisers closed since the last trim
	heard time.Duration           // by them
	last  time.Time
}

const (
	trimCount = 20              // recognisers that heard little hold 2 MB each
	trimHeard = 5 * time.Minute // of open-vocabulary speech: 100 MB and more
	trimRest  = 2 * time.Second // between two trims: under 2 % of one core
)

func (t *trimmer) closed(heard time.Duration) {
	t.count++
	t.heard += heard
	if (t.count >= trimCount || t.heard >= trimHeard) && time.Since(t.last) >= trimRest {
		t.now()
	}
}

func (t *trimmer) now() {
	if t.trim == nil || t.count == 0 {
		return
	}
	t.trim(0)
	t.count, t.heard, t.last = 0, 0, time.Now()
}
