package native

import "time"

// backoff is how long to wait before the next start.
type backoff struct {
	first, window time.Duration
	wait          time.Duration
}

const (
	drainTime  = time.Second            // for what is still in a program's pipes
	frozenTime = 250 * time.Millisecond // until a program that was killed and has not ended is taken for frozen: a hundred at once take a while

	firstBackoff   = 100 * time.Millisecond
	longestBackoff = time.Minute
	backoffWindow  = 10 * time.Second // up for so long, and it starts over
)

// next returns the wait after a run that lasted for up.
func (b *backoff) next(up time.Duration) time.Duration {
	first, window := b.first, b.window
	if first == 0 {
		first = firstBackoff
	}
	if window == 0 {
		window = backoffWindow
	}
	switch {
	case b.wait == 0 || up >= window:
		b.wait = first
	default:
		b.wait = min(2*b.wait, max(first, longestBackoff))
	}
	return b.wait
}
