package lensmesh

import (
	"slices"
	"time"
)

// The window's part in what happens when a stream ends: who is sent again, and who may have ended it.

// out returns how many entries are sent and not answered, and since when nothing was answered.
func (w *window) out() (int, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sent), w.waitingSince
}

// narrow lets half as many out at once as are out now, since one of them may have ended the stream. It returns the
// entry that was alone, or nil.
func (w *window) narrow() *entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) > 0 {
		w.mostOut = max(1, len(w.sent)/2)
	}
	if len(w.sent) == 1 {
		for _, one := range w.sent {
			return one
		}
	}
	return nil
}

// giveUp sends an entry no more; its place is kept until its result is taken.
func (w *window) giveUp(one *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sent, one.message.GetRef())
	w.mostOut = 0
}

// unsend makes what was sent and not answered ready again, oldest first, and returns how many entries are ready.
func (w *window) unsend() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.sent {
		w.ready = append(w.ready, one)
	}
	clear(w.sent)
	slices.SortFunc(w.ready, func(a, b *entry) int { return a.index - b.index })
	w.waitingSince = time.Time{}
	return len(w.ready)
}

// close stops the timers.
func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one, timer := range w.later {
		timer.Stop()
		delete(w.later, one)
	}
}
